"""Measuring patched runs: a table of metrics, filled by cells that are bound to their patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.patching.cells import Cell, Part, Patch
from interp.patching.hooked import run_reading
from interp.patching.metrics import Metric, evaluate_metrics, reading_of, reads_options
from interp.patching.patched import MAX_BYTES, PatchedRuns, SweepMethod
from interp.patching.plan import PlannedCell, SweepPlan
from interp.patching.sites import PatchSite
from interp.patching.source import SourceRun, patches_of, read_sources
from interp.patching.wavefront import row_bytes
from interp.prompts import PromptPair


@dataclass(frozen=True, eq=False)
class Table:
    """Metrics of every cell of a plan and of the unpatched runs.

    ``values [metric, *grid, pair]``; ``destination`` and ``source`` ``[metric, pair]``. NaN until
    measured. ``notes``: what a reader has to know of how.
    """

    values: Float[Tensor, "metric ..."]
    destination: Float[Tensor, "metric pair"]
    source: Float[Tensor, "metric pair"]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, plan: SweepPlan, n_metrics: int) -> Table:
        """Nothing measured yet."""
        n_pairs = len(plan.lengths)
        nan = float("nan")
        return cls(
            torch.full((n_metrics, *plan.shape, n_pairs), nan),
            torch.full((n_metrics, n_pairs), nan),
            torch.full((n_metrics, n_pairs), nan),
        )

    def enter(self, cell: PlannedCell, values: Float[Tensor, " metric"]) -> None:
        """Put a cell's metrics in their place."""
        for row, value in zip(self.values, values, strict=True):
            row[(*cell.index, cell.pair)] = value


def run_plan(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    plan: SweepPlan,
    metrics: Mapping[str, Metric],
    *,
    part: Part | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> Table:
    """Measure every cell of a plan; cells that are not in it stay NaN."""
    table = Table.empty(plan, len(metrics))
    planned = {plan.site: (plan, table)}
    with tqdm(
        total=plan.token_layers,
        desc=f"patching {plan.site}",
        unit="row",
        unit_scale=True,
        disable=not progress,
    ) as bar:
        for batch in pair_batches(model, [plan], max_bytes):
            runs = PlanRuns(
                model, pairs, planned, batch, metrics, part=part, method=method, max_bytes=max_bytes
            )
            runs.run({plan.site: plan.to_run}, bar.update)
    enter_zeros(plan, table)
    return table


class PlanRuns:
    """The unpatched runs of some pairs, made once, and cells of their plans patched into them on demand.

    The plans, one per site with its table, share both runs. Both runs' metrics are entered into every
    table at the beginning, a cell's when it is run. ``sources``: what the plans copy, by pair and site,
    where the sources were run before.
    """

    def __init__(
        self,
        model: TransformerBridge,
        pairs: Sequence[PromptPair],
        planned: Mapping[PatchSite, tuple[SweepPlan, Table]],
        batch: Sequence[int],
        metrics: Mapping[str, Metric],
        *,
        part: Part | None = None,
        method: SweepMethod = "exact",
        max_bytes: int = MAX_BYTES,
        sources: Mapping[int, Mapping[PatchSite, SourceRun]] | None = None,
    ) -> None:
        self._tables = {site: table for site, (_, table) in planned.items()}
        self._part = part
        plans = [plan for plan, _ in planned.values()]
        self._sources = sources or {
            number: read_sources(model, pairs[number].source.ids, plans, number) for number in batch
        }
        for number, by_site in self._sources.items():
            own = source_values(model, pairs[number], metrics, next(iter(by_site.values())))
            for table in self._tables.values():
                table.source[:, number] = own
        self._runs = BoundRuns(
            model,
            {number: pairs[number] for number in batch},
            metrics,
            list(self._tables.values()),
            method=method,
            max_bytes=max_bytes,
        )

    def run(
        self,
        cells: Mapping[PatchSite, Sequence[PlannedCell]],
        advance: Callable[[int], object] = lambda rows: None,
    ) -> None:
        """Run some cells of the plans and enter their metrics; those of other pairs are left out."""
        bound = [
            BoundCell(
                self._tables[site],
                cell,
                patches_of(site, cell, self._sources[cell.pair][site], self._part),
            )
            for site, chosen in cells.items()
            for cell in chosen
            if cell.pair in self._sources
        ]
        self._runs.run(bound, advance)


def source_values(
    model: TransformerBridge,
    pair: PromptPair,
    metrics: Mapping[str, Metric],
    source: SourceRun | None = None,
) -> Float[Tensor, " metric"]:
    """The source's own metrics; its run serves where they read the last position alone."""
    if source is not None and not reads_options(metrics):
        logits = source.logits
    else:
        logits = run_reading(model, reading_of(pair.source.ids, pair, metrics))
    return evaluate_metrics(metrics, logits[None], pair)[:, 0]


class BoundCell(NamedTuple):
    """A cell with the patches that it makes, and the table that its metrics go to."""

    table: Table
    cell: PlannedCell
    patches: tuple[Patch, ...]


class BoundRuns:
    """The destinations' runs of some pairs, made once, for cells that are bound to their patches."""

    def __init__(
        self,
        model: TransformerBridge,
        pairs: Mapping[int, PromptPair],
        metrics: Mapping[str, Metric],
        tables: Sequence[Table],
        *,
        method: SweepMethod,
        max_bytes: int,
    ) -> None:
        self._pairs, self._metrics, self._tables = pairs, metrics, tables
        self._numbers = list(pairs)
        readings = [reading_of(pair.destination.ids, pair, metrics) for pair in pairs.values()]
        self._runs = PatchedRuns.of_readings(model, readings, method=method, max_bytes=max_bytes)
        for number, logits in zip(self._numbers, self._runs.logits, strict=True):
            own = evaluate_metrics(metrics, logits[None], pairs[number])[:, 0]
            for table in tables:
                table.destination[:, number] = own

    def run(self, bound: Sequence[BoundCell], advance: Callable[[int], object]) -> None:
        """Run cells and enter their metrics into their tables."""

        def enter(indices: list[int], logits: Tensor) -> None:
            number = bound[indices[0]].cell.pair  # the engine hands over runs of one prompt
            values = evaluate_metrics(self._metrics, logits, self._pairs[number])
            for k, index in enumerate(indices):
                bound[index].table.enter(bound[index].cell, values[:, k])

        cells = [Cell(self._numbers.index(cell.pair), patches) for _, cell, patches in bound]
        self._runs.run(cells, enter, advance=advance)
        for table in self._tables:
            table.notes.extend(note for note in self._runs.notes if note not in table.notes)


def enter_zeros(plan: SweepPlan, table: Table) -> None:
    """Cells that causality keeps at the destination's own value."""
    for cell in plan.cells:
        if cell.state == "zero":
            table.enter(cell, table.destination[:, cell.pair])


def pair_batches(
    model: TransformerBridge, plans: Sequence[SweepPlan], max_bytes: int
) -> Iterator[list[int]]:
    """Consecutive pairs whose runs and rows take a quarter of the budget each (one at least)."""
    lengths = plans[0].lengths
    rows = [0] * len(lengths)
    for cell in (cell for plan in plans for cell in plan.to_run):
        rows[cell.pair] += lengths[cell.pair] - int(cell.destination[0])
    one = row_bytes(model)
    batch: list[int] = []
    held = moving = 0
    for pair, length in enumerate(lengths):
        # residual stream, keys, values and the copied activations of every site and layer
        more = (3 + len(plans)) * length * one * plans[0].n_layers
        if batch and max(held + more, moving + rows[pair] * one) > max_bytes // 4:
            yield batch
            batch, held, moving = [], 0, 0
        batch.append(pair)
        held, moving = held + more, moving + rows[pair] * one
    yield batch
