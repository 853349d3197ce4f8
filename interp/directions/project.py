"""Projections of prompts onto a direction, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import read_states
from interp.directions.direction import DirectionStack
from interp.errors import InterpError
from interp.prompts import PromptPair, TokenizedPrompt


@dataclass(frozen=True)
class Projections:
    """Projections of both runs of some pairs, tidy.

    Columns: ``pair``, ``item``, ``cluster``, ``run`` (``source`` / ``destination``), ``condition``,
    ``layer``, and ``projection`` in class units (+ = moral; +1 and -1 are the class means of the
    sentences the direction was learned from).
    """

    frame: pd.DataFrame
    direction: DirectionStack

    def to_dataframe(self) -> pd.DataFrame:
        """A copy of the rows."""
        return self.frame.copy()

    def shift(self) -> pd.DataFrame:
        """Source minus destination, one row per (pair, layer), in class units."""
        wide = self.frame.pivot_table(
            index=["pair", "item", "cluster", "layer"],
            columns="run",
            values="projection",
            sort=False,
        )
        return (wide["source"] - wide["destination"]).rename("shift").reset_index()

    def _repr_html_(self) -> str:
        table = self.shift().groupby("layer", sort=True)["shift"].agg(["mean", "std", "count"])
        return "<p><b>source - destination, class units</b></p>" + table.to_html(
            border=0, float_format="{:.3f}".format
        )


def project(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    direction: DirectionStack,
    *,
    progress: bool = True,
) -> Projections:
    """Project the last-token state of both runs of each pair, at every layer.

    Raises:
        InterpError: no pairs, or the direction was made for other weights or another processing
            mode.

    Example:
        >>> project(model, make_pair(model, item, "instructed"), v).shift()   # doctest: +SKIP
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    prompts = [prompt for pair in pairs for prompt in (pair.source, pair.destination)]
    values = project_prompts(model, prompts, [direction], progress=progress)[0]
    rows = []
    for k, pair in enumerate(pairs):
        runs = (("source", pair.source_name), ("destination", pair.destination_name))
        for j, (run, condition) in enumerate(runs):
            for layer, value in zip(direction.layers, values[:, 2 * k + j].tolist(), strict=True):
                rows.append(
                    {
                        "pair": k,
                        "item": pair.item.id if pair.item else "",
                        "cluster": pair.item.cluster if pair.item else str(k),
                        "run": run,
                        "condition": condition,
                        "layer": layer,
                        "projection": value,
                    }
                )
    return Projections(pd.DataFrame(rows), direction)


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
