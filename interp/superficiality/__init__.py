"""Is an instruction's effect superficial? Findings, the scorecard and its verdict.

Does an instruction change what is *stored* of the context and the question, or only its way to the
output? Rows are measured by interventions (:mod:`~interp.superficiality.routes`), read with intervals
(:mod:`~interp.superficiality.rows`) and judged by an ordered rule
(:mod:`~interp.superficiality.verdict`) whose bounds were fixed before any card
(:mod:`~interp.superficiality.thresholds`). Rows behind the route, which need no direction either, are
listed in :mod:`~interp.superficiality.further`; each group can be left out.

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
    from interp.superficiality.append import append_finding, measure_edits
    from interp.superficiality.concentration import measure_tokens, token_findings
    from interp.superficiality.coupling import coupling_finding
    from interp.superficiality.direction_rows import (
        DirectionTables,
        direction_findings,
        measure_direction_rows,
    )
    from interp.superficiality.exchanges import Exchange, measure_mediation
    from interp.superficiality.finding import Finding, HealthCheck
    from interp.superficiality.heads import head_finding, measure_heads, measure_top_heads
    from interp.superficiality.health import add_health, measure_health
    from interp.superficiality.instrument import (
        Statement,
        instrument_finding,
        measure_instrument,
        statements_of,
    )
    from interp.superficiality.manifold import measure_manifold
    from interp.superficiality.measure import superficiality
    from interp.superficiality.mediation import mediation_findings
    from interp.superficiality.polarity import (
        measure_polarity,
        measure_shared_shift,
        polarity_findings,
        shared_finding,
    )
    from interp.superficiality.rank import measure_ranks, rank_finding
    from interp.superficiality.removed import measure_removed, removed_finding
    from interp.superficiality.representation import measure_representation, representation_findings
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
    "add_health",
    "append_finding",
    "behaviour_finding",
    "card_of",
    "content_findings",
    "content_shift",
    "coupling_finding",
    "direction_findings",
    "distinguish_finding",
    "donated_shift",
    "edge_findings",
    "fit_subspaces",
    "head_finding",
    "instrument_finding",
    "measure_direction_rows",
    "measure_distinguish",
    "measure_edits",
    "measure_heads",
    "measure_health",
    "measure_instrument",
    "measure_manifold",
    "measure_mediation",
    "measure_polarity",
    "measure_probes",
    "measure_ranks",
    "measure_reinjection",
    "measure_removed",
    "measure_representation",
    "measure_routes",
    "measure_shared_shift",
    "measure_tokens",
    "measure_top_heads",
    "mediation_findings",
    "onset_finding",
    "polarity_findings",
    "probe_finding",
    "rank_finding",
    "reinjection_finding",
    "removed_finding",
    "representation_findings",
    "shared_finding",
    "statements_of",
    "superficiality",
    "token_findings",
]

attach(__name__)
