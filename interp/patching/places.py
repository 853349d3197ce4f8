"""What stands at the positions of a sweep, in both prompts.

A sweep over positions is one over the destination's. What is copied there is the source's state at the
aligned position, of another token wherever the prompts differ; a reader of a map needs both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from interp.prompts import PromptPair

_T = TypeVar("_T", bound=Hashable)


@dataclass(frozen=True)
class AlignedTokens:
    """A position of the destination: its span, the token of the source aligned with it, and its own.

    ``span`` is empty, and a token None, where pairs differ; the source's also where nothing is aligned.
    """

    span: str
    source: str | None
    destination: str | None


def places_of(pairs: Sequence[PromptPair], positions: Sequence[int]) -> tuple[AlignedTokens, ...]:
    """A place per position of the destination, of all pairs together."""
    sources = [_aligned(pair) for pair in pairs]
    places = []
    for p in positions:
        source = common(at.get(p) for at in sources)
        destination = common(pair.destination.str_tokens[p] for pair in pairs)
        span = common(pair.destination.span_of(p) for pair in pairs)
        places.append(AlignedTokens(span or "", source, destination))
    return tuple(places)


def common(values: Iterable[_T]) -> _T | None:
    """The value that all share; None where they differ."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _aligned(pair: PromptPair) -> dict[int, str]:
    """The source's token by the destination's position."""
    return {j: pair.source.str_tokens[i] for i, j in pair.alignment.pairs().tolist()}
