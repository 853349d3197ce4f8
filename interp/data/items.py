"""Item types: what a benchmark row becomes, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from interp.errors import InterpError

Role = Literal["unknown", "stereotyped", "counter", "other"]
"""Social role of a choice. ``stereotyped`` is the option that agrees with the stereotype under the
question's polarity (BBQ's ``target_loc``), ``counter`` the other group, ``unknown`` the abstention,
``other`` none of these or not known."""

ContextCondition = Literal["ambiguous", "disambiguated", "plain"]
"""Whether the context leaves the answer open, where a benchmark says so; ``plain``: a question of one's
own with a right answer, none of whose options has a social role."""

Meta = Mapping[str, str | int | float | bool]
"""Further facts of a row, scalars only. Not to be changed in place."""


@dataclass(frozen=True)
class Choice:
    """One answer option: its text as the benchmark spells it, and its social role."""

    text: str
    role: Role = "other"


@dataclass(frozen=True)
class ChoiceItem:
    """A multiple-choice question.

    ``gold`` indexes ``choices`` in the file's order. ``cluster`` names the unit that is random:
    items that share a template (BBQ: category and question index) are not independent.
    """

    id: str
    benchmark: str
    category: str
    context: str
    question: str
    choices: tuple[Choice, ...]
    gold: int
    context_condition: ContextCondition
    cluster: str
    meta: Meta = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if len(self.choices) < 2:
            raise InterpError(
                f"item {self.id!r}: needs at least two choices, has {len(self.choices)}"
            )
        if not 0 <= self.gold < len(self.choices):
            raise InterpError(
                f"item {self.id!r}: gold index {self.gold} is outside 0..{len(self.choices) - 1}"
            )
        texts = [choice.text.strip() for choice in self.choices]
        if any(not text for text in texts):
            raise InterpError(f"item {self.id!r}: choice {texts.index('')} is empty")
        if len(set(texts)) < len(texts):
            raise InterpError(f"item {self.id!r}: two choices have the same text")

    def index_of(self, role: Role) -> int | None:
        """Index of the first choice with this role, or None."""
        return next((i for i, choice in enumerate(self.choices) if choice.role == role), None)

    def contrast(self) -> tuple[int, int] | None:
        """The two choices of the margin (logit difference), (a, b), as indices; None if undefined.

        Ambiguous: a = the abstention, b = the stereotyped option. Disambiguated: a = gold, b = the
        other group's option. Plain: a = gold, b = the other of two options. A positive margin is the
        better answer in each. None for the ambiguous items that have no stereotyped option, and where
        several options are wrong.
        """
        if self.context_condition == "ambiguous":
            a, b = self.index_of("unknown"), self.index_of("stereotyped")
            return None if a is None or b is None else (a, b)
        others = [i for i, c in enumerate(self.choices) if i != self.gold and c.role != "unknown"]
        return (self.gold, others[0]) if len(others) == 1 else None


@dataclass(frozen=True)
class CompletionItem:
    """An open-ended prompt to be continued."""

    id: str
    benchmark: str
    prompt: str
    meta: Meta = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LabelledText:
    """A sentence with a binary label, for learning directions.

    ``label`` 1 is the positive pole (moral, fair), 0 the negative. ``group`` keeps what belongs
    together (both members of a pair) on one side of a split.
    """

    text: str
    label: int
    group: str
    source: str
    category: str = ""

    def __post_init__(self) -> None:
        if self.label not in (0, 1):
            raise InterpError(
                f"text {self.text[:40]!r} of {self.source}: label must be 0 or 1, is {self.label}"
            )
        if not self.text.strip():
            raise InterpError(f"a text of {self.source} (group {self.group!r}) is empty")
