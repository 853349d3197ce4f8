"""Components: which hook holds a part of the residual stream, and its products with directions.

==============  =======================================================================
``embedding``   what enters layer 0: tokens, positions, embedding norm and scale
``head``        each attention head's output, ``z @ W_O[head]``
``attn_bias``   the attention's output bias, where it has one (a part of ``head`` readings)
``attn_out``    a layer's attention: its heads and its bias
``mlp_out``     a layer's MLP, its biases included
``resid_pre``   the residual stream before, between and after a layer's attention and
``resid_mid``   MLP (parallel blocks have no ``resid_mid``)
``resid_post``
==============  =======================================================================

A :class:`ComponentReader` is a hook with a *reduction* for :func:`interp.activations.stream`: inside the
hook the rows become a few numbers per direction, and nothing else is kept. A head's product with a
direction v is ``z @ (W_O[head] @ v)`` and its norm ``z (W_O W_O^T) z``, so that no head's output of
width ``d_model`` is ever formed.

Blocks that normalise the attention's output before it is added (Gemma 2 and 3) have head terms by
the *frozen norm* of the run: the output is divided by the RMS it has as a whole, all heads and the
bias together, and multiplied by the norm's gain. Both are linear once the RMS is taken as given, so
the terms add up to ``attn_out`` exactly; they do not say what would happen to the scale without a
head. A norm that centres its input or adds a bias there is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations.hooks import hook_name
from interp.activations.layout import require_layout
from interp.activations.stream import Reducer
from interp.directions.names import COMPONENTS, Component
from interp.errors import InterpError

Vectors: TypeAlias = Float[Tensor, "direction d_model"]

DOT, COSINE, STANDARDISED = range(3)
"""Measures on the third axis of a reading's rows; the last one only where moments were given."""

_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class ComponentReader:
    """One hook and what is kept of its rows: ``[row, part, measure, direction]``.

    ``parts`` names the second axis as (component, head): one part with head -1, or a layer's heads
    followed by its ``attn_bias`` where it has one.
    """

    layer: int
    hook: str
    parts: tuple[tuple[str, int], ...]
    reduce: Reducer


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Mean and standard deviation of every dimension of one component at one layer."""

    mean: Float[Tensor, " d_model"]
    std: Float[Tensor, " d_model"]


def component_reader(
    model: TransformerBridge,
    component: Component,
    layer: int,
    vectors: Vectors,
    *,
    standard: Standardisation | None = None,
) -> ComponentReader:
    """How one component at one layer is read against some directions.

    Args:
        model: a bridge.
        component: see the module; ``embedding`` is read at layer 0 only.
        layer: of which block.
        vectors: the directions; dot products are with them as they are.
        standard: adds the standardised cosine, ``cos((h - mean) / std, v / std)``. A direction is a
            displacement, so it is divided and not shifted. Dimensions that do not vary are left out.

    Raises:
        InterpError: an unknown component or layer, one that the blocks do not have, a norm after
            attention that cannot be split, or standardised heads.
    """
    require_component(component)
    if component == "head":
        if standard is not None:
            raise InterpError("heads have no standardised cosine: their outputs are never formed")
        return _head_reading(model, layer, vectors)
    if component == "embedding" and layer != 0:
        raise InterpError(f"the embedding is read at layer 0, not at layer {layer}")
    site = "resid_pre" if component == "embedding" else component
    hook = hook_name(model, site, layer)
    return ComponentReader(layer, hook, ((component, -1),), _rows(vectors, standard))


def require_component(component: str) -> None:
    """Refuse a name that is no component."""
    if component not in COMPONENTS:
        raise InterpError(f"no component {component!r}; known: {', '.join(COMPONENTS)}")


def _rows(vectors: Vectors, standard: Standardisation | None) -> Reducer:
    norms = vectors.norm(dim=-1)
    if standard is not None:
        inverse = torch.where(standard.std > 0, 1 / standard.std, 0.0)
        scaled = vectors * inverse
        scaled_norms = scaled.norm(dim=-1)

    def reduce(rows: Tensor) -> Tensor:
        rows = rows.float()
        to = rows.device
        dots = _dots(rows, vectors.to(to))
        cosines = dots / (rows.norm(dim=-1, keepdim=True) * norms.to(to)).clamp_min(_TINY)
        measures = [dots, cosines]
        if standard is not None:
            centred = (rows - standard.mean.to(to)) * inverse.to(to)
            lengths = centred.norm(dim=-1, keepdim=True) * scaled_norms.to(to)
            measures.append(_dots(centred, scaled.to(to)) / lengths.clamp_min(_TINY))
        return torch.stack(measures, dim=1)[:, None]

    return reduce


def _dots(rows: Tensor, vectors: Tensor) -> Float[Tensor, "row direction"]:
    """``rows @ vectors.T`` row by row: equal rows give equal bits, as in a matrix product they don't."""
    return torch.stack([(rows * vector).sum(-1) for vector in vectors], dim=-1)


@torch.no_grad()
def _head_reading(model: TransformerBridge, layer: int, vectors: Vectors) -> ComponentReader:
    """Heads and bias of a layer: a few numbers each, whatever ``d_model``."""
    if not 0 <= layer < model.cfg.n_layers:
        raise InterpError(f"layer {layer} is outside 0..{model.cfg.n_layers - 1}")
    block = model.blocks[layer]
    weights = getattr(block.attn, "W_O", None)
    if weights is None:
        raise InterpError(
            f"the attention of {type(model.original_model).__name__} has no output weights per head "
            "(W_O): heads cannot be read on it; read attn_out instead"
        )
    out = weights.detach().float()
    hook = f"blocks.{layer}.attn.hook_z"
    heads = "heads cannot be read on it; read attn_out instead"
    require_layout(model, [hook], lambda n: (1, n, *out.shape[:2]), heads)
    has_bias = block.attn.b_O is not None
    bias = block.attn.b_O.detach().float() if has_bias else out.new_zeros(out.shape[-1])
    norm = getattr(block, "ln1_post", None)
    gain = out.new_ones(out.shape[-1]) if norm is None else _gain(norm)
    scaled = out * gain
    on_device = vectors.to(out)
    seen = scaled @ on_device.T  # [head, d_head, direction]
    gram = scaled @ scaled.transpose(-1, -2)
    norms = on_device.norm(dim=-1)
    of_bias, size_of_bias = (bias * gain) @ on_device.T, (bias * gain).norm()
    epsilon = None if norm is None else _epsilon(norm)

    def reduce(rows: Tensor) -> Tensor:
        z = rows.float()
        dots = torch.einsum("rhd,hdk->rhk", z, seen)
        sizes = torch.einsum("rhd,hde,rhe->rh", z, gram, z).clamp_min(0).sqrt()
        if has_bias:
            dots = torch.cat([dots, of_bias.expand(len(z), 1, -1)], dim=1)
            sizes = torch.cat([sizes, size_of_bias.expand(len(z), 1)], dim=1)
        cosines = dots / (sizes[..., None] * norms).clamp_min(_TINY)
        if epsilon is not None:
            whole = torch.einsum("rhd,hdm->rm", z, out) + bias
            dots = dots / (whole.pow(2).mean(-1) + epsilon).sqrt()[:, None, None]
        return torch.stack([dots, cosines], dim=2)

    parts = [("head", head) for head in range(len(out))] + [("attn_bias", -1)] * has_bias
    return ComponentReader(layer, hook, tuple(parts), reduce)


def _gain(norm: Any) -> Float[Tensor, " d_model"]:
    """What the norm multiplies by; Gemma's weights are kept as differences from one."""
    if not hasattr(norm, "uses_rms_norm"):
        raise InterpError(
            f"the norm after attention is a {type(norm).__name__}, which is not known to be linear "
            "at a fixed scale: read attn_out instead of heads"
        )
    if not norm.uses_rms_norm:
        raise InterpError(
            "the norm after attention centres its input (a LayerNorm), so its output is no sum of "
            "heads: read attn_out instead"
        )
    weight = norm.weight.detach().float()
    return 1.0 + weight if norm.uses_weight_offset else weight


def _epsilon(norm: Any) -> float:
    wrapped = norm.original_component
    for owner, name in ((wrapped, "eps"), (wrapped, "variance_epsilon"), (norm.config, "eps")):
        value = getattr(owner, name, None)
        if value is not None:
            return float(value)
    raise InterpError("the norm after attention names no epsilon: read attn_out instead of heads")
