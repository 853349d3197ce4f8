"""Measuring patched runs: a table of metrics, filled by cells that are bound to their patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
from interp.patching.source import SourceRun, patches_of, read_source
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
    with tqdm(
        total=plan.token_layers,
        desc=f"patching {plan.site}",
        unit="row",
        unit_scale=True,
        disable=not progress,
    ) as bar:
        for batch in pair_batches(model, plan, max_bytes):
            runs = PlanRuns(
                model,
                pairs,
                plan,
                batch,
                metrics,
                table,
                part=part,
                method=method,
                max_bytes=max_bytes,
            )
            runs.run([cell for cell in plan.to_run if cell.pair in runs.sources], bar.update)
    enter_zeros(plan, table)
    return table


class PlanRuns:
    """The unpatched runs of some pairs of a plan, made once, and its cells patched into them on demand.

    Both runs' metrics are entered into the table at the beginning, a cell's when it is run.
    """

    def __init__(
        self,
        model: TransformerBridge,
        pairs: Sequence[PromptPair],
        plan: SweepPlan,
        batch: Sequence[int],
        metrics: Mapping[str, Metric],
        table: Table,
        *,
        part: Part | None = None,
        method: SweepMethod = "exact",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._plan, self._part = plan, part
        self.sources = {
            number: read_source(model, pairs[number].source.ids, plan, number) for number in batch
        }
        for number, source in self.sources.items():
            table.source[:, number] = source_values(model, pairs[number], metrics, source)
        self._runs = BoundRuns(
            model,
            {number: pairs[number] for number in batch},
            metrics,
            table,
            method=method,
            max_bytes=max_bytes,
        )

    def run(self, cells: Sequence[PlannedCell], advance: Callable[[int], object]) -> None:
        """Run some cells of these pairs and enter their metrics."""
        site, part = self._plan.site, self._part
        bound = [(cell, patches_of(site, cell, self.sources[cell.pair], part)) for cell in cells]
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


class BoundRuns:
    """The destinations' runs of some pairs, made once, for cells that are bound to their patches."""

    def __init__(
        self,
        model: TransformerBridge,
        pairs: Mapping[int, PromptPair],
        metrics: Mapping[str, Metric],
        table: Table,
        *,
        method: SweepMethod,
        max_bytes: int,
    ) -> None:
        self._pairs, self._metrics, self._table = pairs, metrics, table
        self._numbers = list(pairs)
        readings = [reading_of(pair.destination.ids, pair, metrics) for pair in pairs.values()]
        self._runs = PatchedRuns(
            model,
            [reading.prompt for reading in readings],
            [reading.read for reading in readings],
            branches=[reading.branches for reading in readings],
            method=method,
            max_bytes=max_bytes,
        )
        for number, logits in zip(self._numbers, self._runs.logits, strict=True):
            own = evaluate_metrics(metrics, logits[None], pairs[number])[:, 0]
            table.destination[:, number] = own

    def run(
        self,
        bound: Sequence[tuple[PlannedCell, tuple[Patch, ...]]],
        advance: Callable[[int], object],
    ) -> None:
        """Run cells and enter their metrics into the table."""

        def enter(indices: list[int], logits: Tensor) -> None:
            number = bound[indices[0]][0].pair  # the engine hands over runs of one prompt
            values = evaluate_metrics(self._metrics, logits, self._pairs[number])
            for k, index in enumerate(indices):
                self._table.enter(bound[index][0], values[:, k])

        cells = [Cell(self._numbers.index(cell.pair), patches) for cell, patches in bound]
        self._runs.run(cells, enter, advance=advance)
        notes = self._table.notes
        notes.extend(note for note in self._runs.notes if note not in notes)


def enter_zeros(plan: SweepPlan, table: Table) -> None:
    """Cells that causality keeps at the destination's own value."""
    for cell in plan.cells:
        if cell.state == "zero":
            table.enter(cell, table.destination[:, cell.pair])


def pair_batches(model: TransformerBridge, plan: SweepPlan, max_bytes: int) -> Iterator[list[int]]:
    """Consecutive pairs whose runs and rows take a quarter of the budget each (one at least)."""
    rows = [0] * len(plan.lengths)
    for cell in plan.to_run:
        rows[cell.pair] += plan.lengths[cell.pair] - int(cell.destination[0])
    one = row_bytes(model)
    batch: list[int] = []
    held = moving = 0
    for pair, length in enumerate(plan.lengths):
        # residual stream, keys, values and the copied activations of every layer
        more = 4 * length * one * plan.n_layers
        if batch and max(held + more, moving + rows[pair] * one) > max_bytes // 4:
            yield batch
            batch, held, moving = [], 0, 0
        batch.append(pair)
        held, moving = held + more, moving + rows[pair] * one
    yield batch
