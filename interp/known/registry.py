"""All compiled programs, those that others published first."""

from __future__ import annotations

from types import ModuleType

from interp.errors import InterpError
from interp.known import causal, instructions, published
from interp.known.asked import ASKED_MODULES


def _of(*modules: ModuleType) -> dict[str, causal.Program]:
    """Programs by module: importing one writes its programs down."""
    return {
        name: known
        for module in modules
        for name, known in causal.PROGRAMS.items()
        if known.compute.__module__ == module.__name__
    }


PROGRAMS = _of(published, instructions)
"""Those that methods are held against."""

ASKED_PROGRAMS = _of(*ASKED_MODULES)
"""Those of the suite of scorecards, which are asked in several wordings."""


def program_of(name: str) -> causal.Program:
    """A program by its name.

    Raises:
        InterpError: an unknown name; lists those there are.
    """
    every = PROGRAMS | ASKED_PROGRAMS
    if name not in every:
        raise InterpError(f"no compiled program {name!r}; known: {', '.join(every)}")
    return every[name]
