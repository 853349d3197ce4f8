"""Grids: what a sweep says per layer and place.

Rows are layers, ascending upwards; axes are numbered and labelled, so equal names stay two columns.
White is no effect. Grey is no value (nothing was aligned to copy), or none that may be read: of the
column's tokens some have no counterpart, and how many stands in its label. A pale map is one of no
effect: the interval of the whole effect contains 0. Outlined cells differ from zero.

Two maps are compared on one scale: ``heatmap(a, limit=limit)`` with ``limit = common_limit(a, b)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from interp.errors import InterpError
from interp.patching.localising import is_ceiling
from interp.patching.metrics import METRICS
from interp.patching.positions import ALL
from interp.patching.result import SweepResult
from interp.viz.drawn_cells import DrawnCells, drawn_cells
from interp.viz.outlines import outline
from interp.viz.places import draw_brackets, position_label, spans_of
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
"""From so many columns on cells touch."""

_PALE = 0.45
"""Opacity of a map of no effect."""

_NAMED_CELLS = 10
_MOST_NAMED_HEADS = 16
_AXIS_TITLES = {"pos": "token of source → destination, and the destination's position"}


def heatmap(
    result: SweepResult,
    *,
    value: Literal["effect", "share"] = "effect",
    significance: bool = True,
    limit: float | None = None,
    n_maps: int = 1,
) -> go.Figure:
    """A sweep as layer (upwards) x span, position or head, RdBu around 0.

    Blue: the patch raises the metric (brings the better answer). ``value="effect"`` is mean(patched
    - destination) in the metric's unit; ``"share"`` divides it by mean(source - destination): 0 is
    the destination, 1 the source. The hover shows the clustered 95 % interval and the family-wise
    p; cells with p < .05 (two-way max-t over all cells) are outlined, and where larger ones are not,
    the subtitle says why. With a single cluster there is neither interval nor test, and the subtitle
    says so. The map is pale where the interval of the whole effect (source - destination) contains 0:
    there is nothing to divide up. Positions carry the tokens of both prompts, and brackets their spans.

    Grey cells have no value, because nothing is aligned there, or are patched in part between prompts of
    unequal length: "7 of 9 tokens not patched" stands under the column, and the value in the hover and
    the table alone. "(ceiling)" stands where everything is copied and gives the source run, as checked.
    A share without a defined denominator leaves the grid empty, with the reason.

    A ``[layer, head, pos]`` sweep is drawn as layer x head: each cell shows the position of its
    head with the largest |mean effect|, named in the hover and, for the largest cells, on the map.

    Args:
        result: one metric of a sweep.
        value: what a cell shows.
        significance: outline cells; False for a map that is shown but not interpreted.
        limit: the value of the darkest colours; None takes the largest there is. Give it to compare maps
            (:func:`common_limit`).
        n_maps: how many maps are looked at together, which p is corrected for as well (Bonferroni).

    Raises:
        InterpError: a limit that is not positive, fewer than one map, several metrics (choose one,
            ``result["margin"]``), or a single axis.
    """
    if len(result.axis_names) < 2:
        raise InterpError(
            f"heatmap draws two axes, this sweep is [{', '.join(result.axis_names)}]: draw its "
            "layer_profile"
        )
    if limit is not None and not (np.isfinite(limit) and limit > 0):
        raise InterpError(f"limit is {limit}: give a number above 0, or None")
    if n_maps < 1:
        raise InterpError(f"n_maps is {n_maps}: count at least this map")
    grid = drawn_cells(result, value)
    unit = unit_of(result) if value == "effect" else "share"
    gap = 1 if len(grid.columns) < _WIDE else 0
    pale = total_contains_zero(result)
    figure = go.Figure(
        go.Heatmap(
            z=grid.z,
            **diverging(grid.z, limit),
            opacity=_PALE if pale else 1,
            colorbar={"title": {"text": escape_label(unit)}, "thickness": 14, "outlinewidth": 0},
            customdata=_hover_columns(grid, len(result.pair_labels)),
            hovertemplate=(
                f"{result.axis_names[0]} %{{customdata[2]}}, %{{customdata[0]}}<br>"
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
    tested = significance and grid.n_clusters > 1
    if tested:
        outline(figure, grid.significant(n_maps), name="family-wise p < .05")
    if grid.picked is not None and len(grid.columns) <= _MOST_NAMED_HEADS:
        _name_largest(figure, grid.z, grid.picked)
    _label_grid(figure, result, grid)
    _label_columns(figure, result, grid)
    by_position = result.axis_names[1] == "pos"
    above = draw_brackets(figure, spans_of(result)) if by_position else 0
    if undefined:
        _say(figure, f"{value} undefined: {grid.reason.flat[0]}")
    return apply_style(
        figure,
        title=result.title,
        subtitle=(
            sample_line(result) + (_tested_line(grid, n_maps) if tested else ""),
            _pale_line() if pale else "",
            _unequal_line(grid, n_maps) if tested else "",
            _reading_line(grid, bool(missing.any())),
            *result.notes,
        ),
        height=max(380, 190 + 15 * len(grid.rows) + 90 * by_position) + above,
        above=above,
    )


def common_limit(*results: SweepResult) -> float:
    """The largest |mean effect| of some sweeps: the ``limit`` that puts their maps on one scale.

    Cells that are patched in part do not count, as they are not coloured.

    Raises:
        InterpError: no sweep, or one of several metrics.
    """
    if not results:
        raise InterpError("no sweep to find a common limit of: give at least one")
    return max(diverging(drawn_cells(result, "effect").z)["zmax"] for result in results)


def total_contains_zero(result: SweepResult) -> bool:
    """Whether the interval of the whole effect (source - destination) contains 0; False without one."""
    total = result.total()
    return bool(total.low <= 0 <= total.high)


def unit_of(result: SweepResult) -> str:
    """Nats for the margin and the log-probability, for the option margin per token; a metric of the
    caller's goes by its name."""
    name = result.metric_names[0]
    if name == "option_margin":
        return "nats per token"
    return "nats" if name in METRICS else name


def cell_name(row: Mapping[Any, Any]) -> str:
    """A cell's name for a figure or a table, ``L9H6 ·he 41``, from its place in the grid."""
    head = f"H{row['head']}" if "head" in row else ""
    where = position_label(row["pos"]) if "pos" in row else row.get("span", "")
    last = row.get("last_layer", row["layer"])  # of a window
    layer = row["layer"] if last == row["layer"] else f"{row['layer']}-{last}"
    return f"L{layer}{head} {where}".strip()


def diverging(z: npt.NDArray[np.float64], limit: float | None = None) -> dict[str, Any]:
    """RdBu, symmetric around 0, darkest at ``limit`` or else at the largest value."""
    finite = np.abs(z[np.isfinite(z)])
    if limit is not None:
        return {"colorscale": DIVERGING, "zmid": 0.0, "zmin": -limit, "zmax": limit}
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return {"colorscale": DIVERGING, "zmid": 0.0, "zmin": -top, "zmax": top}


def _hover_columns(grid: DrawnCells, n_pairs: int) -> list[list[list[str]]]:
    def facts(i: int, j: int) -> str:
        where = "" if grid.picked is None else f" at {escape_label(grid.picked[i, j])}"
        some = "" if grid.n[i, j] == n_pairs else f"<br>{grid.n[i, j]} of {n_pairs} pairs"
        if np.isnan(grid.low[i, j]):
            return f"{where}<br>{grid.reason[i, j]}{some}"
        p = grid.p[i, j]
        corrected = "" if np.isnan(p) else f"<br>family-wise p = {p:.3f}"
        return f"{where} [{grid.low[i, j]:.3f}, {grid.high[i, j]:.3f}]{corrected}{some}"

    names = [escape_label(name) for name in grid.columns]
    rows = [escape_label(name) for name in grid.rows]
    return [
        [[name, facts(i, j), row] for j, name in enumerate(names)] for i, row in enumerate(rows)
    ]


def _partly_columns(grid: DrawnCells) -> npt.NDArray[np.object_]:
    """What the hover says of cells that are patched in part."""
    names = [escape_label(name) for name in grid.columns]
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


def _name_largest(
    figure: go.Figure, z: npt.NDArray[np.float64], picked: npt.NDArray[np.object_]
) -> None:
    """The position's name on the largest cells, in white where the cell is dark."""
    size = np.nan_to_num(np.abs(z), nan=0.0)
    order = np.argsort(-size, axis=None, kind="stable")[:_NAMED_CELLS]
    for i, j in zip(*np.unravel_index(order, z.shape), strict=True):
        if size[i, j] > 0:
            figure.add_annotation(
                x=int(j), y=int(i), text=escape_label(picked[i, j]), showarrow=False,
                font={"size": 9, "color": ON_DARK_CELL if size[i, j] > 0.6 * size.max() else ON_MAP},
            )  # fmt: skip


def _label_grid(figure: go.Figure, result: SweepResult, grid: DrawnCells) -> None:
    name = result.axis_names[1]
    by_position = name == "pos"
    if name == "span":
        ticks = numbered_ticks(grid.columns, most=len(grid.columns))
        ticks["ticktext"] = [wrap_label(column, 16) for column in grid.columns]
    else:
        ticks = numbered_ticks(grid.columns, _MOST_POSITION_TICKS, from_end=by_position)
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


def _label_columns(figure: go.Figure, result: SweepResult, grid: DrawnCells) -> None:
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


def _tested_line(grid: DrawnCells, n_maps: int) -> str:
    """Whether cells are outlined, and for what is corrected; to follow the sample."""
    if grid.partly.all():
        return ""
    over = "" if n_maps == 1 else f" over {n_maps} maps"
    if grid.significant(n_maps).any():
        return f"; outlined: family-wise p < .05{over}"
    return f"; no cell reaches family-wise p < .05{over}"


def _pale_line() -> str:
    return "pale: the interval of the whole effect contains 0, so there is nothing to divide up"


def _unequal_line(grid: DrawnCells, n_maps: int) -> str:
    """Why large cells carry no outline beside smaller ones that do; empty where that is not so."""
    outlined = grid.significant(n_maps)
    size = np.nan_to_num(np.abs(grid.z), nan=0.0)
    others = size[grid.localising & ~outlined]
    if not outlined.any() or not others.size or others.max() <= np.median(size[outlined]):
        return ""
    return (
        f"larger cells without an outline vary more between the {grid.n_clusters} clusters: their size "
        "is not certain"
    )


def _reading_line(grid: DrawnCells, grey: bool) -> str:
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
