"""The units of a steering run, and how each becomes rows: place, null directions, outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.steer.config import SteerConfig
from interp.activations import read_states
from interp.behaviour.outcomes import Outcomes
from interp.directions import Direction, covariance_nulls, placebo_nulls
from interp.directions.nulls import contrast_axes
from interp.directions.steering import add_vector
from interp.directions.swings import LEARNED, UNSTEERED


@dataclass(frozen=True, eq=False)
class SteerBench:
    """What is steered: ``at``, the learned direction at its layer and site, and what is measured.

    ``placebos``: per item, its prompts under every placebo text. ``digests``: per item, SHA-256 over
    the texts of its prompts.
    """

    config: SteerConfig
    model: TransformerBridge
    at: Direction
    outcomes: Outcomes
    placebos: tuple[tuple[Int[Tensor, " _pos"], ...], ...]
    digests: tuple[str, ...]


@dataclass(frozen=True)
class SteerStep:
    """A step along one direction. ``vector``: what is added to a state, ``d_model`` float32 values."""

    kind: str
    direction: str
    strength: float
    vector: tuple[float, ...]

    def key(self) -> dict[str, Any]:
        """What decides its rows; the vector by the SHA-256 of its bytes."""
        content = np.array(self.vector, dtype=np.float32).tobytes()
        return asdict(self) | {"vector": hashlib.sha256(content).hexdigest()}


def steps_of(
    direction: Direction, nulls: pd.DataFrame, strengths: Sequence[float]
) -> list[SteerStep]:
    """No step, the learned direction at every strength, every null direction at the largest.

    ``nulls``: columns ``kind``, ``name``, ``vector`` (unit length); each gets the learned step's length.
    """
    length = direction.scale * direction.vector.norm()
    largest = max(strengths)
    drawn = [(UNSTEERED, UNSTEERED, 0.0, torch.zeros_like(direction.vector))]
    for s in strengths:
        drawn.append((LEARNED, LEARNED, s, s * direction.scale * direction.vector))
    for kind, name, values in nulls[["kind", "name", "vector"]].to_numpy():
        vector = torch.tensor(np.array(values, dtype=np.float32))
        drawn += [(kind, name, s, s * length * vector) for s in (-largest, largest)]
    return [SteerStep(kind, name, s, tuple(vector.tolist())) for kind, name, s, vector in drawn]


def measure_step(bench: SteerBench, step: SteerStep) -> pd.DataFrame:
    """Every outcome under one step; texts are generated for the learned direction only."""
    at = bench.at
    vector = torch.tensor(step.vector, dtype=torch.float32)
    steered = step.kind != UNSTEERED
    rows = bench.outcomes.measure(
        add_vector(bench.model, at.site, at.layer, vector) if steered else None,
        generate=step.kind in (LEARNED, UNSTEERED),
    )
    return rows.assign(kind=step.kind, direction=step.direction, strength=step.strength)


def measure_place(bench: SteerBench, place: tuple[str, int]) -> pd.DataFrame:
    """One row: site and layer, the class unit, and the spread of the evaluation prompts' last states.

    ``spread``: root mean square distance from their mean, as long as a class unit is.
    """
    states = _states(bench, bench.outcomes.prompts)
    spread = float((states - states.mean(0)).norm(dim=-1).pow(2).mean().sqrt())
    site, layer = place
    row = {"site": site, "layer": layer, "class_unit": bench.at.scale, "spread": spread}
    return pd.DataFrame([{**row, "prompts": len(states)}])


def null_rows(bench: SteerBench, kind: str) -> pd.DataFrame:
    """Null directions of one kind at the learned direction's place: ``kind``, ``name``, ``vector``."""
    found = NULLS[kind](bench)
    return pd.DataFrame(
        {"kind": kind, "name": list(found), "vector": [v.numpy() for v in found.values()]}
    )


def _covariance(bench: SteerBench) -> dict[str, Tensor]:
    states, config = _states(bench, bench.outcomes.prompts), bench.config
    return _numbered("covariance", covariance_nulls(states, config.covariance, seed=config.seed))


def _placebo(bench: SteerBench) -> dict[str, Tensor]:
    # items outermost, so that the texts of one item share what they have in common
    states = _states(bench, [ids for prompts in bench.placebos for ids in prompts])
    by_item = states.unflatten(0, (len(bench.placebos), bench.config.placebos))
    return _numbered("placebo", placebo_nulls(by_item.transpose(0, 1)))


def _contrast(bench: SteerBench) -> dict[str, Tensor]:
    at = bench.at
    axes = contrast_axes(bench.model, sites=[at.site], methods=[at.facts.method], progress=False)
    return {name: vectors[at.layer] for (name, *_), vectors in axes.items()}


NULLS: dict[str, Callable[[SteerBench], dict[str, Tensor]]] = {
    "covariance": _covariance,
    "placebo": _placebo,
    "contrast": _contrast,
}
"""The kinds of null directions, in the order of their table."""


def _numbered(kind: str, vectors: Tensor) -> dict[str, Tensor]:
    return {f"{kind} {k}": vector for k, vector in enumerate(vectors, start=1)}


def _states(bench: SteerBench, prompts: Sequence[Tensor]) -> Float[Tensor, "prompt d_model"]:
    """The last token's states where the direction is."""
    at = bench.at
    found = read_states(bench.model, prompts, site=at.site, layers=[at.layer], progress=False)
    return found.values[0]
