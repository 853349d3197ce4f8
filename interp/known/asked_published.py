"""Tasks that others published, read so that the first token plays the instruction.

Tracr's library and InterpBench's descriptions. In some the end reads the instruction itself, in others
it changes what the content's position holds; in one it does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.known.asked_task import asked_program
from interp.known.causal import (
    ProgramRun,
    each,
    earlier,
    from_position,
    selector_width,
    tokens_of,
    up_to,
)

_TRACR = "Tracr (arXiv 2301.05062), tracr.compiler.lib.{}"
_CASE = "InterpBench (arXiv 2407.14494), case {}: {}"


KEYWORDS = ("spam", "offer", "click", "now", "free", "prize")


def is_keyword(token: str) -> bool:
    """Whether a word makes a message spam."""
    return token in KEYWORDS


@asked_program(
    _CASE.format(20, "spam messages by their keywords"),
    {"kind": [1, 2], "keywords_width": [4], "keywords": [4], "verdict": [4]},
    asks=KEYWORDS,
    notes=("dear", "hello", "today", "thanks", "please", "well"),
    contents=(
        "news", "tea", "rain", "book", "lunch", "road", "sun", "house", "train", "garden",
        "spam", "free",
    ),
    others=("and", "for"),
    answers=("spam", "ham"),
    answer="verdict",
)  # fmt: skip
def spam_message(run: ProgramRun) -> None:
    """A message is spam if it has a keyword; the end counts them all."""
    kind = run.set("kind", each(lambda t: "key" if is_keyword(t) else "plain", tokens_of(run)))
    found = selector_width(run, "keywords", up_to(kind, lambda seen, own: seen.count("key")))
    run.set("verdict", each(lambda n: "spam" if n else "ham", found))


OPENING = ("(", "[", "{", "<", "«", "⟨")
CLOSING = (")", "]", "}", ">", "»", "⟩", "›", "⟧", "⟫", "』")
_LETTERS = ("a", "b", "c", "d", "e", "f")


def _fraction(values: Sequence[Any]) -> list[float]:
    """Of the values up to each position, the mean."""
    return [0.0, *(sum(values[1 : p + 1]) / p for p in range(1, len(values)))]


def _is_one_of(run: ProgramRun, name: str, tokens: Sequence[str]) -> list[float]:
    return run.set(name, [0.0, *(float(t in tokens) for t in run.tokens[1:])])


@asked_program(
    _CASE.format(4, "fraction of open minus close tokens") + "; "
    + _TRACR.format("make_pair_balance") + ", brackets of six kinds",
    {
        "is_open": [1], "is_close": [2], "open_fraction": [4], "close_fraction": [4],
        "balance": [4],
    },
    asks=OPENING,
    notes=_LETTERS,
    contents=(*CLOSING, "g", "h"),
    others=(")", "]"),
    end="}",
    value=True,
    answer="balance",
)  # fmt: skip
def bracket_kinds(run: ProgramRun) -> None:
    """The fraction of opening brackets minus that of closing ones, taken at the end."""
    opened, closed = (
        run.set(f"{name}_fraction", _fraction(_is_one_of(run, f"is_{name}", tokens)))
        for name, tokens in (("open", OPENING), ("close", CLOSING))
    )
    run.set("balance", [a - b for a, b in zip(opened, closed, strict=True)])


CROSSES = ("x", "X", "×", "χ", "✕", "✗")


def named_fraction(fraction: float) -> str:
    """A fraction as a value that one head can read at one position: ``f50``."""
    return f"f{100 * fraction:.0f}"


def above_quarter(name: str) -> float:
    """By how much a named fraction is above 1/4; 0 of one below."""
    return max(int(name[1:]) / 100 - 0.25, 0.0)


def below_quarter(name: str) -> float:
    """By how much a named fraction is below 1/4; 0 of one above."""
    return max(0.25 - int(name[1:]) / 100, 0.0)


@asked_program(
    _CASE.format(3, "fraction of 'x' up to each position") + ", a mean of two positions; "
    + _TRACR.format("make_frac_prevs"),
    {
        "is_x": [1, 2], "fraction": [2, 4], "so_far": [2], "read": [4], "above": [4],
        "below": [4], "centred": [4], "mean": [4],
    },
    asks=CROSSES,
    notes=_LETTERS,
    contents=("g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "x", "X"),
    others=("q", "r"),
    value=True,
    answer="mean",
)  # fmt: skip
def mean_fraction(run: ProgramRun) -> None:
    """Every position holds the fraction of crosses so far; a quarter of the answer is the content's."""
    fraction = run.set("fraction", _fraction(_is_one_of(run, "is_x", CROSSES)))
    so_far = run.set("so_far", [None, *map(named_fraction, fraction[1:])])
    read = run.set("read", from_position(so_far, 2))
    above, below = (
        run.set(name, [0.0 if f is None else part(f) for f in read])
        for name, part in (("above", above_quarter), ("below", below_quarter))
    )
    own = run.set("centred", [a - b for a, b in zip(above, below, strict=True)])
    run.set("mean", [0.25 * a + 0.75 * b for a, b in zip(own, fraction, strict=True)])


def tens(token: str) -> int:
    """The tens of a number, ``17`` or ``to17``; -1 of other tokens."""
    digits = token.removeprefix("to")
    return int(digits) // 10 if digits.isdigit() else -1


def trend_of(now: int, before: int) -> str:
    """``up`` where a number is above the one before, else ``down``; ``none`` without two numbers."""
    return "none" if min(now, before) < 0 else "up" if now > before else "down"


@asked_program(
    _CASE.format(13, "trend of numbers") + ", by their tens, read off behind; "
    + _TRACR.format("shift_by"),
    {"tens": [1, 2], "previous": [2], "trend": [2], "read": [4]},
    asks=[str(k) for k in range(1, 7)],
    notes=[str(k) for k in range(21, 27)],
    contents=[str(k) for k in (*range(10, 20), *range(31, 37))],
    others=("and", "then"),
    answers=("up", "down"),
    answer="read",
)  # fmt: skip
def trend_read(run: ProgramRun) -> None:
    """Every number holds whether it is above the one before; the end reads it off the content."""
    own = run.set("tens", each(tens, tokens_of(run)))
    trend = run.set("trend", each(trend_of, own, run.set("previous", earlier(own))))
    run.set("read", from_position(trend, 2))


_RANGES: dict[str, Any] = {
    "asks": [f"to{k}" for k in range(20, 26)],
    "notes": [f"to{k}" for k in range(6)],
    "contents": [str(k) for k in (*range(10, 20), *range(6))],
    "others": ("and", "then"),
    "answers": ("in", "out"),
}


def bound_of(token: str) -> int:
    """The tens up to which ``to17`` says that the range goes; -1 of other tokens."""
    return tens(token) if token.startswith("to") else -1


def in_range(value: int, limit: int) -> str:
    """``in`` from 0 to the limit, else ``out``."""
    return "in" if 0 <= value <= limit else "out"


@asked_program(
    _CASE.format(30, "numbers tagged by whether they are in a range") + ", whose end comes first",
    {"bound": [1], "limit": [2], "tag": [2], "read": [4]},
    answer="read",
    **_RANGES,
)
def range_tag(run: ProgramRun) -> None:
    """Every number is tagged where it stands; the end reads the content's tag."""
    limit = run.set("limit", from_position(run.set("bound", each(bound_of, tokens_of(run))), 1))
    tag = run.set("tag", each(lambda t, b: in_range(tens(t), b), tokens_of(run), limit))
    run.set("read", from_position(tag, 2))


@asked_program(
    _CASE.format(30, "numbers tagged by whether they are in a range") + ", at the end alone",
    {"bound": [1], "tens": [2], "limit": [4], "held": [4], "tag": [4]},
    answer="tag",
    **_RANGES,
)
def range_check(run: ProgramRun) -> None:
    """The end reads the range and the number, and compares them."""
    limit = run.set("limit", from_position(run.set("bound", each(bound_of, tokens_of(run))), 1))
    held = run.set("held", from_position(run.set("tens", each(tens, tokens_of(run))), 2))
    run.set("tag", each(in_range, held, limit))


A_WORDS, B_WORDS = ([f"{letter}{k}" for k in range(n)] for letter, n in (("a", 6), ("b", 10)))


@asked_program(
    _CASE.format(12, "detect a pattern") + ", of two kinds of words; "
    + _TRACR.format("detect_pattern"),
    {"is_a": [1], "is_b": [2], "a_before": [2], "start": [2], "read": [4]},
    asks=[f"c{k}" for k in range(1, 7)],
    notes=A_WORDS,
    contents=[*B_WORDS, *(f"d{k}" for k in range(1, 7))],
    others=("and", "then"),
    answers=("none", "found"),
    answer="read",
)  # fmt: skip
def pattern_read(run: ProgramRun) -> None:
    """A b holds whether an a stands before it; the end reads it off. What is asked breaks patterns."""
    is_a = run.set("is_a", each(lambda t: t in A_WORDS, tokens_of(run)))
    is_b = run.set("is_b", each(lambda t: t in B_WORDS, tokens_of(run)))
    before = run.set("a_before", earlier(is_a))
    start = run.set("start", each(lambda a, b: "found" if a and b else "none", before, is_b))
    run.set("read", from_position(start, 2))


def kind_of(token: str) -> str:
    """The letter that a word begins with."""
    return token[0]


def without_repeat(kind: str, before: str) -> str:
    """A gap where a kind repeats the one before."""
    return "gap" if kind == before else kind


@asked_program(
    _CASE.format(19, "removes consecutive duplicate tokens") + ", by their kinds",
    {"kind": [3], "previous": [4], "kept": [4]},
    asks=[f"b{k}" for k in range(1, 7)],
    notes=[f"c{k}" for k in range(1, 7)],
    contents=("a1", "a2", *(f"{kind}{k}" for kind in "bc" for k in range(1, 6))),
    others=("d1", "d2"),
    end="a3",
    answers=("gap", "a"),
    layout=("instruction", "other", "content", "end"),
    answer="kept",
)
def duplicate_gap(run: ProgramRun) -> None:
    """The last word, or a gap where it repeats the content; the first word does nothing."""
    kind = run.set("kind", each(kind_of, tokens_of(run)))
    run.set("kept", each(without_repeat, kind, run.set("previous", earlier(kind))))
