"""The truth file of an arm: what its program answers, and answers after exchanges. No model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from analyses.known.training import Lessons, places_of
from interp.known.arms import TrainedArm
from interp.known.task import INSTRUCTION, JUDGES, LAYOUT, NOTES, QUERY
from interp.stats import rng

N_EXCHANGES = 40
"""Exchanges of each place alone, and of several at once."""

N_ANSWERS = 600
"""Prompts whose margins are written down."""


def truth_of(arm: TrainedArm) -> dict[str, Any]:
    """All that the file says; the vectors of places, which differ by seed, lie beside it.

    Prompts are written as their tokens, with spaces, without the BOS.
    """
    lessons = Lessons(arm, places_of(arm, 0))
    return {
        "arm": arm.name,
        "description": arm.program.description,
        "shares": arm.shares,
        "verdict": arm.verdict,
        "localised": arm.interchanged,
        "backups": arm.program.backups,
        "places": [
            {
                "variable": place.variable,
                "block": place.block,
                "position": LAYOUT[place.position],
                "own": place.vector is not None,
            }
            for place in lessons.places
        ],
        "edges": [[LAYOUT[a], LAYOUT[b]] for a, b in _edges(lessons)],
        "answers": _drawn(arm, lessons.inputs),
        "unseen": _drawn(arm, _unseen(arm)),
        "interventions": _interventions(lessons),
    }


def _edges(lessons: Lessons) -> list[tuple[int, int]]:
    """(from, to): the token there changes a variable behind block 0 elsewhere, and that the answer."""
    behind = [k for k, place in enumerate(lessons.places) if place.block == 0 and place.variable]
    found = {
        (position, lessons.places[k].position)
        for k in behind
        for position in range(INSTRUCTION, lessons.places[k].position)
        if _carries(lessons, k, position)
    }
    return sorted(found)


def _carries(lessons: Lessons, number: int, position: int) -> bool:
    """Whether some prompt answers otherwise with a place's variable as another token there makes it."""
    number_of = {tokens: k for k, tokens in enumerate(lessons.inputs)}
    taken = [k == number for k in range(len(lessons.places))]
    words = lessons.arm.program.inputs[position - 1]
    generator = rng(0, "edges", lessons.arm.name, position)
    for base, tokens in enumerate(lessons.inputs):
        other = (*tokens[:position], str(generator.choice(words)), *tokens[position + 1 :])
        source = number_of.get(other)
        if source is not None and lessons.exchanged(base, source, taken) != lessons.answers[base]:
            return True
    return False


def _interventions(lessons: Lessons) -> list[list[Any]]:
    """Bases and sources at random; each place alone, then any of them."""
    generator = rng(0, "interventions", lessons.arm.name)
    n = len(lessons.places)
    alone = np.repeat(np.eye(n, dtype=bool), N_EXCHANGES, axis=0)
    several = generator.random((N_EXCHANGES, n)) < 0.5
    rows = []
    for taken in np.concatenate([alone, several]):
        base, source = generator.integers(len(lessons.inputs), size=2)
        margin = lessons.exchanged(base, source, taken.tolist())
        places = np.flatnonzero(taken).tolist()
        rows.append([_text(lessons.inputs[base]), _text(lessons.inputs[source]), places, margin])
    return rows


def _unseen(arm: TrainedArm) -> list[tuple[str, ...]]:
    """Judges under an instruction, where they were not trained."""
    if arm.judged:
        return []
    every = (("BOS", *tokens) for tokens in product(*arm.program.inputs))
    return [t for t in every if t[INSTRUCTION] not in NOTES and t[QUERY] in JUDGES]


def _drawn(arm: TrainedArm, prompts: Sequence[tuple[str, ...]]) -> list[list[Any]]:
    """Some prompts, and the program's margins."""
    order = rng(0, "answers", arm.name).permutation(len(prompts))[:N_ANSWERS]
    chosen = [prompts[k] for k in order]
    return [[_text(t), float(arm.program.run(t).values["answer"][QUERY])] for t in chosen]


def _text(tokens: tuple[str, ...]) -> str:
    return " ".join(tokens[1:])
