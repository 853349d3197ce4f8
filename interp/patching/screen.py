"""Screened sweeps: the largest cells of a grid, found without running all of it.

Attribution patching (:mod:`interp.patching.attribution`) costs one backward per pair for the whole grid
and is an estimate; an exact cell costs a run. So the ``2 k`` cells of largest estimate are run exactly,
with one drawn at random at every layer, the columns (positions or heads) in turn, to see how far
estimates go wrong; then block after block those that are most likely to be among the ``k`` largest, for
what they cost, until no more than a stated share of these is expected among the others
(:mod:`interp.patching.missed`). What was not run stays NaN: an estimate is never mixed with measured
values.

Where estimates fail everywhere the rule has all cells run. It cannot see a single cell far off from
what its layer and column lead to expect; and a head whose work another one does when it is patched alone
is small in the exact sweep too. The cells are chosen on the pairs that they are measured on, so that
their intervals and p-values do not cover the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.estimates import PairEstimates, estimate_pairs, plan_sites
from interp.patching.grid import Cells, Grid, Positions, grid_or_keywords
from interp.patching.measure import PlanRuns, Table, enter_zeros, pair_batches
from interp.patching.metrics import Metric, named_metrics
from interp.patching.missed import ScreenedGrid
from interp.patching.patched import MAX_BYTES
from interp.patching.plan import PlannedCell, SweepPlan
from interp.patching.positions import alignment_notes
from interp.patching.result import SweepResult
from interp.patching.sites import PatchSite
from interp.patching.source import SourceRun
from interp.prompts import PromptPair
from interp.stats import rng

_Index: TypeAlias = tuple[int, ...]
"""A cell's place in the grid."""

_FORWARDS = 2.0
"""Cost of a block of one site's cells, in forwards of all prompts."""


@grid_or_keywords
def screen(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    sites: Sequence[PatchSite] = ("resid_pre", "attn_out", "mlp_out", "z"),
    k: int = 20,
    recall: float = 0.95,
    grid: Grid | None = None,
    cells: Cells | None = None,
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    positions: Positions = "aligned",
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> dict[str, SweepResult]:
    """Run cells of several sites exactly until the ``k`` largest of each are expected among them.

    Cells of one site are compared by the absolute value of the mean effect over the pairs; of several
    metrics the first counts. Each cell that is run is run on every pair. All sites share one
    attribution and both runs of every pair, and their cells go through the layers together.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several.
        sites: what is copied; any site of a sweep.
        k: how many of the largest cells are wanted at each site; cells that are known by causality
            come for free.
        recall: the share of them that is to be found, in expectation.
        grid: ``cells`` to ``positions`` as one :class:`interp.patching.Grid`, instead of them; a
            window is refused.
        cells: the grid of every site; None takes each site's own, as :func:`interp.patching.sweep`.
        layers: which layers; None takes all.
        spans: the columns of ``"layer_span"``.
        heads: which heads; None takes all.
        positions: which positions of the destination.
        metric: as in a sweep, with a gradient.
        seed: seed of the random cells and of the results' max-t.
        max_bytes: budget for what the exact runs hold at a time.
        progress: show bars.

    Returns:
        By site, the :class:`SweepResult` of the exact sweep, NaN in the cells that were not run. Its
        first note says how many were, and how many of the largest are expected among the others.

    Raises:
        InterpError: what a sweep or an attribution refuses, a ``k`` below 1, or a ``recall`` that is not
            between 0 and 1.

    Example:
        >>> found = screen(model, pairs, sites=["z", "mlp_out"], k=20)   # doctest: +SKIP
        >>> found["z"].top(5), found["z"].notes[0]                         # doctest: +SKIP
    """
    if k < 1:
        raise InterpError(f"k is {k}: at least one cell has to be wanted")
    if not 0 < recall < 1:
        raise InterpError(
            f"recall is {recall}: give a share between 0 and 1; all cells are a sweep"
        )
    if grid is None:
        grid = Grid(None, cells, layers, spans, heads, positions)
    grid.require_unset(
        "screen", {"site": "name sites=", "window": "an estimate ranks cells of one layer"}
    )
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    metrics, several = named_metrics(metric)
    plans = plan_sites(model, pairs, sites, grid, metrics)
    batches = list(pair_batches(model, list(plans.values()), max_bytes))
    estimated = {site: _Estimated.empty(plan) for site, plan in plans.items()}
    sources: dict[int, Mapping[PatchSite, SourceRun]] = {}
    for number, of_pair in enumerate(
        estimate_pairs(model, pairs, plans, metrics, progress=progress)
    ):
        for site, found in estimated.items():
            found.enter(site, of_pair)
        if len(batches) == 1:  # what one batch holds at a time
            sources[number] = of_pair.runs
    screened = {
        site: _Screened.of(plan, estimated[site], len(metrics)) for site, plan in plans.items()
    }
    runner = _Runner(model, pairs, metrics, screened, batches, max_bytes, sources)
    _run_until(runner, k, recall, seed, progress)
    return {
        site: SweepResult.of_table(
            found.plan,
            found.table,
            pairs,
            metric_names=list(metrics),
            several=several,
            title=f"{pairs[0].source_name} -> {pairs[0].destination_name}, {site}, screened",
            seed=seed,
            notes=(found.note(k), *alignment_notes(model, pairs)),
        )
        for site, found in screened.items()
    }


@dataclass(frozen=True, eq=False)
class _Estimated:
    """Sums over pairs of each cell's estimate and curvature, of the first metric, and their numbers."""

    effect: npt.NDArray[np.float64]
    curvature: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, plan: SweepPlan) -> _Estimated:
        """Of no pair yet."""
        return cls(np.zeros(plan.shape), np.zeros(plan.shape), np.zeros(plan.shape, dtype=np.int64))

    def enter(self, site: PatchSite, of_pair: PairEstimates) -> None:
        """Add a pair's."""
        for cell in of_pair.cells[site]:
            self.effect[cell.index] += float(of_pair.of(site, cell)[0])
            self.curvature[cell.index] += of_pair.curvature_of(site, cell)
            self.pairs[cell.index] += 1


@dataclass(eq=False)
class _Screened:
    """One site's cells: what is estimated of them, which were run, and how many are still missed."""

    plan: SweepPlan
    table: Table
    candidates: list[_Index]
    """Cells of the grid that have to be run, on some pair."""
    grid: ScreenedGrid
    costs: npt.NDArray[np.float64]
    """Rows times layers that each candidate takes on all pairs."""
    done: npt.NDArray[np.bool_]
    chances: npt.NDArray[np.float64]
    """Of each candidate, to be one of the largest though it was not run."""

    @classmethod
    def of(cls, plan: SweepPlan, estimated: _Estimated, n_metrics: int) -> _Screened:
        """Nothing is run yet."""
        costs: dict[_Index, int] = {}
        for cell in plan.to_run:
            costs[cell.index] = costs.get(cell.index, 0) + plan.token_layers_of(cell)
        candidates = list(costs)
        columns = {index[1:]: None for index in candidates}
        number_of = {column: number for number, column in enumerate(columns)}
        at = tuple(np.array(candidates, dtype=np.int64).reshape(-1, len(plan.shape)).T)
        grid = ScreenedGrid(
            np.array([index[0] for index in candidates], dtype=np.int64),
            np.array([number_of[index[1:]] for index in candidates], dtype=np.int64),
            estimated.effect[at] / estimated.pairs[at],
            estimated.curvature[at] / estimated.pairs[at],
        )
        return cls(
            plan,
            Table.empty(plan, n_metrics),
            candidates,
            grid,
            np.array(list(costs.values()), dtype=np.float64),
            np.zeros(len(candidates), dtype=bool),
            np.ones(len(candidates)),
        )

    def next_block(self, missed: float, cost: float) -> npt.NDArray[np.intp]:
        """Cells to run so that no more than ``missed`` are expected to be, up to a cost."""
        # what tells most for its time: cells of late layers and positions are cheap
        order = np.argsort(-self.chances / self.costs, kind="stable")
        order = order[~self.done[order]]
        left = self.chances.sum() - self.chances[order].cumsum()
        enough = 1 + int(np.searchsorted(-left, -missed))
        affordable = int(np.searchsorted(self.costs[order].cumsum(), cost, side="right"))
        return order[: max(1, min(enough, affordable))]

    def planned(self, chosen: npt.NDArray[np.intp]) -> list[PlannedCell]:
        """Some candidates on all pairs."""
        wanted = {self.candidates[c] for c in chosen}
        return [cell for cell in self.plan.to_run if cell.index in wanted]

    def update(self, chosen: npt.NDArray[np.intp], k: int) -> None:
        """Take the effects of candidates that were run."""
        self.done[chosen] = True
        enter_zeros(self.plan, self.table)
        mean = _mean((self.table.values[0] - self.table.destination[0]).double().numpy())
        exact = np.array([mean[index] for index in self.candidates])
        self.chances = self.grid.chances(np.where(self.done, exact, np.nan), k)

    @property
    def missed(self) -> float:
        """How many of the largest are expected among the cells that were not run."""
        return float(self.chances.sum())

    def note(self, k: int) -> str:
        """How many cells were run, and what the others may hide."""
        if self.done.all():
            return f"screened: all {len(self.done)} cells run exactly"
        return (
            f"screened: {self.done.sum()} of {len(self.done)} cells run exactly; {self.missed:.2g} of "
            f"the {k} largest are expected among the others"
        )


@dataclass(eq=False)
class _Runner:
    """Runs cells on all pairs; both runs of the pairs are kept where memory allows it."""

    model: TransformerBridge
    pairs: Sequence[PromptPair]
    metrics: Mapping[str, Metric]
    screened: Mapping[PatchSite, _Screened]
    batches: Sequence[Sequence[int]]
    max_bytes: int
    sources: Mapping[int, Mapping[PatchSite, SourceRun]]
    """What is copied, where the attribution's runs of the sources are kept."""
    _kept: PlanRuns | None = None

    def run(self, cells: Mapping[PatchSite, Sequence[PlannedCell]]) -> None:
        """Run some cells of the sites."""
        planned = {site: (found.plan, found.table) for site, found in self.screened.items()}
        for batch in self.batches:
            runs = self._kept or PlanRuns(
                self.model,
                self.pairs,
                planned,
                batch,
                self.metrics,
                max_bytes=self.max_bytes,
                sources=self.sources,
            )
            if len(self.batches) == 1:
                self._kept = runs
            runs.run(cells)


def _run_until(runner: _Runner, k: int, recall: float, seed: int, progress: bool) -> None:
    """Run blocks of cells until the rule holds at every site."""
    screened = runner.screened
    chosen = {site: first_block(found.grid, k, seed) for site, found in screened.items()}
    n_cells = sum(len(found.candidates) for found in screened.values())
    title = f"screening {', '.join(screened)}"
    with tqdm(total=n_cells, desc=title, disable=not progress) as bar:
        while chosen:
            runner.run({site: screened[site].planned(block) for site, block in chosen.items()})
            for site, block in chosen.items():
                screened[site].update(block, k)
                bar.update(len(block))
            missed = (1 - recall) * k
            chosen = {
                site: found.next_block(missed, _block_cost(found))
                for site, found in screened.items()
                if found.missed > missed
            }


def first_block(grid: ScreenedGrid, k: int, seed: int) -> npt.NDArray[np.intp]:
    """The ``2 k`` cells of largest estimate, and one at random of every layer, the columns in turn."""
    order = np.argsort(-np.abs(grid.estimate), kind="stable")
    generator = rng(seed, "random cells of a screen")
    drawn: list[int] = []
    left: list[int] = []
    for layer in generator.permutation(np.unique(grid.layer)):
        cells = np.flatnonzero(grid.layer == layer)
        # a column that estimates do not see at all is seen by its own random cell
        open_columns = [column for column in left if column in grid.column[cells]]
        if not open_columns:
            left = generator.permutation(np.unique(grid.column)).tolist()
            open_columns = [column for column in left if column in grid.column[cells]]
        left.remove(open_columns[0])
        drawn += cells[grid.column[cells] == open_columns[0]].tolist()
    return np.unique(np.concatenate([order[: 2 * k], np.array(drawn, dtype=np.intp)]))


def _block_cost(found: _Screened) -> float:
    """Rows times layers of a block: as many as two forwards of all prompts.

    To go through the layers costs about as much as half a forward however few cells do, and what is
    learnt from a block makes the next one smaller.
    """
    return _FORWARDS * sum(found.plan.lengths) * found.plan.n_layers


def _mean(effects: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    defined = ~np.isnan(effects)
    total = np.where(defined, effects, 0.0).sum(-1)
    counts = defined.sum(-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
