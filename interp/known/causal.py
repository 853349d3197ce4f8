"""What every compiled program computes, in plain Python: the reference that models are held to.

A program is a causal model over named variables, one value per position (the BOS is position 0).
Variables are set in order; an interchange puts values from elsewhere in their place, and what is
computed from them follows. Nothing here knows of RASP, Tracr or weights.

Programs of the last position: a token, or for a few (``value``) a number. ``None`` is the empty value:
what a head brings that found nothing to attend to, and what is computed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

PositionValues: TypeAlias = list[Any]
"""One value per position; None where there is none."""

BOS = "BOS"


@dataclass
class ProgramRun:
    """One run of a program: its tokens, and the values of its variables so far.

    ``interchange`` holds, by variable, values per position that replace the computed ones; a position
    that it does not name keeps its own.
    """

    tokens: Sequence[str]
    interchange: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)
    values: dict[str, PositionValues] = field(default_factory=dict)

    def set(self, name: str, values: Sequence[Any]) -> PositionValues:
        """Set a variable, unless an interchange sets it; returns its values."""
        found = list(values)
        for position, value in self.interchange.get(name, {}).items():
            found[position] = value
        self.values[name] = found
        return found


@dataclass(frozen=True)
class Program:
    """A program and what is known of it before anything is compiled.

    ``inputs``: for each position after the BOS the tokens that may stand there. ``positions``: where a
    variable can change the answer; a variable without an entry cannot. ``backups``: groups of variables
    each of which alone suffices, so that taking away one changes nothing. ``shares``: of an answer that
    is a sum, the part that comes through a variable.
    """

    name: str
    description: str
    source: str
    published: bool
    inputs: tuple[tuple[str, ...], ...]
    layout: tuple[str, ...]
    compute: Callable[[ProgramRun], None]
    answer: str
    positions: Mapping[str, tuple[int, ...]]
    value: bool = False
    backups: tuple[tuple[str, ...], ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)

    def run(
        self, tokens: Sequence[str], interchange: Mapping[str, Mapping[int, Any]] | None = None
    ) -> ProgramRun:
        """All variables of one input."""
        run = ProgramRun(tuple(tokens), interchange or {})
        self.compute(run)
        return run


OURS = "written for this project"
"""The source of a program that follows no published one."""

PROGRAMS: dict[str, Program] = {}
"""By name, in the order in which they are written down."""


def program(
    source: str,
    inputs: Sequence[Sequence[str]],
    positions: Mapping[str, Sequence[int]],
    *,
    answer: str = "answer",
    layout: Sequence[str] | None = None,
    **more: Any,
) -> Callable[[Callable[[ProgramRun], None]], Callable[[ProgramRun], None]]:
    """Register a function as a program; its docstring is the description.

    Args:
        source: what was published and is followed here, or :data:`OURS`.
        inputs, positions, more: see :class:`Program`.
        answer: the variable that is read at the last position.
        layout: the role of each position after the BOS.
    """

    def keep(compute: Callable[[ProgramRun], None]) -> Callable[[ProgramRun], None]:
        name = compute.__name__
        PROGRAMS[name] = Program(
            name=name,
            description=" ".join((compute.__doc__ or "").split()),
            source=source,
            published=source != OURS,
            inputs=tuple(map(tuple, inputs)),
            layout=("bos", *(layout or [f"token_{k + 1}" for k in range(len(inputs))])),
            compute=compute,
            answer=answer,
            positions={name: tuple(where) for name, where in positions.items()},
            **more,
        )
        return compute

    return keep


def each(function: Callable[..., Any], *variables: PositionValues) -> PositionValues:
    """A function of several variables, position by position; empty where one of them is."""
    return [None if None in row else function(*row) for row in zip(*variables, strict=True)]


def earlier(values: PositionValues, offset: int = 1) -> PositionValues:
    """The value some positions earlier; empty at the start."""
    return [None] * min(offset + 1, len(values)) + list(values[1 : len(values) - offset])


def from_position(values: PositionValues, position: int) -> PositionValues:
    """The value of one position, at every position from there on."""
    return [values[position] if p >= position else None for p in range(len(values))]


def up_to(values: PositionValues, count: Callable[[PositionValues, Any], float]) -> PositionValues:
    """A number from the values up to each position (not the BOS), and the value there."""
    return [None, *(count(values[1 : p + 1], values[p]) for p in range(1, len(values)))]


def numbers(values: Sequence[Any], wanted: Any) -> PositionValues:
    """1 where a value is the wanted one, else 0."""
    return [float(value == wanted) for value in values]


def tokens_of(run: ProgramRun) -> PositionValues:
    """The tokens as a variable: empty at the BOS."""
    return [None, *run.tokens[1:]]


def selector_width(run: ProgramRun, name: str, counts: PositionValues) -> PositionValues:
    """A count as Tracr computes it: a head that also attends to the BOS, then an MLP."""
    width = run.set(f"{name}_width", [1.0, *(1 / (1 + n) for n in counts[1:])])
    return run.set(name, [None, *(round(1 / share - 1) for share in width[1:])])
