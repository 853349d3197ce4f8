"""Positions on the axis of a map: the tokens of both prompts, and the spans that they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

import plotly.graph_objects as go

from interp.patching.result import SweepResult
from interp.viz.theme import MUTED, escape_label

_TOKEN_WIDTH, _PAIR_WIDTH = 14, 10
_POSITION = re.compile(r"(.*)_(\d+)", re.DOTALL)
_IN_SPAN = re.compile(r"(.+) (\+\d+|last)")
_MARKS = str.maketrans({"\n": "⏎", "\r": "␍", "\t": "⇥", " ": "·"})

_PLOT_WIDTH, _LETTER = 720, 6.0
"""About how many pixels a map and a letter above it are wide."""


def position_label(label: str) -> str:
    """A position's label with white space made visible: ``" he_41"`` becomes ``"·he 41"``.

    Line breaks are ⏎, tabs ⇥, and long tokens are cut. A label that is not ``token_index`` is left
    as it is.
    """
    found = _POSITION.fullmatch(label)
    if found is None:
        return label
    return f"{visible(found[1])} {found[2]}"


def visible(token: str, width: int = _TOKEN_WIDTH) -> str:
    """A token for an axis: white space as signs, cut to ``width`` characters."""
    token = token.translate(_MARKS)
    token = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in token)
    return token if len(token) <= width else f"{token[: width - 1]}…"


def place_labels(result: SweepResult) -> list[str]:
    """Every position with the source's and the destination's token, ``·moral → ·long 41``.

    Equal tokens stand once. Where pairs differ, and nothing names a token, the position is alone.
    """
    labels = result.axis_labels["pos"]
    if not result.places:
        return [position_label(label) for label in labels]
    return [
        _place_label(label, place.source, place.destination)
        for label, place in zip(labels, result.places, strict=True)
    ]


def _place_label(label: str, source: str | None, destination: str | None) -> str:
    in_span = _IN_SPAN.fullmatch(label)
    where = in_span[2] if in_span else label.rpartition("_")[2]
    if destination is None or source is None:  # pairs differ, or nothing is aligned
        return in_span[2] if in_span else position_label(label)
    if source == destination:
        return f"{visible(destination)} {where}"
    return f"{visible(source, _PAIR_WIDTH)} → {visible(destination, _PAIR_WIDTH)} {where}"


def spans_of(result: SweepResult) -> list[str]:
    """The span of every position; empty where it has none or none is known."""
    if result.places:
        return [place.span for place in result.places]
    found = [_IN_SPAN.fullmatch(label) for label in result.axis_labels["pos"]]
    return [one[1] if one else "" for one in found]


def draw_brackets(figure: go.Figure, spans: Sequence[str]) -> int:
    """A bracket with its name above the columns of every span; returns the pixels that takes."""
    tallest = 0.0
    for name, first, last in _runs(spans):
        fits = len(name) * _LETTER <= (last - first + 1) / len(spans) * _PLOT_WIDTH
        tallest = max(tallest, 12 if fits else len(name) * _LETTER)
        left, right = first - 0.42, last + 0.42
        figure.add_shape(
            type="path",
            path=f"M {left} 3 L {left} 8 L {right} 8 L {right} 3",
            xref="x",
            yref="paper",
            ysizemode="pixel",
            yanchor=1,
            line={"color": MUTED, "width": 1},
        )
        figure.add_annotation(
            x=(first + last) / 2,
            y=1,
            yref="paper",
            yanchor="bottom",
            yshift=9,
            text=escape_label(name),
            textangle=0 if fits else -90,
            showarrow=False,
            font={"size": 10, "color": MUTED},
        )
    return round(tallest + 12) if tallest else 0


def _runs(spans: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Every span with its first and last column."""
    at = 0
    for name, run in groupby(spans):
        n = len(list(run))
        if name:
            yield name, at, at + n - 1
        at += n
