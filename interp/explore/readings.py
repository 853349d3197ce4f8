"""Views of the pair as it is: prompts, options, lens, projections, attention."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import AttentionPatterns, read_attention
from interp.directions import Direction, DirectionStack, project
from interp.errors import InterpError
from interp.explore.state import PAIR
from interp.explore.views import Drawn, Scene, View, answers_line, call, mapping, names_of
from interp.lens import lens_prompt, lens_trajectory
from interp.patching import read_options
from interp.patching.metrics import target_of
from interp.prompts import PromptPair, TokenizedPrompt
from interp.viz import coloured_tokens, lens_margin, option_probabilities, projection_runs

NO_DIRECTION = "no direction: give interp.explore(..., direction=v) to project and to steer"


def draw_prompts(scene: Scene) -> Drawn:
    """Both prompts with their spans."""
    pair = scene.pair
    return Drawn(pair, scene.code("figure = pair"))


def draw_options(scene: Scene) -> Drawn:
    """Every option's probability in both runs."""
    pair, (source, destination) = scene.pair, names_of(scene.pair)
    readings = {
        source: options_of(scene, "source"),
        destination: options_of(scene, "destination"),
    }
    return Drawn(
        option_probabilities(readings),
        scene.code(f"figure = interp.viz.option_probabilities({mapping(both_options(pair))})"),
        answers_line(readings),
    )


def options_of(scene: Scene, run: Literal["source", "destination"]) -> pd.DataFrame:
    """The options of one run as it is."""
    return scene.read(f"options {run}", lambda: read_options(scene.model, scene.pair, run=run))


def lens_of(scene: Scene, run: Literal["source", "destination"]) -> pd.DataFrame:
    """The lens of one run as it is."""
    pair = scene.pair
    prompt = pair.source if run == "source" else pair.destination
    return scene.read(f"lens {run}", lambda: lens_prompt(scene.model, prompt, target_of(pair)))


def attention_of(
    scene: Scene, run: Literal["source", "destination"], layer: int
) -> AttentionPatterns:
    """A layer's attention in one run as it is."""
    prompt = scene.pair.source if run == "source" else scene.pair.destination
    return scene.read(
        f"attention {run} {layer}", lambda: read_attention(scene.model, prompt, layers=[layer])
    )


def both_options(pair: PromptPair) -> dict[str, str]:
    """The source of the readings of both runs, by their names."""
    source, destination = names_of(pair)
    read = "interp.patching.read_options"
    return {
        source: call(read, "model", "pair", run="source"),
        destination: call(read, "model", "pair"),
    }


def draw_lens(scene: Scene) -> Drawn:
    """The lens margin of both runs at every layer."""
    trajectory = lens_trajectory(scene.model, scene.pair, progress=scene.progress)
    made = call("interp.lens_trajectory", "model", "pair", progress=False)
    return Drawn(lens_margin(trajectory), scene.code(f"figure = interp.viz.lens_margin({made})"))


def draw_projection(scene: Scene) -> Drawn:
    """The projection of both runs' last position at every layer."""
    found = project(scene.model, scene.pair, require_direction(scene), progress=scene.progress)
    made = call("interp.project", "model", "pair", "direction", progress=False)
    return Drawn(projection_runs(found), scene.code(f"figure = interp.viz.projection_runs({made})"))


def draw_projected_tokens(scene: Scene) -> Drawn:
    """The projection of every token of the destination at one layer."""
    direction, layer = require_direction(scene), scene.state.layer
    found = project(
        scene.model, scene.pair.destination, direction, positions="all", progress=scene.progress
    ).to_dataframe()
    rows = found[found["layer"] == layer]
    if rows.empty:
        raise InterpError(f"no direction at layer {layer}; fitted at {layers_of(direction)}")
    column = "projection" if rows["projection"].notna().all() else "dot"
    unit = "class units" if column == "projection" else "dot product"
    made = call(
        "interp.project", "model", "pair.destination", "direction", positions="all", progress=False
    )
    # one attention sink, a hundred times the rest, would leave all others white
    limit = float(rows[column].abs().quantile(0.95)) or None
    return Drawn(
        coloured_tokens(scene.pair.destination, rows[column], limit=limit, unit=unit),
        scene.code(
            f"frame = {made}.to_dataframe()",
            f"rows = frame[frame['layer'] == {layer}]",
            f"limit = float(rows[{column!r}].abs().quantile(0.95)) or None",
            f"figure = interp.viz.coloured_tokens(pair.destination, rows[{column!r}], limit=limit, "
            f"unit={unit!r})",
        ),
        f"layer {layer}",
    )


def require_direction(scene: Scene) -> DirectionStack | Direction:
    """The direction, or one line that says how to give one."""
    if scene.direction is None:
        raise InterpError(NO_DIRECTION)
    return scene.direction


def layers_of(direction: DirectionStack | Direction) -> list[int]:
    """The layers that a direction was fitted at."""
    return [direction.layer] if isinstance(direction, Direction) else list(direction.layers)


def draw_attention(scene: Scene) -> Drawn:
    """What one position attends to in one head, in the destination."""
    pair, state = scene.pair, scene.state
    prompt, query = pair.destination, query_of(pair, state.query)
    require_head(scene.model, state.layer, state.head)
    patterns = attention_of(scene, "destination", state.layer)
    shown = f"patterns.values[0, {state.head}, {query}]"
    return Drawn(
        coloured_tokens(
            prompt, patterns.values[0, state.head, query], scale="sequential", unit="attention"
        ),
        scene.code(
            f"patterns = interp.activations.read_attention(model, pair.destination, "
            f"layers=[{state.layer}])",
            f"figure = interp.viz.coloured_tokens(pair.destination, {shown}, scale='sequential', "
            "unit='attention')",
        ),
        f"L{state.layer}H{state.head}: what {position_name(prompt, query)} reads, in "
        f"{names_of(pair)[1]}",
    )


def draw_source_attention(scene: Scene) -> Drawn:
    """The same of the source, from the position that corresponds."""
    pair, state = scene.pair, scene.state
    query = counterpart(pair, query_of(pair, state.query))
    require_head(scene.model, state.layer, state.head)
    patterns = attention_of(scene, "source", state.layer)
    shown = f"patterns.values[0, {state.head}, {query}]"
    return Drawn(
        coloured_tokens(
            pair.source, patterns.values[0, state.head, query], scale="sequential", unit="attention"
        ),
        scene.code(
            f"patterns = interp.activations.read_attention(model, pair.source, "
            f"layers=[{state.layer}])",
            f"figure = interp.viz.coloured_tokens(pair.source, {shown}, scale='sequential', "
            "unit='attention')",
        ),
        f"L{state.layer}H{state.head}: what {position_name(pair.source, query)} reads, in "
        f"{names_of(pair)[0]}",
    )


def query_of(pair: PromptPair, query: int) -> int:
    """A position of the destination; the last where there is none of that number."""
    n = len(pair.destination)
    return query if 0 <= query < n else n - 1


def counterpart(pair: PromptPair, position: int) -> int:
    """The source's position that a destination's corresponds to.

    Raises:
        InterpError: it has none.
    """
    if position == len(pair.destination) - 1:
        return len(pair.source) - 1
    found = {int(d): int(s) for s, d in pair.alignment.pairs()}
    if position not in found:
        raise InterpError(
            f"position {position} of {pair.destination_name} has no counterpart in "
            f"{pair.source_name}: choose another"
        )
    return found[position]


def position_name(prompt: TokenizedPrompt, position: int) -> str:
    """``position 17 ' he'``."""
    return f"position {position} {prompt.str_tokens[position]!r}"


def require_head(model: TransformerBridge, layer: int, head: int) -> None:
    """Refuse a layer or head that the model does not have."""
    for name, value, n in (
        ("layer", layer, int(model.cfg.n_layers)),
        ("head", head, int(model.cfg.n_heads)),
    ):
        if not 0 <= value < n:
            raise InterpError(f"no {name} {value}; the model has 0..{n - 1}")


READINGS = (
    View("prompts", PAIR, draw_prompts),
    View("options", PAIR, draw_options),
    View("lens", PAIR, draw_lens),
    View("projection", PAIR, draw_projection),
    View("projected_tokens", (*PAIR, "layer"), draw_projected_tokens),
    View("source_attention", (*PAIR, "layer", "head", "query"), draw_source_attention),
    View("attention", (*PAIR, "layer", "head", "query"), draw_attention),
)
