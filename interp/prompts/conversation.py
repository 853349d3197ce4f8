"""Conversations: an item under a condition, as chat turns made of named segments.

The wording and the layout of the study (arXiv 2407.15286): context, question and lettered options
in one user turn, the instruction before or after them, and an answer prefix that the assistant is
given, so that the next words are the chosen option's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from interp.data.items import ChoiceItem
from interp.errors import InterpError

ANSWER_PREFIX = "The single, most likely answer choice is"
LETTERS = "abcdefghij"

Placement = Literal["before", "after"]
TurnRole = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Segment:
    """A piece of a turn; ``span`` is the name its tokens will carry."""

    span: str
    text: str


@dataclass(frozen=True)
class Turn:
    """One message. Its content is the concatenation of its segments."""

    role: TurnRole
    segments: tuple[Segment, ...]

    @property
    def content(self) -> str:
        """The message as the chat template receives it."""
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True)
class Conversation:
    """Turns that end where the assistant is about to answer, after ``answer_prefix``.

    ``label`` names the prompt in errors and tables.
    """

    turns: tuple[Turn, ...]
    answer_prefix: str = ANSWER_PREFIX
    label: str = "prompt"


def cyclic_orders(n_choices: int) -> tuple[tuple[int, ...], ...]:
    """All rotations of 0..n-1; over them every choice stands once at every position."""
    return tuple(tuple((k + i) % n_choices for i in range(n_choices)) for k in range(n_choices))


def build_conversation(
    item: ChoiceItem,
    instruction: str | None = None,
    *,
    order: Sequence[int] | None = None,
    placement: Placement = "after",
    answer_prefix: str = ANSWER_PREFIX,
) -> Conversation:
    """One user turn that asks ``item``, with the instruction (if any) before or after it.

    Args:
        item: the question.
        instruction: the instruction's text; None for the clean prompt.
        order: ``order[k]`` is the choice listed at position k; None keeps the file's order.
        placement: where the instruction stands relative to context, question and options.
        answer_prefix: what the assistant has already said.

    Raises:
        InterpError: an empty instruction, an unknown placement, an order that is not a permutation
            of the choices, or more choices than there are letters.
    """
    if placement not in get_args(Placement):
        raise InterpError(f"placement is {placement!r}; choose from before, after")
    if len(item.choices) > len(LETTERS):
        raise InterpError(
            f"item {item.id!r}: {len(item.choices)} choices, at most {len(LETTERS)} can be lettered"
        )
    order = tuple(range(len(item.choices))) if order is None else tuple(order)
    if sorted(order) != list(range(len(item.choices))):
        raise InterpError(
            f"item {item.id!r}: order {order} is not a permutation of its {len(item.choices)} "
            "choices"
        )
    if instruction is not None and not instruction.strip():
        raise InterpError(
            f"item {item.id!r}: the instruction is empty; pass None for a clean prompt"
        )
    listed = "\n".join(
        f"({LETTERS[k]}) {item.choices[choice].text.strip()}" for k, choice in enumerate(order)
    )
    body: tuple[Segment, ...] = (
        Segment("context", f"{item.context.strip()}\n"),
        Segment("question", f"{item.question.strip()}\n"),
        Segment("options", listed),
    )
    body = tuple(segment for segment in body if segment.text.strip())
    return Conversation(
        turns=(Turn("user", _place(body, instruction, placement)),),
        answer_prefix=answer_prefix,
        label=f"item {item.id}",
    )


def _place(
    body: tuple[Segment, ...], instruction: str | None, placement: Placement
) -> tuple[Segment, ...]:
    if instruction is None:
        return body
    text = instruction.strip()
    if placement == "before":
        return (Segment("instruction", text), Segment("separator", "\n\n"), *body)
    return (*body, Segment("separator", "\n\n"), Segment("instruction", text))
