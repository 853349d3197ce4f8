"""Moments: mean and spread of every dimension of some components over a sample of prompts.

A few dimensions and the first position dominate raw norms and cosines. Centred and divided by the
spread of a reference sample (placebo prompts, say), every dimension counts alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import hook_name, stream
from interp.activations.stream import Prompt, Reducer
from interp.directions.components import Component, Standardisation, require_component
from interp.display import short_repr
from interp.errors import InterpError


@dataclass(frozen=True, eq=False)
class Moments:
    """``mean`` and ``std [layer, d_model]`` of each component, from :func:`read_moments`."""

    mean: dict[str, Float[Tensor, "layer d_model"]]
    std: dict[str, Float[Tensor, "layer d_model"]]
    layers: tuple[int, ...]
    positions: str
    n_prompts: int

    __repr__ = short_repr

    def at(self, component: str, layer: int) -> Standardisation | None:
        """The moments of one component at one layer; None for heads, which have none.

        Raises:
            InterpError: a component or layer they were not read at.
        """
        if component == "head":
            return None
        if component not in self.mean or layer not in self.layers:
            raise InterpError(
                f"the moments were read at {', '.join(self.mean)}, layers {list(self.layers)}: not "
                f"at {component}, layer {layer}; read them there too"
            )
        row = self.layers.index(layer)
        return Standardisation(self.mean[component][row], self.std[component][row])


def read_moments(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    *,
    components: Sequence[Component],
    positions: str = "mean",
    layers: Sequence[int] | None = None,
    progress: bool = True,
) -> Moments:
    """Mean and standard deviation per layer, component and dimension, streaming.

    Every prompt weighs the same, and so does every position of a prompt. ``positions="mean"`` takes
    all but the first position and special tokens, whose norms dwarf the others'. Sums are float64 of
    differences from the first prompt's mean, so that large means do not drown small spreads.

    Raises:
        InterpError: no component, heads (their outputs are never formed), or see
            :func:`interp.activations.stream`.
    """
    options = {"positions": positions, "layers": layers, "progress": progress}
    return read_moments_and_states(model, prompts, components=components, keep=(), **options)[0]  # type: ignore[arg-type]


def read_moments_and_states(
    model: TransformerBridge,
    prompts: Sequence[Prompt],
    *,
    components: Sequence[Component],
    keep: Sequence[Component],
    positions: str = "mean",
    layers: Sequence[int] | None = None,
    progress: bool = True,
) -> tuple[Moments, dict[Component, Float[Tensor, "layer prompt d_model"]]]:
    """:func:`read_moments`, and from the same pass the states of some of these components.

    The states are those of :func:`interp.activations.read_states`, where a prompt has one place; the
    mean over its places where it has several.
    """
    layers = tuple(range(model.cfg.n_layers)) if layers is None else tuple(layers)
    hooks = {c: [_hook(model, c, layer) for layer in layers] for c in components}
    names = list(dict.fromkeys(name for at in hooks.values() for name in at))
    if not names:
        raise InterpError("no components or layers to take moments of: the list is empty")
    read = {"positions": positions, "progress": False}
    _, first = next(iter(stream(model, prompts[:1], dict.fromkeys(names), **read)))  # type: ignore[arg-type]
    origin = {name: rows.mean(0) for name, rows in first.items()}
    sums = {name: torch.zeros(2, len(origin[name]), dtype=torch.float64) for name in names}
    states: dict[str, list[Tensor]] = {name: [] for c in keep for name in hooks[c]}
    for _, found in stream(
        model,
        prompts,
        {name: _powers(origin[name], with_rows=name in states) for name in names},
        positions=positions,
        progress=progress,
        description="moments",
    ):
        for name, rows in found.items():
            sums[name] += rows[:, :2].double().mean(0)
            if name in states:
                states[name].append(rows[:, 2].mean(0))
    mean: dict[str, Tensor] = {}
    std: dict[str, Tensor] = {}
    for component, at in hooks.items():
        powers = torch.stack([sums[name] for name in at]) / len(prompts)
        variance = (powers[:, 1] - powers[:, 0] ** 2).clamp_min(0)
        shift = torch.stack([origin[name] for name in at]).double()
        mean[component] = (shift + powers[:, 0]).float()
        std[component] = variance.sqrt().float()
    kept = {c: torch.stack([torch.stack(states[name]) for name in hooks[c]]) for c in keep}
    return Moments(mean, std, layers, positions, len(prompts)), kept


def _hook(model: TransformerBridge, component: Component, layer: int) -> str:
    require_component(component)
    if component == "head":
        raise InterpError("heads have no moments: their outputs are never formed")
    if component == "embedding":
        return hook_name(model, "resid_pre", 0)
    return hook_name(model, component, layer)


def _powers(origin: Tensor, *, with_rows: bool) -> Reducer:
    def reduce(rows: Tensor) -> Tensor:
        moved = rows.float() - origin.to(rows.device)
        return torch.stack([moved, moved * moved, *([rows.float()] if with_rows else [])], dim=1)

    return reduce
