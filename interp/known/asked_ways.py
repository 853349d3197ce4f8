"""Ways in which an instruction that asks for ``yes`` can act, one program each.

A content's *concept* is yes or no; the answer is the concept, or what the instruction makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.known.asked_task import NUMBER_ANSWERS, asked_program
from interp.known.causal import OURS, ProgramRun, each, from_position, tokens_of

ASK_WORDS, NOTE_WORDS = ([f"{word}{k}" for k in range(1, 7)] for word in ("ask", "note"))
_WORDS: dict[str, Any] = {
    "asks": ASK_WORDS,
    "notes": NOTE_WORDS,
    "contents": [f"{concept}{k}" for concept, n in (("yes", 6), ("no", 10)) for k in range(n)],
    "others": ("and", "then"),
    "answers": ("yes", "no"),
}


def concept_of(token: str) -> str:
    """``yes`` or ``no`` of a content, else ``none``."""
    return {"y": "yes", "n": "no"}.get(token[0], "none") if token[-1].isdigit() else "none"


def toward_yes(concept: str, asked: str) -> str:
    """What the instruction wants of a concept."""
    return "yes" if asked == "on" else concept


def _asked_for(run: ProgramRun) -> list[Any]:
    return run.set("asked", each(lambda t: "on" if t in ASK_WORDS else "off", tokens_of(run)))


def _concept(run: ProgramRun) -> list[Any]:
    return run.set("concept", each(concept_of, tokens_of(run)))


@asked_program(
    OURS, {"asked": [1], "concept": [2], "flag": [4], "held": [4], "answer": [4]}, **_WORDS
)
def late_answer(run: ProgramRun) -> None:
    """The end reads the content's concept as it is, and answers yes where it was asked to."""
    flag = run.set("flag", from_position(_asked_for(run), 1))
    held = run.set("held", from_position(_concept(run), 2))
    run.set("answer", each(toward_yes, held, flag))


@asked_program(
    OURS,
    {"asked": [1], "concept": [2], "flag": [2], "changed": [2], "answer": [4]},
    **_WORDS,
)
def early_answer(run: ProgramRun) -> None:
    """The concept is changed where the content stands; the end reads what is there then."""
    flag = run.set("flag", from_position(_asked_for(run), 1))
    changed = run.set("changed", each(toward_yes, _concept(run), flag))
    run.set("answer", from_position(changed, 2))


@asked_program(
    OURS,
    {"asked": [1], "concept": [2], "carried": [2], "flag": [4], "held": [4], "answer": [4]},
    **_WORDS,
)
def relayed_answer(run: ProgramRun) -> None:
    """The content's position carries the instruction on; the end reads both there."""
    carried = run.set("carried", from_position(_asked_for(run), 1))
    held = run.set("held", from_position(_concept(run), 2))
    flag = run.set("flag", from_position(carried, 2))
    run.set("answer", each(toward_yes, held, flag))


@asked_program(
    OURS,
    {
        "asked": [1], "concept": [2], "flag": [2], "changed": [2], "direct": [4], "held": [4],
        "answer": [4],
    },
    backups=(("flag", "changed", "held"), ("direct",)),
    **_WORDS,
)  # fmt: skip
def either_answer(run: ProgramRun) -> None:
    """The concept is changed, and the end reads the instruction too: either is enough."""
    asked = _asked_for(run)
    flag, direct = (run.set(name, from_position(asked, 1)) for name in ("flag", "direct"))
    changed = run.set("changed", each(toward_yes, _concept(run), flag))
    held = run.set("held", from_position(changed, 2))
    run.set("answer", each(toward_yes, held, direct))


@asked_program(OURS, {"concept": [2], "held": [4], "answer": [4]}, **_WORDS)
def unread_answer(run: ProgramRun) -> None:
    """The instruction can be decoded at the end and is not used."""
    flag = run.set("flag", from_position(_asked_for(run), 1))
    held = run.set("held", from_position(_concept(run), 2))
    run.set("answer", each(lambda c, f: c, held, flag))


SHARES = (0.25, 0.5, 0.75)
"""Of an instruction's effect, what goes through the content in ``share_25`` and the others."""

HELD = ("yes", "no", "moved")
"""What a content holds in these: ``moved`` is a no that the instruction has changed."""


def moved_concept(concept: str, asked: str) -> str:
    """A no that was asked for a yes is moved."""
    return "moved" if (concept, asked) == ("no", "on") else concept


def holds(concept: str, name: str) -> float:
    """1 of the concept that is asked for; what is moved counts as a no too."""
    return float(concept == name or (concept, name) == ("moved", "no"))


def _number_from(values: Sequence[Any], position: int) -> list[float]:
    return [values[position] if p >= position else 0.0 for p in range(len(values))]


def _share_program(share: float) -> None:
    def compute(run: ProgramRun) -> None:
        """Part of the effect goes through the stored concept, the rest is added at the end."""
        asked = _asked_for(run)
        flag = run.set("flag", from_position(asked, 1))
        changed = run.set("changed", each(moved_concept, _concept(run), flag))
        read = {}
        for name in HELD:
            stored = [0.0, *(holds(concept, name) for concept in changed[1:])]
            read[name] = run.set(f"read_{name}", _number_from(run.set(name, stored), 2))
        on = run.set("on", [0.0, *(float(a == "on") for a in asked[1:])])
        bias = run.set("bias", _number_from(on, 1))
        places = range(len(run.tokens))
        own = run.set("own", [read["yes"][p] - read["no"][p] for p in places])
        effect = [2 * share * read["moved"][p] + 2 * (1 - share) * bias[p] for p in places]
        effect = run.set("effect", effect)
        run.set("answer", [a + b for a, b in zip(own, effect, strict=True)])

    compute.__name__ = f"share_{100 * share:.0f}"
    positions = {
        "asked": [1], "concept": [2], "flag": [2], "changed": [2], "yes": [2], "no": [2],
        "moved": [2], "read_yes": [4], "read_no": [4], "read_moved": [4], "on": [1], "bias": [4],
        "own": [4], "effect": [4], "answer": [4],
    }  # fmt: skip
    words = {**_WORDS, "answers": NUMBER_ANSWERS, "value": True}
    asked_program(OURS, positions, **words)(compute)


for _share in SHARES:
    _share_program(_share)
