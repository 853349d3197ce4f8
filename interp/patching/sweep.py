"""Exact activation patching between two prompts.

For every cell of a plan the destination prompt is run with the site's activations at some positions
(and heads) replaced by those of the aligned positions of the source run, and a metric is read at
the end. The numbers are those of one full forward per cell; the time is not, see
:mod:`interp.patching.wavefront`.

Before the fast way is used, every layer that the plan needs is compared with the model's own
(:mod:`interp.patching.agreement`); where one differs, the model's attention is of another kind, or a
hook on the model addresses positions, the sweep runs one forward per cell
(:mod:`interp.patching.hooked`) and a note in the result says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.cells import Part, PatchSite
from interp.patching.grid import Cells, Grid, Positions, grid_or_keywords
from interp.patching.measure import run_plan
from interp.patching.metrics import Metric, named_metrics, require_target
from interp.patching.patched import MAX_BYTES, SweepMethod
from interp.patching.plan import plan_sweep
from interp.patching.positions import alignment_notes
from interp.patching.result import SweepResult
from interp.patching.screen import screen
from interp.patching.source import require_part
from interp.prompts import PromptPair


@grid_or_keywords
def sweep(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    grid: Grid | None = None,
    site: PatchSite = "resid_pre",
    cells: Cells | None = None,
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    positions: Positions = "aligned",
    window: int = 1,
    part: Part | None = None,
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
    method: SweepMethod | Literal["screened"] = "exact",
    k: int = 20,
    recall: float = 0.95,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> SweepResult:
    """Patch every cell from source into destination, for each pair.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several.
        grid: the arguments from ``site`` to ``window`` as one :class:`interp.patching.Grid`, instead
            of them.
        site: what is copied.
        cells: the grid. None: ``"layer_head"`` at sites with heads, else ``"layer_pos"`` for one
            pair and ``"layer_span"`` for several or with ``spans``.
        layers: which layers; None takes all.
        spans: the columns of ``"layer_span"``; None takes the spans that every pair has at or after
            its first difference, then :data:`interp.patching.ALL`.
        heads: which heads (key/value heads at ``k`` and ``v``); None takes all.
        positions: which positions of the destination: the axis of ``"layer_pos"``, else the set
            that is patched together.
        window: how many layers from the cell's layer on are patched together.
        part: set only the part along or orthogonal to a direction, on the current state.
        metric: ``"margin"``, ``"log_prob"``, ``"option_margin"`` (both options' full texts,
            teacher-forced), a function of the last position's logits
            (:data:`interp.patching.Metric`), or several by name: they share the runs.
        method: ``"exact"``, ``"hooked"`` for one forward per cell through hooks, or
            ``"screened"`` to run cells until the ``k`` largest are expected to be among them
            (:func:`interp.patching.screen`, which takes several sites for less).
        k: how many of the largest cells a screened sweep looks for.
        recall: the share of them that it is to find, in expectation.
        seed: seed of the result's max-t.
        max_bytes: budget for what a sweep holds at a time; it is halved when memory runs out.
        progress: show a bar.

    Returns:
        :class:`SweepResult`, values ``[metric?, *cells, pair]``. Cells that cannot change the
        reading by causality are the destination's own value; cells without an aligned position
        are NaN.

    Raises:
        InterpError: no pairs, a pair without a margin target or options, an unknown name, a budget
            below the needs of one cell, or an activation that is not finite.

    Example:
        >>> result = sweep(model, make_pair(model, item, "instructed"))   # doctest: +SKIP
        >>> result.share()                                                 # doctest: +SKIP
        >>> sweep(model, pairs, grid=Grid(site="z", layers=(0, 5)))        # doctest: +SKIP
    """
    if grid is None:
        grid = Grid(site, cells, layers, spans, heads, positions, window)
    if method == "screened":
        if part is not None or grid.window != 1:
            raise InterpError("a screened sweep copies whole activations of one layer per cell")
        site = grid.site or "resid_pre"
        found = screen(
            model,
            pairs,
            sites=[site],
            k=k,
            recall=recall,
            grid=replace(grid, site=None),
            metric=metric,
            seed=seed,
            max_bytes=max_bytes,
            progress=progress,
        )
        return found[site]
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    metrics, several = named_metrics(metric)
    plan = plan_sweep(model, pairs, grid=grid, metric=metrics)
    require_part(model, plan.site, part)
    require_target(model, pairs, metrics)
    table = run_plan(
        model,
        pairs,
        plan,
        metrics,
        part=part,
        method=method,
        max_bytes=max_bytes,
        progress=progress,
    )
    return SweepResult.of_table(
        plan,
        table,
        pairs,
        metric_names=list(metrics),
        several=several,
        title=f"{pairs[0].source_name} -> {pairs[0].destination_name}, {plan.site}",
        seed=seed,
        notes=alignment_notes(model, pairs),
    )
