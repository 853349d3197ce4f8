"""Programs that are asked for an answer in six wordings, against six placebos of one token each.

They are the compiled half of the suite of scorecards. Half of them follow tasks that others published;
in the others an instruction acts in one way that is known.
"""

from __future__ import annotations

from interp.errors import InterpError
from interp.known import asked_published, asked_ways
from interp.known.asked_task import TASKS, AskedTask

ASKED_MODULES = (asked_published, asked_ways)
"""Importing them writes their programs and tasks down."""

ASKED: dict[str, AskedTask] = dict(TASKS)
"""By program, those that others published first."""


def asked_task(name: str) -> AskedTask:
    """What may be asked of a program.

    Raises:
        InterpError: an unknown name; lists those there are.
    """
    if name not in ASKED:
        raise InterpError(f"no program {name!r} with an asked task; known: {', '.join(ASKED)}")
    return ASKED[name]
