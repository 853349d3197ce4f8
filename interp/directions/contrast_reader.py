"""What one pass over an item's prompts reads: projections, the parts they are made of, and nulls.

A :class:`ContrastReader` belongs to one position. Every hook is read once, against all the vectors
that are wanted there: each layer's own direction, the direction that is decomposed, the null
directions. What it reads of many items is gathered by
:class:`~interp.directions.contrast_arrays.ContrastArrays`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import places_of, stream
from interp.directions.components import (
    DOT,
    Component,
    ComponentReader,
    Standardisation,
    component_reader,
)
from interp.directions.decompose import part_readings, parts_table, require_sums
from interp.directions.direction import Direction, DirectionStack
from interp.directions.moments import Moments, read_moments_and_states
from interp.directions.nulls import covariance_nulls, placebo_nulls
from interp.directions.project import pad_measures
from interp.prompts import TokenizedPrompt
from interp.prompts.align import first_difference

MEASURES = ("dot", "cosine", "standardised")
"""What is measured of every cell."""

N_NULLS = 100
"""Null directions drawn with the states' covariance."""

_Key: TypeAlias = tuple[Component, int]


@dataclass(frozen=True, eq=False)
class NullDirections:
    """Unit vectors ``[layer, null, d_model]`` at the direction's site, each with kind and name.

    ``kinds``: ``covariance``, ``contrast`` (a non-moral one) or ``placebo`` (between placebo texts).
    """

    vectors: Float[Tensor, "layer null d_model"]
    kinds: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ContrastValues:
    """What was read of some prompts, the measures in the order of :data:`MEASURES`."""

    measured: npt.NDArray[np.float32]  # [prompt, cell, measure]
    parts: npt.NDArray[np.float32]  # [prompt, part]
    nulls: npt.NDArray[np.float32]  # [prompt, layer, null]


class ContrastReader:
    """The readings of one position; ``cells`` and ``parts`` name what they return.

    ``target`` is the direction that is decomposed.
    """

    def __init__(
        self,
        model: TransformerBridge,
        stack: DirectionStack,
        *,
        components: Sequence[Component],
        target: Direction,
        moments: Moments,
        nulls: NullDirections,
        position: str,
    ) -> None:
        self.position = position
        self.stack = stack
        self.target = target
        self.nulls = nulls
        self._model = model
        # several readings may want the same hook: their vectors are gathered, and each request
        # remembers which columns of the products are its own
        hooks = _Hooks()
        own = [
            (component, layer)
            for component in components
            for layer in ([0] if component == "embedding" else stack.layers)
        ]
        self._own = [
            hooks.add(
                component,
                layer,
                stack[layer if layer in stack.layers else stack.layers[0]].vector[None],
                moments.at(component, layer),
            )
            for component, layer in own
        ]
        self._nulls = [
            hooks.add(stack.site, layer, nulls.vectors[row])
            for row, layer in enumerate(stack.layers)
        ]
        vector = target.vector[None]
        parts = part_readings(model, target, vector)
        self._parts = [hooks.add(one.parts[0][0], one.layer, vector) for one in parts]
        self._total = hooks.add(target.site, target.layer, vector)
        self._readings = hooks.readings(model)
        self.parts = parts_table(parts)
        self.cells = self._cells(own, stack)

    def read(self, prompts: Sequence[TokenizedPrompt]) -> ContrastValues:
        """Run the prompts once.

        Raises:
            InterpError: see :func:`interp.activations.stream`; or parts that do not add up.
        """
        hooks = {one.hook: one.reduce for one in self._readings.values()}
        measured, parts, nulls, totals = [], [], [], []
        # a place is one row (one position, or a span's mean), hence the index 0
        for _, found in stream(
            self._model, prompts, hooks, positions=self.position, progress=False
        ):
            measured.append(torch.cat([self._measures(found, one) for one in self._own]))
            parts.append(torch.cat([self._dots(found, one)[:, 0] for one in self._parts]))
            nulls.append(torch.stack([self._dots(found, one)[0] for one in self._nulls]))
            totals.append(self._dots(found, self._total)[0, 0])
        values = ContrastValues(*(torch.stack(one).numpy() for one in (measured, parts, nulls)))
        require_sums(self._model, values.parts, torch.stack(totals).numpy())
        return values

    def _measures(self, found: dict[str, Tensor], request: _Request) -> Tensor:
        """All measures of one component at one layer, ``[part, measure]``."""
        one = self._readings[request.key]
        values = found[one.hook][0, ..., request.start]
        values = torch.stack([v for v, p in zip(values, one.parts, strict=True) if _is_cell(p)])
        return pad_measures(values, len(MEASURES))

    def _dots(self, found: dict[str, Tensor], request: _Request) -> Tensor:
        """Dot products ``[part, direction]``."""
        one = self._readings[request.key]
        return found[one.hook][0, :, DOT, request.start : request.stop]

    def _cells(self, own: Sequence[_Key], stack: DirectionStack) -> pd.DataFrame:
        rows = []
        for (component, layer), request in zip(own, self._own, strict=True):
            units = (np.nan, np.nan)
            if component == stack.site:
                units = (stack[layer].scale, stack[layer].offset)
            for part in self._readings[request.key].parts:
                if _is_cell(part):
                    rows.append((component, layer, part[1], *units))
        return pd.DataFrame(rows, columns=["component", "layer", "head", "scale", "offset"])


def is_fixed(prompts: Sequence[TokenizedPrompt], position: str) -> bool:
    """Whether causality fixes the states there: all prompts begin with the same ids."""
    last = max(places_of(prompts[0], position).positions)
    differences = (first_difference(prompts[0].ids, prompt.ids) for prompt in prompts[1:])
    return all(first is None or last < first for first in differences)


def contrast_reader(
    model: TransformerBridge,
    stack: DirectionStack,
    by_text: Sequence[Sequence[TokenizedPrompt]],
    contrasts: Mapping[str, Float[Tensor, "layer d_model"]] | None,
    *,
    components: Sequence[Component],
    position: str,
    seed: int = 0,
) -> ContrastReader:
    """A reader with the moments and the null directions of a reference sample of placebo prompts.

    Args:
        model: a bridge in evaluation mode.
        stack: the direction; its best layer's is decomposed.
        by_text: placebo prompts, ``by_text[text][item]``.
        contrasts: directions of non-moral contrasts by name; None where nothing can change, and no
            null directions are drawn.
        components: what is projected; the stack's own site must be among them.
        position: ``last``, a span (its mean) or ``span:last``.
        seed: of the null directions.

    Raises:
        InterpError: a direction that cannot be decomposed, or a component or position there is not.
    """
    layers = tuple(sorted({0, *stack.layers}))
    moments, states = read_moments_and_states(
        model,
        _by_item(by_text),
        components=[c for c in components if c != "head"],
        keep=[] if contrasts is None else [stack.site],
        positions=position,
        layers=layers,
        progress=False,
    )
    if contrasts is None:
        nulls = NullDirections(torch.empty(len(stack.layers), 0, stack.vectors.shape[1]), (), ())
    else:
        own = states[stack.site][[layers.index(layer) for layer in stack.layers]]
        nulls = draw_nulls(own, len(by_text), contrasts, seed)
    return ContrastReader(
        model,
        stack,
        components=components,
        target=stack.best,
        moments=moments,
        nulls=nulls,
        position=position,
    )


def draw_nulls(
    states: Float[Tensor, "layer prompt d_model"],
    n_texts: int,
    contrasts: Mapping[str, Float[Tensor, "layer d_model"]],
    seed: int,
) -> NullDirections:
    """Null directions of every layer, from the states of placebo prompts.

    ``states``: of the prompts of ``n_texts`` texts, one item after the other; ``contrasts``: the
    vectors of non-moral contrasts by name.
    """
    drawn = covariance_nulls(states, N_NULLS, seed=seed)
    groups = [drawn, torch.stack(list(contrasts.values()), dim=1)]
    kinds = ["covariance"] * drawn.shape[1] + ["contrast"] * len(contrasts)
    names = [f"covariance {k + 1}" for k in range(drawn.shape[1])] + list(contrasts)
    if n_texts > 1:
        between = placebo_nulls(states.unflatten(1, (-1, n_texts)).transpose(1, 2))
        groups.append(between)
        kinds += ["placebo"] * between.shape[1]
        names += [f"placebo texts {k + 1}" for k in range(between.shape[1])]
    return NullDirections(torch.cat(groups, dim=1), tuple(kinds), tuple(names))


def _by_item(by_text: Sequence[Sequence[TokenizedPrompt]]) -> list[TokenizedPrompt]:
    """The prompts of one item after the other: neighbours share their question, computed once."""
    return [prompt for prompts in zip(*by_text, strict=True) for prompt in prompts]


def _is_cell(part: tuple[str, int]) -> bool:
    """An attention bias is a part of the sum and not a component that is projected by itself."""
    return part[0] != "attn_bias"


@dataclass(frozen=True)
class _Request:
    """Where the products with some vectors stand in a hook's reading."""

    key: _Key
    start: int
    stop: int


class _Hooks:
    """Requests for vectors, gathered by the hook that serves them."""

    def __init__(self) -> None:
        self._vectors: dict[_Key, list[Tensor]] = {}
        self._standard: dict[_Key, Standardisation] = {}

    def add(
        self,
        component: str,
        layer: int,
        vectors: Float[Tensor, "direction d_model"],
        standard: Standardisation | None = None,
    ) -> _Request:
        # the embedding is the residual stream before layer 0: one hook serves both
        key: _Key = ("resid_pre" if component == "embedding" else component, layer)  # type: ignore[assignment]
        listed = self._vectors.setdefault(key, [])
        start = sum(len(v) for v in listed)
        listed.append(vectors)
        if standard is not None:
            self._standard[key] = standard
        return _Request(key, start, start + len(vectors))

    def readings(self, model: TransformerBridge) -> dict[_Key, ComponentReader]:
        return {
            key: component_reader(model, *key, torch.cat(vectors), standard=self._standard.get(key))
            for key, vectors in self._vectors.items()
        }
