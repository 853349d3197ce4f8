"""Placebos of a wanted token count: chosen from the bank, or built from it.

A bank has as many lengths as it has sentences, and tokenizers count differently. Where the bank has
no placebo of the wanted count, one is built: a placebo of the bank (or one of the fillers) followed
by further fillers, which are sentences about paper and print. So a built placebo is, like those of
the bank, of no moral content, asks for nothing that changes the task, and ends in a full stop.

Counts nearly add up over sentences: sets of fillers are found by their own counts (fewest sentences
first), and only a text whose real count is the wanted one is taken. The search is deterministic.
The id of a built placebo names its parts in order: ``placebo-03+filler-07``.

Limit: what the shortest and the longest combination allow (under the default model's tokenizer every
count from 3 to 250), and with a tokenizer of small pieces a few counts near the shortest one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

FILLERS: tuple[str, ...] = (
    "Read on.",
    "Turn over.",
    "It is typed.",
    "The text is here.",
    "The ink is dry.",
    "The ink is black.",
    "The page is white.",
    "The lines are short.",
    "The page is flat.",
    "The paper is thin.",
    "The ink has dried.",
    "The letters are small.",
    "The margins are wide.",
    "The page has four corners.",
    "The cover of it is grey.",
    "The sheet was folded once.",
    "The pages are in order.",
    "The print is the same on each page.",
    "The booklet was bound with a thread.",
    "The lines begin at the left margin.",
    "The number of the page is at the bottom.",
    "The paper was cut to size by a machine.",
    "The booklet lay in a drawer with some others.",
    "The corners of the sheet were cut round by hand.",
    "The folder in which the sheets were kept was blue.",
    "The printer put a thin line under the title of each page.",
    "The first sheet of the booklet is as thick as the last one.",
    "The sheets were counted in the morning and packed in the afternoon.",
    "The table on which the booklet was put together stood near a window.",
    "The box for the booklets was made of card and had a lid of the same card.",
)
"""Neutral sentences, roughly the shortest first."""


@dataclass(frozen=True)
class Placebo:
    """A placebo with its token count; ``base`` is the part of the pool that it uses up."""

    id: str
    text: str
    n_tokens: int
    base: str


class PlaceboPool:
    """Placebos with their counts under one tokenizer.

    Args:
        count: tokens of a text on its own.
        placebos: (id, text), in the order that breaks ties.
    """

    def __init__(self, count: Callable[[str], int], placebos: Sequence[tuple[str, str]]) -> None:
        self._count = count
        self._bank = tuple(Placebo(name, text, count(text), name) for name, text in placebos)

    def __len__(self) -> int:
        return len(self._bank)

    def nearest(self, wanted: int, used: Collection[str]) -> Placebo | None:
        """The unused placebo of the bank whose count is nearest; the earlier one in a tie."""
        free = [p for p in self._bank if p.base not in used]
        return min(free, key=lambda p: abs(p.n_tokens - wanted)) if free else None

    def build(self, wanted: int, used: Collection[str]) -> Placebo | None:
        """An unused placebo with fillers, of exactly the wanted count; None where none is found.

        Placebos of the bank are tried before fillers alone; then the fewest fillers, the longest
        base and the bank's order decide.
        """

        def preference(base: Placebo) -> tuple[bool, int, int]:
            return base in self._fillers, len(self._added(wanted, base)), -base.n_tokens

        bases = [p for p in (*self._bank, *self._fillers) if p.base not in used]
        bases = [p for p in bases if wanted - p.n_tokens in self._sets]
        for base in sorted(bases, key=preference):
            added = self._added(wanted, base)
            text = " ".join([base.text, *(filler.text for filler in added)])
            if base not in added and self._count(text) == wanted:
                name = "+".join([base.id, *(filler.id for filler in added)])
                return Placebo(name, text, wanted, base.base)
        return None

    def _added(self, wanted: int, base: Placebo) -> tuple[Placebo, ...]:
        return self._sets[wanted - base.n_tokens]

    @cached_property
    def _fillers(self) -> tuple[Placebo, ...]:
        names = [f"filler-{k:02d}" for k in range(1, len(FILLERS) + 1)]
        pairs = zip(names, FILLERS, strict=True)
        return tuple(Placebo(name, text, self._count(text), name) for name, text in pairs)

    @cached_property
    def _sets(self) -> dict[int, tuple[Placebo, ...]]:
        """The fewest fillers that add a number of tokens after a full stop, per number."""
        sets: dict[int, tuple[Placebo, ...]] = {0: ()}
        stop = self._count(".")
        for filler in self._fillers:
            cost = self._count(f". {filler.text}") - stop
            for total, chosen in list(sets.items()):
                longer = (*chosen, filler)
                if total + cost not in sets or len(longer) < len(sets[total + cost]):
                    sets[total + cost] = longer
        return sets
