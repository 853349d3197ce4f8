"""Placebos of a wanted token count: drawn from a bank, or built from it.

A bank has as many lengths as it has sentences, and tokenizers count differently. Placebos are drawn
at random among those of the wanted count; where none of that count is left, among those of the
nearest count that is left, or (where the caller wants an exact count) one is built: a placebo of the
bank, or one of the fillers, followed by further fillers. Fillers are of the bank's own kind: short
requests about the reply (:data:`REQUEST_FILLERS`) or sentences about paper and print
(:data:`STATEMENT_FILLERS`). So a built placebo is, like those of the bank, of no moral content, of
the same speech act, asks for nothing that changes the task, and ends in a full stop.

Counts nearly add up over sentences: sets of fillers are found by their own counts (fewest sentences
first), and only a text whose real count is the wanted one is taken. Which placebo is drawn depends
on the numbers that the caller gives to their ids. The id of a built placebo names its parts in
order: ``placebo-003+filler-07``.

Limit: what the shortest and the longest combination allow (under the default model's tokenizer every
count from 3 to 250), and with a tokenizer of small pieces a few counts near the shortest one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

PlaceboKind = Literal["placebo", "statement"]
"""``placebo``: a request about the reply, the speech act of an instruction; ``statement``: asks for
nothing. Both are conditions of this name."""

PLACEBO_KINDS: tuple[PlaceboKind, ...] = get_args(PlaceboKind)

FitLength = Literal["pad", "trim"]
"""How a control that somebody wrote gets the token count of the text that it stands against
(:mod:`interp.prompts.fit_length`)."""

Ranking = Callable[[str], float]
"""A number per id of the bank; among placebos that would serve alike the lowest is drawn."""

REQUEST_FILLERS: tuple[str, ...] = (
    "Read on.",
    "Use ink.",
    "Type it.",
    "Use plain type.",
    "Write it once.",
    "Keep it legible.",
    "Keep to one line.",
    "Use plain letters.",
    "Use no tabs.",
    "Leave a margin.",
    "Use the keyboard.",
    "Add no headings.",
    "Skip any greeting.",
    "Use one space per gap.",
    "Keep the font as is.",
    "Put it on one page.",
    "Leave out the page number.",
    "Write each word out in letters.",
    "Keep the lines at the same length.",
    "Begin at the left margin of it.",
    "Stay with the spelling of the passage.",
    "Put no frame or box around it.",
    "Let the last line of the page stay empty.",
    "Use no more marks of punctuation than it needs.",
    "Read it through once more when it has been typed.",
    "Set it in the same size of type as the passage above.",
    "Keep the space above the line as wide as the space below it.",
    "Leave the other side of the sheet empty and write on this side alone.",
    "Do not add a drawing to the page or a line under the words on it.",
    "Keep the layout of the page as it is and put nothing in the margin beside the lines.",
)
"""Requests about the reply, roughly the shortest first."""

STATEMENT_FILLERS: tuple[str, ...] = (
    "It is typed.",
    "It has lines.",
    "It is on paper.",
    "The text is here.",
    "The ink is dry.",
    "The ink is blue.",
    "The page is plain.",
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
"""Sentences about paper and print, roughly the shortest first."""

FILLERS: dict[PlaceboKind, tuple[str, ...]] = {
    "placebo": REQUEST_FILLERS,
    "statement": STATEMENT_FILLERS,
}


@dataclass(frozen=True)
class Placebo:
    """A placebo with its token count; ``base`` is the part of the pool that it uses up."""

    id: str
    text: str
    n_tokens: int
    base: str


class PlaceboPool:
    """Placebos of one kind with their counts under one tokenizer.

    Args:
        count: tokens of a text on its own.
        placebos: (id, text).
        fillers: what longer ones are built with.
    """

    def __init__(
        self,
        count: Callable[[str], int],
        placebos: Sequence[tuple[str, str]],
        fillers: Sequence[str] = REQUEST_FILLERS,
    ) -> None:
        self._count = count
        self._texts = tuple(placebos)
        self._filler_texts = tuple(fillers)

    @cached_property
    def _bank(self) -> tuple[Placebo, ...]:
        """Counted when the first placebo is drawn: most banks are asked for one kind or none."""
        return tuple(Placebo(name, text, self._count(text), name) for name, text in self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def nearest(self, wanted: int, used: Collection[str], rank: Ranking) -> Placebo | None:
        """The unused placebo of the bank whose count is nearest; the lowest rank in a tie."""
        free = [p for p in self._bank if p.base not in used]
        key = {p: (abs(p.n_tokens - wanted), rank(p.id)) for p in free}
        return min(free, key=key.__getitem__) if free else None

    def build(self, wanted: int, used: Collection[str], rank: Ranking) -> Placebo | None:
        """An unused placebo with fillers, of exactly the wanted count; None where none is found.

        Placebos of the bank are tried before fillers alone; then the fewest fillers and the lowest
        rank decide.
        """

        def preference(base: Placebo) -> tuple[bool, int, float]:
            return base in self._fillers, len(self._added(wanted, base)), rank(base.id)

        bases = [p for p in (*self._bank, *self._fillers) if p.base not in used]
        bases = [p for p in bases if wanted - p.n_tokens in self._sets]
        for base in sorted(bases, key=preference):
            added = self._added(wanted, base)
            text = " ".join([base.text, *(filler.text for filler in added)])
            if base not in added and self._count(text) == wanted:
                name = "+".join([base.id, *(filler.id for filler in added)])
                return Placebo(name, text, wanted, base.base)
        return None

    def extend(self, text: str, wanted: int) -> str | None:
        """The text, which ends in a full stop, with fillers of exactly the wanted count; or None."""
        added = self._sets.get(wanted - self._count(text))
        if added is None:
            return None
        longer = " ".join([text, *(filler.text for filler in added)])
        return longer if self._count(longer) == wanted else None

    def _added(self, wanted: int, base: Placebo) -> tuple[Placebo, ...]:
        return self._sets[wanted - base.n_tokens]

    @cached_property
    def _fillers(self) -> tuple[Placebo, ...]:
        names = [f"filler-{k:02d}" for k in range(1, len(self._filler_texts) + 1)]
        pairs = zip(names, self._filler_texts, strict=True)
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
