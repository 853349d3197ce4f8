"""Hooks that move states along a direction, or take a direction out of them, for a while.

A hook acts on every position of everything that runs inside the context: scoring, reads, patching
and generation. It leaves with the context, also after an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations.hooks import hook_name
from interp.activations.sites import Site
from interp.errors import InterpError


@contextmanager
def add_vector(
    model: TransformerBridge, site: Site, layer: int, step: Float[Tensor, " d_model"]
) -> Iterator[None]:
    """Add ``step`` to every state at a site and layer.

    At ``resid_mid`` it is added to the attention's output, of which the residual stream there is
    the sum with ``resid_pre``: a write to TransformerLens's ``hook_resid_mid`` reaches the MLP only.
    """
    hook_name(model, site, layer)  # refuses resid_mid of parallel blocks
    written: Site = "attn_out" if site == "resid_mid" else site

    def add(activation: Tensor, hook: Any) -> Tensor:
        return activation + step.to(activation)

    with model.hooks(fwd_hooks=[(hook_name(model, written, layer), add)]):
        yield


@contextmanager
def ablate_vectors(
    model: TransformerBridge,
    places: Sequence[tuple[Site, int, Float[Tensor, " d_model"], float]],
) -> Iterator[None]:
    """Set the component along unit vectors to given values: ``(site, layer, vector, value)`` each.

    Raises:
        InterpError: ``resid_mid``, which hooks cannot set.
    """
    hooks = []
    for site, layer, vector, value in places:
        if site == "resid_mid":
            raise InterpError(
                "resid_mid cannot be set by a hook (the skip connection goes past it): ablate a "
                "direction of resid_pre, resid_post, attn_out or mlp_out"
            )
        hooks.append((hook_name(model, site, layer), _setter(vector, value)))
    with model.hooks(fwd_hooks=hooks):
        yield


def _setter(vector: Tensor, value: float) -> Callable[..., Tensor]:
    def set_component(activation: Tensor, hook: Any) -> Tensor:
        axis = vector.to(activation.device)
        component = activation.float() @ axis
        return activation - torch.einsum("...,d->...d", component - value, axis).to(activation)

    return set_component
