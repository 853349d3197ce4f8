"""The HTML report: one file that reads as a short story and opens without a network.

A report is a lead line (which model, its quantisation) and sections of prose, tables and figures.
The page holds its own style, plotly.js once if any plotly figure is shown, and every script that a
fragment needs once. All text is escaped; only a :class:`Fragment` is taken as HTML. Equal
arguments give equal bytes. The page is light or dark as the reader's system is, or as chosen on it;
every plotly figure can be saved as PNG and SVG, and print is light and holds all figures.

Example::

    section = Section(
        "Behaviour",
        paragraphs=("The instruction moves the margin (logit difference) by ...",),
        tables=((scores.effects(), "Contrasts, nats of margin."),),
        figures=((interp.viz.effects(scores), "Effects and 95 % intervals."),),
    )
    render_report([section], title="Self-correction", lead=card.one_line, path="report.html")
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.display import escape_html, short_repr
from interp.errors import InterpError, first_line
from interp.stats import Interval
from interp.viz.theme import dark_page_css

_MISSING = "–"


@dataclass(frozen=True)
class Fragment:
    """A piece of finished HTML, displayed inline by Jupyter and put into a page by a section.

    ``script``: what draws it; a page holds it once, at its end, however many fragments need it. It
    draws every piece of its kind that is not drawn yet, so that it may run again.
    """

    html: str = field(repr=False)
    script: str = field(default="", repr=False)

    def _repr_html_(self) -> str:
        return f"{self.html}<script>{self.script}</script>" if self.script else self.html


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs (plain text), then tables and figures, each with its caption.

    ``note`` comes last, in small print.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[tuple[pd.DataFrame, str]] = ()
    figures: Sequence[tuple[go.Figure | Fragment, str]] = ()
    note: str = ""

    __repr__ = short_repr


def render_report(
    sections: Sequence[Section], *, title: str, lead: str, path: str | Path | None = None
) -> str:
    """The report as one self-contained HTML page.

    Args:
        sections: in reading order; two or more get a table of contents.
        title: the page's title.
        lead: the line under it, usually ``model_card(model).one_line``.
        path: also write the page there, whole or not at all.

    Returns:
        The page. Numbers in tables are right-aligned, intervals read ``0.12 [0.05, 0.19]``, and a
        missing number is a dash.

    Raises:
        InterpError: the path cannot be written.
    """
    shown = [figure for section in sections for figure, _ in section.figures]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("interp.viz"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["table"] = _table
    page = environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        sections=[_numbered(section, k) for k, section in enumerate(sections, start=1)],
        dark=Markup(dark_page_css(':root[data-theme="dark"]')),
        plotly=Markup(get_plotlyjs()) if any(isinstance(f, go.Figure) for f in shown) else None,
        scripts=[Markup(script) for script in _scripts(shown)],
    )
    if path is not None:
        write_whole(Path(path), encode_page(page))
    return page


def format_interval(interval: Interval, decimals: int | None = None) -> str:
    """``0.12 [0.05, 0.19]``; as many decimals as the interval's width calls for, two to four."""
    if np.ndim(interval.estimate):
        return str(interval)
    if math.isnan(interval.estimate):
        return f"{_MISSING} ({interval.reason})" if interval.reason else _MISSING
    digits = _decimals(interval) if decimals is None else decimals
    if math.isnan(interval.low):
        return f"{interval.estimate:z.{digits}f}"
    low, high = (f"{bound:z.{digits}f}" for bound in (interval.low, interval.high))
    return f"{interval.estimate:z.{digits}f} [{low}, {high}]"


def _numbered(section: Section, number: int) -> dict[str, Any]:
    """What the template needs of a section; figures are named after their place."""
    figures = []
    for k, (figure, caption) in enumerate(section.figures, start=1):
        name = f"figure-{number}-{k}"
        drawn = name if isinstance(figure, go.Figure) else ""  # what the page can save
        html = Markup(_figure_html(figure, name))
        figures.append({"html": html, "caption": caption, "drawn": drawn})
    return {"id": f"section-{number}", "section": section, "figures": figures}


def _figure_html(figure: go.Figure | Fragment, name: str) -> str:
    if isinstance(figure, Fragment):
        return figure.html
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_width="100%",
        default_height=f"{figure.layout.height or 450}px",
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )


def _table(frame: pd.DataFrame) -> Markup:
    """A frame as an HTML table, cells escaped, numbers right-aligned."""
    columns = [(str(name), *_cells(frame.iloc[:, k])) for k, name in enumerate(frame.columns)]
    css = [' class="number"' if numeric else "" for _, numeric, _ in columns]
    head = "".join(
        f"<th{c}>{escape_html(name)}</th>" for c, (name, _, _) in zip(css, columns, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{c}>{escape_html(cells[row])}</td>"
            for c, (_, _, cells) in zip(css, columns, strict=True)
        )
        + "</tr>"
        for row in range(len(frame))
    )
    return Markup(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _cells(column: pd.Series) -> tuple[bool, list[str]]:
    """Whether a column holds numbers, and its cells as text with one number of decimals."""
    values = column.tolist()
    intervals = [value for value in values if isinstance(value, Interval)]
    if intervals:
        digits = max(_decimals(interval) for interval in intervals)
        return True, [
            format_interval(v, digits) if isinstance(v, Interval) else _text(v) for v in values
        ]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return False, [_text(value) for value in values]
    if pd.api.types.is_integer_dtype(column):
        return True, [_MISSING if pd.isna(v) else str(v) for v in values]
    return True, [_MISSING if pd.isna(v) else _number(float(v)) for v in values]


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _MISSING
    if isinstance(value, float):
        return _number(value)
    return str(value)


def _number(value: float) -> str:
    """Three decimals; more figures for what would read 0.000, fewer for what is large."""
    size = abs(value)
    if size and size < 5e-4:
        return f"{value:.1e}"
    return f"{value:.3f}" if size < 100 else f"{value:,.1f}"


def _decimals(interval: Interval) -> int:
    if np.ndim(interval.estimate):
        return 2
    half = (interval.high - interval.low) / 2
    if math.isnan(half) or half <= 0:
        return 2
    return min(4, max(2, -math.floor(math.log10(half))))


def _scripts(figures: Sequence[go.Figure | Fragment]) -> list[str]:
    """What the fragments need, each once, in the order of first use."""
    needed = [figure.script for figure in figures if isinstance(figure, Fragment)]
    return list(dict.fromkeys(script for script in needed if script))


def json_block(data: Any) -> str:
    """Data for a fragment's script, as an element: no text in it can end it or open a tag or comment."""
    text = json.dumps(data, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json">{text}</script>'


def encode_page(page: str) -> bytes:
    """A page as UTF-8; half a surrogate pair becomes a reference, which browsers show as �."""
    return page.encode("utf-8", errors="xmlcharrefreplace")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        InterpError: the path cannot be written.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.unfinished"
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InterpError(
            f"{str(path)!r}: cannot be written ({reason}): choose another path"
        ) from error
