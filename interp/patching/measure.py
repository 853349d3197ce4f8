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
            sources = {
                number: read_source(model, pairs[number].source.ids, plan, number)
                for number in batch
            }
            for number, source in sources.items():
                table.source[:, number] = source_values(model, pairs[number], metrics, source)
            measure(
                model,
                {number: pairs[number] for number in batch},
                [
                    (cell, patches_of(plan.site, cell, sources[cell.pair], part))
                    for cell in plan.to_run
                    if cell.pair in sources
                ],
                metrics,
                table,
                method=method,
                max_bytes=max_bytes,
                advance=bar.update,
            )
    enter_zeros(plan, table)
    return table


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


def measure(
    model: TransformerBridge,
    pairs: Mapping[int, PromptPair],
    bound: Sequence[tuple[PlannedCell, tuple[Patch, ...]]],
    metrics: Mapping[str, Metric],
    table: Table,
    *,
    method: SweepMethod,
    max_bytes: int,
    advance: Callable[[int], object],
) -> None:
    """Run the cells of some pairs and enter their metrics, and the destinations', into the table."""
    numbers = list(pairs)
    readings = [reading_of(pair.destination.ids, pair, metrics) for pair in pairs.values()]
    runs = PatchedRuns(
        model,
        [reading.prompt for reading in readings],
        [reading.read for reading in readings],
        branches=[reading.branches for reading in readings],
        method=method,
        max_bytes=max_bytes,
    )
    for number, logits in zip(numbers, runs.logits, strict=True):
        table.destination[:, number] = evaluate_metrics(metrics, logits[None], pairs[number])[:, 0]

    def enter(indices: list[int], logits: Tensor) -> None:
        number = bound[indices[0]][0].pair  # the engine hands over runs of one prompt
        values = evaluate_metrics(metrics, logits, pairs[number])
        for k, index in enumerate(indices):
            table.enter(bound[index][0], values[:, k])

    cells = [Cell(numbers.index(cell.pair), patches) for cell, patches in bound]
    runs.run(cells, enter, advance=advance)
    table.notes.extend(note for note in runs.notes if note not in table.notes)


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
