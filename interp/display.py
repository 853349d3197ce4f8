"""HTML of results: one place where text from outside is escaped.

Item ids, option texts, names of metrics and files, and notes reach a notebook's output and the
reports. All of it goes through :func:`escape_html`, and every ``_repr_html_`` is made of
:func:`html_paragraph` and :func:`html_table` (or, like prompts, escapes each token).
"""

from __future__ import annotations

import html

import pandas as pd


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
