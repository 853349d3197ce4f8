"""Programs and tasks that others published: Tracr's library and InterpBench's descriptions."""

from __future__ import annotations

from interp.known.causal import (
    ProgramRun,
    each,
    earlier,
    numbers,
    program,
    selector_width,
    tokens_of,
    up_to,
)

_TRACR = "Tracr (arXiv 2301.05062), tracr.compiler.lib.{}"
_CASE = "InterpBench (arXiv 2407.14494), case {}: {}"

_ABC = ("a", "b", "c")


@program(
    _TRACR.format("shift_by"),
    [_ABC] * 4,
    {"previous": [4]},
    answer="previous",
)
def copy_previous(run: ProgramRun) -> None:
    """The token before the last one: a previous-token head."""
    run.set("previous", earlier(tokens_of(run)))


@program(
    _CASE.format(3, "fraction of 'x' up to each position")
    + "; "
    + _TRACR.format("make_frac_prevs"),
    [("x", "a", "b")] * 5,
    {"is_x": [1, 2, 3, 4, 5], "fraction": [5]},
    answer="fraction",
    value=True,
)
def fraction_of_x(run: ProgramRun) -> None:
    """The fraction of tokens so far that are x."""
    is_x = run.set("is_x", numbers(tokens_of(run), "x"))
    run.set("fraction", [0.0, *(sum(is_x[1 : p + 1]) / p for p in range(1, len(is_x)))])


@program(
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
def bracket_balance(run: ProgramRun) -> None:
    """The fraction of opening brackets so far minus that of closing ones: two heads, summed."""
    fractions = []
    for bracket, name in (("(", "open"), (")", "close")):
        found = run.set(f"is_{name}", numbers(tokens_of(run), bracket))
        share = [0.0, *(sum(found[1 : p + 1]) / p for p in range(1, len(found)))]
        fractions.append(run.set(f"{name}_fraction", share))
    run.set("balance", [a - b for a, b in zip(*fractions, strict=True)])


@program(
    _CASE.format(7, "number of times each token occurs") + "; " + _TRACR.format("make_hist"),
    [_ABC] * 5,
    {"count_width": [5], "count": [5]},
    answer="count",
)
def histogram(run: ProgramRun) -> None:
    """How often the last token has occurred, itself included."""
    selector_width(run, "count", up_to(tokens_of(run), lambda seen, own: seen.count(own)))


@program(
    _CASE.format(14, "count of 'a'") + "; " + _TRACR.format("make_count"),
    [_ABC] * 5,
    {"count_width": [5], "count": [5]},
    answer="count",
)
def count_of_a(run: ProgramRun) -> None:
    """How many tokens are an a."""
    selector_width(run, "count", up_to(tokens_of(run), lambda seen, own: seen.count("a")))


@program(
    _CASE.format(12, "detect the pattern 'abc'") + "; " + _TRACR.format("detect_pattern"),
    [_ABC] * 5,
    {
        "is_a": [3], "is_b": [4], "is_c": [5], "a_before": [5], "b_before": [5], "start": [5],
        "found": [5],
    },
    answer="found",
)  # fmt: skip
def detect_abc(run: ProgramRun) -> None:
    """Whether the last three tokens are a, b, c."""
    is_a, is_b, is_c = (
        run.set(f"is_{token}", each(lambda t, token=token: t == token, tokens_of(run)))
        for token in _ABC
    )
    a_before = run.set("a_before", earlier(is_a, 2))
    b_before = run.set("b_before", earlier(is_b, 1))
    start = run.set("start", each(lambda a, b: a and b, a_before, b_before))
    run.set("found", each(lambda s, c: s and c, start, is_c))


@program(
    _CASE.format(13, "trend (increasing, decreasing, constant) of numbers") + ", backwards",
    [("1", "2", "3")] * 4,
    {"previous": [4], "trend": [4]},
    answer="trend",
)
def trend(run: ProgramRun) -> None:
    """Whether the last number is above, below or equal to the one before."""
    before = run.set("previous", earlier(tokens_of(run)))
    run.set(
        "trend",
        each(lambda t, b: "same" if t == b else "up" if t > b else "down", tokens_of(run), before),
    )


@program(
    _CASE.format(18, "each token by its frequency: rare, common or frequent")
    + "; with gaps, so that lengths differ",
    [*[("a", "b", "-")] * 4, ("a", "b")],
    {"count_width": [5], "count": [5], "length_width": [5], "length": [5], "class": [5]},
    answer="class",
)
def frequency_class(run: ProgramRun) -> None:
    """Whether the last token is rare, common or frequent among all tokens but the gaps."""
    count = selector_width(run, "count", up_to(tokens_of(run), lambda seen, own: seen.count(own)))
    length = selector_width(
        run, "length", up_to(tokens_of(run), lambda seen, own: len(seen) - seen.count("-"))
    )
    run.set(
        "class",
        each(
            lambda n, total: "frequent" if n > total / 2 else "common" if n > total / 4 else "rare",
            count,
            length,
        ),
    )


@program(
    _CASE.format(19, "removes consecutive duplicate tokens"),
    [_ABC] * 4,
    {"previous": [4], "kept": [4]},
    answer="kept",
)
def drop_duplicate(run: ProgramRun) -> None:
    """The last token, or a gap where it repeats the one before."""
    before = run.set("previous", earlier(tokens_of(run)))
    run.set("kept", each(lambda t, b: "gap" if t == b else t, tokens_of(run), before))
