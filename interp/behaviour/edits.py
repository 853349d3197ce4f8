"""Edit or append: how much of a completion the next round keeps, on token ids.

A model that corrects itself may rewrite what it said, or keep it and add cautious text
(arXiv 2407.15286, RQ3). Of a completion ``before`` (n tokens) and the next one ``after`` (m):

- **kept_prefix** = length of the longest common prefix / n.
- **kept_tokens** = length of the longest common subsequence / n: tokens kept in their order, with
  anything in between. Always kept_prefix <= kept_tokens.
- **appended** = what stands behind that in ``after`` / m: its tokens beyond the shortest beginning that
  already holds a longest common subsequence. So one token rewritten and then more added is seen as both:
  kept_tokens below 1 and appended above 0. What replaces the end of ``before`` counts as well: read the
  two together. 0 where nothing is kept.

All three are in [0, 1]. Equal completions give 1, 1, 0; a pure addition of k tokens 1, 1, k / m;
completions without a common token 0, 0, 0. An empty ``before`` has no share to keep: all three are
NaN. An empty ``after`` keeps and appends nothing: 0, 0, 0.

Limits: tokens are compared, not meanings; a paraphrase counts as rewritten.

Example::

    edit_shares([5, 6, 7], [5, 6, 7, 8])  # kept_prefix 1, kept_tokens 1, appended 0.25
    edits_over_rounds({"item-1": [round_0_ids, round_1_ids, round_2_ids]})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Literal, TypeAlias

import pandas as pd
from jaxtyping import Int
from torch import Tensor

from interp.errors import InterpError

TokenIds: TypeAlias = Sequence[int] | Int[Tensor, " _pos"]

EditKind = Literal["unchanged", "appended", "shortened", "edited", "replaced"]
"""``appended``: ``before``, then more. ``shortened``: a beginning of ``before``. ``replaced``: no
token in common, or one of them empty. ``edited``: anything else."""


@dataclass(frozen=True)
class Edit:
    """Two rounds compared: shares in 0..1 (see the module), lengths in tokens."""

    kept_prefix: float
    kept_tokens: float
    appended: float
    n_before: int
    n_after: int
    kind: EditKind


def edit_shares(before: TokenIds, after: TokenIds) -> Edit:
    """Compare a completion with that of a later round; token ids without the prompt."""
    old, new = _ids(before), _ids(after)
    prefix = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    matched, behind = _common_subsequence(old, new)
    if old:
        kept_prefix, kept_tokens = prefix / len(old), matched / len(old)
        appended = (len(new) - behind) / len(new) if matched else 0.0
    else:
        kept_prefix = kept_tokens = appended = float("nan")
    return Edit(
        kept_prefix,
        kept_tokens,
        appended,
        n_before=len(old),
        n_after=len(new),
        kind=_kind(old, new, prefix, matched),
    )


def edits_over_rounds(completions: Mapping[str, Sequence[TokenIds]]) -> pd.DataFrame:
    """Every round compared with the one before it and with round 0, tidy.

    ``completions``: per item its completions in the order of the rounds, from round 0 on.

    Returns:
        Columns item, round (from 1), against (``previous``, ``first``) and the fields of
        :class:`Edit`. Rounds of an item are not independent: cluster by item.

    Raises:
        InterpError: no items, or an item with fewer than two rounds.
    """
    if not completions:
        raise InterpError("no completions to compare: the mapping is empty")
    records = []
    for item, rounds in completions.items():
        if len(rounds) < 2:
            raise InterpError(f"item {item!r} has {len(rounds)} rounds: two are needed to compare")
        for number in range(1, len(rounds)):
            for against, other in (("previous", number - 1), ("first", 0)):
                edit = edit_shares(rounds[other], rounds[number])
                records.append({"item": item, "round": number, "against": against, **asdict(edit)})
    return pd.DataFrame(records)


def _common_subsequence(old: list[int], new: list[int]) -> tuple[int, int]:
    """Length of the longest common subsequence, and of the shortest beginning of ``new`` that holds one.

    Bit-parallel over ``old`` (Hyyro 2004): the zeros of ``row`` are the tokens matched so far.
    """
    places: dict[int, int] = {}
    for k, token in enumerate(old):
        places[token] = places.get(token, 0) | 1 << k
    whole = (1 << len(old)) - 1
    row, longest, holds = whole, 0, 0
    for length, token in enumerate(new, start=1):
        hits = row & places.get(token, 0)
        row = ((row + hits) | (row - hits)) & whole
        matched = len(old) - row.bit_count()
        if matched > longest:
            longest, holds = matched, length
    return longest, holds


def _ids(tokens: TokenIds) -> list[int]:
    return tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)


def _kind(old: list[int], new: list[int], prefix: int, matched: int) -> EditKind:
    if old == new:
        return "unchanged"
    if not matched:
        return "replaced"
    if prefix == len(old):
        return "appended"
    return "shortened" if prefix == len(new) else "edited"
