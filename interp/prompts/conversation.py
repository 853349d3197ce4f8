"""Conversations: an item under a condition, as chat turns made of named segments.

The wording and the layout of the study (arXiv 2407.15286): context, question and lettered options
in one user turn, the instruction before or after them, and an answer prefix that the assistant is
given, so that the next words are the chosen option's text. The instruction may be in a system
turn of its own instead; not every chat template has one. :func:`follow_up` asks on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError

ANSWER_PREFIX = "The single, most likely answer choice is"
COMPLETION_REQUEST = 'Please complete the sentence after "Completion:".'
LETTERS = "abcdefghij"

Placement = Literal["before", "after"]
InstructionTurn = Literal["user", "system"]
TurnRole = Literal["system", "user", "assistant"]


CHOICE_SPANS = ("context", "question", "options", "separator", "instruction", "answer_prefix")
"""Spans of a conversation about a choice item, in order; its template has spans of its own."""


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
    """All rotations of 0..n-1; over them every choice is once at every position."""
    return tuple(tuple((k + i) % n_choices for i in range(n_choices)) for k in range(n_choices))


def build_conversation(
    item: ChoiceItem,
    instruction: str | None = None,
    *,
    order: Sequence[int] | None = None,
    placement: Placement = "after",
    turn: InstructionTurn = "user",
    answer_prefix: str = ANSWER_PREFIX,
) -> Conversation:
    """One user turn that asks ``item``, with the instruction (if any) before or after it.

    With ``turn="system"`` the instruction is a system turn before the user's. Without an
    instruction there is none, also then: what a template says by itself in that case is in the
    prompt's header, so compare with the clean prompt only in the knowledge of that.

    Args:
        item: the question.
        instruction: the instruction's text; None for the clean prompt.
        order: ``order[k]`` is the choice listed at position k; None keeps the file's order.
        placement: where the instruction goes relative to context, question and options; without
            effect in the system turn.
        turn: whose turn the instruction is part of.
        answer_prefix: what the assistant has already said.

    Raises:
        InterpError: an empty instruction, an unknown placement or turn, an order that is not a
            permutation of the choices, or more choices than there are letters.
    """
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
    listed = "\n".join(
        f"({LETTERS[k]}) {item.choices[choice].text.strip()}" for k, choice in enumerate(order)
    )
    body: tuple[Segment, ...] = (
        Segment("context", f"{item.context.strip()}\n"),
        Segment("question", f"{item.question.strip()}\n"),
        Segment("options", listed),
    )
    body = tuple(segment for segment in body if segment.text.strip())
    turns = _turns(item.id, body, instruction, placement, turn)
    return Conversation(turns, answer_prefix, label=f"item {item.id}")


def build_completion(
    item: CompletionItem,
    instruction: str | None = None,
    *,
    placement: Placement = "after",
    turn: InstructionTurn = "user",
) -> Conversation:
    """One user turn that asks for ``item`` to be completed: the segments ``request`` and ``prompt``.

    The instruction is placed as in :func:`build_conversation`; there is no answer prefix.

    Raises:
        InterpError: an empty instruction, or an unknown placement or turn.
    """
    body = (
        Segment("request", f"{COMPLETION_REQUEST}\n"),
        Segment("prompt", f"Completion: {item.prompt.strip()}"),
    )
    turns = _turns(item.id, body, instruction, placement, turn)
    return Conversation(turns, answer_prefix="", label=f"item {item.id}")


def follow_up(
    conversation: Conversation, reply: str, request: str, *, answer_prefix: str = ANSWER_PREFIX
) -> Conversation:
    """The conversation after the assistant has replied and the user asks on.

    The k-th reply is the span ``reply_k``, what it began with (the answer prefix of that call)
    ``answer_prefix_k``, and the user's next message ``request_k`` with k one higher: the reply to
    the item is ``reply_1``, the message after it ``request_2``.

    Args:
        conversation: ends where the assistant answers.
        reply: what the assistant said after its answer prefix.
        request: the user's next message.
        answer_prefix: what the assistant's next reply begins with.

    Raises:
        InterpError: an empty request, or an empty turn of the assistant.
    """
    k = 1 + sum(turn.role == "assistant" for turn in conversation.turns)
    prefix, reply, request = conversation.answer_prefix.strip(), reply.strip(), request.strip()
    if not request:
        raise InterpError(f"{conversation.label}: request {k + 1} is empty")
    if not prefix and not reply:
        raise InterpError(f"{conversation.label}: reply {k} is empty, so nothing can follow it")
    said = (
        Segment(f"answer_prefix_{k}", prefix),
        Segment(f"reply_{k}", f" {reply}" if prefix and reply else reply),
    )
    turns = (
        *conversation.turns,
        Turn("assistant", tuple(segment for segment in said if segment.text)),
        Turn("user", (Segment(f"request_{k + 1}", request),)),
    )
    return replace(conversation, turns=turns, answer_prefix=answer_prefix)


def _turns(
    item_id: str,
    body: tuple[Segment, ...],
    instruction: str | None,
    placement: Placement,
    turn: InstructionTurn,
) -> tuple[Turn, ...]:
    """The user's turn with the instruction in it, or before it in a system turn."""
    if placement not in get_args(Placement):
        raise InterpError(f"placement is {placement!r}; choose from before, after")
    if turn not in get_args(InstructionTurn):
        raise InterpError(f"turn is {turn!r}; choose from user, system")
    if instruction is None:
        return (Turn("user", body),)
    if not instruction.strip():
        raise InterpError(
            f"item {item_id!r}: the instruction is empty; pass None for a clean prompt"
        )
    stated, separator = Segment("instruction", instruction.strip()), Segment("separator", "\n\n")
    if turn == "system":
        return (Turn("system", (stated,)), Turn("user", body))
    if placement == "before":
        return (Turn("user", (stated, separator, *body)),)
    return (Turn("user", (*body, separator, stated)),)
