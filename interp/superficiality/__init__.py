"""Is an instruction's effect superficial? Findings, the scorecard and its verdict.

Does an instruction change what is *stored* of the context and the question, or only its way to the
output? Rows are measured by interventions (:mod:`~interp.superficiality.routes`), read with intervals
(:mod:`~interp.superficiality.rows`) and judged by an ordered rule
(:mod:`~interp.superficiality.verdict`) whose bounds were fixed before any card
(:mod:`~interp.superficiality.thresholds`). Rows behind the route, which need no direction either, are
listed in :mod:`~interp.superficiality.further`; each group can be left out.

    card = interp.superficiality(model, items)
    print(card.verdict)
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.superficiality.append import append_finding, measure_edits
    from interp.superficiality.concentration import (
        head_finding,
        measure_heads,
        measure_tokens,
        measure_top_heads,
        token_findings,
    )
    from interp.superficiality.finding import Finding, HealthCheck
    from interp.superficiality.health import add_health, measure_health
    from interp.superficiality.measure import superficiality
    from interp.superficiality.polarity import (
        measure_polarity,
        measure_shared_shift,
        polarity_findings,
        shared_finding,
    )
    from interp.superficiality.rank import measure_ranks, rank_finding
    from interp.superficiality.residue import (
        distinguish_finding,
        measure_distinguish,
        measure_probes,
        measure_reinjection,
        probe_finding,
        reinjection_finding,
    )
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
    "add_health",
    "append_finding",
    "behaviour_finding",
    "card_of",
    "content_findings",
    "content_shift",
    "distinguish_finding",
    "donated_shift",
    "edge_findings",
    "head_finding",
    "measure_distinguish",
    "measure_edits",
    "measure_heads",
    "measure_health",
    "measure_polarity",
    "measure_probes",
    "measure_ranks",
    "measure_reinjection",
    "measure_routes",
    "measure_shared_shift",
    "measure_tokens",
    "measure_top_heads",
    "onset_finding",
    "polarity_findings",
    "probe_finding",
    "rank_finding",
    "reinjection_finding",
    "shared_finding",
    "superficiality",
    "token_findings",
]

attach(__name__)
