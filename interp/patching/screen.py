"""Screened sweeps: the largest cells of a grid, found without running all of it.

Attribution patching (:mod:`interp.patching.attribution`) costs one backward per pair for the whole grid
and is an estimate; an exact cell costs a run. So the cells of largest estimate are run exactly, with one
drawn at random at every layer to see how far estimates go wrong; then block after block those that are
most likely to be among the ``k`` largest, for what they cost, until no more than a stated share of these
is expected among the others (:mod:`interp.patching.missed`). What was not run stays NaN: an estimate is
never mixed with measured values.

Where estimates fail everywhere the rule has all cells run. It cannot see a single cell far off from
what its layer and column lead to expect; and a head whose work another one does when it is patched alone
is small in the exact sweep too. The cells are chosen on the pairs that they are measured on, so that
their intervals and p-values do not cover the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.attribution import attribute
from interp.patching.grid import Cells, Grid, Positions, grid_or_keywords
from interp.patching.measure import PlanRuns, Table, enter_zeros, pair_batches
from interp.patching.metrics import Metric, named_metrics
from interp.patching.missed import ScreenedGrid
from interp.patching.patched import MAX_BYTES
from interp.patching.plan import SweepPlan, plan_sweep
from interp.patching.positions import alignment_notes
from interp.patching.result import SweepResult
from interp.patching.sites import PatchSite
from interp.prompts import PromptPair
from interp.stats import rng

_Index: TypeAlias = tuple[int, ...]
"""A cell's place in the grid."""

_SMALLEST_BLOCK = 8
"""Cells that are run together at least, however few are wanted."""


@grid_or_keywords
def screen(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    k: int = 20,
    recall: float = 0.95,
    grid: Grid | None = None,
    site: PatchSite = "resid_pre",
    cells: Cells | None = None,
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    positions: Positions = "aligned",
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> SweepResult:
    """Run cells exactly until the ``k`` largest of the grid are expected to be among them.

    Cells are compared by the absolute value of the mean effect over the pairs; of several metrics the
    first counts. Each cell that is run is run on every pair.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several.
        k: how many of the largest cells are wanted; cells that are known by causality come for free.
        recall: the share of them that is to be found, in expectation.
        grid: the arguments from ``site`` to ``positions`` as one :class:`interp.patching.Grid`,
            instead of them; a window is refused.
        site: what is copied; any but ``"edges"``.
        cells: the grid, as in :func:`interp.patching.sweep`.
        layers: which layers; None takes all.
        spans: the columns of ``"layer_span"``.
        heads: which heads; None takes all.
        positions: which positions of the destination.
        metric: as in a sweep, with a gradient.
        seed: seed of the random cells and of the result's max-t.
        max_bytes: budget for what the exact runs hold at a time.
        progress: show bars.

    Returns:
        The :class:`SweepResult` of the exact sweep, NaN in the cells that were not run. Its first note
        says how many were, and how many of the largest are expected among the others.

    Raises:
        InterpError: what a sweep or an attribution refuses, a ``k`` below 1, or a ``recall`` that is not
            between 0 and 1.

    Example:
        >>> result = screen(model, pairs, site="z", k=20)   # doctest: +SKIP
        >>> result.top(5), result.notes[0]                    # doctest: +SKIP
    """
    if k < 1:
        raise InterpError(f"k is {k}: at least one cell has to be wanted")
    if not 0 < recall < 1:
        raise InterpError(
            f"recall is {recall}: give a share between 0 and 1; all cells are a sweep"
        )
    if grid is None:
        grid = Grid(site, cells, layers, spans, heads, positions)
    grid.require_unset("screen", {"window": "an estimate ranks cells of one layer"})
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    metrics, several = named_metrics(metric)
    plan = plan_sweep(model, pairs, grid=grid, metric=metrics)
    estimates = attribute(
        model,
        pairs,
        sites=[plan.site],
        grid=replace(grid, site=None),
        metric=metric,
        seed=seed,
        progress=progress,
    )[plan.site]
    table = Table.empty(plan, len(metrics))
    runner = _Runner(model, pairs, plan, metrics, table, max_bytes)
    missed, n = _run_until(runner, _mean_effect(estimates), k, recall, seed, progress)
    return SweepResult.of_table(
        plan,
        table,
        pairs,
        metric_names=list(metrics),
        several=several,
        title=f"{pairs[0].source_name} -> {pairs[0].destination_name}, {plan.site}, screened",
        seed=seed,
        notes=(_note(n, len(runner.candidates), k, missed), *alignment_notes(model, pairs)),
    )


@dataclass(eq=False)
class _Runner:
    """Runs cells of the grid on all pairs; both runs of the pairs are kept where memory allows it."""

    model: TransformerBridge
    pairs: Sequence[PromptPair]
    plan: SweepPlan
    metrics: Mapping[str, Metric]
    table: Table
    max_bytes: int
    _kept: PlanRuns | None = None

    @cached_property
    def candidates(self) -> list[_Index]:
        """Cells of the grid that have to be run, on some pair."""
        return list(dict.fromkeys(cell.index for cell in self.plan.to_run))

    @cached_property
    def _batches(self) -> list[list[int]]:
        return list(pair_batches(self.model, self.plan, self.max_bytes))

    @cached_property
    def costs(self) -> npt.NDArray[np.float64]:
        """Rows times layers that each candidate takes on all pairs."""
        found = dict.fromkeys(self.candidates, 0)
        for cell in self.plan.to_run:
            found[cell.index] += self.plan.token_layers_of(cell)
        return np.array([found[index] for index in self.candidates], dtype=np.float64)

    def run(self, indices: Sequence[_Index]) -> None:
        """Run some cells on every pair."""
        wanted = set(indices)
        cells = [cell for cell in self.plan.to_run if cell.index in wanted]
        for batch in self._batches:
            runs = self._kept or PlanRuns(
                self.model,
                self.pairs,
                self.plan,
                batch,
                self.metrics,
                self.table,
                max_bytes=self.max_bytes,
            )
            if len(self._batches) == 1:
                self._kept = runs
            runs.run([cell for cell in cells if cell.pair in runs.sources], _quietly)
        enter_zeros(self.plan, self.table)

    def effects(self) -> npt.NDArray[np.float64]:
        """Mean effect of every candidate, the first metric's; NaN where it was not run."""
        values = (self.table.values[0] - self.table.destination[0]).double().numpy()
        mean = _mean(values)
        return np.array([mean[index] for index in self.candidates])


def _run_until(
    runner: _Runner,
    estimated: npt.NDArray[np.float64],
    k: int,
    recall: float,
    seed: int,
    progress: bool,
) -> tuple[float, int]:
    """Run blocks until the rule holds; the expected number of missed cells, and how many were run."""
    candidates = runner.candidates
    columns = {index[1:]: None for index in candidates}
    number_of = {column: number for number, column in enumerate(columns)}
    grid = ScreenedGrid(
        np.array([index[0] for index in candidates], dtype=np.int64),
        np.array([number_of[index[1:]] for index in candidates], dtype=np.int64),
        np.nan_to_num(np.array([estimated[index] for index in candidates], dtype=np.float64)),
    )
    done = np.zeros(len(candidates), dtype=bool)
    chosen = _first_block(grid, k, seed)
    title = f"screening {runner.plan.site}"
    with tqdm(total=len(candidates), desc=title, disable=not progress) as bar:
        while True:
            runner.run([candidates[c] for c in chosen])
            done[chosen] = True
            bar.update(len(chosen))
            if done.all():
                return 0.0, len(done)
            chances = grid.chances(np.where(done, runner.effects(), np.nan), k)
            missed = float(chances.sum())
            if missed <= (1 - recall) * k:
                return missed, int(done.sum())
            # what tells most for its time: cells of late layers and positions are cheap
            order = np.argsort(-chances / runner.costs, kind="stable")
            chosen = order[~done[order]][: max(k, _SMALLEST_BLOCK)]


def _quietly(_: int) -> None:
    """Row-layers are not told of: how many there will be is not known before."""


def _first_block(grid: ScreenedGrid, k: int, seed: int) -> npt.NDArray[np.intp]:
    """The ``k`` cells of largest estimate, and one at random of every layer."""
    order = np.argsort(-np.abs(grid.estimate), kind="stable")
    generator = rng(seed, "random cells of a screen")
    drawn = [
        generator.choice(np.flatnonzero(grid.layer == layer)) for layer in np.unique(grid.layer)
    ]
    return np.unique(np.concatenate([order[:k], np.array(drawn, dtype=np.intp)]))


def _mean_effect(result: SweepResult) -> npt.NDArray[np.float64]:
    """Mean over the pairs that have a value, NaN where none has; the first metric's."""
    return _mean(result[result.metric_names[0]].effect().double().numpy())


def _mean(effects: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    defined = ~np.isnan(effects)
    total = np.where(defined, effects, 0.0).sum(-1)
    counts = defined.sum(-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _note(n: int, n_cells: int, k: int, missed: float) -> str:
    if n == n_cells:
        return f"screened: all {n} cells run exactly"
    return (
        f"screened: {n} of {n_cells} cells run exactly; {missed:.2g} of the {k} largest are expected "
        "among the others"
    )
