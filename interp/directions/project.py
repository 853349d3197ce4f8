"""Projections of prompts onto directions, layer by layer and component by component.

The model is run once per prompt and nothing of width ``d_model`` is kept (see
:mod:`interp.directions.components`): a dot product with the direction, the raw cosine, and, given a
reference sample's :class:`~interp.directions.Moments`, the centred, per-dimension standardised
cosine. Raw cosines are the study's measure and are dominated by a few dimensions; only dot products
add up over components (:func:`~interp.directions.decompose`).

    projections = project(model, pairs, v, components=["resid_post", "attn_out", "mlp_out"])
    projections.shift(component="mlp_out", value="dot")
    project(model, [complete(model, prompt)], v, positions="generated:all")   # token by token
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import read_states, stream
from interp.activations.stream import resolve_places
from interp.directions.components import Component, ComponentReader, component_reader
from interp.directions.direction import Direction, DirectionStack
from interp.directions.moments import Moments
from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError
from interp.prompts import Given, PromptPair, TokenizedPrompt, as_prompt, each_given

Subject: TypeAlias = Given | Sequence[Given]
"""What is projected, one or several: pairs (both runs), prompts, texts, chat messages, token ids."""

Value = Literal["projection", "dot", "cosine", "standardised"]
_MEASURES = ("dot", "cosine", "standardised")
_UNIT = ("pair", "item", "cluster")


@dataclass(frozen=True, eq=False)
class Projections:
    """Projections of some prompts, or of both runs of some pairs.

    ``values[row, cell, measure]`` holds the dot product with the direction's unit vector, the cosine
    and, where moments were given, the standardised cosine. ``rows`` names the rows: ``pair``,
    ``item``, ``cluster``, ``run`` (``source`` / ``destination``, or ``prompt``), ``condition`` and
    ``position`` (-1 for a mean over several). ``cells`` names the cells: ``component``, ``layer``,
    ``head`` (-1 where there is none), and ``scale`` and ``offset`` of the class units, NaN where the
    cell is not what the direction was learned on.
    """

    values: npt.NDArray[np.float32]
    rows: pd.DataFrame
    cells: pd.DataFrame
    direction: DirectionStack | Direction

    __repr__ = short_repr

    def to_dataframe(self) -> pd.DataFrame:
        """One row per prompt, position and cell.

        ``projection`` is in class units (+ = moral; +1 and -1 are the class means of the sentences
        the direction was learned from), NaN away from the direction's own site and layers.
        """
        n_rows, n_cells = self.values.shape[:2]
        frame = pd.concat(
            [
                self.rows.loc[self.rows.index.repeat(n_cells)].reset_index(drop=True),
                pd.concat([self.cells] * n_rows, ignore_index=True),
            ],
            axis=1,
        )
        flat = self.values.reshape(n_rows * n_cells, -1).astype(float)
        frame["projection"] = (flat[:, 0] - frame.pop("offset")) / frame.pop("scale")
        for column, name in enumerate(_MEASURES[: flat.shape[1]]):
            frame[name] = flat[:, column]
        return frame

    def shift(
        self, *, component: Component | None = None, value: Value = "projection"
    ) -> pd.DataFrame:
        """Source minus destination, one row per (pair, layer), and per head for heads.

        Args:
            component: which one; None takes the direction's own site.
            value: ``projection`` (class units), ``dot``, ``cosine`` or ``standardised``.

        Raises:
            InterpError: prompts that are no pairs, several positions per prompt, a component or
                value that was not read, class units of a component that has none.
        """
        if "source" not in set(self.rows["run"]):
            raise InterpError("a shift needs pairs, these are single prompts: project pairs")
        if self.rows.duplicated([*_UNIT, "run"]).any():
            raise InterpError("a shift needs one place per prompt: these have several positions")
        frame = self.to_dataframe()
        chosen = component or self.direction.site
        frame = frame[frame["component"] == chosen]
        if frame.empty or value not in frame:
            raise InterpError(f"no {value} of {chosen!r} was read: project with it")
        if frame[value].isna().all():
            raise InterpError(f"class units belong to {self.direction.site}: choose value='dot'")
        cell = ["layer", "head"] if chosen == "head" else ["layer"]
        wide = frame.pivot_table(
            index=[*_UNIT, *cell], columns="run", values=value, sort=False, dropna=False
        )
        wide = wide.dropna(how="all")
        return (wide["source"] - wide["destination"]).rename("shift").reset_index()

    def _repr_html_(self) -> str:
        paired = "source" in set(self.rows["run"])
        if not paired or self.rows.duplicated([*_UNIT, "run"]).any():
            cells = self.to_dataframe().groupby(["component", "layer"], sort=False)
            means = cells[["projection", "dot", "cosine"]].mean()
            return html_paragraph("means over prompts", bold=True) + html_table(
                means, decimals=3, index=True
            )
        own = self.direction.site in set(self.cells["component"])
        value: Value = "projection" if own else "dot"
        shift = self.shift(component=None if own else self.cells["component"].iloc[0], value=value)
        means = shift.groupby("layer", sort=True)["shift"].agg(["mean", "std", "count"])
        unit = "class units" if own else "dot products"
        head = html_paragraph(f"source - destination, {unit}", bold=True)
        return head + html_table(means, decimals=3, index=True)


def project(
    model: TransformerBridge,
    what: Subject,
    direction: DirectionStack | Direction,
    *,
    components: Sequence[Component] | None = None,
    positions: str | Sequence[int] = "last",
    standardise: Moments | None = None,
    progress: bool = True,
) -> Projections:
    """Project prompts, or both runs of pairs, at every layer.

    Args:
        model: a bridge in evaluation mode.
        what: one or several of: a pair (both its runs), a prompt, a text, chat messages, token ids.
        direction: a stack, whose layers are each projected onto their own vector; or one direction,
            onto which every layer is projected.
        components: what is projected (see :mod:`interp.directions.components`); None takes the
            direction's own site. The embedding is projected onto the vector of the lowest layer.
        positions: ``last``, ``all``, ``mean``, a span, ``span:last``, ``span:all``, or one position
            per prompt (of a pair the source's first); see :mod:`interp.activations.places`.
        standardise: adds the standardised cosine; heads have none (NaN).
        progress: show a bar.

    Raises:
        InterpError: nothing to project, a direction made for other weights or another processing
            mode, a component or position that there is not.

    Example:
        >>> project(model, make_pair(model, item, "instructed"), v).shift()   # doctest: +SKIP
    """
    direction.require(model)
    prompts, rows = named_prompts(model, what)
    chosen = [direction.site] if components is None else list(dict.fromkeys(components))
    if not chosen:
        raise InterpError("no components to project: the list is empty")
    by_layer = _directions_of(model, direction)
    readings = [
        component_reader(
            model,
            component,
            layer,
            by_layer[layer if layer in by_layer else min(by_layer)].vector[None],
            standard=standardise.at(component, layer) if standardise else None,
        )
        for component in chosen
        for layer in ([0] if component == "embedding" else by_layer)
    ]
    n_measures = 3 if standardise else 2
    values, places = _read(model, prompts, readings, positions, n_measures, progress)
    kept = [c != "attn_bias" for r in readings for c, _ in r.parts]
    return Projections(
        values=values[:, kept],
        rows=rows.loc[[k for k, _ in places]]
        .assign(position=[position for _, position in places])
        .reset_index(drop=True),
        cells=_cells(readings, direction)[kept].reset_index(drop=True),
        direction=direction,
    )


def named_prompts(
    model: TransformerBridge, what: Subject
) -> tuple[list[TokenizedPrompt], pd.DataFrame]:
    """The prompts, and for each its ``pair``, ``item``, ``cluster``, ``run`` and ``condition``."""
    prompts: list[TokenizedPrompt] = []
    rows = []
    for k, one in enumerate(each_given(what)):
        if not isinstance(one, PromptPair):
            prompts.append(as_prompt(model, one))
            rows.append((k, "", str(k), "prompt", prompts[-1].label))
            continue
        item, cluster = (one.item.id, one.item.cluster) if one.item else ("", str(k))
        prompts += [one.source, one.destination]
        rows.append((k, item, cluster, "source", one.source_name))
        rows.append((k, item, cluster, "destination", one.destination_name))
    return prompts, pd.DataFrame(rows, columns=[*_UNIT, "run", "condition"])


def project_prompts(
    model: TransformerBridge,
    prompts: Sequence[TokenizedPrompt],
    directions: Sequence[DirectionStack],
    *,
    progress: bool = True,
) -> list[Float[Tensor, "layer prompt"]]:
    """Last-token projections of many prompts onto several directions, the model run once.

    Raises:
        InterpError: no prompts, no directions, directions of different sites or layers, or one made
            for other weights or another processing mode.
    """
    if not directions:
        raise InterpError("no directions to project onto: the list is empty")
    for direction in directions:
        direction.require(model)
    states = read_states(
        model,
        [prompt.ids for prompt in prompts],
        site=directions[0].site,
        layers=directions[0].layers,
        progress=progress,
    )
    return [direction.project(states) for direction in directions]


def _directions_of(
    model: TransformerBridge, direction: DirectionStack | Direction
) -> dict[int, Direction]:
    if isinstance(direction, Direction):
        return dict.fromkeys(range(model.cfg.n_layers), direction)
    return {one.layer: one for one in direction}


def _cells(
    readings: Sequence[ComponentReader], direction: DirectionStack | Direction
) -> pd.DataFrame:
    own = [direction] if isinstance(direction, Direction) else list(direction)
    units = {one.layer: (one.scale, one.offset) for one in own}
    nothing = (np.nan, np.nan)
    return pd.DataFrame(
        [
            (
                component,
                one.layer,
                head,
                *(units.get(one.layer, nothing) if component == direction.site else nothing),
            )
            for one in readings
            for component, head in one.parts
        ],
        columns=["component", "layer", "head", "scale", "offset"],
    )


def _read(
    model: TransformerBridge,
    prompts: Sequence[TokenizedPrompt],
    readings: Sequence[ComponentReader],
    positions: str | Sequence[int],
    n_measures: int,
    progress: bool,
) -> tuple[npt.NDArray[np.float32], list[tuple[int, int]]]:
    """Values ``[row, cell, measure]``, and the (prompt, position) of every row."""
    blocks: list[npt.NDArray[np.float32]] = []
    rows: list[tuple[int, int]] = []
    where = resolve_places(model, prompts, positions)
    hooks = {one.hook: one.reduce for one in readings}
    for index, found in stream(
        model, prompts, hooks, positions=positions, progress=progress, description="projecting"
    ):
        parts = [pad_measures(found[one.hook][..., 0], n_measures) for one in readings]
        blocks.append(torch.cat(parts, dim=1).numpy())
        places = where[index]
        rows += [(index, -1)] if places.averaged else [(index, p) for p in places.positions]
    return np.concatenate(blocks), rows


def pad_measures(values: Float[Tensor, "*part measure"], n_measures: int) -> Tensor:
    """The values with NaN for the measures that this component lacks."""
    missing = n_measures - values.shape[-1]
    return torch.nn.functional.pad(values, (0, missing), value=float("nan"))
