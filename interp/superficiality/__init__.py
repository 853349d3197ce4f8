"""Is an instruction's effect superficial? Findings, the scorecard and its verdict.

Does an instruction change what is *stored* of the context and the question, or only its way to the
output? Rows are measured by interventions (:mod:`~interp.superficiality.routes`), read with intervals
(:mod:`~interp.superficiality.rows`) and judged by an ordered rule
(:mod:`~interp.superficiality.verdict`) whose bounds were fixed before any card
(:mod:`~interp.superficiality.thresholds`).

    card = interp.superficiality(model, items)
    print(card.verdict)
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.superficiality.finding import Finding, HealthCheck
    from interp.superficiality.measure import superficiality
    from interp.superficiality.routes import content_shift, donated_shift, measure_routes
    from interp.superficiality.rows import (
        behaviour_finding,
        content_findings,
        edge_findings,
        onset_finding,
    )
    from interp.superficiality.scorecard import Scorecard, card_of
    from interp.superficiality.verdict import CardVerdict

__all__ = [
    "CardVerdict",
    "Finding",
    "HealthCheck",
    "Scorecard",
    "behaviour_finding",
    "card_of",
    "content_findings",
    "content_shift",
    "donated_shift",
    "edge_findings",
    "measure_routes",
    "onset_finding",
    "superficiality",
]

attach(__name__)
