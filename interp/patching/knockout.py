"""Attention knockout: which positions have to read a span, in which layers and heads.

Edges from some query positions to the positions of a span are removed before the softmax, so that
the rest of the attention is renormalised, and the metric is read at the end (as in
arXiv 2304.14767). The edited run is the pair's destination: to ask by which route an instruction acts
in the corrected prompt, give the reversed pair. A cell's effect is edited - unedited; its share is
0 for the unedited run and 1 for the pair's source.

Template tokens relay what they read, so blocking the answer alone says little: compare
``queries="later"`` with ``queries="last"``. The control is ``to="control"``, an equal-size block of
other earlier positions (never position 0, the attention sink, arXiv 2309.17453). A text may hold a
token that becomes a sink itself; its early layers then matter for reasons of their own.

The option margin reads both options' tokens, teacher-forced behind the answer prefix. Their rows are
readers like the last position, from which the answer begins: they no longer read the span exactly where
the last position does not. (Leading tokens that both options share stand in the prompt and are
positions of it like any other.)

Identity: with all layers, heads and later positions blocked, the result is that of the prompt with the
span deleted and the other position ids kept.

Example::

    pair = make_pair(model, item, "instructed").swap()     # placebo -> corrected
    knockout(model, pair, window=5).share()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeAlias, get_args

import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.branches import Reading
from interp.patching.cells import Patch
from interp.patching.grid import Grid, KnockoutCells, grid_or_keywords
from interp.patching.measure import BoundCell, BoundRuns, Table, pair_batches, source_values
from interp.patching.metrics import Metric, named_metrics, reading_of, require_target
from interp.patching.patched import MAX_BYTES, SweepMethod
from interp.patching.plan import (
    PlannedCell,
    SweepPlan,
    forward_length,
    require_site,
    resolve_heads,
    resolve_layers,
    window_label,
    window_layers,
)
from interp.patching.positions import partly_patched_spans
from interp.patching.result import SweepResult
from interp.prompts import PromptPair, TokenizedPrompt, require_runnable
from interp.prompts.align import EQUAL_LENGTHS
from interp.stats import rng

Queries: TypeAlias = str | Sequence[int]
"""``"later"`` (all positions after the span), ``"last"``, the name of a span, or positions."""


@grid_or_keywords
def knockout(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    to: str = "instruction",
    queries: Queries = "later",
    grid: Grid | None = None,
    cells: KnockoutCells = "layer",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    window: int = 1,
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
    method: SweepMethod = "exact",
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> SweepResult:
    """Remove the attention edges from ``queries`` to a span, cell by cell.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several; the destinations are edited.
        to: the span that is no longer read, or ``"control"``: as many other positions as the
            instruction has, in one block before the queries, drawn by ``seed``.
        queries: who no longer reads it.
        grid: the arguments from ``cells`` to ``window`` as one :class:`interp.patching.Grid`,
            instead of them; a site or positions in it are refused.
        cells: ``"layer"``, ``"layer_head"`` (one head at a time), or ``"layer_span"`` (the
            queries of one span at a time).
        layers: first layers of the windows; None takes all.
        heads: which heads; None takes all.
        spans: the columns of ``"layer_span"``; None takes those after the span that is blocked.
        window: how many layers from the cell's layer on are blocked together.
        metric: as in :func:`interp.patching.sweep`.
        method: ``"exact"``, or ``"hooked"`` for one forward per cell.
        seed: seed of the control's block and of the result's max-t.
        max_bytes: memory budget.
        progress: show a bar.

    Returns:
        :class:`SweepResult`, values ``[metric?, *cells, pair]``.

    Raises:
        InterpError: unknown names, a span without later positions, or no room for the control.
    """
    if grid is None:
        grid = Grid(None, cells, layers, spans, heads, window=window)
    grid.require_unset(
        "knockout", {"site": "it removes edges", "positions": "name queries= and to="}
    )
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    if not pairs:
        raise InterpError("no pairs to edit: the list is empty")
    metrics, several = named_metrics(metric)
    require_target(model, pairs, metrics)
    readings = [reading_of(pair.destination.ids, pair, metrics) for pair in pairs]
    plan = _plan(model, pairs, to, queries, grid, readings, seed)
    table = Table.empty(plan, len(metrics))
    bar = tqdm(total=plan.token_layers, desc="knockout", unit="row", unit_scale=True,
               disable=not progress)  # fmt: skip
    with bar:
        for batch in pair_batches(model, [plan], max_bytes):
            for k in batch:
                table.source[:, k] = source_values(model, pairs[k], metrics)
            runs = BoundRuns(
                model,
                {k: pairs[k] for k in batch},
                metrics,
                [table],
                method=method,
                max_bytes=max_bytes,
            )
            bound = [
                BoundCell(table, cell, edge_patches(plan, cell))
                for cell in plan.to_run
                if cell.pair in batch
            ]
            runs.run(bound, bar.update)
    return SweepResult.of_table(
        plan,
        table,
        pairs,
        metric_names=list(metrics),
        several=several,
        title=f"{pairs[0].destination_name}: no attention from {_said(queries)} to the {to}",
        seed=seed,
        notes=_length_notes(pairs),
    )


def _length_notes(pairs: Sequence[PromptPair]) -> tuple[str, ...]:
    """No activation is copied here, so only the other end of a share depends on the alignment."""
    unequal = [pair for pair in pairs if not pair.alignment.by_index]
    if not unequal:
        return ()
    spans = ", ".join(partly_patched_spans(unequal)).replace("patched", "with a counterpart")
    return (
        f"{len(unequal)} of {len(pairs)} pairs are not aligned by index ({spans}): cells are of the "
        "destination alone, but source - destination holds a difference of length as well; "
        f"{EQUAL_LENGTHS}",
    )


def plan_knockout(
    model: TransformerBridge, pair: PromptPair, *, to: str, queries: Queries, grid: Grid, seed: int
) -> SweepPlan:
    """The cells of a knockout of one pair whose last position is read."""
    reading = reading_of(pair.destination.ids, pair, {})
    return _plan(model, [pair], to, queries, grid, [reading], seed)


def _said(queries: Queries) -> str:
    return f"{queries} positions" if isinstance(queries, str) else f"{len(queries)} positions"


def _plan(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    to: str,
    queries: Queries,
    grid: Grid,
    readings: Sequence[Reading],
    seed: int,
) -> SweepPlan:
    """The cells; ``source`` holds the blocked keys, ``destination`` the queries' rows."""
    for pair in pairs:
        require_runnable(model, pair)
    n_layers = int(model.cfg.n_layers)
    starts = resolve_layers(model, "edges", grid.layers)
    chosen = resolve_heads(model, "edges", grid.heads)
    require_site(model, "edges")
    cells = grid.cells or "layer"
    if cells not in get_args(KnockoutCells):
        raise InterpError(f"no grid {cells!r}; known: {', '.join(get_args(KnockoutCells))}")
    axes = tuple(cells.split("_"))
    columns: list[Queries] = [queries]
    if "span" in axes:
        columns = list(_later_spans(pairs, to) if grid.spans is None else grid.spans)
    labels = {"layer": [window_label(layer, grid.window, n_layers) for layer in starts]}
    if "head" in axes:
        labels["head"] = [str(head) for head in chosen]
    if "span" in axes:
        labels["span"] = [str(column) for column in columns]
    sets = [(head,) for head in chosen] if "head" in axes else [chosen]
    planned = []
    for number, pair in enumerate(pairs):
        blocked = _keys(pair.destination, to, seed)
        asking = [_asking(pair.destination, column, blocked) for column in columns]
        asking = [_with_options(rows, readings[number]) for rows in asking]
        for (i, layer), (h, subset), (k, who) in product(
            enumerate(starts), enumerate(sets), enumerate(asking)
        ):
            place = {"layer": i, "head": h, "span": k}
            index = tuple(place[axis] for axis in axes)
            covered = window_layers(layer, grid.window, n_layers)
            planned.append(PlannedCell(number, index, covered, subset, blocked, who, "run"))
    lengths = tuple(len(reading) for reading in readings)
    forwards = tuple(forward_length(reading) for reading in readings)
    return SweepPlan("edges", axes, labels, tuple(planned), lengths, n_layers, forwards)


def _keys(prompt: TokenizedPrompt, to: str, seed: int) -> Int[Tensor, " key"]:
    """The positions that are no longer read."""
    if to != "control":
        where = prompt.span(to)
        if where.start == where.stop:
            raise InterpError(f"{prompt.label}: the span {to} is empty: nothing to block")
        return torch.arange(where.start, where.stop)
    span = prompt.span("instruction")
    size = span.stop - span.start
    before = list(range(1, span.start - size + 1))  # position 0 is the attention sink
    if not before:
        raise InterpError(
            f"{prompt.label}: no block of {size} positions before the instruction to block instead"
        )
    start = int(rng(seed, "control block", prompt.label).choice(before))
    return torch.arange(start, start + size)


def _asking(prompt: TokenizedPrompt, queries: Queries, blocked: Tensor) -> Int[Tensor, " query"]:
    """The positions that no longer read them."""
    n, last_key = len(prompt), int(blocked.max())
    if not isinstance(queries, str):
        if not len(queries):
            raise InterpError("queries is empty: name at least one position, or 'later' or 'last'")
        outside = [p for p in queries if not 0 <= p < n]
        if outside:
            raise InterpError(f"position {outside[0]} is outside the prompt, 0..{n - 1}")
        return torch.tensor(sorted(set(queries)), dtype=torch.long)
    after = last_key + 1
    if "instruction" in prompt.spans:
        after = max(after, prompt.span("instruction").stop)  # the control's queries are the same
    known = {"later": slice(after, n), "last": slice(n - 1, n)}
    where = known[queries] if queries in known else prompt.span(queries)
    positions = torch.arange(where.start, where.stop)
    positions = positions[positions > last_key]
    if not len(positions):
        raise InterpError(f"{prompt.label}: no {queries} positions after what is blocked")
    return positions


def _with_options(queries: Int[Tensor, " query"], reading: Reading) -> Int[Tensor, " row"]:
    """The queries' rows: those of the options too where the last position is among them."""
    n = len(reading.prompt)
    if int(queries.max()) < n - 1:
        return queries
    return torch.cat([queries, torch.arange(n, len(reading))])


def _later_spans(pairs: Sequence[PromptPair], to: str) -> list[str]:
    """Spans that begin after the blocked one in every pair."""

    def later(prompt: TokenizedPrompt, name: str) -> bool:
        blocked = prompt.span("instruction" if to == "control" else to)
        return name in prompt.spans and prompt.span(name).start >= blocked.stop

    return [
        name
        for name in pairs[0].destination.spans
        if all(later(pair.destination, name) for pair in pairs)
    ]


def edge_patches(plan: SweepPlan, cell: PlannedCell) -> tuple[Patch, ...]:
    """The edges that a cell of a knockout's plan removes, one patch per layer of its window."""
    gone = torch.zeros(plan.lengths[cell.pair], dtype=torch.bool)
    gone[cell.source] = True
    rows = gone.expand(len(cell.destination), len(cell.heads), -1)
    return tuple(Patch(layer, "edges", cell.destination, rows, cell.heads) for layer in cell.layers)
