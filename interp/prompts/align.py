"""Which token of one prompt corresponds to which token of another.

Spans of equal length align by index, whatever their tokens; spans of different length align equal
tokens in order (their common beginning, then longest matching blocks); nothing aligns across spans.
Spans in another order in the other prompt are not aligned, so that matches always ascend.
Two prompts without common span names align as one span.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.display import html_paragraph, html_table, short_repr
from interp.prompts.tokens import TokenizedPrompt

EQUAL_LENGTHS = (
    "use a placebo of the same number of tokens (require_match=0, --require-match 0), or bring your "
    "control to that number (fit_length='pad' or 'trim', --fit-length)"
)
"""What to do about two prompts that are not aligned by index: the remedies that messages name."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """For every position of the source, the matching position of the destination, or -1.

    ``first_difference`` is the first position at which the ids differ (None for equal prompts); up
    to there both runs of a causal model are the same. ``by_index`` says whether aligned positions
    are also equal positions after it.
    """

    to_destination: Int[Tensor, " source_pos"]
    first_difference: int | None
    source: TokenizedPrompt
    destination: TokenizedPrompt

    __repr__ = short_repr

    @property
    def equal_length(self) -> bool:
        """Whether both prompts have the same number of tokens."""
        return len(self.source) == len(self.destination)

    @property
    def by_index(self) -> bool:
        """Whether every position is aligned with the same position."""
        return self.equal_length and bool(
            (self.to_destination == torch.arange(len(self.to_destination))).all()
        )

    def pairs(self) -> Int[Tensor, "aligned 2"]:
        """Aligned positions as rows (source, destination), ascending in both."""
        source = torch.nonzero(self.to_destination >= 0)[:, 0]
        return torch.stack([source, self.to_destination[source]], dim=1)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per position of the source, plus the destination's unmatched positions."""
        rows: list[tuple[str, int, str | None, int, str | None]] = []
        matched = set(self.to_destination.tolist())
        for i, j in enumerate(self.to_destination.tolist()):
            token = self.destination.str_tokens[j] if j >= 0 else None
            rows.append((self.source.span_of(i), i, self.source.str_tokens[i], j, token))
        for j, token in enumerate(self.destination.str_tokens):
            if j not in matched:
                rows.append((self.destination.span_of(j), -1, None, j, token))
        columns = ["span", "source_pos", "source_token", "destination_pos", "destination_token"]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        aligned = int((self.to_destination >= 0).sum())
        return (
            f"{aligned} of {len(self.source)} source tokens aligned with {len(self.destination)} "
            f"destination tokens, first difference at {self.first_difference}"
        )

    def _repr_html_(self) -> str:
        frame = self.to_dataframe()
        changed = frame["source_token"] != frame["destination_token"]
        return html_paragraph(self) + html_table(frame[changed])


def align(source: TokenizedPrompt, destination: TokenizedPrompt) -> Alignment:
    """Align two prompts span by span (see the module's rule)."""
    table = torch.full((len(source),), -1, dtype=torch.long)
    common = _in_common_order(list(source.spans), list(destination.spans))
    whole = (slice(0, len(source)), slice(0, len(destination)))
    spans = [(source.spans[n], destination.spans[n]) for n in common] or [whole]
    for a, b in spans:
        _align_span(source.ids, destination.ids, a, b, table)
    return Alignment(table, first_difference(source.ids, destination.ids), source, destination)


def first_difference(a: Int[Tensor, " a"], b: Int[Tensor, " b"]) -> int | None:
    """First position at which two id sequences differ; None when they are equal."""
    n = min(len(a), len(b))
    differing = torch.nonzero(a[:n] != b[:n])
    if len(differing):
        return int(differing[0])
    return None if len(a) == len(b) else n


def _align_span(a_ids: Tensor, b_ids: Tensor, a: slice, b: slice, table: Tensor) -> None:
    if a.stop - a.start == b.stop - b.start:
        table[a] = torch.arange(b.start, b.stop)
        return
    shared = first_difference(a_ids[a], b_ids[b]) or 0
    table[a.start : a.start + shared] = torch.arange(b.start, b.start + shared)
    i0, j0 = a.start + shared, b.start + shared
    for i, j, n in _blocks(a_ids[i0 : a.stop].tolist(), b_ids[j0 : b.stop].tolist()):
        table[i0 + i : i0 + i + n] = torch.arange(j0 + j, j0 + j + n)


def _in_common_order(a: list[str], b: list[str]) -> list[str]:
    return [name for i, _, n in _blocks(a, b) for name in a[i : i + n]]


def _blocks(a: list[Any], b: list[Any]) -> Iterator[tuple[int, int, int]]:
    """Matching blocks (start in a, start in b, length), ascending in both."""
    for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        yield block.a, block.b, block.size
