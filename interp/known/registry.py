"""All compiled programs, those that others published first."""

from __future__ import annotations

from interp.errors import InterpError
from interp.known import causal, instructions, published

_MODULES = (published, instructions)  # importing them writes their programs down

PROGRAMS: dict[str, causal.Program] = {
    name: known
    for module in _MODULES
    for name, known in causal.PROGRAMS.items()
    if known.compute.__module__ == module.__name__
}


def program_of(name: str) -> causal.Program:
    """A program by its name.

    Raises:
        InterpError: an unknown name; lists those there are.
    """
    if name not in PROGRAMS:
        raise InterpError(f"no compiled program {name!r}; known: {', '.join(PROGRAMS)}")
    return PROGRAMS[name]
