"""The exact engine: all cells of a sweep in one pass over the layers.

A patch at (layer l, position p) changes only layers from l on and positions from p on. So a cell
enters at its layer with the destination's residual stream, patched, and from there on only its rows
``p, p+1, ...`` are computed; keys and values before p are the unpatched prompt's
(:mod:`interp.patching.blocks`). At every layer the rows of all cells that have entered form one flat
list, and of the last layer only the rows that the metric reads are computed.

For S tokens of which the last T are patched one by one in L layers that is ``L(L-1)/2 * T(T+1)/2``
token-layers, against ``L * T * L * S`` of one forward per cell.

The order of cells, their batches and the chunks that a block sees depend on the plan and on the
byte budget alone, so that equal calls give equal bytes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.patching.blocks import final_logits, run_block, run_last_block
from interp.patching.cells import Cell
from interp.patching.rows import Group, RowWrite, UnpatchedRun, apply_writes

Consume: TypeAlias = Callable[[list[int], Float[Tensor, "_cell _read d_vocab"]], None]
"""Takes indices of cells and their logits at the positions that are read."""

CHUNK_ROWS = {"cpu": 1024, "cuda": 16384}
"""Rows that a block sees at once: enough to fill the machine, few enough to stay in its caches."""

_PART = 0.5
"""Share of the budget for the rows; the other is for a block's work."""

_LOGIT_ROWS = 256
"""Rows that are unembedded at once."""


@dataclass(frozen=True)
class _Section:
    """Cells of one run with one start; their slots follow each other, by the layer they enter."""

    run: int
    start: int
    cells: tuple[int, ...]
    first: tuple[int, ...]
    """The layer from which each cell is run with all of its rows, ascending."""
    offset: int


@torch.no_grad()
def run_cells(
    model: TransformerBridge,
    runs: Sequence[UnpatchedRun],
    cells: Sequence[Cell],
    consume: Consume,
    *,
    max_bytes: int,
    advance: Callable[[int], object] = lambda rows: None,
) -> None:
    """Run every cell and hand its logits to ``consume``.

    Args:
        model: a bridge in evaluation mode.
        runs: the destinations.
        cells: what to patch.
        consume: gets every cell once, with the logits ``[cell, read, d_vocab]`` of its run's
            ``read``, in an order that is not that of ``cells``.
        max_bytes: budget for the rows and the working memory, not for the runs.
        advance: told the number of row-layers done.
    """
    # Cells of one run and one start have the same rows, and before them the same keys: neighbours
    # here form one group, and attention to the shared keys is one product for all of them.
    order = sorted(
        range(len(cells)), key=lambda c: (cells[c].run, cells[c].start, _first(cells[c]))
    )
    engine = _Engine(model, runs, cells, _chunk_rows(model, runs, max_bytes), max_bytes, advance)
    for batch in _batches(order, cells, runs, model, max_bytes):
        engine.run(batch, consume)


def _first(cell: Cell) -> int:
    """First layer that is run with all of the cell's later rows."""
    # Later rows see position p through its key and value, made from the stream before the layer.
    # resid_pre, k and v change those; z, mlp_out and the like change row p only, and later rows
    # one layer on. A first layer too late would leave stale rows, one too early only costs time.
    return cell.layer if cell.spreads else cell.layer + 1


def least_bytes(
    model: TransformerBridge, runs: Sequence[UnpatchedRun], cells: Sequence[Cell]
) -> int:
    """The smallest budget that :func:`run_cells` can keep to: the longest cell alone."""
    longest = max(len(runs[cell.run].ids) - cell.start for cell in cells)
    keys = max(len(run.ids) for run in runs)
    return math.ceil(longest * max(row_bytes(model), working_bytes(model, keys)) / _PART)


def row_bytes(model: TransformerBridge) -> int:
    """Bytes that one row holds from layer to layer."""
    return int(model.cfg.d_model) * torch.finfo(model.cfg.dtype).bits // 8


def working_bytes(model: TransformerBridge, n_keys: int) -> int:
    """Bytes of one row while a block runs: residuals, projections, MLP and attention scores."""
    cfg = model.cfg
    width = 8 * cfg.d_model + 4 * (cfg.d_mlp or 4 * cfg.d_model) + 4 * cfg.n_heads * cfg.d_head
    size = torch.finfo(cfg.dtype).bits // 8
    return int(width * size + 3 * cfg.n_heads * n_keys * max(size, 4))


def _chunk_rows(model: TransformerBridge, runs: Sequence[UnpatchedRun], max_bytes: int) -> int:
    longest = max(len(run.ids) for run in runs)
    affordable = int(_PART * max_bytes) // working_bytes(model, longest)
    usual = CHUNK_ROWS.get(torch.device(model.cfg.device).type, CHUNK_ROWS["cpu"])
    return max(1, min(usual, affordable))


def _batches(
    order: Sequence[int],
    cells: Sequence[Cell],
    runs: Sequence[UnpatchedRun],
    model: TransformerBridge,
    max_bytes: int,
) -> Iterator[list[int]]:
    """Consecutive cells whose rows fit into their part of the budget (one cell always runs)."""
    # A cell has rows only from its start on: earlier positions are the destination's own, whatever
    # is patched, because no row attends to a later one.
    limit = max(1, int(_PART * max_bytes) // row_bytes(model))
    batch: list[int] = []
    rows = 0
    for index in order:
        n = len(runs[cells[index].run].ids) - cells[index].start
        if batch and rows + n > limit:
            yield batch
            batch, rows = [], 0
        batch.append(index)
        rows += n
    if batch:
        yield batch


@dataclass(frozen=True, eq=False)
class _Engine:
    model: TransformerBridge
    runs: Sequence[UnpatchedRun]
    cells: Sequence[Cell]
    chunk_rows: int
    max_bytes: int
    advance: Callable[[int], object]

    def run(self, batch: Sequence[int], consume: Consume) -> None:
        """All layers for one batch of cells."""
        sections = self._sections(batch)
        total = sections[-1].offset + len(sections[-1].cells) * self._length(sections[-1])
        cfg = self.model.cfg
        # The flat list: the residual stream before the current layer, cell after cell; row
        # slots[c] + i is position start + i of cell c. Cells that have not entered hold no values.
        state = torch.empty(total, cfg.d_model, dtype=cfg.dtype, device=cfg.device)
        slots = {
            cell: section.offset + k * self._length(section)
            for section in sections
            for k, cell in enumerate(section.cells)
        }
        entering: dict[int, list[int]] = {}
        for cell in slots:
            entering.setdefault(self.cells[cell].layer, []).append(cell)
        # below a cell's layer nothing is patched: those layers are read off the unpatched run
        for layer in range(min(entering), cfg.n_layers):
            fresh = entering.get(layer, [])
            for cell in fresh:
                self._enter(state, slots, cell, _first(self.cells[cell]))
            # Narrow cells are written as the output of this layer, so _run_active must not take
            # them before the next one: the layer would be applied twice.
            self._run_narrow(state, slots, layer, [c for c in fresh if not self.cells[c].spreads])
            self._run_active(state, slots, layer, sections)
        self._emit(state, slots, sections, consume)

    def _sections(self, batch: Sequence[int]) -> list[_Section]:
        sections, offset = [], 0
        for (run, start), group in groupby(
            batch, key=lambda c: (self.cells[c].run, self.cells[c].start)
        ):
            members = tuple(group)
            first = tuple(_first(self.cells[cell]) for cell in members)
            section = _Section(run, start, members, first, offset)
            sections.append(section)
            offset += len(section.cells) * self._length(section)
        return sections

    def _length(self, section: _Section) -> int:
        return len(self.runs[section.run].ids) - section.start

    def _enter(self, state: Tensor, slots: dict[int, int], cell: int, layer: int) -> None:
        """Fill a cell's slot with the unpatched residual stream before ``layer``."""
        # For a narrow cell this is the layer after the patch, and its patched rows follow. After
        # the last layer that is resid[n_layers], the final stream.
        resid = self.runs[self.cells[cell].run].resid[layer, self.cells[cell].start :]
        state[slots[cell] : slots[cell] + len(resid)] = resid

    def _run_narrow(
        self, state: Tensor, slots: dict[int, int], layer: int, fresh: Sequence[int]
    ) -> None:
        """The first layer of cells whose patches stay at their own positions there."""

        # Rows behind the last patched position cannot change here and are not computed. Those
        # between two patched ones come out as they were.
        def extent(cell: int) -> tuple[int, int, int]:
            positions = torch.cat([p.positions for p in self.cells[cell].first_patches])
            return self.cells[cell].run, int(positions.min()), int(positions.max()) + 1

        groups = []
        for (run, start, stop), members in groupby(sorted(fresh, key=extent), key=extent):
            group = Group(self.runs[run], start, stop, tuple(members))
            groups += list(_split(group, self.chunk_rows))
        for chunk in _packed(groups, self.chunk_rows):
            hidden = torch.cat(
                [
                    group.run.resid[layer, group.start : group.stop].repeat(len(group.cells), 1)
                    for group in chunk
                ]
            )
            out = run_block(self.model, layer, hidden, chunk, self._writes(chunk, layer))
            row = 0
            for group in chunk:
                for cell in group.cells:
                    # a patch of a later layer may begin before those of this one
                    at = slots[cell] + group.start - self.cells[cell].start
                    state[at : at + group.n] = out[row : row + group.n]
                    row += group.n
                    self.advance(len(group.run.ids) - self.cells[cell].start)

    def _run_active(
        self, state: Tensor, slots: dict[int, int], layer: int, sections: Sequence[_Section]
    ) -> None:
        """One layer of every cell that has entered, in place."""
        last = layer == self.model.cfg.n_layers - 1
        for chunk in self._chunks(sections, layer):
            where = [slice(slots[g.cells[0]], slots[g.cells[0]] + g.rows) for g in chunk]
            hidden = torch.cat([state[rows] for rows in where])
            writes = self._writes(chunk, layer)
            hidden = apply_writes(hidden, writes, chunk, "resid_pre")
            writes = [write for write in writes if write.patch.site != "resid_pre"]
            # No layer follows, so only rows that the metric reads are wanted. A patch in this
            # layer addresses rows by position: then all of them are kept.
            if last and not writes:
                read = [_read_in(group.run, group.start) for group in chunk]
                out = run_last_block(self.model, layer, hidden, chunk, read)
                self._place_read(state, slots, chunk, read, out)
            else:
                out = run_block(self.model, layer, hidden, chunk, writes)
                for rows, part in zip(where, out.split([g.rows for g in chunk]), strict=True):
                    state[rows] = part
            self.advance(len(hidden))

    def _chunks(self, sections: Sequence[_Section], layer: int) -> Iterator[list[Group]]:
        groups: list[Group] = []
        for section in sections:
            # sorted by first layer, those that have entered are a prefix; bisect_left would leave
            # out the ones that enter at this very layer
            active = section.cells[: bisect_right(section.first, layer)]
            if active:
                run = self.runs[section.run]
                group = Group(run, section.start, len(run.ids), active)
                groups += list(_split(group, self.chunk_rows))
        yield from _packed(groups, self.chunk_rows)

    def _writes(self, chunk: Sequence[Group], layer: int) -> list[RowWrite]:
        writes, row = [], 0
        for g, group in enumerate(chunk):
            for k, cell in enumerate(group.cells):
                writes += [
                    RowWrite(patch, g, k, row + k * group.n)
                    for patch in self.cells[cell].patches
                    if patch.layer == layer
                ]
            row += group.rows
        return writes

    def _place_read(
        self,
        state: Tensor,
        slots: dict[int, int],
        chunk: Sequence[Group],
        read: Sequence[Tensor],
        out: Tensor,
    ) -> None:
        at = [
            slots[cell] + rows
            for group, rows in zip(chunk, read, strict=True)
            for cell in group.cells
        ]
        state[torch.cat(at).to(state.device)] = out

    def _emit(
        self,
        state: Tensor,
        slots: dict[int, int],
        sections: Sequence[_Section],
        consume: Consume,
    ) -> None:
        """Logits of all cells, many rows at a time; a call of ``consume`` has cells of one run."""
        most = max(1, self.max_bytes // (4 * 3 * 4 * int(self.model.cfg.d_vocab)))
        waiting: list[tuple[_Section, tuple[int, ...]]] = []
        n_rows = 0
        for section in sections:
            n_read = len(self.runs[section.run].read)
            for cells in _pieces(section.cells, max(1, min(_LOGIT_ROWS, most) // n_read)):
                if waiting and n_rows + len(cells) * n_read > min(_LOGIT_ROWS, most):
                    self._hand_over(state, slots, waiting, consume)
                    waiting, n_rows = [], 0
                waiting.append((section, cells))
                n_rows += len(cells) * n_read
        if waiting:
            self._hand_over(state, slots, waiting, consume)

    def _hand_over(
        self,
        state: Tensor,
        slots: dict[int, int],
        pieces: Sequence[tuple[_Section, tuple[int, ...]]],
        consume: Consume,
    ) -> None:
        """Unembed some cells together; positions before a cell's start are the destination's."""
        rows = [_read_in(self.runs[section.run], section.start) for section, _ in pieces]
        at = [
            slots[cell] + where
            for (_, cells), where in zip(pieces, rows, strict=True)
            for cell in cells
        ]
        logits = final_logits(self.model, state[torch.cat(at).to(state.device)])
        done = 0
        for (section, cells), where in zip(pieces, rows, strict=True):
            run, n = self.runs[section.run], len(cells) * len(where)
            changed = logits[done : done + n].view(len(cells), len(where), -1)
            if len(where) < len(run.read):
                # read is ascending, so the positions before the start are the first ones
                kept = run.logits[: len(run.read) - len(where)]
                changed = torch.cat([kept.expand(len(cells), -1, -1), changed], dim=1)
            consume(list(cells), changed)
            done += n


def _read_in(run: UnpatchedRun, start: int) -> Tensor:
    """The positions that are read, counted from a start."""
    return run.read[run.read >= start] - start


def _pieces(cells: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    for k in range(0, len(cells), size):
        yield cells[k : k + size]


def _split(group: Group, chunk_rows: int) -> Iterator[Group]:
    """A group in pieces of at most ``chunk_rows`` rows (one cell at least)."""
    # between cells only: the rows of one cell attend to each other in the same call
    for cells in _pieces(group.cells, max(1, chunk_rows // group.n)):
        yield Group(group.run, group.start, group.stop, cells)


def _packed(groups: Sequence[Group], chunk_rows: int) -> Iterator[list[Group]]:
    """Consecutive groups together, up to ``chunk_rows`` rows."""
    chunk: list[Group] = []
    rows = 0
    for group in groups:
        if chunk and rows + group.rows > chunk_rows:
            yield chunk
            chunk, rows = [], 0
        chunk.append(group)
        rows += group.rows
    if chunk:
        yield chunk
