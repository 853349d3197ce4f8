"""The views of a finished run: its own results as figures, without a model.

Any dataclass whose fields hold the library's results will do, however it came about: an analysis's
result as its folder gives it back, a dataclass of such results, or a result by itself. Nothing is
imported from the analyses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import plotly.graph_objects as go

from interp.behaviour import OptionScores
from interp.directions import DirectionStack, Projections
from interp.errors import InterpError
from interp.explore.views import Drawn
from interp.lens import LensConditions, LensTrajectory
from interp.patching import SweepResult
from interp.viz import (
    cell_effects,
    direction_auc,
    effects,
    heatmap,
    layer_profile,
    lens_levels,
    lens_margin,
    levels,
    projection_shift,
)
from interp.viz.grids import cell_name, sample_line

_DEPTH = 3


@dataclass(frozen=True, eq=False)
class SavedView:
    """One result of a run: what it is called, its figure's function, and how code reaches it."""

    title: str
    value: Any
    reached: str
    function: Callable[[Any], go.Figure]

    def draw(self) -> Drawn:
        """Its figure."""
        name = self.function.__name__
        code = f"import interp\nfigure = interp.viz.{name}({self.reached})\nfigure"
        return Drawn(self.function(self.value), code)

    @property
    def is_map(self) -> bool:
        """Whether its cells can be looked into."""
        return self.function is heatmap

    def cell(self, layer: int, column: int) -> int:
        """The number of a cell of the map among those of the sweep.

        Raises:
            InterpError: the map shows two of three axes, or has no such cell.
        """
        result: SweepResult = self.value
        sizes = [len(result.axis_labels[name]) for name in result.axis_names]
        if len(sizes) != 2:
            raise InterpError(
                "this map shows the largest position of every head: its cells are many"
            )
        if not (0 <= layer < sizes[0] and 0 <= column < sizes[1]):
            raise InterpError(f"no cell {layer}, {column}; the map has {sizes[0]} x {sizes[1]}")
        return layer * sizes[1] + column

    def draw_cell(self, layer: int, column: int) -> Drawn:
        """One cell pair by pair, with its mean in one line."""
        number, result = self.cell(layer, column), self.value
        row = result.top(len(result.index_df))
        name = result.cell_labels()[number]
        found = row[row["label"] == name].iloc[0]
        said = f"{cell_name(result.index_df.astype(str).iloc[number].to_dict())}: mean effect "
        said += f"{found['estimate']:.3f}"
        if found["low"] == found["low"]:  # not NaN
            said += f" [{found['low']:.3f}, {found['high']:.3f}]"
            said += f", family-wise p = {found['p_corrected']:.3f}"
        code = f"import interp\nfigure = interp.viz.cell_effects({self.reached}, {number})\nfigure"
        return Drawn(cell_effects(result, number), code, f"{said}; {sample_line(result)}")


def saved_views(result: Any) -> list[SavedView]:
    """Every result that is found in a dataclass, as a view.

    Raises:
        InterpError: there is none; says what is looked for.
    """
    found = list(_walk(result, "result", "", _DEPTH))
    if not found:
        raise InterpError(
            f"nothing to explore in a {type(result).__name__}: give a model with items or a pair, or a "
            "finished run's result (load(folder)) that holds sweeps, a lens, scores or directions"
        )
    return found


def run_line(result: Any) -> str:
    """The model that the run was of, in one line, where the result says it."""
    return str(getattr(getattr(result, "card", None), "one_line", ""))


def _walk(value: Any, reached: str, title: str, depth: int) -> Iterator[SavedView]:
    own = _view(value, reached, title)
    if own is not None:
        yield own
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            named = ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)
            yield from _walk(inner, f"{reached}[{key!r}]", f"{title} {named}".strip(), depth)
    elif is_dataclass(value) and not isinstance(value, type) and depth:
        for field in fields(value):
            name = field.name
            inner_title = title if name == "results" else f"{title} {name}".strip()
            yield from _walk(getattr(value, name), f"{reached}.{name}", inner_title, depth - 1)


def _view(value: Any, reached: str, title: str) -> SavedView | None:
    if isinstance(value, SweepResult):
        if value.has_metric_axis:
            return None
        draw = heatmap if len(value.axis_names) > 1 else layer_profile
        return SavedView(value.title or title or "patching", value, reached, draw)
    for kind, function in _FIGURES:
        if isinstance(value, kind):
            return SavedView(title or kind.__name__, value, reached, function)
    if isinstance(value, OptionScores):
        contrast = len(value.conditions) > 1
        return SavedView(title or "scores", value, reached, effects if contrast else levels)
    return None


_FIGURES: tuple[tuple[type, Callable[[Any], go.Figure]], ...] = (
    (LensConditions, lens_levels),
    (LensTrajectory, lens_margin),
    (DirectionStack, direction_auc),
    (Projections, projection_shift),
)
