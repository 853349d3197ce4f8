"""What a reader of a compiled model ought to find: read off its program, never off the model.

Opened by what scores a card, never by what makes one. Everything follows from runs of the program, a
Python function, with variables of some positions taken from another run:

- the *content share*, both ways: of the instruction's effect on the items that are answered otherwise
  than asked, what the content's variables of the instructed run bring into the placebo's, and what of it
  is gone without them;
- whether what they bring is a *flag*: the changes that the instruction makes in an item which is
  answered as asked already bring it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.known.arms import DEEP, MIXED, SUPERFICIAL
from interp.known.asked import asked_task
from interp.known.asked_task import NUMBER_ANSWERS, AskedTask
from interp.known.causal import BOS, ProgramRun
from interp.known.registry import program_of

NO_EFFECT, BACKFIRES = "no effect to explain", "backfires"

CONTENT = ("content", "other")
"""The roles whose variables are the content's."""

_EXACT = 1e-9


@dataclass(frozen=True)
class AskedTruth:
    """The verdict, and the content share into the placebo's run and out of the instructed one.

    ``sufficient`` and ``necessary`` are NaN without an effect. ``backup``: they differ.
    """

    verdict: str
    sufficient: float
    necessary: float

    @property
    def backup(self) -> bool:
        """Whether the routes back each other up."""
        return bool(self.sufficient - self.necessary > _EXACT)

    @property
    def share(self) -> float:
        """The content share; NaN where there is none, or where it differs both ways."""
        return float("nan") if self.backup else self.sufficient


def asked_truth(name: str, *, reverse: bool = False) -> AskedTruth:
    """The truth of a program of :mod:`interp.known.asked`.

    Args:
        name: of the program.
        reverse: the instruction is read as asking for the other answer.

    Raises:
        InterpError: an unknown name.
    """
    task = asked_task(name)
    to_change = [item for item in task.items if margin(task, task.notes[0], item) < 0]
    donors = [item for item in task.items if margin(task, task.notes[0], item) >= 0]
    parts = np.array([_parts(task, k, item, donors) for k, item in enumerate(to_change)])
    total, content, instruction, flag = parts.mean(0)
    if abs(total) < _EXACT:
        return AskedTruth(NO_EFFECT, float("nan"), float("nan"))
    sufficient, necessary = content / total, (total - instruction) / total
    if reverse:
        return AskedTruth(BACKFIRES, sufficient, necessary)
    return AskedTruth(_verdict(sufficient, necessary, flag / total), sufficient, necessary)


def _verdict(sufficient: float, necessary: float, flag: float) -> str:
    if max(sufficient, necessary) < _EXACT or (min(sufficient, necessary, flag) > 1 - _EXACT):
        return SUPERFICIAL  # past the content, or a flag that it carries
    if min(sufficient, necessary) > 1 - _EXACT and flag < _EXACT:
        return DEEP
    return MIXED


def margin(task: AskedTask, word: str, item: Sequence[str], changed: Any = None) -> float:
    """The program's margin of the asked answer, with variables set by position."""
    run = _run(task, word, item, changed)
    answer = run.values[program_of(task.name).answer][-1]
    if task.answers == NUMBER_ANSWERS:
        return float(answer)
    return float(answer == task.answers[0]) - float(answer == task.answers[1])


def _run(task: AskedTask, word: str, item: Sequence[str], changed: Any = None) -> ProgramRun:
    return program_of(task.name).run((BOS, word, *item), changed)


def _parts(
    task: AskedTask, number: int, item: Sequence[str], donors: Sequence[Sequence[str]]
) -> tuple[float, float, float, float]:
    """Changes of the margin: in all, by the content alone, without it, and by a donor's changes."""
    ask, note = (words[number % len(words)] for words in (task.asks, task.notes))
    asked, plain = (_run(task, word, item).values for word in (ask, note))
    start = margin(task, note, item)
    content, instruction = (
        margin(task, word, item, _of_content(task, values)) - start
        for word, values in ((note, asked), (ask, plain))
    )
    others = [d for d in donors if task.content(d) != task.content(item)]
    flag = float("nan")
    if others:
        there = others[number % len(others)]
        shift = [_run(task, word, there).values for word in (ask, note)]
        values = {name: _shifted(plain[name], *(run[name] for run in shift)) for name in plain}
        flag = margin(task, note, item, _of_content(task, values)) - start
    return margin(task, ask, item) - start, content, instruction, flag


def _of_content(task: AskedTask, values: Mapping[str, Sequence[Any]]) -> dict[str, dict[int, Any]]:
    places = [task.layout.index(role) for role in CONTENT]
    return {name: {p: own[p] for p in places} for name, own in values.items()}


def _shifted(own: Sequence[Any], there: Sequence[Any], before: Sequence[Any]) -> list[Any]:
    """A variable with another item's change: numbers by their difference, values where they change."""
    return [
        value if a == b else value + a - b if _is_number(value) and _is_number(a) else a
        for value, a, b in zip(own, there, before, strict=True)
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, float)
