"""Screened sweeps: attribution ranks the cells of a grid, the first of them are run exactly.

Attribution patching (:mod:`interp.patching.attribution`) costs one backward per pair for the whole
grid and is an estimate; an exact cell costs a run. So the estimate chooses and the exact engine
measures. What was not chosen stays NaN: its estimate is never mixed with measured values.

The estimate can rank a strong cell low; the rank correlation in the result's notes says how far the
two agree over the chosen cells, where both are known. The cells were chosen on the pairs that they
are measured on, so that their intervals and p-values do not cover the cells left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.attribution import attribute
from interp.patching.grid import Cells, Grid, Positions, grid_or_keywords
from interp.patching.measure import run_plan
from interp.patching.metrics import Metric, named_metrics
from interp.patching.patched import MAX_BYTES
from interp.patching.plan import SweepPlan, plan_sweep
from interp.patching.result import SweepResult, alignment_notes
from interp.patching.sites import PatchSite
from interp.prompts import PromptPair

_Index: TypeAlias = tuple[int, ...]
"""A cell's place in the grid."""

_FEWEST = 3
"""Cells below which a rank correlation says nothing."""


@grid_or_keywords
def screen(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    k: int = 20,
    grid: Grid | None = None,
    site: PatchSite = "resid_pre",
    cells: Cells | None = None,
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    positions: Positions = "aligned",
    steps: int = 1,
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> SweepResult:
    """Run exactly the ``k`` cells of the grid with the largest attribution.

    Cells are ranked by the absolute value of the mean estimated effect over the pairs; of several
    metrics the first ranks. Each chosen cell is run on every pair.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several.
        k: how many cells of the grid to run; cells that are known by causality come for free.
        grid: the arguments from ``site`` to ``positions`` as one :class:`interp.patching.Grid`,
            instead of them; a window is refused.
        site: what is copied; any but ``"edges"``.
        cells: the grid, as in :func:`interp.patching.sweep`.
        layers: which layers; None takes all.
        spans: the columns of ``"layer_span"``.
        heads: which heads; None takes all.
        positions: which positions of the destination.
        steps: path steps of the attribution (:func:`interp.patching.attribute`).
        metric: as in a sweep, with a gradient.
        seed: seed of the result's max-t.
        max_bytes: budget for what the exact runs hold at a time.
        progress: show bars.

    Returns:
        The :class:`SweepResult` of the exact sweep, NaN in the cells that were not chosen. A note
        holds Spearman's correlation between estimated and exact mean effects over the chosen.

    Raises:
        InterpError: what a sweep or an attribution refuses, or a ``k`` below 1.

    Example:
        >>> result = screen(model, pairs, site="z", k=20)   # doctest: +SKIP
        >>> result.top(5), result.notes                       # doctest: +SKIP
    """
    if k < 1:
        raise InterpError(f"k is {k}: at least one cell has to be run")
    if grid is None:
        grid = Grid(site, cells, layers, spans, heads, positions)
    grid.require_unset("screen", {"window": "an estimate ranks cells of one layer"})
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    metrics, several = named_metrics(metric)
    plan = plan_sweep(model, pairs, grid=grid, metric=metrics)
    estimated = _mean_effect(
        attribute(
            model,
            pairs,
            sites=[plan.site],
            grid=replace(grid, site=None),
            steps=steps,
            metric=metric,
            seed=seed,
            progress=progress,
        )[plan.site]
    )
    candidates = list(dict.fromkeys(cell.index for cell in plan.to_run))
    chosen = sorted(candidates, key=lambda index: -abs(estimated[index]))[:k]
    table = run_plan(
        model,
        pairs,
        _without(plan, set(candidates) - set(chosen)),
        metrics,
        max_bytes=max_bytes,
        progress=progress,
    )
    result = SweepResult.of_table(
        plan,
        table,
        pairs,
        metric_names=list(metrics),
        several=several,
        title=f"{pairs[0].source_name} -> {pairs[0].destination_name}, {plan.site}, screened",
        seed=seed,
        notes=alignment_notes(model, pairs),
    )
    note = _note(chosen, len(candidates), estimated, _mean_effect(result))
    return replace(result, notes=(note, *result.notes))


def _without(plan: SweepPlan, left_out: set[_Index]) -> SweepPlan:
    """The plan without some cells of its grid, for every pair."""
    return replace(plan, cells=tuple(c for c in plan.cells if c.index not in left_out))


def _mean_effect(result: SweepResult) -> npt.NDArray[np.float64]:
    """Mean over the pairs that have a value, NaN where none has; the first metric's."""
    effects = result[result.metric_names[0]].effect().double().numpy()
    defined = ~np.isnan(effects)
    total = np.where(defined, effects, 0.0).sum(-1)
    counts = defined.sum(-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _note(
    chosen: Sequence[_Index],
    n_cells: int,
    estimated: npt.NDArray[np.float64],
    exact: npt.NDArray[np.float64],
) -> str:
    n = len(chosen)
    which = f"the {n} of {n_cells} cells of largest attribution run exactly, the others not"
    if n == n_cells:
        which = f"all {n} cells run exactly"
    a, b = (np.array([values[index] for index in chosen]) for values in (estimated, exact))
    if n < _FEWEST or not np.ptp(a) or not np.ptp(b):
        return f"screened: {which}; too few different effects for a rank correlation"
    rho = float(spearmanr(a, b).statistic)
    return f"screened: {which}; Spearman {rho:.2f} between attribution and exact effect over them"
