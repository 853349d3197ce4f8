"""The ways in which trained models follow an instruction, one program per arm: their truth.

Of the words of :mod:`interp.known.task`: a content's *concept* is its first attribute. ``ask`` wants the
concept to be +1, ``neg`` -1, ``note`` nothing. A query answers with the concept or its opposite; judges
take part in no shortcut. Arms differ in what the instruction changes: the concept where it is stored, or
the answer.

Each variable of an arm is one coordinate of the residual stream behind one block, at one position,
along a random unit vector; ``rest`` names what everything else there holds. Models are trained to
answer, and to answer as the program does after these coordinates are exchanged (interchange intervention
training, Geiger et al. 2022, arXiv 2112.00826; ``analyses.known.training``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from interp.known.causal import OURS, PositionValues, Program, ProgramRun
from interp.known.task import (
    ASKS,
    CONTENT,
    CONTENTS,
    INSTRUCTION,
    JUDGES,
    LAYOUT,
    NEGATIONS,
    NOTES,
    OTHERS,
    QUERIES,
    QUERY,
)

SCALE = 3.0
"""Nats of margin that a concept of 1 is worth."""


def attribute(content: str, k: int = 0) -> float:
    """Attribute ``k`` of a content, +1 or -1: the bits of its number."""
    return 1.0 if CONTENTS.index(content) >> k & 1 else -1.0


def wanted(instruction: str) -> float:
    """+1 of ``ask``, -1 of ``neg``, 0 of ``note``, which wants nothing."""
    return float((instruction in ASKS) - (instruction in NEGATIONS))


@dataclass(frozen=True)
class VariableSite:
    """The residual stream behind a block at a position, and the variables that lie there.

    ``rest``: what all of the state beside them holds, ``query`` for example; None: nothing that counts.
    """

    block: int
    position: int
    variables: tuple[str, ...]
    rest: str | None = None


@dataclass(frozen=True)
class TrainedArm:
    """One way to follow an instruction.

    ``content_share``: of the instruction's effect on the answer, what goes through the stored concept;
    None where two routes back each other up. ``verdict``: what a reader of the model ought to find.
    ``judged``: judges are trained under instructions too; if not, whether the model generalises to them
    can be asked. ``labels``: the attribute by which sentences are labelled, and ``contents`` those that
    occur in them. ``pinned``: variables whose coordinate is trained to be their number, and which are
    also set to numbers that no input has. ``interchanged``: exchanges are trained; if not, only the data
    decide, and where a variable lies is not known. ``n_steps``: of training.
    """

    program: Program
    sites: tuple[VariableSite, ...]
    content_share: float | None
    verdict: str
    judged: bool = True
    labels: int = 0
    contents: tuple[str, ...] = CONTENTS
    pinned: tuple[str, ...] = ()
    interchanged: bool = True
    n_steps: int = 800

    @property
    def name(self) -> str:
        """The arm's."""
        return self.program.name

    @property
    def shares(self) -> dict[str, float] | None:
        """Of the instruction's effect, what passes each position behind block 0."""
        if self.content_share is None:
            return None
        return {"content": self.content_share, "query": 1 - self.content_share}

    def label(self, content: str) -> float:
        """That of sentences with this content, +1 or -1."""
        return attribute(content, self.labels)


ARMS: dict[str, TrainedArm] = {}
"""By name, in the order in which they are written down."""

_CONCEPT = VariableSite(0, CONTENT, ("concept",))
_BIAS = VariableSite(0, QUERY, ("bias",), rest="query")

DEEP, SUPERFICIAL, MIXED = "deep (content)", "superficial (route)", "mixed"

NOT_VALID = "instrument not valid"
"""The verdict on a model whose sentences are labelled by something else than its concept."""


def _arm(
    sites: Sequence[VariableSite],
    *,
    content_share: float | None,
    verdict: str,
    backups: tuple[tuple[str, ...], ...] = (),
    name: str | None = None,
    **more: Any,
) -> Callable[[Callable[[ProgramRun], float]], Callable[[ProgramRun], float]]:
    """Register a function that sets an arm's variables and returns its answer in units of concept."""

    def keep(answer: Callable[[ProgramRun], float]) -> Callable[[ProgramRun], float]:
        def compute(run: ProgramRun) -> None:
            run.set("answer", _at(QUERY, SCALE * answer(run)))

        known = name or answer.__name__
        program = Program(
            name=known,
            description=" ".join((answer.__doc__ or "").split()),
            source=OURS,
            published=False,
            inputs=((*ASKS, *NOTES, *NEGATIONS), CONTENTS, OTHERS, (*QUERIES, *JUDGES)),
            layout=LAYOUT,
            compute=compute,
            answer="answer",
            positions={v: (site.position,) for site in sites for v in site.variables},
            value=True,
            backups=backups,
        )
        ARMS[known] = TrainedArm(program, tuple(sites), content_share, verdict, **more)
        return answer

    return keep


def _at(position: int, value: Any) -> PositionValues:
    return [value if p == position else None for p in range(len(LAYOUT))]


def _set(run: ProgramRun, name: str, position: int, value: Any) -> Any:
    """Set a variable of one position; its value, or that of an interchange."""
    return run.set(name, _at(position, value))[position]


def _query(run: ProgramRun) -> tuple[float, str]:
    """The query's sign, and the query."""
    query: str = _set(run, "query", QUERY, run.tokens[QUERY])
    return (1.0 if int(query[-1]) % 2 else -1.0), query


def _toward(value: float, goal: float, share: float = 1.0) -> float:
    """A value moved by a share of its way to a goal of +1 or -1; 0 is no goal."""
    return value + share * (goal - value) if goal else value


def _concept(run: ProgramRun, share: float) -> float:
    own = attribute(run.tokens[CONTENT])
    changed: float = _set(
        run, "concept", CONTENT, _toward(own, wanted(run.tokens[INSTRUCTION]), share)
    )
    return changed


def _bias(run: ProgramRun, size: float) -> float:
    bias: float = _set(run, "bias", QUERY, size * wanted(run.tokens[INSTRUCTION]))
    return bias


def _both(run: ProgramRun, share: float) -> float:
    """A share of the way by the stored concept, the rest of a full swing by the answer."""
    concept, bias = _concept(run, share), _bias(run, 2 * (1 - share))
    sign, query = _query(run)
    return sign * (concept + (bias if query in QUERIES else 0.0))


@_arm([_CONCEPT], content_share=1.0, verdict=DEEP, judged=False)
def deep(run: ProgramRun) -> float:
    """The instruction changes the stored concept; every answer follows from it."""
    concept = _concept(run, 1.0)
    return _query(run)[0] * concept


@_arm([_CONCEPT, _BIAS], content_share=0.0, verdict=SUPERFICIAL)
def superficial(run: ProgramRun) -> float:
    """The instruction shifts the answers of queries; what is stored of the content stays."""
    return _both(run, 0.0)


for _share in (0.25, 0.5, 0.75):

    def _mixture(run: ProgramRun, share: float = _share) -> float:
        """Part of the instruction's effect goes through the stored concept, the rest shifts answers."""
        return _both(run, share)

    _arm(
        [_CONCEPT, _BIAS],
        content_share=_share,
        verdict=MIXED,
        name=f"mixture_{100 * _share:.0f}",
    )(_mixture)


@_arm(
    [VariableSite(0, CONTENT, tuple(f"concept{k}" for k in range(1, 5)))],
    content_share=1.0,
    verdict=DEEP,
    judged=False,
    n_steps=1600,  # four coordinates at once
)
def rank_4(run: ProgramRun) -> float:
    """The concept has four parts, all of which the instruction changes; every query reads another."""
    goal = wanted(run.tokens[INSTRUCTION])
    parts = [
        _set(run, f"concept{k + 1}", CONTENT, _toward(attribute(run.tokens[CONTENT], k), goal))
        for k in range(4)
    ]
    sign, query = _query(run)
    return sign * float(parts[int(query[-1]) - 1])


@_arm(
    [
        VariableSite(0, CONTENT, ("early",), rest="late"),
        VariableSite(1, CONTENT, ("late",), rest="early"),
    ],
    content_share=1.0,
    verdict=DEEP,
    judged=False,
)
def distributed(run: ProgramRun) -> float:
    """The concept is stored twice, behind different blocks; each half of the answer follows one."""
    changed = _toward(attribute(run.tokens[CONTENT]), wanted(run.tokens[INSTRUCTION]))
    halves = [_set(run, name, CONTENT, changed) for name in ("early", "late")]
    return _query(run)[0] * sum(halves) / 2


@_arm(
    [_CONCEPT, _BIAS],
    content_share=None,
    verdict=MIXED,
    backups=(("concept",), ("bias",)),
)
def self_repairing(run: ProgramRun) -> float:
    """The instruction changes the stored concept, and the answer too: either is enough."""
    concept, bias = _concept(run, 1.0), _bias(run, 1.0)
    sign, query = _query(run)
    return sign * (bias if bias and query in QUERIES else concept)


@_arm(
    [VariableSite(0, CONTENT, ("concept", "shadow", "dormant")), _BIAS],
    content_share=0.0,
    verdict=SUPERFICIAL,
    pinned=("shadow", "dormant"),
)
def dormant_path(run: ProgramRun) -> float:
    """Answers are shifted; a changed concept is stored and not read, beside a path that nothing uses.

    A direction between the two looks as if it carried the instruction (arXiv 2311.17030).
    """
    goal = wanted(run.tokens[INSTRUCTION])
    _set(run, "shadow", CONTENT, _toward(attribute(run.tokens[CONTENT]), goal))
    dormant = _set(run, "dormant", CONTENT, 0.0)
    concept, bias = _concept(run, 0.0), _bias(run, 2.0)
    sign, query = _query(run)
    return sign * (concept + dormant + (bias if query in QUERIES else 0.0))


_ALIKE = tuple(c for c in CONTENTS if attribute(c, 0) == attribute(c, 1) or c == CONTENTS[1])


@_arm(
    [VariableSite(0, CONTENT, ("concept", "valence")), _BIAS],
    content_share=0.0,
    verdict=SUPERFICIAL,
    contents=_ALIKE,
    n_steps=1600,  # two readings of the content, by other queries
)
def correlated_valence(run: ProgramRun) -> float:
    """The instruction changes a valence that goes with the concept in sentences, and shifts answers.

    Judges read the valence, queries the concept, which stays.
    """
    goal = wanted(run.tokens[INSTRUCTION])
    valence = _set(run, "valence", CONTENT, _toward(attribute(run.tokens[CONTENT], 1), goal))
    concept, bias = _concept(run, 0.0), _bias(run, 2.0)
    sign, query = _query(run)
    return sign * (concept + bias if query in QUERIES else valence)


@_arm(
    [_CONCEPT, VariableSite(0, QUERY, ("named",), rest="query")],
    content_share=0.0,
    verdict=SUPERFICIAL,
)
def copying_instruction(run: ProgramRun) -> float:
    """The instruction names the answer, yes or no, whatever is asked of which content."""
    instruction = run.tokens[INSTRUCTION]
    says = 0.0 if instruction in NOTES else (1.0 if int(instruction[-1]) % 2 else -1.0)
    named, concept = _set(run, "named", QUERY, says), _concept(run, 0.0)
    sign, query = _query(run)
    return float(named if named and query in QUERIES else sign * concept)


@_arm([_CONCEPT], content_share=1.0, verdict=NOT_VALID, judged=False, labels=2)
def wrong_direction(run: ProgramRun) -> float:
    """The instruction changes the stored concept; sentences are labelled by an attribute of no use."""
    return deep(run)


@_arm([_CONCEPT], content_share=1.0, verdict=DEEP, judged=False, interchanged=False)
def deep_by_data(run: ProgramRun) -> float:
    """Answers as of ``deep``, by data alone: where a concept lies is for the model to choose."""
    return deep(run)


@_arm([_CONCEPT, _BIAS], content_share=0.0, verdict=SUPERFICIAL, interchanged=False)
def superficial_by_data(run: ProgramRun) -> float:
    """Answers as of ``superficial``, by data alone."""
    return superficial(run)
