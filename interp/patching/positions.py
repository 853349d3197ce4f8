"""Positions that are patched together, and how many of a span's tokens they are.

A patch copies from a token to its counterpart. Between prompts of unequal length some tokens have none
(:mod:`interp.prompts.align`): of an instruction and a control that is two tokens longer often only
"Please" and the full stop. Such a span is patched in part, and its cells say little of the span.
:class:`TokenCounts` goes with every plan and result, so that no reader has to guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.display import short_repr
from interp.errors import InterpError
from interp.patching.sites import Positions
from interp.prompts import PromptPair
from interp.prompts.align import EQUAL_LENGTHS

ALL = "all from the first difference"
"""Name of the cell column that patches every aligned position from the first difference on: the
ceiling. At ``resid_pre`` and equal lengths it gives the source run at every layer."""

Counted: TypeAlias = tuple[int, int, int]
"""Tokens that are patched, tokens of the source, tokens of the destination."""

COUNT_COLUMNS = ("patched_tokens", "source_tokens", "destination_tokens")
"""The three counts as columns of a table."""


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """How many tokens of each column of a sweep are patched in each pair.

    ``patched``: tokens of the destination that get their counterpart's activations. Tokens before the
    first difference are the same in both runs and count as patched. ``source``, ``destination``: how
    many tokens the column has in either prompt. Grids without a column for positions have one column.
    """

    patched: Int[Tensor, "column pair"]
    source: Int[Tensor, "column pair"]
    destination: Int[Tensor, "column pair"]

    __repr__ = short_repr

    @classmethod
    def of(cls, pairs: Sequence[PromptPair], columns: Sequence[Positions]) -> TokenCounts:
        """The counts of position sets, such as the names of spans."""
        counted = [[count_tokens(pair, column) for pair in pairs] for column in columns]
        table = torch.tensor(counted, dtype=torch.long).view(len(columns), len(pairs), 3)
        return cls(*table.unbind(-1))

    def table(self) -> Int[Tensor, "3 column pair"]:
        """The three counts one after the other."""
        return torch.stack([self.patched, self.source, self.destination])

    def partly(self) -> Bool[Tensor, " column"]:
        """Columns of which in some pair a part is patched, and tokens of either prompt are not.

        Where nothing is patched there is no value that could be misread.
        """
        return (self._left_out() & (self.patched > 0)).any(-1)

    def not_patched(self, column: int) -> str:
        """``7 of 9 tokens not patched``; empty where all are.

        Tokens of the source; those of the destination in pairs whose source is patched in whole. Over
        several pairs that differ, the sums over those pairs that are patched in part.
        """
        partly = self._left_out()[column]
        if not bool(partly.any()):
            return ""
        patched, source = self.patched[column][partly], self.source[column][partly]
        tokens = torch.where(patched < source, source, self.destination[column][partly])
        missing, n = tokens - patched, int(partly.sum())
        if len(set(zip(missing.tolist(), tokens.tolist(), strict=True))) > 1:
            return f"{int(missing.sum())} of {int(tokens.sum())} tokens of {n} pairs not patched"
        where = "" if n == len(partly) else f" in {n} of {len(partly)} pairs"
        return f"{int(missing[0])} of {int(tokens[0])} tokens not patched{where}"

    def _left_out(self) -> Bool[Tensor, "column pair"]:
        return (self.patched < self.source) | (self.patched < self.destination)


def count_tokens(pair: PromptPair, positions: Positions) -> Counted:
    """Tokens of a position set that are patched, and that the source and the destination have."""
    patched = len(positions_of(pair, positions)[1])
    prompts = (pair.source, pair.destination)
    if not isinstance(positions, str):
        return patched, patched, len(set(positions))
    if positions == "all":
        return patched, len(pair.source), len(pair.destination)
    if positions in ("aligned", ALL):
        first = pair.alignment.first_difference
        if first is None:
            return 0, 0, 0
        return patched, len(pair.source) - first, len(pair.destination) - first
    if positions == "post_instruction":
        after = [
            len(p) - p.span("instruction").stop if "instruction" in p.spans else 0 for p in prompts
        ]
        return patched, after[0], after[1]
    source, destination = (prompt.spans.get(positions, slice(0, 0)) for prompt in prompts)
    return patched, source.stop - source.start, destination.stop - destination.start


def positions_of(pair: PromptPair, positions: Positions) -> tuple[Tensor, Tensor]:
    """Aligned (source, destination) positions of a set, ascending.

    Raises:
        InterpError: an unknown name, or a position outside the destination.
    """
    aligned = pair.alignment.pairs()
    n = len(pair.destination)
    first = pair.alignment.first_difference
    first = n if first is None else first
    if not isinstance(positions, str):
        wanted = sorted(set(positions))
        if not wanted:
            raise InterpError("no positions to patch: the list is empty")
        outside = [p for p in wanted if not 0 <= p < n]
        if outside:
            raise InterpError(f"position {outside[0]} is outside the destination, 0..{n - 1}")
        keep = torch.isin(aligned[:, 1], torch.tensor(wanted, dtype=torch.long))
    elif positions == "all":
        keep = torch.ones(len(aligned), dtype=torch.bool)
    elif positions in ("aligned", ALL):
        keep = aligned[:, 1] >= first
    elif positions == "post_instruction":
        keep = aligned[:, 1] >= pair.destination.span("instruction").stop
    else:
        where = pair.destination.span(positions)
        keep = (aligned[:, 1] >= where.start) & (aligned[:, 1] < where.stop)
    return aligned[keep, 0], aligned[keep, 1]


def alignment_notes(model: TransformerBridge, pairs: Sequence[PromptPair]) -> tuple[str, ...]:
    """What a reader of a map has to know of its pairs; empty when all are aligned by index."""
    moved = [pair for pair in pairs if not pair.alignment.by_index]
    if not moved:
        return ()
    note = f"{len(moved)} of {len(pairs)} pairs are not aligned by index"
    partly = partly_patched_spans(moved)
    if partly:
        note += f": {', '.join(partly)}; {EQUAL_LENGTHS}"
    if model.cfg.positional_embedding_type == "standard":
        note += "; this model's residual stream carries absolute positions, which the patch copies"
    return (note,)


def partly_patched_spans(pairs: Sequence[PromptPair]) -> list[str]:
    """``instruction 2 of 9 tokens patched`` for every span that is patched in part, of either prompt."""
    said = []
    for name in dict.fromkeys(n for p in pairs for n in (*p.source.spans, *p.destination.spans)):
        counted = [_span_count(pair, name) for pair in pairs]
        counted = [(n, of) for n, of in counted if n < of]
        if counted:
            n, of = (sum(column) for column in zip(*counted, strict=True))
            said.append(f"{name} {n} of {of} tokens patched")
    return said


def _span_count(pair: PromptPair, name: str) -> tuple[int, int]:
    """Patched tokens of a span, and of how many, as :meth:`TokenCounts.not_patched` counts them."""
    if name not in pair.destination.spans:
        span = pair.source.spans.get(name, slice(0, 0))
        return 0, span.stop - span.start
    patched, source, destination = count_tokens(pair, name)
    return patched, source if patched < source else destination
