"""States: the vectors of chosen sites at one place of many prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations.hooks import hook_name
from interp.activations.sites import Site
from interp.activations.stream import MAX_BYTES, readable, resolve_places, stream
from interp.display import short_repr
from interp.errors import InterpError
from interp.prompts import Given


@dataclass(frozen=True, eq=False)
class States:
    """Activations of one site: ``values[layer, prompt]`` is a vector of width ``d_model``.

    ``layers`` names the layer of each row.
    """

    values: Float[Tensor, "layer prompt d_model"]
    layers: tuple[int, ...]
    site: Site

    __repr__ = short_repr


def read_states(
    model: TransformerBridge,
    prompts: Given | Sequence[Given],
    *,
    site: Site = "resid_post",
    positions: str | Sequence[int] = "last",
    layers: Sequence[int] | None = None,
    progress: bool = True,
) -> States:
    """The site's vector at one place of every prompt, at every layer.

    Args:
        model: a bridge in evaluation mode.
        prompts: one or several of: a prompt, a pair (its source), a text, chat messages, token ids.
        site: which activation.
        positions: ``last``, ``mean``, a span (its mean) or ``span:last``; or one position per
            prompt (negative ones count from its end). See :mod:`interp.activations.places`.
        layers: which layers; None reads all.
        progress: show a bar.

    Returns:
        :class:`States` in float32 on the CPU: what is asked for is all that is kept.

    Raises:
        InterpError: no prompts, one without tokens or beyond the context, unknown site or layer,
            positions that do not match the prompts or are several per prompt.
        NotFiniteError: an activation that is not finite (names hook and prompt).
    """
    return read_sites(
        model, prompts, sites=[site], positions=positions, layers=layers, progress=progress
    )[site]


def read_sites(
    model: TransformerBridge,
    prompts: Given | Sequence[Given],
    *,
    sites: Sequence[Site],
    positions: str | Sequence[int] = "last",
    layers: Sequence[int] | None = None,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> dict[Site, States]:
    """:func:`read_states` of several sites, every prompt run once."""
    prompts = readable(model, prompts)
    layers = tuple(range(model.cfg.n_layers)) if layers is None else tuple(layers)
    names = {site: [hook_name(model, site, layer) for layer in layers] for site in sites}
    if not layers or not sites:
        raise InterpError("no layers or sites to read: the list is empty")
    if any(
        len(p.positions) > 1 and not p.averaged for p in resolve_places(model, prompts, positions)
    ):
        raise InterpError(
            f"positions {positions!r} are several per prompt: choose last, mean, a span or span:last"
        )
    values = {
        site: torch.empty(len(layers), len(prompts), int(model.cfg.d_model)) for site in sites
    }
    for index, found in stream(
        model,
        prompts,
        dict.fromkeys(name for at_site in names.values() for name in at_site),
        positions=positions,
        max_bytes=max_bytes,
        progress=progress,
        description=f"reading {', '.join(sites)}",
    ):
        for site, at_site in names.items():
            values[site][:, index] = torch.stack([found[name][0] for name in at_site])
    return {site: States(values[site], layers, site) for site in sites}
