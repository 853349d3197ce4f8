"""Grids: what a sweep says per layer and place.

Rows are layers, ascending upwards; axes are numbered and labelled, so equal names stay two columns.
White is no effect. Grey is no value (nothing was aligned to copy), or none that may be read: of the
column's tokens some have no counterpart, and how many stands in its label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from interp.errors import InterpError
from interp.patching.localising import is_ceiling
from interp.patching.metrics import METRICS
from interp.patching.positions import ALL
from interp.patching.result import SweepResult
from interp.stats import ALPHA
from interp.viz.theme import (
    DIVERGING,
    FAINT,
    MUTED,
    ON_DARK_CELL,
    ON_MAP,
    PAPER,
    apply_style,
    escape_label,
    wrap_label,
)

_MOST_TICKS = 16
_MOST_POSITION_TICKS = 60
_WIDE = 60
"""From so many columns on cells touch and dots are small."""

_NAMED_CELLS = 10
_MOST_NAMED_HEADS = 16
_TOKEN_WIDTH = 14
_POSITION = re.compile(r"(.*)_(\d+)", re.DOTALL)
_MARKS = str.maketrans({"\n": "⏎", "\r": "␍", "\t": "⇥", " ": "·"})
_AXIS_TITLES = {"pos": "position of the destination"}


def heatmap(
    result: SweepResult,
    *,
    value: Literal["effect", "share"] = "effect",
    significance: bool = True,
) -> go.Figure:
    """A sweep as layer (upwards) x span, position or head, RdBu around 0.

    Blue: the patch raises the metric (brings the better answer). ``value="effect"`` is mean(patched
    - destination) in the metric's unit; ``"share"`` divides it by mean(source - destination): 0 is
    the destination, 1 the source. The hover shows the clustered 95 % interval and the family-wise
    p; dots mark cells with p < .05 (two-way max-t over all cells). With a single cluster there is
    neither interval nor test, and the subtitle says so. Grey cells have no value, because nothing
    is aligned there, or are patched in part between prompts of unequal length: "7 of 9 tokens not
    patched" stands under the column, and the value in the hover and the table alone. "(ceiling)" stands
    where everything is copied and gives the source run, as checked. A share without a defined
    denominator leaves the grid empty, with the reason.

    A ``[layer, head, pos]`` sweep is drawn as layer x head: each cell shows the position of its
    head with the largest |mean effect|, named in the hover and, for the largest cells, on the map.

    Raises:
        InterpError: several metrics (choose one, ``result["margin"]``), or a single axis.
    """
    if len(result.axis_names) < 2:
        raise InterpError(
            f"heatmap draws two axes, this sweep is [{', '.join(result.axis_names)}]: draw its "
            "layer_profile"
        )
    grid = _grid_of(result, value)
    unit = unit_of(result) if value == "effect" else "share"
    n_columns = len(grid.columns)
    gap = 1 if n_columns < _WIDE else 0
    figure = go.Figure(
        go.Heatmap(
            z=grid.z,
            **diverging(grid.z),
            colorbar={"title": {"text": escape_label(unit)}, "thickness": 14, "outlinewidth": 0},
            customdata=_hover_columns(grid, len(result.pair_labels)),
            hovertemplate=(
                f"{result.axis_names[0]} %{{y}}, %{{customdata[0]}}<br>"
                f"{value} %{{z:.3f}} {escape_label(unit) if value == 'effect' else ''}%{{customdata[1]}}"
                "<extra></extra>"
            ),
            hoverongaps=False,
            xgap=gap,
            ygap=gap,
        )
    )
    undefined = bool(np.isnan(grid.z).all()) and not grid.partly.any()
    missing = np.zeros_like(grid.partly) if undefined else np.isnan(grid.z) & ~grid.partly
    if missing.any():
        _grey(figure, missing, gap, "nothing aligned", "nothing aligned to copy")
    if grid.partly.any():
        said = _partly_columns(grid)
        _grey(figure, grid.partly, gap, "patched in part", "%{customdata[0]}", said)
    if significance and grid.n_clusters > 1:
        _mark(figure, grid.p < ALPHA, small=n_columns >= _WIDE)
    if grid.picked is not None and n_columns <= _MOST_NAMED_HEADS:
        _name_largest(figure, grid.z, grid.picked)
    _label_grid(figure, result, grid)
    _label_columns(figure, result, grid)
    if undefined:
        _say(figure, f"{value} undefined: {grid.reason.flat[0]}")
    return apply_style(
        figure,
        title=result.title,
        subtitle=(
            _sample_line(result, grid, significance),
            _reading_line(grid, bool(missing.any())),
            *result.notes,
        ),
        height=max(380, 190 + 15 * len(grid.rows) + 50 * (result.axis_names[-1] == "pos")),
    )


def unit_of(result: SweepResult) -> str:
    """Nats for the margin and the log-probability, for the option margin per token; a metric of the
    caller's goes by its name."""
    name = result.metric_names[0]
    if name == "option_margin":
        return "nats per token"
    return "nats" if name in METRICS else name


def position_label(label: str) -> str:
    """A position's label with white space made visible: ``" he_41"`` becomes ``"·he 41"``.

    Line breaks are ⏎, tabs ⇥, and long tokens are cut. A label that is not ``token_index`` is left
    as it is.
    """
    found = _POSITION.fullmatch(label)
    if found is None:
        return label
    token = found[1].translate(_MARKS)
    token = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in token)
    cut = token if len(token) <= _TOKEN_WIDTH else f"{token[: _TOKEN_WIDTH - 1]}…"
    return f"{cut} {found[2]}"


def cell_name(row: Mapping[Any, Any]) -> str:
    """A cell's name for a figure or a table, ``L9H6 ·he 41``, from its place in the grid."""
    head = f"H{row['head']}" if "head" in row else ""
    where = position_label(row["pos"]) if "pos" in row else row.get("span", "")
    return f"L{row['layer']}{head} {where}".strip()


@dataclass(frozen=True, eq=False)
class _Grid:
    """Two axes of a sweep, ``[row, column]``; ``picked`` names the position each cell shows."""

    rows: Sequence[str]
    columns: Sequence[str]
    z: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    reason: npt.NDArray[np.object_]
    n: npt.NDArray[np.int64]
    p: npt.NDArray[np.float64]
    n_clusters: int
    partly: npt.NDArray[np.bool_]
    """Cells that are patched in part: no value, significance or colour of theirs is shown."""
    measured: npt.NDArray[np.float64]
    """Their values, and those of all others."""
    counts: npt.NDArray[np.object_]
    """Per cell ``7 of 9 tokens not patched``, or nothing."""
    picked: npt.NDArray[np.object_] | None


def _grid_of(result: SweepResult, value: str) -> _Grid:
    interval = result.effect_interval() if value == "effect" else result.share()
    test = result.max_t()
    names = ("estimate", "low", "high", "reason", "n")
    fields = [np.asarray(getattr(interval, name)) for name in names]
    fields.append(np.asarray(test.p_corrected, dtype=float))
    fields = [np.broadcast_to(values, fields[0].shape) for values in fields]
    partly = result.partly_patched().reshape(fields[0].shape)
    # what is patched in part is neither coloured nor marked nor picked as a head's largest position
    shown = [np.where(partly, np.nan, values) for values in (fields[0], fields[-1])]
    fields = [shown[0], *fields[1:-1], shown[1], partly, fields[0], _counts(result)]
    picked = None
    if fields[0].ndim == 3:
        at = np.nan_to_num(np.abs(fields[0]), nan=-1.0).argmax(axis=-1)
        fields = [np.take_along_axis(values, at[..., None], -1)[..., 0] for values in fields]
        picked = np.array(result.axis_labels[result.axis_names[2]], dtype=object)[at]
    rows, columns = (result.axis_labels[name] for name in result.axis_names[:2])
    z, low, high, reason, n, p, partly, measured, counts = fields
    reason, n_clusters = reason.astype(object), len(set(result.clusters))
    return _Grid(
        rows, columns, z, low, high, reason, n, p, n_clusters, partly, measured, counts, picked
    )


def _counts(result: SweepResult) -> npt.NDArray[np.object_]:
    """What is not patched of each cell's column, in the shape of the grid."""
    columns = result.columns_of_cells()
    said = np.array([result.not_patched(k) for k in range(int(columns.max()) + 1)], dtype=object)
    return said[columns].reshape(result.values.shape[:-1])


def diverging(z: npt.NDArray[np.float64]) -> dict[str, Any]:
    """RdBu, symmetric around 0."""
    finite = np.abs(z[np.isfinite(z)])
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return {"colorscale": DIVERGING, "zmid": 0.0, "zmin": -top, "zmax": top}


def _hover_columns(grid: _Grid, n_pairs: int) -> list[list[list[str]]]:
    def facts(i: int, j: int) -> str:
        where = (
            "" if grid.picked is None else f" at {escape_label(position_label(grid.picked[i, j]))}"
        )
        some = "" if grid.n[i, j] == n_pairs else f"<br>{grid.n[i, j]} of {n_pairs} pairs"
        if np.isnan(grid.low[i, j]):
            return f"{where}<br>{grid.reason[i, j]}{some}"
        p = grid.p[i, j]
        corrected = "" if np.isnan(p) else f"<br>family-wise p = {p:.3f}"
        return f"{where} [{grid.low[i, j]:.3f}, {grid.high[i, j]:.3f}]{corrected}{some}"

    names = [escape_label(position_label(name)) for name in grid.columns]
    return [[[name, facts(i, j)] for j, name in enumerate(names)] for i in range(len(grid.z))]


def _partly_columns(grid: _Grid) -> npt.NDArray[np.object_]:
    """What the hover says of cells that are patched in part."""
    names = [escape_label(position_label(name)) for name in grid.columns]
    return np.array(
        [
            [
                f"{names[j]}: {grid.counts[i, j]}<br>value {grid.measured[i, j]:.3f}, which is not "
                "that of the whole"
                for j in range(len(names))
            ]
            for i in range(len(grid.rows))
        ],
        dtype=object,
    )


def _grey(
    figure: go.Figure,
    where: npt.NDArray[np.bool_],
    gap: int,
    name: str,
    hover: str,
    said: npt.NDArray[np.object_] | None = None,
) -> None:
    figure.add_trace(
        go.Heatmap(
            z=np.where(where, 0.0, np.nan),
            colorscale=[[0, FAINT], [1, FAINT]],
            showscale=False,
            name=name,
            customdata=None if said is None else said[..., None],
            hovertemplate=f"{hover}<extra></extra>",
            hoverongaps=False,
            xgap=gap,
            ygap=gap,
        )
    )


def _mark(figure: go.Figure, significant: npt.NDArray[np.bool_], *, small: bool) -> None:
    y, x = np.nonzero(significant)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            marker={
                "size": 3 if small else 5,
                "color": ON_MAP,
                "line": {"color": ON_DARK_CELL, "width": 0 if small else 1},
            },
            name="family-wise p < .05",
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _name_largest(
    figure: go.Figure, z: npt.NDArray[np.float64], picked: npt.NDArray[np.object_]
) -> None:
    """The position's name on the largest cells, in white where the cell is dark."""
    size = np.nan_to_num(np.abs(z), nan=0.0)
    order = np.argsort(-size, axis=None, kind="stable")[:_NAMED_CELLS]
    for i, j in zip(*np.unravel_index(order, z.shape), strict=True):
        if size[i, j] > 0:
            figure.add_annotation(
                x=int(j), y=int(i), text=escape_label(position_label(picked[i, j])), showarrow=False,
                font={"size": 9, "color": ON_DARK_CELL if size[i, j] > 0.6 * size.max() else ON_MAP},
            )  # fmt: skip


def _label_grid(figure: go.Figure, result: SweepResult, grid: _Grid) -> None:
    name = result.axis_names[1]
    by_position = name == "pos"
    if name == "span":
        ticks = numbered_ticks(grid.columns, most=len(grid.columns))
        ticks["ticktext"] = [wrap_label(column, 16) for column in grid.columns]
    else:
        labels = [position_label(column) for column in grid.columns]
        ticks = numbered_ticks(labels, _MOST_POSITION_TICKS, from_end=by_position)
    figure.update_xaxes(
        title=_AXIS_TITLES.get(name, name),
        showgrid=False,
        tickangle=-90 if by_position else 0,
        tickfont={"size": 9} if by_position else None,
        **ticks,
    )
    figure.update_yaxes(
        title=escape_label(result.axis_names[0]), showgrid=False, **numbered_ticks(grid.rows)
    )


def numbered_ticks(
    labels: Sequence[str], most: int = _MOST_TICKS, *, from_end: bool = False
) -> dict[str, Any]:
    """Numbered ticks of at most ``most`` rows: equal labels would be merged by plotly.

    ``from_end``: the last row has one, where it is the position that is read.
    """
    step = -(-len(labels) // most)
    chosen = range((len(labels) - 1) % step if from_end else 0, len(labels), step)
    return {
        "tickvals": list(chosen),
        "ticktext": [escape_label(labels[k]) for k in chosen],
        "range": [-0.5, len(labels) - 0.5],
    }


def _label_columns(figure: go.Figure, result: SweepResult, grid: _Grid) -> None:
    """Spans with what is not patched of them; a gap before everything, which is no span.

    It is called the ceiling where it is one: where it gives the source run.
    """
    if result.axis_names[1] != "span":
        return
    labels = [wrap_label(name, 16) for name in grid.columns]
    labels = [
        f"{label}<br><i>{wrap_label(count, 16)}</i>" if count else label
        for label, count in zip(labels, grid.counts[0], strict=True)
    ]
    if ALL in grid.columns and len(labels) > 1:
        k = list(grid.columns).index(ALL)
        for edge in {k - 0.5, k + 0.5} - {-0.5, len(labels) - 0.5}:
            figure.add_vline(x=edge, line={"color": PAPER, "width": 8})
        if is_ceiling(result).any():
            labels[k] += "<br>(ceiling)"
    figure.update_xaxes(ticktext=labels)


def sample_line(result: SweepResult) -> str:
    """How many pairs and clusters, and the effect there is to explain, in its unit."""
    n, n_clusters = len(result.pair_labels), len(set(result.clusters))
    sample = f"{n} pair{'s' * (n != 1)}, {n_clusters} cluster{'s' * (n_clusters != 1)}"
    total, unit = result.total(), unit_of(result)
    if n_clusters < 2:
        return f"{sample}: no interval, no test; source - destination = {total.estimate:.3f} {unit}"
    return (
        f"{sample}; source - destination = {total.estimate:.3f} "
        f"[{total.low:.3f}, {total.high:.3f}] {unit}"
    )


def _sample_line(result: SweepResult, grid: _Grid, significance: bool) -> str:
    line = sample_line(result)
    if not significance or grid.n_clusters < 2:
        return line
    reached = bool((grid.p < ALPHA).any())
    if grid.partly.all():
        return line
    return f"{line}; " + (
        "dots: family-wise p < .05" if reached else "no cell reaches family-wise p < .05"
    )


def _reading_line(grid: _Grid, grey: bool) -> str:
    parts = []
    if grid.picked is not None:
        parts.append("each cell: the position of its head with the largest |mean effect|")
    if grey:
        parts.append("grey: nothing aligned to copy")
    if grid.partly.any():
        every = f" ({grid.counts.flat[0]})" if grid.partly.all() else ""
        parts.append(f"grey: patched in part{every}, not to be read as an effect of the whole")
    return "; ".join(parts)


def _say(figure: go.Figure, text: str) -> None:
    figure.add_annotation(
        text=escape_label(text), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False,
        font={"color": MUTED, "size": 13},
    )  # fmt: skip
