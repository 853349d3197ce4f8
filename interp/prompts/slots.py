"""Slots of a condition's text, filled per item.

``{answer}``     the text of the item's gold choice. The condition ``revealing`` names it as the
                 answer and ``mentions`` merely shows it, so both can be used on every choice item.
                 ``paraphrases`` has no slot: it says that the text leaves the question open, so it
                 can be used on items whose gold choice is the abstention (role ``unknown``) alone.
``{option}``     the choice that a verdict is about: the one given by the caller (what the model
                 answered), else one drawn per item, gold in half of the draws.
``{verdict}``    "correct" or "wrong": the truth about ``{option}`` with the condition's
                 ``verdict_accuracy`` (1 = always true, 0 = always flipped, .5 = a coin), after
                 arXiv 2405.18634.
``{statistic}``  per cent of women in the item's occupation (``meta["percent_women"]``, Winogender).
``{feedback}``   a text about the item, read from a file by :func:`read_feedback`.

Draws depend on the seed and the item's id alone, so neither the other items nor their order change
them, and a verdict that is true at one accuracy stays true at every higher one. A filled-in text is
not searched for slots again. Other braces are refused: a misspelt slot must not reach a prompt.

Example::

    feedback = read_feedback("comments.jsonl")      # {"id": "Age-1", "feedback": "Look again."}
    fill("A note: {feedback}", item, seed=0, feedback=feedback)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError, did_you_mean
from interp.parsing import parse_json, read_text
from interp.prompts.draws import uniform

SLOTS = ("answer", "option", "verdict", "statistic", "feedback")
"""Every slot that a text may hold."""

CHOICE_SLOTS = frozenset({"answer", "option", "verdict"})
"""The slots that only a multiple-choice item can fill."""

_SLOT = re.compile(r"\{(" + "|".join(SLOTS) + r")\}")
_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")
_FIELDS = ("id", "feedback")


def slots_in(text: str) -> frozenset[str]:
    """The slots of a text.

    Raises:
        InterpError: an unknown slot, or a brace that belongs to none.
    """
    found = set()
    for match in _BRACES.finditer(text):
        name = match.group(1)
        if name is None:
            raise InterpError(f"a single brace in {text!r}: braces enclose slots, {_known()}")
        if name not in SLOTS:
            raise InterpError(f"no slot {{{name}}}; {did_you_mean(name, SLOTS)}")
        found.add(name)
    return frozenset(found)


def fill(
    text: str,
    item: ChoiceItem | CompletionItem,
    *,
    verdict_accuracy: float | None = None,
    seed: int = 0,
    feedback: Mapping[str, str] | None = None,
    option: int | None = None,
) -> str:
    """A text with its slots filled for one item.

    Args:
        text: may hold slots; other braces stay as they are.
        item: what the slots are about.
        verdict_accuracy: probability that ``{verdict}`` is true; needed for that slot.
        seed: of the draws.
        feedback: text per item id, for ``{feedback}``.
        option: which choice ``{option}`` and ``{verdict}`` are about; None draws one.

    Raises:
        InterpError: the item cannot fill a slot of the text; names both.
    """

    def value(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot == "statistic":
            return _statistic(item)
        if slot == "feedback":
            return _feedback(item, feedback)
        if not isinstance(item, ChoiceItem):
            raise InterpError(f"item {item.id!r} has no choices, which the slot {{{slot}}} needs")
        if slot == "answer":
            return item.choices[item.gold].text.strip()
        proposed = _option(item, seed, option)
        if slot == "option":
            return item.choices[proposed].text.strip()
        return _verdict(item, proposed, verdict_accuracy, seed)

    return _SLOT.sub(value, text)


def read_feedback(path: str | Path) -> dict[str, str]:
    """Feedback per item id, from JSON lines ``{"id": ..., "feedback": ...}``.

    Raises:
        InterpError: no such file, a line that is not such an object, or an id that comes twice;
            names file, line and field.
    """
    path = Path(path)
    lines = read_text(path).split("\n")  # a text may hold other line separators of Unicode
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        row = _feedback_row(line, where)
        if row["id"] in found:
            raise InterpError(f"{where}: a second feedback for item {row['id']!r}; give one each")
        found[row["id"]] = row["feedback"].strip()
    if not found:
        raise InterpError(f'{path}: holds no feedback; give lines {{"id": ..., "feedback": ...}}')
    return found


def _feedback_row(line: str, where: str) -> dict[str, str]:
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise InterpError(f"{where}: must be a JSON object, is {type(row).__name__}")
    for name in row:
        if name not in _FIELDS:
            raise InterpError(f"{where}: no field {name!r}; {did_you_mean(name, _FIELDS)}")
    for name in _FIELDS:
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise InterpError(f"{where}, field {name!r}: expected a text, got {row.get(name)!r}")
    return row


def _statistic(item: ChoiceItem | CompletionItem) -> str:
    percent = item.meta.get("percent_women")
    if not isinstance(percent, int | float) or isinstance(percent, bool):
        raise InterpError(
            f"item {item.id!r} has no labour statistic (meta 'percent_women') for the slot "
            "{statistic}: use winogender items"
        )
    return f"{percent:g}"


def _feedback(item: ChoiceItem | CompletionItem, feedback: Mapping[str, str] | None) -> str:
    if feedback is None:
        raise InterpError("the slot {feedback} needs a file of feedback, which none was given")
    if item.id not in feedback:
        raise InterpError(
            f"item {item.id!r} has no feedback: add a line with this id to the feedback file"
        )
    return feedback[item.id]


def _option(item: ChoiceItem, seed: int, given: int | None) -> int:
    if given is not None:
        if not 0 <= given < len(item.choices):
            raise InterpError(
                f"item {item.id!r}: option {given} is outside 0..{len(item.choices) - 1}"
            )
        return given
    others = [k for k in range(len(item.choices)) if k != item.gold]
    draw = 2 * uniform(seed, "option", item.id)
    return item.gold if draw < 1 else others[int((draw - 1) * len(others))]


def _verdict(item: ChoiceItem, option: int, accuracy: float | None, seed: int) -> str:
    if accuracy is None:
        raise InterpError(f"item {item.id!r}: the slot {{verdict}} needs a verdict_accuracy")
    honest = uniform(seed, "verdict", item.id) < accuracy
    return "correct" if (option == item.gold) == honest else "wrong"


def _known() -> str:
    return "known: " + ", ".join(f"{{{slot}}}" for slot in SLOTS)
