"""The RASP programs, compiled with Tracr (arXiv 2301.05062).

Half of them follow the library that Tracr ships (``tracr.compiler.lib``) or the task descriptions of
InterpBench (arXiv 2407.14494, by case number); the others plant one way in which an instruction can
act. What each computes stands in plain Python in :mod:`interp.known.programs`, which knows nothing of
this module: expressions are named here as variables are there.

Positions are counted with the BOS at 0; RASP's own indices begin behind it.
"""

from __future__ import annotations

from collections.abc import Callable

from tracr.compiler import lib
from tracr.rasp import rasp

BUILD: dict[str, Callable[[], rasp.SOp]] = {}
"""By name of the program, what builds its last expression."""


def builds(build: Callable[[], rasp.SOp]) -> Callable[[], rasp.SOp]:
    BUILD[build.__name__] = build
    return build


def read_at(sop: rasp.SOp, position: int, name: str) -> rasp.SOp:
    """The value of ``sop`` at one position, brought to every later one by a head."""
    return rasp.Aggregate(_at(position), sop).named(name)


def number_at(sop: rasp.SOp, position: int, name: str) -> rasp.SOp:
    """The same of a number."""
    return rasp.numerical(rasp.Aggregate(_at(position), sop, default=0)).named(name)


def _at(position: int) -> rasp.Selector:
    return rasp.Select(rasp.indices, rasp.indices, lambda k, q: k == position - 1)


def _rewritten(content: str, asked: str) -> str:
    return {"a": "b", "b": "a"}.get(content, content) if asked == "flip" else content


# Published programs and tasks


@builds
def copy_previous() -> rasp.SOp:
    return lib.shift_by(1, rasp.tokens).named("previous")


@builds
def fraction_of_x() -> rasp.SOp:
    is_x = rasp.numerical(rasp.tokens == "x").named("is_x")
    return rasp.numerical(lib.make_frac_prevs(is_x)).named("fraction")


@builds
def bracket_balance() -> rasp.SOp:
    opens, closes = (
        rasp.numerical(
            lib.make_frac_prevs(rasp.numerical(rasp.tokens == bracket).named(f"is_{name}"))
        ).named(f"{name}_fraction")
        for bracket, name in (("(", "open"), (")", "close"))
    )
    return rasp.numerical(rasp.LinearSequenceMap(opens, closes, 1, -1)).named("balance")


@builds
def histogram() -> rasp.SOp:
    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    return rasp.SelectorWidth(same).named("count")


@builds
def count_of_a() -> rasp.SOp:
    return lib.make_count(rasp.tokens, "a").named("count")


@builds
def detect_abc() -> rasp.SOp:
    is_c = (rasp.tokens == "c").named("is_c")
    b_before = lib.shift_by(1, (rasp.tokens == "b").named("is_b")).named("b_before")
    a_before = lib.shift_by(2, (rasp.tokens == "a").named("is_a")).named("a_before")
    start = (a_before & b_before).named("start")
    return (start & is_c).named("found")


@builds
def trend() -> rasp.SOp:
    before = lib.shift_by(1, rasp.tokens).named("previous")

    def compare(now: str, then: str) -> str:
        return "same" if now == then else "up" if now > then else "down"

    return rasp.SequenceMap(compare, rasp.tokens, before).named("trend")


@builds
def frequency_class() -> rasp.SOp:
    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    count = rasp.SelectorWidth(same).named("count")
    every = rasp.Select(rasp.tokens, rasp.tokens, lambda k, q: k != "-")
    length = rasp.SelectorWidth(every).named("length")

    def classify(n: int, total: int) -> str:
        return "frequent" if n > total / 2 else "common" if n > total / 4 else "rare"

    return rasp.SequenceMap(classify, count, length).named("class")


@builds
def drop_duplicate() -> rasp.SOp:
    before = lib.shift_by(1, rasp.tokens).named("previous")
    return rasp.SequenceMap(
        lambda now, then: "gap" if now == then else now, rasp.tokens, before
    ).named("kept")


# Ways in which an instruction can act: instruction at 1, content at 2, something else at 3, end at 4


@builds
def late_rewrite() -> rasp.SOp:
    content, flag = read_at(rasp.tokens, 2, "content"), read_at(rasp.tokens, 1, "flag")
    return rasp.SequenceMap(_rewritten, content, flag).named("answer")


@builds
def early_rewrite() -> rasp.SOp:
    flag = read_at(rasp.tokens, 1, "flag")
    rewritten = rasp.SequenceMap(_rewritten, rasp.tokens, flag).named("rewritten")
    return read_at(rewritten, 2, "answer")


@builds
def gated_by_position() -> rasp.SOp:
    armed = rasp.SequenceMap(
        lambda token, index: "flip" if (token, index) == ("flip", 0) else "plain",
        rasp.tokens,
        rasp.indices,
    ).named("armed")
    flips = rasp.SelectorWidth(rasp.Select(armed, armed, lambda k, q: k == "flip")).named("flips")
    content = read_at(rasp.tokens, 2, "content")
    return rasp.SequenceMap(
        lambda c, n: _rewritten(c, "flip" if n else "plain"), content, flips
    ).named("answer")


@builds
def either_route() -> rasp.SOp:
    direct = read_at(rasp.tokens, 1, "direct")
    relay = read_at(rasp.tokens, 1, "relay")
    relayed = read_at(relay, 3, "relayed")
    flag = rasp.SequenceMap(
        lambda a, b: "flip" if "flip" in (a, b) else "plain", direct, relayed
    ).named("flag")
    content = read_at(rasp.tokens, 2, "content")
    return rasp.SequenceMap(_rewritten, content, flag).named("answer")


@builds
def sum_of_routes() -> rasp.SOp:
    asked = rasp.numerical(rasp.tokens == "flip").named("asked")
    large, small = (number_at(asked, 1, name) for name in ("large", "small"))
    return rasp.numerical(rasp.LinearSequenceMap(large, small, 0.75, 0.25)).named("answer")


@builds
def decodable_unused() -> rasp.SOp:
    content, flag = read_at(rasp.tokens, 2, "content"), read_at(rasp.tokens, 1, "flag")
    return rasp.SequenceMap(lambda c, f: c, content, flag).named("answer")


@builds
def instruction_ignored() -> rasp.SOp:
    return rasp.Map(lambda c: c, read_at(rasp.tokens, 2, "content")).named("answer")


@builds
def instruction_backfires() -> rasp.SOp:
    content, flag = read_at(rasp.tokens, 2, "content"), read_at(rasp.tokens, 1, "flag")
    return rasp.SequenceMap(lambda c, f: "a" if f == "say_b" else c, content, flag).named("answer")


@builds
def relayed_flag() -> rasp.SOp:
    carried = read_at(rasp.tokens, 1, "carried")
    flag = read_at(carried, 2, "flag")
    content = read_at(rasp.tokens, 2, "content")
    return rasp.SequenceMap(_rewritten, content, flag).named("answer")
