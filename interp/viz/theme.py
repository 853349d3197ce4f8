"""One look for every figure: a plotly template, the conditions' colours, the colour scales.

Conventions: white paper, dark grey ink; the categorical palette is Okabe and Ito's (safe for colour
blind readers), and every condition also has its own marker; diverging maps are RdBu with midpoint 0
(blue = + = the better answer), amounts are Blues from 0. Nothing is registered with plotly: the
template travels inside each figure.

A figure is always made for white paper, and so are the files that are saved of it. On a dark page a
style sheet (:func:`dark_css`) exchanges its colours one for one, without drawing it again; maps keep
their colours and what is written on them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import plotly.graph_objects as go

from interp.display import escape_html

INK = "#222222"
MUTED = "#6b6b6b"
FAINT = "#c9c9c9"
GRID = "#ececec"
PAPER = "#ffffff"
"""Of the page and of hollow markers."""

ON_MAP, ON_DARK_CELL = "#1c1c1c", "#fefefe"
"""What is drawn on the cells of a map; the same on a dark page."""

RAISES, LOWERS = "#2166ac", "#b2182b"
"""Blue for what brings the better answer, red for the other way."""

FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"

DIVERGING = "RdBu"
SEQUENTIAL = "Blues"

CONDITION_COLOURS = {
    "clean": "#5f6368",
    "instructed": "#0072b2",
    "placebo": "#e69f00",
    "negated": "#cc79a7",
    "revealing": "#009e73",
}
"""The colour of every condition, the same in all figures."""

_LINE = 110
"""Characters of a line of a subtitle: they fit into 640 pixels."""

ZERO = {"zeroline": True, "zerolinecolor": MUTED, "zerolinewidth": 1, "rangemode": "tozero"}
"""Axis options that draw the line of no effect and keep it in view."""

_CONDITION_SYMBOLS = {
    "clean": "square",
    "instructed": "circle",
    "placebo": "diamond",
    "negated": "triangle-down",
    "revealing": "triangle-up",
}
_OTHERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


_DARK = {
    INK: "#e4e4e4",
    MUTED: "#a6a6a6",
    FAINT: "#5c5f63",
    GRID: "#34373b",
    PAPER: "#17191c",
    RAISES: "#5aa2e0",
    LOWERS: "#ec6f62",
    CONDITION_COLOURS["clean"]: "#a0a5ab",
    CONDITION_COLOURS["instructed"]: "#4aa3df",
    CONDITION_COLOURS["revealing"]: "#2fbf95",
}
"""What stands for a colour on dark paper; colours that are not here are seen on both (3 : 1)."""

_ON_PAPER = (".scatterlayer", ".barlayer", ".hoverlayer", ".shapelayer")
"""Where plotly's white is the paper's; elsewhere it is a colour."""


def colour_of(condition: str, index: int = 0) -> str:
    """The fixed colour of a condition; of anything else, the palette's colour number ``index``."""
    return CONDITION_COLOURS.get(condition, _OTHERS[index % len(_OTHERS)])


def symbol_of(condition: str) -> str:
    """The fixed marker of a condition, a circle for anything else."""
    return _CONDITION_SYMBOLS.get(condition, "circle")


def fade(colour: str, alpha: float) -> str:
    """A ``#rrggbb`` colour as rgba with this opacity (0..1)."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def escape_label(text: str) -> str:
    """User text for a plotly label: plotly would read ``<b>`` as a tag."""
    return escape_html(text, quote=False)


def wrap_label(text: str, width: int = 13) -> str:
    """A label broken into lines, at spaces and underscores."""
    lines = textwrap.wrap(str(text).replace("_", "_ "), width)
    return "<br>".join(escape_label(line.replace("_ ", "_")) for line in lines)


def template() -> go.layout.Template:
    """The plotly template of all figures."""
    axis = {
        "showline": True,
        "linecolor": MUTED,
        "linewidth": 1,
        "ticks": "outside",
        "tickcolor": MUTED,
        "ticklen": 4,
        "gridcolor": GRID,
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 10, "font": {"size": 13}},
    }
    layout = go.Layout(
        font={"family": FONT, "size": 12, "color": INK},
        title={
            "font": {"size": 16, "color": INK},
            "subtitle": {"font": {"size": 12, "color": MUTED}},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 2, "t": 14},
            "y": 1,
        },
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        colorway=list(_OTHERS),
        margin={"l": 70, "r": 30, "t": 90, "b": 60},
        xaxis=axis,
        yaxis=axis,
        hoverlabel={"bgcolor": PAPER, "bordercolor": FAINT, "font": {"family": FONT, "color": INK}},
        legend={
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
        },
        colorscale={"diverging": DIVERGING, "sequential": SEQUENTIAL},
    )
    return go.layout.Template(layout=layout)


def dark_css(scope: str) -> str:
    """Rules that show plotly figures in dark colours inside ``scope``, a selector, on a screen.

    Print stays light.
    """
    plot = f"{scope} .js-plotly-plot"
    rules = [
        f"{plot} .main-svg{{background:transparent !important}}",
        *(rule for light in _DARK for rule in _exchanged(plot, light)),
    ]
    return f"@media screen{{{''.join(rules)}}}"


def dark_page_css(scope: str) -> str:
    """:func:`dark_css` for a page of our own: it is dark, and has the theme's colours by name.

    These are the custom properties ``--paper``, ``--ink``, ``--muted``, ``--faint`` and ``--rule``.
    """
    named = {"paper": PAPER, "ink": INK, "muted": MUTED, "faint": FAINT, "rule": GRID}
    properties = "".join(f"--{name}:{_DARK[colour]};" for name, colour in named.items())
    return f"@media screen{{{scope}{{color-scheme:dark;{properties}}}}}{dark_css(scope)}"


def _exchanged(plot: str, light: str) -> Iterator[str]:
    """Rules for one colour, found in the style that plotly writes on every element."""
    rgb = ", ".join(str(int(light[k : k + 2], 16)) for k in (1, 3, 5))
    for what in ("fill", "stroke"):
        element = f'[style*="{what}: rgb({rgb})"]'
        where = [plot]
        if light == PAPER:
            where = [f"{plot} {layer}" for layer in _ON_PAPER]
            yield f"{plot} .bg{element}{{{what}:transparent !important}}"
        places = ",".join(f"{place} {element}" for place in where)
        yield f"{places}{{{what}:{_DARK[light]} !important}}"


def apply_style(
    figure: go.Figure,
    *,
    title: str,
    subtitle: tuple[str, ...] = (),
    height: int,
    panels: bool = False,
    legend: bool = False,
    above: int = 0,
) -> go.Figure:
    """The figure with the template, a title, the lines of a subtitle, and a height in pixels.

    ``panels`` makes room for the titles of subplots, ``legend`` for a legend along the bottom, ``above``
    is room over the plot in pixels.
    """
    lines = [
        escape_label(line)
        for part in subtitle
        if part
        for line in textwrap.wrap(part, _LINE, break_on_hyphens=False)
    ]
    figure.update_layout(
        template=template(),
        title={"text": escape_label(title), "subtitle": {"text": "<br>".join(lines)}},
        height=height,
        margin={"t": 64 + 18 * len(lines) + 22 * panels + above, "b": 95 if legend else 60},
    )
    if panels:
        figure.update_annotations(font={"size": 13, "color": INK})
    return figure
