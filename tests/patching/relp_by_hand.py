"""Relevance patching written out: a forward that notes what it computes, and every part's rule by hand.

Nothing here differentiates: the coefficient at each site is carried from the logits down, layer by
layer, by the formula of each rule (arXiv 2508.21258), in float64, with the weights of a Hugging Face
model. A coefficient has the shape of its activation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch
from scipy.special import erf
from torch import Tensor

Linear = tuple[Tensor, Tensor | None]
"""A weight ``[in, out]`` and a bias."""


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.from_numpy(erf(x.numpy() / sqrt(2))))


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(sqrt(2 / torch.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


@dataclass
class Norm:
    """A LayerNorm (``centred``) or RMSNorm; the rule: the size of this run is a constant."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    centred: bool
    size: Tensor = field(default_factory=lambda: torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        self.size = torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps)
        out = x / self.size * self.weight
        return out if self.bias is None else out + self.bias

    def back(self, c: Tensor) -> Tensor:
        c = c * self.weight / self.size
        return c - c.mean(-1, keepdim=True) if self.centred else c


def apply(linear: Linear, x: Tensor) -> Tensor:
    return x @ linear[0] if linear[1] is None else x @ linear[0] + linear[1]


@dataclass
class Layer:
    """The weights of a block."""

    ln1: Norm
    ln2: Norm
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    up: Linear
    down: Linear
    gate: Linear | None = None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    ln1_post: Norm | None = None
    ln2_post: Norm | None = None
    cos: Tensor | None = None
    sin: Tensor | None = None


@dataclass
class Decoder:
    """A whole model: what all of its blocks share, and its ends."""

    layers: list[Layer]
    embed: Callable[[Tensor], Tensor]
    final: Norm
    unembed: Tensor
    act: Callable[[Tensor], Tensor]
    n_heads: int
    n_kv: int
    scale: float
    parallel: bool = False
    score_cap: float | None = None
    logit_cap: float | None = None


@dataclass
class Noted:
    """One run: every site's activation by ``(site, layer)``, and what the rules hold fixed."""

    sites: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    fixed: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


def run(model: Decoder, ids: Tensor) -> Noted:
    """The forward of one prompt; ``logits`` of the last position."""
    noted = Noted()
    x = model.embed(ids)
    for number, layer in enumerate(model.layers):
        noted.sites["resid_pre", number] = x
        normed = layer.ln1.forward(x)
        attn = _attend(model, layer, number, normed, noted)
        attn = attn if layer.ln1_post is None else layer.ln1_post.forward(attn)
        noted.sites["attn_out", number] = attn
        mid = x + attn
        if not model.parallel:
            noted.sites["resid_mid", number] = mid
        inside = layer.ln2.forward(x if model.parallel else mid)
        up = apply(layer.up, inside)
        gate = up if layer.gate is None else apply(layer.gate, inside)
        noted.fixed["up", number], noted.fixed["gate", number] = up, gate
        hidden = model.act(gate) if layer.gate is None else model.act(gate) * up
        mlp = apply(layer.down, hidden)
        mlp = mlp if layer.ln2_post is None else layer.ln2_post.forward(mlp)
        noted.sites["mlp_out", number] = mlp
        x = mid + mlp
        noted.sites["resid_post", number] = x
    noted.fixed["logits", 0] = raw = model.final.forward(x)[-1] @ model.unembed
    cap = model.logit_cap
    noted.logits = raw if cap is None else cap * torch.tanh(raw / cap)
    return noted


def _attend(model: Decoder, layer: Layer, number: int, normed: Tensor, noted: Noted) -> Tensor:
    n = len(normed)
    q = apply(layer.q, normed).view(n, model.n_heads, -1)
    k = apply(layer.k, normed).view(n, model.n_kv, -1)
    v = apply(layer.v, normed).view(n, model.n_kv, -1)
    noted.sites["q", number], noted.sites["k", number], noted.sites["v", number] = q, k, v
    q = q if layer.q_norm is None else layer.q_norm.forward(q)
    k = k if layer.k_norm is None else layer.k_norm.forward(k)
    q, k = _rotate(layer, q, 1), _rotate(layer, k, 1)
    noted.fixed["q", number], noted.fixed["k", number] = q, k
    wide = [x.repeat_interleave(model.n_heads // model.n_kv, dim=1) for x in (k, v)]
    scores = torch.einsum("ihd,jhd->ihj", q, wide[0]) * model.scale
    noted.fixed["scores", number] = scores
    cap = model.score_cap
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    future = torch.ones(n, n, dtype=torch.bool).triu(1)[:, None]
    pattern = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
    noted.sites["pattern", number] = pattern
    z = torch.einsum("ihj,jhd->ihd", pattern, wide[1])
    noted.sites["z", number] = z
    return apply(layer.o, z.flatten(1))


def coefficients(model: Decoder, noted: Noted, target: tuple[int, int]) -> dict[Any, Tensor]:
    """By ``(site, layer)`` what relevance propagation sends back for the margin of two tokens.

    The run has to be the model's latest, because its norms keep the sizes of that run.
    """
    found: dict[Any, Tensor] = {}
    last = len(model.layers) - 1
    a, b = (
        model.unembed[:, token] * (noted.logits[token] / noted.fixed["logits", 0][token])
        for token in target
    )
    c = torch.zeros_like(noted.sites["resid_post", last])
    c[-1] = a - b
    c = model.final.back(c)
    for number in reversed(range(last + 1)):
        layer = model.layers[number]
        found["resid_post", number] = found["mlp_out", number] = c
        into_mlp = layer.ln2.back(_mlp_back(model, layer, number, c, noted))
        mid = c if model.parallel else c + into_mlp
        found["attn_out", number] = found["resid_mid", number] = mid
        into_attention = layer.ln1.back(_attention_back(model, layer, number, mid, noted, found))
        c = mid + into_attention + (into_mlp if model.parallel else 0)
        found["resid_pre", number] = c
    return found


def _mlp_back(model: Decoder, layer: Layer, number: int, c: Tensor, noted: Noted) -> Tensor:
    c = c if layer.ln2_post is None else layer.ln2_post.back(c)
    c = c @ layer.down[0].T
    gate, up = noted.fixed["gate", number], noted.fixed["up", number]
    ratio = model.act(gate) / gate  # the identity rule
    if layer.gate is None:
        return (c * ratio) @ layer.up[0].T
    # the half rule
    return (c * up * ratio / 2) @ layer.gate[0].T + (c * model.act(gate) / 2) @ layer.up[0].T


def _attention_back(
    model: Decoder, layer: Layer, number: int, c: Tensor, noted: Noted, found: dict[Any, Tensor]
) -> Tensor:
    c = c if layer.ln1_post is None else layer.ln1_post.back(c)
    pattern = noted.sites["pattern", number]
    n, serves = len(c), model.n_heads // model.n_kv
    z = (c @ layer.o[0].T).view(n, model.n_heads, -1)
    found["z", number] = z
    v = noted.sites["v", number].repeat_interleave(serves, dim=1)
    of_v = torch.einsum("ihj,ihd->jhd", pattern, z)
    of_pattern = torch.einsum("ihd,jhd->ihj", z, v)
    found["pattern", number] = of_pattern
    # softmax and its products are propagated
    of_scores = pattern * (of_pattern - (pattern * of_pattern).sum(-1, keepdim=True))
    if model.score_cap is not None:
        raw = noted.fixed["scores", number] / model.score_cap
        of_scores = of_scores * torch.tanh(raw) / raw
    of_scores = of_scores * model.scale
    q, k = noted.fixed["q", number], noted.fixed["k", number]
    of_q = torch.einsum("ihj,jhd->ihd", of_scores, k.repeat_interleave(serves, dim=1))
    of_k = torch.einsum("ihj,ihd->jhd", of_scores, q)
    of_k, of_v = (x.view(n, model.n_kv, serves, -1).sum(2) for x in (of_k, of_v))
    of_q, of_k = _rotate(layer, of_q, -1), _rotate(layer, of_k, -1)
    of_q = of_q if layer.q_norm is None else layer.q_norm.back(of_q)
    of_k = of_k if layer.k_norm is None else layer.k_norm.back(of_k)
    found["q", number], found["k", number], found["v", number] = of_q, of_k, of_v
    parts = ((of_q, layer.q), (of_k, layer.k), (of_v, layer.v))
    return torch.stack([x.flatten(1) @ weights[0].T for x, weights in parts]).sum(0)


def _rotate(layer: Layer, x: Tensor, way: int) -> Tensor:
    """Rotary positions, or with ``way=-1`` back: a rotation's transpose is the rotation back."""
    if layer.cos is None or layer.sin is None:
        return x
    cos, sin = layer.cos[:, None], layer.sin[:, None] * way
    turned, kept = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    return torch.cat([turned * cos + torch.cat([-second, first], dim=-1) * sin, kept], dim=-1)
