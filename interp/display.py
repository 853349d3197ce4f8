"""How results are shown: HTML, in which text from outside is escaped, and one line of text.

Item ids, option texts, names of metrics and files, and notes reach a notebook's output and the
reports. All of it goes through :func:`escape_html`, and every ``_repr_html_`` is made of
:func:`html_paragraph` and :func:`html_table` (or, like prompts, escapes each token).
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pandas as pd

_SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"} | {chr(k) for k in range(0xE0020, 0xE0080)}
"""Invisible by themselves, yet part of how their neighbours look: in Persian words, emoji and flags."""

_LENGTH = 60
_MOST_SHOWN = 8


def escape_html(text: object, *, quote: bool = True) -> str:
    """Text for HTML; ``quote=False`` leaves quotation marks, which only attributes need escaped."""
    return html.escape(str(text), quote=quote)


def html_paragraph(text: object, *, bold: bool = False) -> str:
    """A paragraph of escaped text."""
    escaped = escape_html(text)
    return f"<p><b>{escaped}</b></p>" if bold else f"<p>{escaped}</p>"


def html_table(frame: pd.DataFrame, *, decimals: int | None = None, index: bool = False) -> str:
    """A frame as an HTML table, everything in it escaped; ``decimals`` of its floats."""
    form = None if decimals is None else f"{{:.{decimals}f}}".format
    return frame.to_html(border=0, index=index, float_format=form, escape=True)


def visible_token(token: str) -> str:
    """A token's text with what the eye cannot see made visible; not escaped yet.

    Line breaks are ⏎, tabs ⇥, an empty token ∅; a combining mark stands on ◌. Control characters,
    zero-width characters, direction overrides and lone surrogates are shown by their code point, as
    ‹U+200B›; the joiners of emoji and of scripts that need them only where they join nothing.
    """
    if token in _SIGNS:
        return _SIGNS[token]
    if unicodedata.category(token[0]).startswith("M"):
        token = f"◌{token}"
    alone = all(unicodedata.category(character) in _INVISIBLE for character in token)
    return "".join(_visible_character(character, alone) for character in token)


def _visible_character(character: str, alone: bool) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    kept = character in _JOINERS and not alone
    if kept or unicodedata.category(character) not in _INVISIBLE:
        return character
    return f"‹U+{ord(character):04X}›"


def short_repr(result: Any) -> str:
    """The ``__repr__`` of a dataclass with tensors or tables: their shapes, never their numbers."""
    shown = [f"{f.name}={_summary(getattr(result, f.name))}" for f in fields(result) if f.repr]
    return f"{type(result).__name__}({', '.join(shown)})"


def _summary(value: Any) -> str:
    """What a field holds, in a few words."""
    if isinstance(value, pd.DataFrame):
        return f"DataFrame[{len(value)} rows, {len(value.columns)} columns]"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        sizes = ", ".join(str(size) for size in value.shape)
        return f"{str(value.dtype).removeprefix('torch.')}[{sizes}]"
    if isinstance(value, Mapping):
        return f"{{{_first(list(map(str, value)))}}}"
    if isinstance(value, tuple | list | set | frozenset):
        plain = all(isinstance(one, str | int | float | bool | None) for one in value)
        if plain and len(value) <= _MOST_SHOWN:
            return f"({_first([_cut(repr(one)) for one in value])})"
        return f"{type(value).__name__} of {len(value)}"
    if is_dataclass(value) and not isinstance(value, type):
        return _cut(f"{type(value).__name__}({getattr(value, 'label', '...')})")
    return _cut(repr(value))


def _first(names: list[str]) -> str:
    more = f", ... of {len(names)}" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"
