"""Views of the pair when a part is changed: the map, one cell of it, a knockout, a dose of steering."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from interp.activations import read_attention
from interp.directions import Direction
from interp.errors import InterpError
from interp.explore.readings import (
    attention_of,
    both_options,
    layers_of,
    lens_of,
    options_of,
    position_name,
    query_of,
    require_direction,
    require_head,
)
from interp.explore.state import MAP, PAIR, ExplorerState
from interp.explore.views import Drawn, Scene, View, answers_line, call, mapping, names_of
from interp.lens import lens_prompt
from interp.patching import (
    Grid,
    Patch,
    applied,
    blocked_edges,
    cell_patches,
    plan_sweep,
    read_continuation,
    read_options,
    sweep,
)
from interp.patching.metrics import target_of
from interp.patching.plan import default_spans
from interp.patching.positions import positions_of
from interp.patching.sites import HEAD_SITES, KEY_VALUE_SITES, Cells
from interp.prompts import PromptPair
from interp.viz import coloured_tokens, continuations, heatmap, lens_runs, option_probabilities
from interp.viz.grids import position_label

N_NEW = 24
"""Tokens that are generated at most."""

_PATCHES = "patches"


def map_grid(state: ExplorerState) -> Grid:
    """The grid of the map."""
    if state.cells == "layer_head" and state.site not in (*HEAD_SITES, *KEY_VALUE_SITES):
        raise InterpError(f"{state.site} has no heads: choose z, q, k or v, or cells by position")
    return Grid(site=state.site, cells=state.cells)


def draw_map(scene: Scene) -> Drawn:
    """The effect of every cell."""
    state = scene.state
    grid = map_grid(state)
    result = sweep(scene.model, scene.pair, grid=grid, metric=state.metric, progress=scene.progress)
    made = call(
        "interp.sweep", "model", "pair", **_options(grid), metric=state.metric, progress=False
    )
    return Drawn(heatmap(result), scene.code(f"figure = interp.viz.heatmap({made})"))


def map_cost(scene: Scene) -> str:
    """How many cells the map has, and what they cost."""
    return str(plan_sweep(scene.model, scene.pair, grid=map_grid(scene.state)))


def cell_grid(scene: Scene) -> Grid:
    """The grid of the one cell that is looked into.

    Raises:
        InterpError: no cell is chosen, or one that the map does not have.
    """
    state = scene.state
    if state.cell is None:
        raise InterpError("no cell is chosen: click one in the map")
    layer, column = state.cell
    if state.cells == "layer_head":
        return replace(map_grid(state), layers=(layer,), heads=(column,))
    columns = columns_of(scene.pair, state.cells)
    if not 0 <= column < len(columns):
        raise InterpError(f"no column {column}; the map has 0..{len(columns) - 1}")
    if state.cells == "layer_span":
        return replace(map_grid(state), layers=(layer,), spans=(str(columns[column]),))
    return replace(map_grid(state), layers=(layer,), positions=(int(columns[column]),))


def columns_of(pair: PromptPair, cells: Cells) -> list[str] | list[int]:
    """The columns of a map by span (their names) or by position (of the destination)."""
    if cells == "layer_span":
        return default_spans([pair])
    return positions_of(pair, "aligned")[1].tolist()


def cell_title(scene: Scene) -> str:
    """``L3 ·he 17``: the cell that is looked into."""
    grid, prompt = cell_grid(scene), scene.pair.destination
    assert grid.layers is not None
    where = f"L{grid.layers[0]}"
    if grid.heads is not None:
        return f"{where}H{grid.heads[0]} ({grid.site})"
    if grid.spans is not None:
        return f"{where} {grid.spans[0]} ({grid.site})"
    return f"{where} {position_label(prompt.labels[int(grid.positions[0])])} ({grid.site})"


@dataclass(frozen=True, eq=False)
class ChangedRun:
    """A changed run of the destination: its name, patches and dose, and the code of each."""

    name: str
    patches: tuple[Patch, ...] = ()
    patches_code: str = ""
    direction: Direction | None = None
    direction_code: str = ""
    dose: float = 0.0

    @property
    def made(self) -> list[str]:
        """Lines that make the patches, where there are any."""
        return [f"{_PATCHES} = {self.patches_code}"] if self.patches_code else []

    def steers(self) -> bool:
        """Whether states are moved."""
        return self.direction is not None and self.dose != 0

    def steering_code(self) -> str:
        """The context that steers."""
        return f"{self.direction_code}.apply(model, strength={self.dose!r})"


def cell_edit(scene: Scene) -> ChangedRun:
    """The patch of the cell that is looked into."""
    grid = cell_grid(scene)
    code = f"interp.patching.cell_patches(model, pair, grid={_grid_code(grid)})"
    return ChangedRun("patched", cell_patches(scene.model, scene.pair, grid=grid), code)


def own_edit(scene: Scene) -> ChangedRun:
    """The knockout and the dose that are chosen.

    Raises:
        InterpError: nothing is chosen, or a dose without a direction.
    """
    state = scene.state
    if state.blocked == "nothing" and not state.dose:
        raise InterpError("nothing is changed yet: knock out a span or a head, or move the dose")
    patches, code = _blocked(scene)
    if not state.dose:
        return ChangedRun("edited", patches, code)
    direction = require_direction(scene)
    if isinstance(direction, Direction):
        return ChangedRun("edited", patches, code, direction, "direction", state.dose)
    if state.layer not in direction.layers:
        raise InterpError(f"no direction at layer {state.layer}; fitted at {layers_of(direction)}")
    own = direction[state.layer]
    return ChangedRun("edited", patches, code, own, f"direction[{state.layer}]", state.dose)


def _blocked(scene: Scene) -> tuple[tuple[Patch, ...], str]:
    state = scene.state
    if state.blocked == "nothing":
        return (), ""
    function = "interp.patching.blocked_edges"
    if state.blocked == "span":
        patches = blocked_edges(scene.model, scene.pair, to=state.span)
        return patches, call(function, "model", "pair", to=state.span)
    require_head(scene.model, state.layer, state.head)
    grid = Grid(cells="layer_head", layers=(state.layer,), heads=(state.head,))
    patches = blocked_edges(scene.model, scene.pair, to=state.span, grid=grid)
    return patches, f"{function}(model, pair, to={state.span!r}, grid={_grid_code(grid)})"


def draw_edited_options(scene: Scene, edit: ChangedRun) -> Drawn:
    """Every option in both runs and in the changed one."""
    pair, (source, destination) = scene.pair, names_of(scene.pair)
    with _changed(scene, edit):
        edited = read_options(scene.model, pair, patches=edit.patches)
    readings = {
        source: options_of(scene, "source"),
        destination: options_of(scene, "destination"),
        edit.name: edited,
    }
    patches = ", patches=patches" if edit.patches_code else ""
    line = f"edited = interp.patching.read_options(model, pair{patches})"
    shown = mapping({**both_options(pair), edit.name: "edited"})
    return Drawn(
        option_probabilities(readings),
        scene.code(
            *edit.made, *_steered(edit, line), f"figure = interp.viz.option_probabilities({shown})"
        ),
        answers_line({destination: readings[destination], edit.name: edited}),
    )


def draw_edited_continuation(scene: Scene, edit: ChangedRun) -> Drawn:
    """What the destination goes on to say, without the change and with it."""
    pair, destination = scene.pair, names_of(scene.pair)[1]
    plain = scene.read(
        "continuation", lambda: read_continuation(scene.model, pair, max_new_tokens=N_NEW)
    )
    with _changed(scene, edit):
        edited = read_continuation(scene.model, pair, patches=edit.patches, max_new_tokens=N_NEW)
    read = "interp.patching.read_continuation"
    patches = [f"patches={_PATCHES}"] if edit.patches_code else []
    line = f"edited = {call(read, 'model', 'pair', *patches, max_new_tokens=N_NEW)}"
    shown = mapping(
        {destination: call(read, "model", "pair", max_new_tokens=N_NEW), edit.name: "edited"}
    )
    return Drawn(
        continuations({destination: plain, edit.name: edited}),
        scene.code(
            *edit.made, *_steered(edit, line), f"figure = interp.viz.continuations({shown})"
        ),
        "the same" if plain.ids.equal(edited.ids) else "another text, underlined where it parts",
    )


def draw_edited_lens(scene: Scene, edit: ChangedRun) -> Drawn:
    """The lens of both runs and of the changed one."""
    pair, target = scene.pair, target_of(scene.pair)
    source, destination = names_of(pair)
    with _changed(scene, edit), applied(scene.model, edit.patches):
        edited = lens_prompt(scene.model, pair.destination, target)
    readings = {
        source: lens_of(scene, "source"),
        destination: lens_of(scene, "destination"),
        edit.name: edited,
    }
    lens = "interp.lens.lens_prompt"
    shown = {
        source: call(lens, "model", "pair.source", "pair.target"),
        destination: call(lens, "model", "pair.destination", "pair.target"),
        edit.name: "edited",
    }
    line = f"    edited = {lens}(model, pair.destination, pair.target)"
    return Drawn(
        lens_runs(readings),
        scene.code(
            *edit.made, _with(edit), line, f"figure = interp.viz.lens_runs({mapping(shown)})"
        ),
    )


def draw_edited_attention(scene: Scene, edit: ChangedRun) -> Drawn:
    """What one position of the destination attends to in one head, before and after the change."""
    pair, state = scene.pair, scene.state
    require_head(scene.model, state.layer, state.head)
    query, destination = query_of(pair, state.query), names_of(pair)[1]
    before = attention_of(scene, "destination", state.layer)
    with _changed(scene, edit), applied(scene.model, edit.patches):
        after = read_attention(scene.model, pair.destination, layers=[state.layer])
    rows = {
        destination: before.values[0, state.head, query],
        edit.name: after.values[0, state.head, query],
    }
    read = f"interp.activations.read_attention(model, pair.destination, layers=[{state.layer}])"
    place = f".values[0, {state.head}, {query}]"
    shown = mapping({destination: f"before{place}", edit.name: f"after{place}"})
    return Drawn(
        coloured_tokens(pair.destination, rows, scale="sequential", unit="attention"),
        scene.code(
            *edit.made,
            f"before = {read}",
            _with(edit),
            f"    after = {read}",
            f"rows = {shown}",
            "figure = interp.viz.coloured_tokens(pair.destination, rows, scale='sequential', "
            "unit='attention')",
        ),
        f"L{state.layer}H{state.head}: what {position_name(pair.destination, query)} reads",
    )


@contextmanager
def _changed(scene: Scene, edit: ChangedRun) -> Iterator[None]:
    """Inside the context the dose acts."""
    steers = nullcontext()
    if edit.steers():
        assert edit.direction is not None
        steers = edit.direction.apply(scene.model, strength=edit.dose)  # type: ignore[assignment]
    with steers:
        yield


def _steered(edit: ChangedRun, line: str) -> list[str]:
    """A line, inside the context that steers where there is one."""
    return [f"with {edit.steering_code()}:", f"    {line}"] if edit.steers() else [line]


def _with(edit: ChangedRun) -> str:
    contexts = [edit.steering_code()] if edit.steers() else []
    patches = _PATCHES if edit.patches_code else "()"
    return f"with {', '.join([*contexts, f'interp.patching.applied(model, {patches})'])}:"


def _options(grid: Grid) -> dict[str, object]:
    """A grid's fields as keywords of :func:`interp.sweep`."""
    return {"site": grid.site, "cells": grid.cells}


def _grid_code(grid: Grid) -> str:
    return f"interp.patching.{grid!r}"


def mark_cell(figure: go.Figure, cell: tuple[int, int]) -> go.Figure:
    """The map with a frame around the cell that is looked into."""
    layer, column = cell
    marked = go.Figure(figure)
    marked.add_shape(
        type="rect",
        x0=column - 0.5, x1=column + 0.5, y0=layer - 0.5, y1=layer + 0.5,
        line={"color": "#d55e00", "width": 2},
    )  # fmt: skip
    return marked


def spans_of(pair: PromptPair) -> list[str]:
    """The destination's spans that later positions can read."""
    n = len(pair.destination)
    return [name for name, span in pair.destination.spans.items() if span.start < span.stop < n]


_CELL = (*MAP, "cell")
_OWN = (*PAIR, "blocked", "span", "layer", "head", "dose")

EDITS = (
    View("map", MAP, draw_map, map_cost),
    View("cell_options", _CELL, lambda scene: draw_edited_options(scene, cell_edit(scene))),
    View("cell_lens", _CELL, lambda scene: draw_edited_lens(scene, cell_edit(scene))),
    View(
        "cell_attention",
        (*_CELL, "layer", "head", "query"),
        lambda scene: draw_edited_attention(scene, cell_edit(scene)),
    ),
    View("edited_options", _OWN, lambda scene: draw_edited_options(scene, own_edit(scene))),
    View("edited_lens", _OWN, lambda scene: draw_edited_lens(scene, own_edit(scene))),
    View(
        "edited_continuation",
        _OWN,
        lambda scene: draw_edited_continuation(scene, own_edit(scene)),
        lambda scene: f"Greedy, at most {N_NEW} tokens, without the change and with it.",
    ),
    View(
        "edited_attention",
        (*_OWN, "query"),
        lambda scene: draw_edited_attention(scene, own_edit(scene)),
    ),
)
