"""Ways in which an instruction can act, one program each.

The instruction stands at position 1, the content at 2, something else at 3; the answer is read at 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from interp.known.causal import (
    OURS,
    ProgramRun,
    each,
    from_position,
    numbers,
    program,
    selector_width,
    tokens_of,
    up_to,
)

_INSTRUCTION = [("flip", "plain"), ("a", "b"), ("flip", "plain", "a", "b"), ("?",)]
_LAYOUT = ("instruction", "content", "other", "end")


def _own(
    positions: Mapping[str, Sequence[int]], **more: Any
) -> Callable[[Callable[[ProgramRun], None]], Callable[[ProgramRun], None]]:
    inputs = more.pop("inputs", _INSTRUCTION)
    return program(OURS, inputs, positions, layout=_LAYOUT, **more)


@_own(
    {"content": [4], "flag": [4], "answer": [4]},
)
def late_rewrite(run: ProgramRun) -> None:
    """The instruction acts on the output: the end reads the content as it is, and flips its answer."""
    content = run.set("content", from_position(tokens_of(run), 2))
    flag = run.set("flag", from_position(tokens_of(run), 1))
    run.set("answer", each(rewritten, content, flag))


@_own(
    {"flag": [2], "rewritten": [2], "answer": [4]},
)
def early_rewrite(run: ProgramRun) -> None:
    """The instruction changes the content at its own position; the end copies what is there then."""
    flag = run.set("flag", from_position(tokens_of(run), 1))
    changed = run.set("rewritten", each(rewritten, tokens_of(run), flag))
    run.set("answer", from_position(changed, 2))


@_own(
    {"armed": [1], "flips_width": [4], "flips": [4], "content": [4], "answer": [4]},
)
def gated_by_position(run: ProgramRun) -> None:
    """The instruction acts where it stands first; behind the content it does nothing."""
    places = range(len(run.tokens))
    armed = run.set(
        "armed",
        each(
            lambda t, p: "flip" if (t, p) == ("flip", 1) else "plain", tokens_of(run), list(places)
        ),
    )
    content = run.set("content", from_position(tokens_of(run), 2))
    flips = selector_width(run, "flips", up_to(armed, lambda seen, own: seen.count("flip")))
    run.set("answer", each(lambda c, n: rewritten(c, "flip" if n else "plain"), content, flips))


@_own(
    {"direct": [4], "relay": [3], "relayed": [4], "flag": [4], "content": [4], "answer": [4]},
    backups=(("direct",), ("relay", "relayed")),
)
def either_route(run: ProgramRun) -> None:
    """Two routes back each other up: either is enough to flip the answer.

    The end reads the instruction itself, and a copy of it at another position.
    """
    direct = run.set("direct", from_position(tokens_of(run), 1))
    relay = run.set("relay", from_position(tokens_of(run), 1))
    content = run.set("content", from_position(tokens_of(run), 2))
    relayed = run.set("relayed", from_position(relay, 3))
    flag = run.set(
        "flag", each(lambda a, b: "flip" if "flip" in (a, b) else "plain", direct, relayed)
    )
    run.set("answer", each(rewritten, content, flag))


@_own(
    {"asked": [1], "large": [4], "small": [4], "answer": [4]},
    value=True,
    shares={"large": 0.75, "small": 0.25},
)
def sum_of_routes(run: ProgramRun) -> None:
    """Two routes add up: three quarters of the effect through one head, a quarter through another."""
    asked = run.set("asked", numbers(tokens_of(run), "flip"))
    large, small = (
        run.set(name, [0.0, *from_position(asked, 1)[1:]]) for name in ("large", "small")
    )  # the same head twice
    run.set("answer", [0.75 * a + 0.25 * b for a, b in zip(large, small, strict=True)])


@_own(
    {"content": [4], "answer": [4]},
)
def decodable_unused(run: ProgramRun) -> None:
    """The instruction can be decoded at the end and is not used."""
    content = run.set("content", from_position(tokens_of(run), 2))
    flag = run.set("flag", from_position(tokens_of(run), 1))
    run.set("answer", each(lambda c, f: c, content, flag))


@_own(
    {"content": [4], "answer": [4]},
)
def instruction_ignored(run: ProgramRun) -> None:
    """The instruction is read by nothing."""
    run.set("answer", run.set("content", from_position(tokens_of(run), 2)))


@_own(
    {"content": [4], "flag": [4], "answer": [4]},
    inputs=[("say_b", "plain"), ("a", "b"), ("say_b", "plain", "a", "b"), ("?",)],
)
def instruction_backfires(run: ProgramRun) -> None:
    """The instruction asks for b and makes the answer a."""
    content = run.set("content", from_position(tokens_of(run), 2))
    flag = run.set("flag", from_position(tokens_of(run), 1))
    run.set("answer", each(lambda c, f: "a" if f == "say_b" else c, content, flag))


@_own(
    {"carried": [2], "flag": [4], "content": [4], "answer": [4]},
)
def relayed_flag(run: ProgramRun) -> None:
    """The content's position carries the instruction on; the end reads both there, unchanged."""
    carried = run.set("carried", from_position(tokens_of(run), 1))
    content = run.set("content", from_position(tokens_of(run), 2))
    flag = run.set("flag", from_position(carried, 2))
    run.set("answer", each(rewritten, content, flag))


def rewritten(content: str, asked: str) -> str:
    """What an instruction makes of the content: ``flip`` exchanges a and b."""
    return {"a": "b", "b": "a"}.get(content, content) if asked == "flip" else content
