"""A control of the user's own, brought to the token count of the instruction that it stands against.

Patching copies from token to token. Where the two texts differ in length most of their tokens have no
counterpart, and a difference of the two prompts holds one of length and position as well. A placebo is
drawn or built of the wanted count (:mod:`interp.prompts.placebos`); a control that somebody wrote is
fitted here:

- ``pad`` appends what has no moral content: one of :data:`NEUTRAL_PHRASES` before the full stop, and
  requests about the reply of :data:`interp.prompts.placebos.REQUEST_FILLERS` behind it;
- ``trim`` drops words from the end, as few as will do; where a word is of more tokens than are to go,
  the rest is padded.

Either reaches the count exactly or refuses. A fitted text is another text than the one that was written:
read it (the report quotes it) before relying on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from interp.errors import InterpError
from interp.prompts.conditions import Condition
from interp.prompts.placebos import REQUEST_FILLERS, FitLength, PlaceboPool

NEUTRAL_PHRASES: tuple[str, ...] = (
    "here",
    "now",
    "below",
    "as usual",
    "this time",
    "on paper",
    "on this page",
    "in plain type",
    "in this line",
    "in the usual way",
    "in the lines below",
    "on the page as it is",
)
"""Ends of a sentence that ask for nothing, roughly the shortest first."""

_STOP = re.compile(r"[.!?]+$")
_OPEN_END = " ,;:–—-"


def fit_condition(
    count: Callable[[str], int], control: Condition, treated: Condition, how: FitLength
) -> Condition:
    """The control with a text of as many tokens as the treated one's; its id ends in ``+pad`` or so.

    Args:
        count: tokens of a text on its own.
        control: what is fitted.
        treated: what it stands against; its text stays as it is.
        how: add to the text, or take from it.

    Raises:
        InterpError: a side without a text, a control that is too long to pad or too short to trim, or
            one that cannot be brought to exactly the count.
    """
    for side in (treated, control):
        if side.text is None:
            raise InterpError(
                f"fit_length={how!r}: condition {side.name!r} adds no text that could be counted: name "
                "two conditions with a text, or leave fit_length out"
            )
    assert control.text is not None
    assert treated.text is not None
    has, wanted = count(control.text), count(treated.text)
    text = fit_text(count, control.text, wanted, how)
    if text is None:
        raise InterpError(_refusal(control, treated, has, wanted, how))
    changed = f"{control.text_id}+{how}" if text != control.text else control.text_id
    return replace(control, text=text, text_id=changed, fitted=how)


def fit_text(count: Callable[[str], int], text: str, wanted: int, how: FitLength) -> str | None:
    """The text brought to exactly the wanted count; None where that cannot be."""
    has = count(text)
    if has == wanted:
        return text
    if (has < wanted) != (how == "pad"):
        return None
    pool = PlaceboPool(count, (), REQUEST_FILLERS)
    return (
        _padded(pool, count, text, wanted) if how == "pad" else _trimmed(pool, count, text, wanted)
    )


def _padded(pool: PlaceboPool, count: Callable[[str], int], text: str, wanted: int) -> str | None:
    """A phrase alone where one will do; else sentences, behind the text or the text with a phrase."""
    found = _STOP.search(text)
    stem, stop = (text[: found.start()], found[0]) if found else (text, "")
    longer = [f"{stem} {phrase}{stop}" for phrase in NEUTRAL_PHRASES]
    for candidate in longer:
        if count(candidate) == wanted:
            return candidate
    for candidate in (text, *longer):
        extended = pool.extend(candidate if stop else f"{candidate}.", wanted)
        if extended is not None:
            return extended
    return None


def _trimmed(pool: PlaceboPool, count: Callable[[str], int], text: str, wanted: int) -> str | None:
    """The longest beginning that can be brought to the count, with the text's own full stop."""
    found = _STOP.search(text)
    stop = found[0] if found else ""
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    for end in reversed(ends[:-1]):
        kept = text[:end].rstrip(_OPEN_END)
        kept = kept if _STOP.search(kept) else kept + stop
        n = count(kept)
        if n == wanted:
            return kept
        if n < wanted:
            padded = _padded(pool, count, kept, wanted)
            if padded is not None:
                return padded
    return None


def _refusal(control: Condition, treated: Condition, has: int, wanted: int, how: FitLength) -> str:
    start = (
        f"fit_length={how!r}: the text of {control.name!r} has {has} tokens, that of {treated.name!r} "
        f"{wanted}"
    )
    if (has < wanted) != (how == "pad"):
        return start + (
            ": padding only adds, use fit_length='trim'"
            if how == "pad"
            else ": trimming only takes away, use fit_length='pad'"
        )
    return start + (
        ", and no neutral words bring it to exactly that number: change the text, or patch against a "
        "placebo"
    )
