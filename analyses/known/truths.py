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
        "answers": _drawn(arm, lessons.inputs),
        "unseen": _drawn(arm, _unseen(arm)),
        "interventions": _interventions(lessons),
    }


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
