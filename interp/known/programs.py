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

Values: TypeAlias = list[Any]
"""One value per position; None where there is none."""

BOS = "BOS"


@dataclass
class Run:
    """One run of a program: its tokens, and the values of its variables so far.

    ``interchange`` holds, by variable, values per position that replace the computed ones; a position
    that it does not name keeps its own.
    """

    tokens: Sequence[str]
    interchange: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=dict)

    def set(self, name: str, values: Sequence[Any]) -> Values:
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
    compute: Callable[[Run], None]
    answer: str
    positions: Mapping[str, tuple[int, ...]]
    value: bool = False
    backups: tuple[tuple[str, ...], ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)

    def run(
        self, tokens: Sequence[str], interchange: Mapping[str, Mapping[int, Any]] | None = None
    ) -> Run:
        """All variables of one input."""
        run = Run(tuple(tokens), interchange or {})
        self.compute(run)
        return run


PROGRAMS: dict[str, Program] = {}

_TRACR = "Tracr (arXiv 2301.05062), tracr.compiler.lib.{}"
_CASE = "InterpBench (arXiv 2407.14494), case {}: {}"
_OURS = "written for this project"


def _program(
    description: str,
    source: str,
    inputs: Sequence[Sequence[str]],
    positions: Mapping[str, Sequence[int]],
    *,
    answer: str = "answer",
    layout: Sequence[str] | None = None,
    **more: Any,
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    def keep(compute: Callable[[Run], None]) -> Callable[[Run], None]:
        name = compute.__name__
        PROGRAMS[name] = Program(
            name=name,
            description=description,
            source=source,
            published=source != _OURS,
            inputs=tuple(map(tuple, inputs)),
            layout=("bos", *(layout or [f"token_{k + 1}" for k in range(len(inputs))])),
            compute=compute,
            answer=answer,
            positions={name: tuple(where) for name, where in positions.items()},
            **more,
        )
        return compute

    return keep


def _of(function: Callable[..., Any], *variables: Values) -> Values:
    """A function of several variables, position by position; empty where one of them is."""
    return [None if None in row else function(*row) for row in zip(*variables, strict=True)]


def _before(values: Values, offset: int = 1) -> Values:
    """The value some positions earlier; empty at the start."""
    return [None] * min(offset + 1, len(values)) + list(values[1 : len(values) - offset])


def _from(values: Values, position: int) -> Values:
    """The value of one position, at every position from there on."""
    return [values[position] if p >= position else None for p in range(len(values))]


def _up_to(values: Values, count: Callable[[Values, Any], float]) -> Values:
    """A number from the values up to each position (not the BOS), and the value there."""
    return [None, *(count(values[1 : p + 1], values[p]) for p in range(1, len(values)))]


def _share(values: Values, wanted: str) -> Values:
    """Share of the tokens up to each position that are the wanted one; 0 at the BOS."""
    return [0.0, *_up_to(values, lambda seen, own: seen.count(wanted) / len(seen))[1:]]


def _numbers(values: Sequence[Any], wanted: Any) -> Values:
    return [float(value == wanted) for value in values]


def _tokens(run: Run) -> Values:
    return [None, *run.tokens[1:]]


def rewritten(content: str, asked: str) -> str:
    """What an instruction makes of the content: ``flip`` exchanges a and b."""
    return {"a": "b", "b": "a"}.get(content, content) if asked == "flip" else content


# Published programs and tasks

_ABC = ("a", "b", "c")


@_program(
    "The token before the last one: a previous-token head.",
    _TRACR.format("shift_by"),
    [_ABC] * 4,
    {"previous": [4]},
    answer="previous",
)
def copy_previous(run: Run) -> None:
    run.set("previous", _before(_tokens(run)))


@_program(
    "The fraction of tokens so far that are x.",
    _CASE.format(3, "fraction of 'x' up to each position")
    + "; "
    + _TRACR.format("make_frac_prevs"),
    [("x", "a", "b")] * 5,
    {"is_x": [1, 2, 3, 4, 5], "fraction": [5]},
    answer="fraction",
    value=True,
)
def fraction_of_x(run: Run) -> None:
    is_x = run.set("is_x", _numbers(_tokens(run), "x"))
    run.set("fraction", [0.0, *(sum(is_x[1 : p + 1]) / p for p in range(1, len(is_x)))])


@_program(
    "The fraction of opening brackets so far minus that of closing ones: two heads, summed.",
    _CASE.format(4, "fraction of open minus close tokens") + "; "
    + _TRACR.format("make_pair_balance"),
    [("(", ")", "a")] * 5,
    {
        "is_open": [1, 2, 3, 4, 5], "is_close": [1, 2, 3, 4, 5], "open_fraction": [5],
        "close_fraction": [5], "balance": [5],
    },
    answer="balance",
    value=True,
)  # fmt: skip
def bracket_balance(run: Run) -> None:
    fractions = []
    for bracket, name in (("(", "open"), (")", "close")):
        found = run.set(f"is_{name}", _numbers(_tokens(run), bracket))
        share = [0.0, *(sum(found[1 : p + 1]) / p for p in range(1, len(found)))]
        fractions.append(run.set(f"{name}_fraction", share))
    run.set("balance", [a - b for a, b in zip(*fractions, strict=True)])


@_program(
    "How often the last token has occurred, itself included.",
    _CASE.format(7, "number of times each token occurs") + "; " + _TRACR.format("make_hist"),
    [_ABC] * 5,
    {"count_width": [5], "count": [5]},
    answer="count",
)
def histogram(run: Run) -> None:
    _width(run, "count", _up_to(_tokens(run), lambda seen, own: seen.count(own)))


@_program(
    "How many tokens are an a.",
    _CASE.format(14, "count of 'a'") + "; " + _TRACR.format("make_count"),
    [_ABC] * 5,
    {"count_width": [5], "count": [5]},
    answer="count",
)
def count_of_a(run: Run) -> None:
    _width(run, "count", _up_to(_tokens(run), lambda seen, own: seen.count("a")))


def _width(run: Run, name: str, counts: Values) -> Values:
    """A count as Tracr computes it: a head that also attends to the BOS, then an MLP."""
    width = run.set(f"{name}_width", [1.0, *(1 / (1 + n) for n in counts[1:])])
    return run.set(name, [None, *(round(1 / share - 1) for share in width[1:])])


@_program(
    "Whether the last three tokens are a, b, c.",
    _CASE.format(12, "detect the pattern 'abc'") + "; " + _TRACR.format("detect_pattern"),
    [_ABC] * 5,
    {
        "is_a": [3], "is_b": [4], "is_c": [5], "a_before": [5], "b_before": [5], "start": [5],
        "found": [5],
    },
    answer="found",
)  # fmt: skip
def detect_abc(run: Run) -> None:
    is_a, is_b, is_c = (
        run.set(f"is_{token}", _of(lambda t, token=token: t == token, _tokens(run)))
        for token in _ABC
    )
    a_before = run.set("a_before", _before(is_a, 2))
    b_before = run.set("b_before", _before(is_b, 1))
    start = run.set("start", _of(lambda a, b: a and b, a_before, b_before))
    run.set("found", _of(lambda s, c: s and c, start, is_c))


@_program(
    "Whether the last number is above, below or equal to the one before.",
    _CASE.format(13, "trend (increasing, decreasing, constant) of numbers") + ", backwards",
    [("1", "2", "3")] * 4,
    {"previous": [4], "trend": [4]},
    answer="trend",
)
def trend(run: Run) -> None:
    before = run.set("previous", _before(_tokens(run)))
    run.set(
        "trend",
        _of(lambda t, b: "same" if t == b else "up" if t > b else "down", _tokens(run), before),
    )


@_program(
    "Whether the last token is rare, common or frequent among all tokens.",
    _CASE.format(18, "each token by its frequency: rare, common or frequent"),
    [_ABC] * 5,
    {"count_width": [5], "count": [5], "length_width": [5], "length": [5], "class": [5]},
    answer="class",
)
def frequency_class(run: Run) -> None:
    count = _width(run, "count", _up_to(_tokens(run), lambda seen, own: seen.count(own)))
    length = _width(run, "length", _up_to(_tokens(run), lambda seen, own: len(seen)))
    run.set(
        "class",
        _of(
            lambda n, total: "frequent" if n > total / 2 else "common" if n > total / 4 else "rare",
            count,
            length,
        ),
    )


@_program(
    "The last token, or a gap where it repeats the one before.",
    _CASE.format(19, "removes consecutive duplicate tokens"),
    [_ABC] * 4,
    {"previous": [4], "kept": [4]},
    answer="kept",
)
def drop_duplicate(run: Run) -> None:
    before = run.set("previous", _before(_tokens(run)))
    run.set("kept", _of(lambda t, b: "gap" if t == b else t, _tokens(run), before))


# Ways in which an instruction can act

_INSTRUCTION = [("flip", "plain"), ("a", "b"), ("flip", "plain", "a", "b"), ("?",)]
_LAYOUT = ("instruction", "content", "other", "end")


def _own(
    description: str, positions: Mapping[str, Sequence[int]], **more: Any
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    inputs = more.pop("inputs", _INSTRUCTION)
    return _program(description, _OURS, inputs, positions, layout=_LAYOUT, **more)


@_own(
    "The instruction acts on the output: the end reads the content as it is, and flips its answer.",
    {"content": [4], "flag": [4], "answer": [4]},
)
def late_rewrite(run: Run) -> None:
    content = run.set("content", _from(_tokens(run), 2))
    flag = run.set("flag", _from(_tokens(run), 1))
    run.set("answer", _of(rewritten, content, flag))


@_own(
    "The instruction changes the content at its own position; the end copies what is there then.",
    {"flag": [2], "rewritten": [2], "answer": [4]},
)
def early_rewrite(run: Run) -> None:
    flag = run.set("flag", _from(_tokens(run), 1))
    changed = run.set("rewritten", _of(rewritten, _tokens(run), flag))
    run.set("answer", _from(changed, 2))


@_own(
    "The instruction acts where it stands first; behind the content it does nothing.",
    {"armed": [1], "flips_width": [4], "flips": [4], "content": [4], "answer": [4]},
)
def gated_by_position(run: Run) -> None:
    places = range(len(run.tokens))
    armed = run.set(
        "armed",
        _of(lambda t, p: "flip" if (t, p) == ("flip", 1) else "plain", _tokens(run), list(places)),
    )
    content = run.set("content", _from(_tokens(run), 2))
    flips = _width(run, "flips", _up_to(armed, lambda seen, own: seen.count("flip")))
    run.set("answer", _of(lambda c, n: rewritten(c, "flip" if n else "plain"), content, flips))


@_own(
    "Two routes back each other up: the end reads the instruction itself, and a copy at another "
    "position; either is enough to flip the answer.",
    {"direct": [4], "relay": [3], "relayed": [4], "flag": [4], "content": [4], "answer": [4]},
    backups=(("direct",), ("relay", "relayed")),
)
def either_route(run: Run) -> None:
    direct = run.set("direct", _from(_tokens(run), 1))
    relay = run.set("relay", _from(_tokens(run), 1))
    content = run.set("content", _from(_tokens(run), 2))
    relayed = run.set("relayed", _from(relay, 3))
    flag = run.set(
        "flag", _of(lambda a, b: "flip" if "flip" in (a, b) else "plain", direct, relayed)
    )
    run.set("answer", _of(rewritten, content, flag))


@_own(
    "Two routes add up: three quarters of the effect through one head, a quarter through another.",
    {"asked": [1], "large": [4], "small": [4], "answer": [4]},
    value=True,
    shares={"large": 0.75, "small": 0.25},
)
def sum_of_routes(run: Run) -> None:
    asked = run.set("asked", _numbers(_tokens(run), "flip"))
    large, small = (
        run.set(name, [0.0, *_from(asked, 1)[1:]]) for name in ("large", "small")
    )  # the same head twice
    run.set("answer", [0.75 * a + 0.25 * b for a, b in zip(large, small, strict=True)])


@_own(
    "The instruction can be decoded at the end and is not used.",
    {"content": [4], "answer": [4]},
)
def decodable_unused(run: Run) -> None:
    content = run.set("content", _from(_tokens(run), 2))
    flag = run.set("flag", _from(_tokens(run), 1))
    run.set("answer", _of(lambda c, f: c, content, flag))


@_own(
    "The instruction is read by nothing.",
    {"content": [4], "answer": [4]},
)
def instruction_ignored(run: Run) -> None:
    run.set("answer", run.set("content", _from(_tokens(run), 2)))


@_own(
    "The instruction asks for b and makes the answer a.",
    {"content": [4], "flag": [4], "answer": [4]},
    inputs=[("say_b", "plain"), ("a", "b"), ("say_b", "plain", "a", "b"), ("?",)],
)
def instruction_backfires(run: Run) -> None:
    content = run.set("content", _from(_tokens(run), 2))
    flag = run.set("flag", _from(_tokens(run), 1))
    run.set("answer", _of(lambda c, f: "a" if f == "say_b" else c, content, flag))


@_own(
    "The content's position carries the instruction on and the content stays as it is: the end reads "
    "both there.",
    {"carried": [2], "flag": [4], "content": [4], "answer": [4]},
)
def relayed_flag(run: Run) -> None:
    carried = run.set("carried", _from(_tokens(run), 1))
    content = run.set("content", _from(_tokens(run), 2))
    flag = run.set("flag", _from(carried, 2))
    run.set("answer", _of(rewritten, content, flag))
