"""Thoughts: what a reasoning model writes between two tags before its answer.

Chat templates spell the tags differently (:data:`THOUGHT_TAGS`); nothing else here depends on a model.

    answer_after_thought("<think>\\nhm\\n</think>\\n\\nThe nurse")     # "The nurse"
    answer_after_thought("<think>\\nhm")                             # None: no answer
"""

from __future__ import annotations

THOUGHT_TAGS: tuple[tuple[str, str], ...] = (
    (
        "<think>",
        "</think>",
    ),  # Qwen, DeepSeek, GLM, SmolLM3, Hunyuan, Kimi K2, MiniMax, Nemotron, ...
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    # Seed-OSS: a budget of 0 opens both
    ("<seed:think><seed:cot_budget_reflect>", "</seed:cot_budget_reflect></seed:think>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),  # Apriel
)
"""What opens and what closes a thought, in the formats of chat templates."""

_OPENING_TAGS = tuple(opens for opens, _ in THOUGHT_TAGS if not opens[0].isalpha())
"""Those that no answer would hold: a sentence may stand in any."""


def closing_of_thought(text: str) -> str:
    """What has to follow a text for its thought to be closed; empty where none is open.

    An open thought becomes an empty one, as templates write it: ``<think>\\n\\n</think>\\n\\n``.
    """
    opened = max(
        (tags for tags in THOUGHT_TAGS if tags[0] in text),
        key=lambda tags: (text.rfind(tags[0]), len(tags[0])),
        default=None,
    )
    if opened is None or text.rfind(opened[1]) > text.rfind(opened[0]):
        return ""
    line_ends = len(text) - len(text.rstrip("\n"))
    return "\n" * max(0, 2 - line_ends) + opened[1] + "\n\n"


def is_empty_thought(text: str) -> bool:
    """Whether a text is a thought of white space alone."""
    bare = text.strip()
    return any(
        bare.startswith(opens)
        and bare.endswith(closes)
        and not bare[len(opens) : len(bare) - len(closes)].strip()
        for opens, closes in THOUGHT_TAGS
    )


def answer_after_thought(text: str) -> str | None:
    """A reply without its thought; None where a thought without an end is all there is.

    All up to the last closing tag is the thought, whether or not an opening tag is there (the prompt
    may have held it). A thought that begins behind an answer and does not end is left out too.
    """
    closed = max((text.rfind(closes) + len(closes) for closes in _closers_in(text)), default=0)
    answer = text[closed:]
    opened = min((at for opens in _OPENING_TAGS if (at := answer.find(opens)) >= 0), default=None)
    if opened is not None:
        answer = answer[:opened]
        if not answer.strip():
            return None
    return answer.lstrip() if closed else answer


def parts_outside_thought(text: str) -> list[list[tuple[int, int]]]:
    """The parts of a message that a template may keep of it when it drops the thought.

    Each reading is a list of (start, stop), without white space at the outer edges: what follows the
    last closing tag, what follows the first, or everything but the tags and what is between them.
    Empty without a closing tag.
    """
    readings: list[list[tuple[int, int]]] = []
    for opens, closes in THOUGHT_TAGS:
        if closes not in text:
            continue
        last, first = text.rfind(closes), text.find(closes)
        readings += [[(at + len(closes), len(text))] for at in (last, first)]
        if 0 <= text.find(opens) < last:
            readings.append([(0, text.find(opens)), (last + len(closes), len(text))])
    return [_without_edges(text, reading) for reading in readings]


def _closers_in(text: str) -> list[str]:
    return [closes for _, closes in THOUGHT_TAGS if closes in text]


def _without_edges(text: str, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts without the white space before the first and behind the last character kept."""
    kept = [k for start, stop in parts for k in range(start, stop) if not text[k].isspace()]
    if not kept:
        return []
    return [
        (max(start, kept[0]), min(stop, kept[-1] + 1))
        for start, stop in parts
        if start <= kept[-1] and stop > kept[0]
    ]
