"""Rows: which patched runs a flat list of residual rows belongs to, and what they reuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from interp.patching.cells import Patch, as_index

Calls: TypeAlias = tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
"""The arguments of every block behind the residual stream, by place and by name."""


@dataclass(frozen=True, eq=False)
class RecordedForward:
    """One of the model's own forwards that a run was recorded from: the row of each position."""

    rows: Int[Tensor, " pos"]
    calls: Calls


@dataclass(frozen=True, eq=False)
class UnpatchedRun:
    """One unpatched prompt, with branches behind it or none: what every patched copy reuses.

    Its rows are the prompt's positions, then those of the branches
    (:mod:`interp.patching.branches`); without branches ``pos`` is a position. ``resid[l]`` is the
    residual stream before layer ``l``, ``resid[n_layers]`` the final one;
    ``keys[l]``, ``values[l]``: ``[head, pos, d_head]``, keys rotated; ``masks[l]``: ``[pos, key]``,
    0 where a key is seen and the dtype's lowest number elsewhere. ``calls`` are by row where they are
    by position. ``read``: ascending rows whose ``logits`` are wanted. ``forwards``: where all of it
    comes from.
    """

    ids: Int[Tensor, " pos"]
    resid: Float[Tensor, "layer pos d_model"]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    calls: Calls
    read: Int[Tensor, " read"]
    logits: Float[Tensor, "read d_vocab"]
    forwards: tuple[RecordedForward, ...]

    @property
    def branched(self) -> bool:
        """Whether branches share the prompt's rows."""
        return len(self.forwards) > 1

    @property
    def n_positions(self) -> int:
        """Tokens of the longest of its forwards."""
        return max(len(forward.rows) for forward in self.forwards)

    @property
    def n_bytes(self) -> int:
        """Memory it holds."""
        held = [self.resid, *self.keys, *self.values, *{id(m): m for m in self.masks}.values()]
        return sum(tensor.nbytes for tensor in [*held, self.logits])


@dataclass(frozen=True, eq=False)
class Group:
    """Cells of one run whose rows are the positions ``start`` to ``stop``."""

    run: UnpatchedRun
    start: int
    stop: int
    cells: tuple[int, ...]

    @property
    def n(self) -> int:
        """Rows per cell."""
        return self.stop - self.start

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.n * len(self.cells)


@dataclass(frozen=True, eq=False)
class RowWrite:
    """A patch of one cell among the rows: its cell is the ``cell``-th of group ``group``."""

    patch: Patch
    group: int
    cell: int
    first_row: int
    """The row of position ``start`` of this cell."""


def apply_writes(
    rows: Tensor, writes: Sequence[RowWrite], groups: Sequence[Group], site: str
) -> Tensor:
    """``rows`` with the patches of one site applied, in a copy; as they are without one."""
    chosen = [write for write in writes if write.patch.site == site]
    if not chosen:
        return rows
    rows = rows.clone()
    for write in chosen:
        patch = write.patch
        first = write.first_row - groups[write.group].start
        at = as_index((first + patch.positions).tolist(), rows.device)
        if not patch.heads:
            rows[at] = patch.apply(rows[at])
            continue
        heads = as_index(patch.heads, rows.device)
        if isinstance(at, Tensor) and isinstance(heads, Tensor):
            at = at[:, None]
        rows[at, heads] = patch.apply(rows[at, heads])
    return rows
