"""Conversations as text: what the chat template writes around and between the messages.

:func:`render_pieces` gives the prompt as consecutive (span, text) pieces. The template is rendered
once with marks in place of the messages, which shows what it puts around them (its *frame*), and once
with the messages themselves; both must agree, so that no span is misplaced without a word. One thing
a template may change: it may drop the **thought** of an earlier reply (``<think>...</think>``), as the
templates of reasoning models do. The turn then holds what the template left of the message, each
segment what was its own.

Where the template leaves a thought open at the end, or an answer's header unwritten, the missing text
follows as the span ``answer_start`` (:func:`interp.models.chat_template.answer_start`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from interp.errors import InterpError
from interp.models.chat_template import answer_start, render_chat
from interp.models.thoughts import THOUGHT_TAGS, parts_outside_thought
from interp.prompts.conversation import Conversation, Turn

Piece: TypeAlias = tuple[str, str]
"""A span's name and its text."""


def render(tokenizer: Any, conversation: Conversation) -> str:
    """The text of a conversation's prompt: the ``text`` of its :class:`TokenizedPrompt`.

    Raises:
        InterpError: as :func:`interp.prompts.tokenize` says of templates.
    """
    return "".join(text for _, text in render_pieces(tokenizer, conversation))


def prompts_digest(tokenizer: Any, conversations: Iterable[Conversation]) -> str:
    """SHA-256 over the texts of the conversations' prompts, in order.

    A change of a template, of a wording or of code that renders them changes it. Rendering costs a
    third of a millisecond a prompt; nothing is tokenised.

    Raises:
        InterpError: as :func:`render`.
    """
    digest = hashlib.sha256()
    for conversation in conversations:
        text = render(tokenizer, conversation).encode("utf-8", "surrogatepass")
        digest.update(f"{len(text)}:".encode() + text)
    return digest.hexdigest()


def render_pieces(tokenizer: Any, conversation: Conversation) -> Iterator[Piece]:
    """The rendered prompt as consecutive (span, text) pieces.

    Raises:
        InterpError: the template refuses the conversation, drops or rewrites a message.
    """
    frame = _frame(tokenizer, conversation)
    turns = _turns_as_written(tokenizer, conversation, frame)
    for k, pieces in enumerate(turns):
        yield ("header" if k == 0 else f"template_{k}", frame[k])
        yield from pieces
    yield "template", frame[-1]
    start = answer_start(tokenizer, frame[-1])
    if start:
        yield "answer_start", start
    if conversation.answer_prefix:
        # an answer follows its header at once, as in the history
        gap = "" if start or not frame[-1] or frame[-1][-1].isspace() else " "
        yield "answer_prefix", gap + conversation.answer_prefix


def template_spans(n_turns: int) -> set[str]:
    """The names of the spans that the template writes, or this library for it."""
    return {"header", "template", "answer_start", *(f"template_{k}" for k in range(n_turns))}


def _frame(tokenizer: Any, conversation: Conversation) -> list[str]:
    """What the chat template puts before, between and after the messages."""
    marks = [f"[[message {k}]]" for k in range(len(conversation.turns))]
    rest = _render(tokenizer, conversation, marks)
    frame = []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            raise InterpError(f"{conversation.label}: the chat template drops a message")
        frame.append(before)
    return [*frame, rest]


def _turns_as_written(
    tokenizer: Any, conversation: Conversation, frame: Sequence[str]
) -> list[list[Piece]]:
    """The pieces of every turn; those of a reply without its thought where the template drops it."""
    contents = [turn.content for turn in conversation.turns]
    real = _render(tokenizer, conversation, contents)
    whole = "".join(a + b for a, b in zip(frame, [*contents, ""], strict=True))
    if real == whole:
        return [_segments(turn) for turn in conversation.turns]
    found = _without_thoughts(conversation, frame, real)
    if found is None:
        raise InterpError(
            f"{conversation.label}: the chat template rewrites the messages (white space at an "
            "edge, perhaps), so spans cannot be placed"
        )
    return found


def _segments(turn: Turn) -> list[Piece]:
    return [(segment.span, segment.text) for segment in turn.segments]


_EMPTY_THOUGHT = "|".join(
    rf"{re.escape(opens)}\s*{re.escape(closes)}" for opens, closes in THOUGHT_TAGS
)


def _without_thoughts(
    conversation: Conversation, frame: Sequence[str], real: str
) -> list[list[Piece]] | None:
    """The turns with the thoughts dropped that the template dropped; None if that is not all it did.

    Of a reply the template may keep any of :func:`parts_outside_thought`, with white space at the
    edges and an empty thought in front.
    """
    options = [_readings(turn) for turn in conversation.turns]
    pattern = ""
    for k, readings in enumerate(options):
        kept = "|".join(
            f"(?P<lead_{k}_{n}>{lead})(?P<kept_{k}_{n}>{re.escape(text)})(?P<trail_{k}_{n}>{trail})"
            for n, (text, _, lead, trail) in enumerate(readings)
        )
        pattern += f"{re.escape(frame[k])}(?:{kept})"
    match = re.fullmatch(pattern + re.escape(frame[-1]), real)
    if match is None:
        return None
    turns = []
    for k, readings in enumerate(options):
        n = next(n for n in range(len(readings)) if match[f"kept_{k}_{n}"] is not None)
        lead, trail = match[f"lead_{k}_{n}"], match[f"trail_{k}_{n}"]
        turns.append(_kept_segments(conversation.turns[k], readings[n][1], lead, trail))
    return turns


_Reading: TypeAlias = tuple[str, list[tuple[int, int]], str, str]
"""A text that may stand for a message, its parts of the message, and what may stand around it."""


def _readings(turn: Turn) -> list[_Reading]:
    content = turn.content
    whole: _Reading = (content, [(0, len(content))], "", "")
    if turn.role != "assistant":
        return [whole]
    shortened: list[_Reading] = [
        (
            "".join(content[a:b] for a, b in parts),
            parts,
            rf"\s*(?:(?:{_EMPTY_THOUGHT})\s*)?",
            r"\s*?",
        )
        for parts in parts_outside_thought(content)
    ]
    return [whole, *shortened]


def _kept_segments(
    turn: Turn, parts: Sequence[tuple[int, int]], lead: str, trail: str
) -> list[Piece]:
    """What is left of a turn's segments; the text around it belongs to the first and the last."""
    pieces, start = [], 0
    for segment in turn.segments:
        stop = start + len(segment.text)
        kept = "".join(
            turn.content[max(a, start) : min(b, stop)] for a, b in parts if a < stop and b > start
        )
        pieces.append((segment.span, kept))
        start = stop
    there = [k for k, (_, text) in enumerate(pieces) if text] or [len(pieces) - 1]
    first, last = there[0], there[-1]
    pieces[first] = (pieces[first][0], lead + pieces[first][1])
    pieces[last] = (pieces[last][0], pieces[last][1] + trail)
    return pieces


def _render(tokenizer: Any, conversation: Conversation, contents: Sequence[str]) -> str:
    roles = [turn.role for turn in conversation.turns]
    try:
        return render_chat(tokenizer, list(zip(roles, contents, strict=True)))
    # templates raise jinja errors of their own wording ("system role not supported")
    except Exception as error:
        raise InterpError(
            f"{conversation.label}: the chat template refuses the conversation: {error}"
        ) from error
