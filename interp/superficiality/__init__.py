"""Is an instruction's effect superficial? Findings, the scorecard and its verdict.

Does an instruction change what is *stored* of the context and the question, or only its way to the
output? Rows are measured by interventions (:mod:`~interp.superficiality.routes`), read with intervals
(:mod:`~interp.superficiality.rows`) and judged by an ordered rule
(:mod:`~interp.superficiality.verdict`) whose bounds were fixed before any card
(:mod:`~interp.superficiality.thresholds`).

    card = interp.superficiality(model, items)
    print(card.verdict)

With a direction (``direction=v``) there are rows about what lies along it, and a second verdict,
``card.direction_verdict``: the shift of states (:mod:`~interp.superficiality.representation`), whether
answers follow it (:mod:`~interp.superficiality.coupling`), how much of the effect it carries
(:mod:`~interp.superficiality.mediation`), and whether it is an instrument at all
(:mod:`~interp.superficiality.instrument`).
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.superficiality.coupling import coupling_finding
    from interp.superficiality.direction_rows import (
        DirectionTables,
        direction_findings,
        measure_direction_rows,
    )
    from interp.superficiality.finding import Finding, HealthCheck
    from interp.superficiality.instrument import (
        Statement,
        instrument_finding,
        measure_instrument,
        statements_of,
    )
    from interp.superficiality.measure import superficiality
    from interp.superficiality.mediation import Exchange, measure_mediation, mediation_findings
    from interp.superficiality.representation import (
        measure_representation,
        representation_findings,
    )
    from interp.superficiality.routes import content_shift, donated_shift, measure_routes
    from interp.superficiality.rows import (
        behaviour_finding,
        content_findings,
        edge_findings,
        onset_finding,
    )
    from interp.superficiality.scorecard import Scorecard, card_of
    from interp.superficiality.subspaces import Subspaces, fit_subspaces
    from interp.superficiality.verdict import CardVerdict

__all__ = [
    "CardVerdict",
    "DirectionTables",
    "Exchange",
    "Finding",
    "HealthCheck",
    "Scorecard",
    "Statement",
    "Subspaces",
    "behaviour_finding",
    "card_of",
    "content_findings",
    "content_shift",
    "coupling_finding",
    "direction_findings",
    "donated_shift",
    "edge_findings",
    "fit_subspaces",
    "instrument_finding",
    "measure_direction_rows",
    "measure_instrument",
    "measure_mediation",
    "measure_representation",
    "measure_routes",
    "mediation_findings",
    "onset_finding",
    "representation_findings",
    "statements_of",
    "superficiality",
]

attach(__name__)
