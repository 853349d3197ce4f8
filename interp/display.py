"""HTML of results: one place where text from outside is escaped.

Item ids, option texts, names of metrics and files, and notes reach a notebook's output and the
reports. All of it goes through :func:`escape_html`, and every ``_repr_html_`` is made of
:func:`html_paragraph` and :func:`html_table` (or, like prompts, escapes each token).
"""

from __future__ import annotations

import html
import unicodedata

import pandas as pd

_SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍", "": "∅"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"} | {chr(k) for k in range(0xE0020, 0xE0080)}
"""Invisible by themselves, yet part of how their neighbours look: in Persian words, emoji and flags."""


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
