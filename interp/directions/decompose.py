"""The exact additive decomposition of a projection over the components that made it.

The residual stream is a sum: what entered layer 0, and every layer's heads, attention bias and MLP
since. A dot product with one direction is therefore the sum of the components' dot products, biases
included. (Cosines are not: each divides by another norm.) The terms say who wrote along the
direction in this run; they do not say what the stream would be without a component, because later
layers read what it wrote.

Where the attention's output is normalised before it is added (Gemma 2 and 3), head terms use the
run's own scale, see :mod:`interp.directions.components`.

    parts = decompose(model, pairs, v.best)
    parts.top(10)          # who makes the difference between the two runs
    parts.error()          # 1e-7: the sum against the stream itself
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import hook_name, stream
from interp.activations.stream import resolve_places
from interp.directions.components import DOT, Component, ComponentReader, Vectors, component_reader
from interp.directions.direction import Direction
from interp.directions.project import Subject, named_prompts
from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError
from interp.models.packed import TOLERANCE, probe_ids
from interp.models.precision import widened_model, wider
from interp.models.verdicts import LEAST, model_state, remembered

_SLACK = 10
"""A sum over many layers may be off by so many times what one computation may be."""


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Dot products with a direction's unit vector, component by component.

    ``values[row, part]`` add up to ``totals[row]``, the residual stream's own dot product. ``rows``
    is that of :class:`~interp.directions.Projections`; ``parts`` names the parts: ``label``
    (``embedding``, ``L9H6``, ``L9 attention bias``, ``L9 MLP``), ``component``, ``layer`` and
    ``head`` (-1 where there is none).
    """

    values: npt.NDArray[np.float32]
    totals: npt.NDArray[np.float32]
    rows: pd.DataFrame
    parts: pd.DataFrame
    direction: Direction

    __repr__ = short_repr

    def to_dataframe(self) -> pd.DataFrame:
        """One row per prompt, position and part; ``dot`` in the residual stream's units."""
        n_rows, n_parts = self.values.shape
        rows = self.rows.loc[self.rows.index.repeat(n_parts)].reset_index(drop=True)
        parts = pd.concat([self.parts] * n_rows, ignore_index=True)
        return pd.concat([rows, parts], axis=1).assign(dot=self.values.reshape(-1))

    def error(self) -> float:
        """Largest |sum of the parts - total| over prompts, relative to the sum of |parts|."""
        return relative_error(self.values, self.totals)

    def contrast(self) -> npt.NDArray[np.float64]:
        """Source - destination per pair and part, ``[pair, part]``.

        Raises:
            InterpError: prompts that are no pairs, or several positions per prompt.
        """
        runs = [self.rows[self.rows["run"] == name] for name in ("source", "destination")]
        if runs[0].empty or runs[0]["pair"].duplicated().any():
            raise InterpError("a contrast needs pairs, and one place per prompt")
        values = self.values.astype(float)
        return values[runs[0].index] - values[runs[1].index]

    def top(self, n: int = 10) -> pd.DataFrame:
        """The parts with the largest mean |contrast|, or mean |dot| where there are no pairs.

        Columns: the part's, ``mean`` (signed, + = towards the positive class) and ``size``.
        """
        paired = "source" in set(self.rows["run"])
        values = self.contrast() if paired else self.values.astype(float)
        frame = self.parts.assign(mean=values.mean(0), size=np.abs(values).mean(0))
        return frame.nlargest(n, "size").reset_index(drop=True)

    def _repr_html_(self) -> str:
        site, layer = self.direction.site, self.direction.layer
        head = f"{site} of layer {layer}: {len(self.parts)} parts, error {self.error():.0e}"
        return html_paragraph(head, bold=True) + html_table(self.top(), decimals=3)


def decompose(
    model: TransformerBridge,
    what: Subject,
    direction: Direction,
    *,
    positions: str | Sequence[int] = "last",
    progress: bool = True,
) -> Decomposition:
    """Which components make a prompt's projection at the direction's layer and site.

    Args:
        model: a bridge in evaluation mode.
        what: one or several of: a pair (both its runs), a prompt, a text, chat messages, token ids.
        direction: of a residual site; one layer of a stack: ``stack[14]`` or ``stack.best``.
        positions: see :func:`~interp.directions.project`.
        progress: show a bar.

    Raises:
        InterpError: a direction of another site, weights or processing mode; a norm after attention
            that cannot be split; parts that do not add up on this model; or see ``project``.
    """
    direction.require(model)
    prompts, rows = named_prompts(model, what)
    where = resolve_places(model, prompts, positions)
    vector = direction.vector[None]
    readings = part_readings(model, direction, vector)
    total = component_reader(model, direction.site, direction.layer, vector)
    hooks = {one.hook: one.reduce for one in [*readings, total]}
    blocks, totals, places = [], [], []
    for index, found in stream(
        model, prompts, hooks, positions=positions, progress=progress, description="decomposing"
    ):
        blocks.append(torch.cat([found[one.hook][..., DOT, 0] for one in readings], dim=1).numpy())
        totals.append(found[total.hook][:, 0, DOT, 0].numpy())
        here = where[index]
        places += [(index, -1)] if here.averaged else [(index, p) for p in here.positions]
    values, sums = np.concatenate(blocks), np.concatenate(totals)
    require_sums(model, values, sums)
    return Decomposition(
        values=values,
        totals=sums,
        rows=rows.loc[[k for k, _ in places]]
        .assign(position=[position for _, position in places])
        .reset_index(drop=True),
        parts=parts_table(readings),
        direction=direction,
    )


def part_readings(
    model: TransformerBridge, direction: Direction, vectors: Vectors
) -> list[ComponentReader]:
    """Readings of every component that wrote to the residual stream up to a direction's place.

    Raises:
        InterpError: a site that is not the residual stream, a component that cannot be read, or
            parts that do not add up on this model.
    """
    site, last = direction.site, direction.layer
    if not site.startswith("resid_"):
        raise InterpError(
            f"the direction is of {site}: only the residual stream is a sum over layers; choose "
            "one of resid_pre, resid_mid, resid_post"
        )
    hook_name(model, site, last)  # refuses a layer or site that the model does not have
    wanted: list[tuple[Component, int]] = [("embedding", 0)]
    for layer in range(last + 1):
        if layer < last or site != "resid_pre":
            wanted.append(("head", layer))
        if layer < last or site == "resid_post":
            wanted.append(("mlp_out", layer))
    readings = [component_reader(model, component, layer, vectors) for component, layer in wanted]
    if wider(model.cfg.dtype) != model.cfg.dtype:
        _require_wide_sums(model, direction, readings, vectors)
    return readings


def _require_wide_sums(
    model: TransformerBridge,
    direction: Direction,
    readings: Sequence[ComponentReader],
    vectors: Vectors,
) -> None:
    """Half precision rounds so coarsely that a missing factor passes: a few tokens in float32."""
    key = ("parts add up", model_state(model), direction.site, direction.layer)
    checked: list[bool] = remembered(model, key, list)
    if checked:
        return
    total = component_reader(model, direction.site, direction.layer, vectors)
    hooks = {one.hook: one.reduce for one in [*readings, total]}
    with widened_model(model, wider(model.cfg.dtype)):
        ((_, found),) = stream(model, [probe_ids(model, LEAST)], hooks, progress=False)
        values = torch.cat([found[one.hook][..., DOT, 0] for one in readings], dim=1).numpy()
        require_sums(model, values, found[total.hook][:, 0, DOT, 0].numpy())
    checked.append(True)


def parts_table(readings: Sequence[ComponentReader]) -> pd.DataFrame:
    """``label``, ``component``, ``layer`` and ``head`` of every part, in order."""
    rows = [
        (_label(component, one.layer, head), component, one.layer, head)
        for one in readings
        for component, head in one.parts
    ]
    return pd.DataFrame(rows, columns=["label", "component", "layer", "head"])


def relative_error(values: npt.NDArray[np.floating], totals: npt.NDArray[np.floating]) -> float:
    """Largest |sum - total| relative to the sum of absolute parts; ``[row, part]`` and ``[row]``."""
    parts = values.astype(np.float64)
    scale = np.maximum(np.abs(parts).sum(-1), np.finfo(np.float32).tiny)
    return float((np.abs(parts.sum(-1) - totals) / scale).max())


def require_sums(
    model: TransformerBridge,
    values: npt.NDArray[np.floating],
    totals: npt.NDArray[np.floating],
) -> None:
    """Refuse a model on which the parts do not add up (it scales its outputs, say)."""
    error, limit = relative_error(values, totals), _SLACK * TOLERANCE.get(model.cfg.dtype, 1e-2)
    if error > limit:
        raise InterpError(
            f"the components' parts miss the residual stream by {error:.1e} of their absolute sum "
            f"(at most {limit:.0e} is rounding): this model's blocks do not simply add their "
            "outputs, so they cannot be decomposed"
        )


def _label(component: str, layer: int, head: int) -> str:
    if component == "embedding":
        return "embedding"
    if component == "head":
        return f"L{layer}H{head}"
    return f"L{layer} {'MLP' if component == 'mlp_out' else 'attention bias'}"
