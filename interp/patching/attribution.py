"""Attribution patching: every cell of a sweep estimated from one forward and one backward.

To first order, copying activations from the source run changes the destination's metric by
``(source - destination) . d metric / d activation``, with the gradient taken on the destination.
One backward through the destination gives that gradient at every site, layer, head and position, so
a pair costs one forward of the source and one forward and backward of the destination, however many
cells and sites there are.

Signs and units are those of :func:`interp.patching.sweep`: positive moves the metric up, in nats
for the margin (logit difference). The estimate is the exact derivative towards the source; it says
nothing of how the effect bends on the way there. Where the difference is large (early layers, many
positions at once) or a norm or softmax is saturated, compare it with exact cells
(:func:`interp.patching.screen.screen`).

Three ways bend with it:

- ``steps``: the gradient is averaged along a path on which the input embeddings go from the
  destination's to the source's (integrated gradients, "EAP-IG inputs" of arXiv 2403.17806). At the
  first ``resid_pre`` the estimates then add up to source - destination.
- ``method="relp"``: the coefficients of relevance propagation take the gradient's place, at the same
  cost (arXiv 2508.21258; its rules are in :mod:`interp.patching.relevance`). Norms are held fixed, and
  activations and gates count with their ratio instead of their slope. Which of the two is nearer
  depends on model and prompts (tables in ``docs/validity.md``): compare both with exact cells.
- ``exact_softmax``: at ``q`` and ``k`` the pattern's change is computed and not estimated
  (:mod:`interp.patching.exact_softmax`).

Edges between heads and MLPs (EAP, EAP-IG, RelP) are estimated by
:func:`interp.circuits.edge_scores`.

Memory: the graph of one forward (of the option margin two, one per option), and per pair the
activations of the chosen sites and layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.estimates import How, estimate_pairs, plan_sites
from interp.patching.exact_softmax import require_scores
from interp.patching.grid import Cells, Grid, Positions, grid_or_keywords
from interp.patching.measure import Table, enter_zeros
from interp.patching.metrics import Metric, named_metrics
from interp.patching.positions import alignment_notes
from interp.patching.result import SweepResult
from interp.patching.sites import AttributionMethod, PatchSite
from interp.prompts import PromptPair
from interp.prompts.align import EQUAL_LENGTHS


@grid_or_keywords
@torch.inference_mode(False)  # gradients are needed, whatever mode the caller is in
def attribute(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    sites: Sequence[PatchSite] = ("resid_pre", "attn_out", "mlp_out", "z"),
    grid: Grid | None = None,
    cells: Cells | None = None,
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    positions: Positions = "aligned",
    method: AttributionMethod = "gradient",
    steps: int = 1,
    exact_softmax: bool = False,
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, SweepResult]:
    """Estimate every cell of the sweeps of several sites at once.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several.
        sites: any site of a sweep but ``"edges"`` (the attention's; for the edges between heads and
            MLPs see :func:`interp.circuits.edge_scores`).
        grid: ``cells`` to ``positions`` as one :class:`interp.patching.Grid`, instead of them.
        cells: the grid of every site; None takes each site's own, as :func:`interp.patching.sweep`.
        layers: which layers; None takes all.
        spans: the columns of ``"layer_span"``.
        heads: which heads (key/value heads at ``k`` and ``v``); None takes all.
        positions: which positions of the destination.
        method: ``"gradient"`` (attribution patching), or ``"relp"`` (relevance patching).
        steps: 1 takes the gradient on the destination. More takes its mean over that many midpoints
            of the straight line between both runs' input embeddings, one forward and backward each;
            for prompts that are aligned by index. Of the gradient alone.
        exact_softmax: at ``q`` and ``k`` the exact change of the pattern times the metric's derivative
            by it. One forward and backward more, and a forward for each of the two sites.
        metric: as in a sweep; a function has to be differentiable. Every metric is one backward.
        seed: seed of the results' max-t.
        progress: show a bar.

    Returns:
        By site, the :class:`SweepResult` of the sweep with the same arguments, its values
        destination + estimate. A cell's estimate is the sum over its positions and heads. Cells
        that cannot change the reading are the destination's own value; cells without an aligned
        position are NaN.

    Raises:
        InterpError: what a sweep refuses; ``"edges"``; a site that the model's hooks cannot set; a
            metric without a gradient; ``steps`` on prompts that are not aligned by index, or of
            ``"relp"``; a model of which RelP does not know every part; ``exact_softmax`` without
            ``q`` or ``k``, with ``steps``, or on a model that does not show its attention scores.

    Example:
        >>> maps = attribute(model, pair, sites=["z", "mlp_out"])   # doctest: +SKIP
        >>> maps["z"].top(5)                                        # doctest: +SKIP
        >>> attribute(model, pair, method="relp")["mlp_out"].top(5)  # doctest: +SKIP
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    metrics, several = named_metrics(metric)
    if grid is None:
        grid = Grid(None, cells, layers, spans, heads, positions)
    grid.require_unset(
        "attribute", {"site": "name sites=", "window": "an estimate is of one layer"}
    )
    _require_method(method, steps)
    _require_path(pairs, steps)
    if exact_softmax:
        require_scores(model, sites)
        if steps > 1:
            raise InterpError(
                f"exact_softmax takes the derivative on the destination alone, not steps={steps}"
            )
    how = How(method, steps, exact_softmax)
    plans = plan_sites(model, pairs, sites, grid, metrics)
    tables = {site: Table.empty(plan, len(metrics)) for site, plan in plans.items()}
    for number, estimates in enumerate(
        estimate_pairs(model, pairs, plans, metrics, how, progress=progress)
    ):
        for site, table in tables.items():
            table.source[:, number] = estimates.source
            table.destination[:, number] = estimates.destination
            for cell in estimates.cells[site]:
                table.enter(cell, estimates.destination + estimates.of(site, cell))
    for site, table in tables.items():
        enter_zeros(plans[site], table)
    names = f"{pairs[0].source_name} -> {pairs[0].destination_name}"
    return {
        site: SweepResult.of_table(
            plan,
            tables[site],
            pairs,
            metric_names=list(metrics),
            several=several,
            title=f"{names}, {site}, {'RelP' if method == 'relp' else 'attribution'}",
            seed=seed,
            notes=(_note(how, site), *alignment_notes(model, pairs)),
        )
        for site, plan in plans.items()
    }


def _note(how: How, site: str) -> str:
    kind = (
        "RelP: estimates by relevance propagation"
        if how.method == "relp"
        else "attribution: first-order estimates"
    )
    more = (
        "" if how.steps == 1 else f", gradients averaged over {how.steps} steps of the embeddings"
    )
    if how.through_softmax(site):
        more += ", the pattern's change exact"
    return f"{kind}, not patched runs{more}"


def _require_method(method: str, steps: int) -> None:
    if method not in get_args(AttributionMethod):
        raise InterpError(f"no method {method!r}; known: {', '.join(get_args(AttributionMethod))}")
    if method == "relp" and steps != 1:
        raise InterpError(
            f"steps={steps} averages gradients: method='relp' takes none, leave it out"
        )


def _require_path(pairs: Sequence[PromptPair], steps: int) -> None:
    if steps < 1:
        raise InterpError(f"steps is {steps}: the gradient is taken at one point at least")
    unequal = sum(not pair.alignment.by_index for pair in pairs)
    if steps > 1 and unequal:
        raise InterpError(
            f"steps={steps} needs prompts aligned by index, {unequal} of {len(pairs)} pairs are "
            f"not: use steps=1, or {EQUAL_LENGTHS}"
        )
