"""The RASP programs of the suite of scorecards.

What each computes stands in :mod:`interp.known.asked_published` and :mod:`interp.known.asked_ways`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracr.compiler import lib
from tracr.rasp import rasp

from analyses.known.programs import BUILD, builds, number_at, read_at
from interp.known.asked_published import (
    A_WORDS,
    B_WORDS,
    CLOSING,
    CROSSES,
    OPENING,
    above_quarter,
    below_quarter,
    bound_of,
    in_range,
    is_keyword,
    kind_of,
    named_fraction,
    tens,
    trend_of,
    without_repeat,
)
from interp.known.asked_ways import (
    ASK_WORDS,
    HELD,
    SHARES,
    concept_of,
    holds,
    moved_concept,
    toward_yes,
)

# Published tasks


@builds
def spam_message() -> rasp.SOp:
    kind = rasp.Map(lambda t: "key" if is_keyword(t) else "plain", rasp.tokens).named("kind")
    found = rasp.SelectorWidth(rasp.Select(kind, kind, lambda k, q: k == "key")).named("keywords")
    return rasp.Map(lambda n: "spam" if n else "ham", found).named("verdict")


def _fraction(tokens: Sequence[str], name: str, of: str) -> rasp.SOp:
    found = rasp.numerical(rasp.Map(lambda t: float(t in tokens), rasp.tokens)).named(of)
    return rasp.numerical(lib.make_frac_prevs(found)).named(name)


@builds
def bracket_kinds() -> rasp.SOp:
    opened, closed = (
        _fraction(tokens, f"{name}_fraction", f"is_{name}")
        for name, tokens in (("open", OPENING), ("close", CLOSING))
    )
    return rasp.numerical(rasp.LinearSequenceMap(opened, closed, 1, -1)).named("balance")


@builds
def mean_fraction() -> rasp.SOp:
    fraction = _fraction(CROSSES, "fraction", "is_x")
    so_far = rasp.categorical(rasp.Map(named_fraction, fraction)).named("so_far")
    read = read_at(so_far, 2, "read")
    above, below = (
        rasp.numerical(rasp.Map(part, read)).named(name)
        for name, part in (("above", above_quarter), ("below", below_quarter))
    )
    own = _sum(above, below, 1, -1, "centred")
    return _sum(own, fraction, 0.25, 0.75, "mean")


def _tens() -> rasp.SOp:
    return rasp.Map(tens, rasp.tokens).named("tens")


@builds
def trend_read() -> rasp.SOp:
    own = _tens()
    before = lib.shift_by(1, own).named("previous")
    return read_at(rasp.SequenceMap(trend_of, own, before).named("trend"), 2, "read")


def _limit() -> rasp.SOp:
    return read_at(rasp.Map(bound_of, rasp.tokens).named("bound"), 1, "limit")


@builds
def range_tag() -> rasp.SOp:
    tag = rasp.SequenceMap(lambda t, b: in_range(tens(t), b), rasp.tokens, _limit()).named("tag")
    return read_at(tag, 2, "read")


@builds
def range_check() -> rasp.SOp:
    return rasp.SequenceMap(in_range, read_at(_tens(), 2, "held"), _limit()).named("tag")


@builds
def pattern_read() -> rasp.SOp:
    is_a = rasp.Map(lambda t: t in A_WORDS, rasp.tokens).named("is_a")
    is_b = rasp.Map(lambda t: t in B_WORDS, rasp.tokens).named("is_b")
    before = lib.shift_by(1, is_a).named("a_before")
    start = rasp.SequenceMap(lambda a, b: "found" if a and b else "none", before, is_b)
    return read_at(start.named("start"), 2, "read")


@builds
def duplicate_gap() -> rasp.SOp:
    kind = rasp.Map(kind_of, rasp.tokens).named("kind")
    before = lib.shift_by(1, kind).named("previous")
    return rasp.SequenceMap(without_repeat, kind, before).named("kept")


# Ways in which an instruction can act


def _asked_for() -> rasp.SOp:
    return rasp.Map(lambda t: "on" if t in ASK_WORDS else "off", rasp.tokens).named("asked")


def _concept() -> rasp.SOp:
    return rasp.Map(concept_of, rasp.tokens).named("concept")


@builds
def late_answer() -> rasp.SOp:
    held, flag = read_at(_concept(), 2, "held"), read_at(_asked_for(), 1, "flag")
    return rasp.SequenceMap(toward_yes, held, flag).named("answer")


def _changed(change: Callable[[str, str], str]) -> rasp.SOp:
    flag = read_at(_asked_for(), 1, "flag")
    return rasp.SequenceMap(change, _concept(), flag).named("changed")


@builds
def early_answer() -> rasp.SOp:
    return read_at(_changed(toward_yes), 2, "answer")


@builds
def relayed_answer() -> rasp.SOp:
    flag = read_at(read_at(_asked_for(), 1, "carried"), 2, "flag")
    return rasp.SequenceMap(toward_yes, read_at(_concept(), 2, "held"), flag).named("answer")


@builds
def either_answer() -> rasp.SOp:
    held = read_at(_changed(toward_yes), 2, "held")
    direct = read_at(_asked_for(), 1, "direct")
    return rasp.SequenceMap(toward_yes, held, direct).named("answer")


@builds
def unread_answer() -> rasp.SOp:
    held, flag = read_at(_concept(), 2, "held"), read_at(_asked_for(), 1, "flag")
    return rasp.SequenceMap(lambda c, f: c, held, flag).named("answer")


def _share_program(share: float) -> Callable[[], rasp.SOp]:
    def build() -> rasp.SOp:
        moved = _changed(moved_concept)
        read = {
            name: number_at(
                rasp.numerical(rasp.Map(lambda c, name=name: holds(c, name), moved)).named(name),
                2,
                f"read_{name}",
            )
            for name in HELD
        }
        on = rasp.numerical(rasp.Map(lambda a: float(a == "on"), _asked_for())).named("on")
        bias = number_at(on, 1, "bias")
        own = _sum(read["yes"], read["no"], 1, -1, "own")
        effect = _sum(read["moved"], bias, 2 * share, 2 * (1 - share), "effect")
        return _sum(own, effect, 1, 1, "answer")

    return build


def _sum(a: rasp.SOp, b: rasp.SOp, weight: float, other: float, name: str) -> rasp.SOp:
    return rasp.numerical(rasp.LinearSequenceMap(a, b, weight, other)).named(name)


for _share in SHARES:
    BUILD[f"share_{100 * _share:.0f}"] = _share_program(_share)
