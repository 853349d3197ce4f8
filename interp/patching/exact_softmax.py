"""Attribution of queries and keys through the softmax itself ("QK fix" of AtP*, arXiv 2403.00745).

Where a softmax is saturated its gradient is near 0 although another query or key would change the
pattern. So the pattern that the replaced queries (or keys) give is computed, and its difference from
the destination's multiplied with the derivative of the metric by the pattern::

    effect = sum over heads, queries, keys of
             (pattern with the cell replaced - pattern) * d metric / d pattern

A cell of several positions or heads replaces all of them at once. What remains first-order is the way
from the pattern to the metric.

Cost: one forward and backward, and a forward per site, in which the queries (or keys) of every layer
are the source's and the heads' outputs the destination's, so that all layers are seen in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.packed import TOLERANCE
from interp.patching.branches import OwnForward
from interp.patching.gradients import (
    Node,
    logits_at,
    require_gradient,
    require_rules,
    rules_of,
)
from interp.patching.hooked import Hook, hook_of, require_one_prompt, supports_hook
from interp.patching.metrics import Metric, apply_metrics, reading_of
from interp.patching.plan import n_heads
from interp.patching.sites import AttributionMethod
from interp.prompts import PromptPair

SOFTMAX_SITES = ("q", "k")
"""Sites that act through the pattern alone."""


@dataclass(frozen=True, eq=False)
class _Attention:
    """A layer of one forward: scores before the softmax, and how the metrics depend on the pattern."""

    scores: Float[Tensor, "head query key"]
    replaced: Float[Tensor, "head query key"]
    gradients: Float[Tensor, "metric head query key"]


@dataclass(frozen=True, eq=False)
class SoftmaxEffects:
    """One pair's effects through the pattern; by node a layer's attention in every forward."""

    attention: Mapping[Node, Sequence[_Attention]]
    n_key_heads: int

    def of(
        self, node: Node, heads: Sequence[int], positions: Int[Tensor, " pos"]
    ) -> Float[Tensor, " metric"]:
        """The effect of replacing heads (key/value heads at ``k``) at positions of the destination."""
        site, forwards = node[0], self.attention[node]
        # of grouped keys each serves several neighbouring query heads
        serves = len(forwards[0].scores) // self.n_key_heads if site == "k" else 1
        own = [head * serves + k for head in heads for k in range(serves)]
        return torch.stack([_effect(layer, site, own, positions) for layer in forwards]).sum(0)


def _effect(
    layer: _Attention, site: str, own: list[int], positions: Int[Tensor, " pos"]
) -> Float[Tensor, " metric"]:
    before, after = layer.scores[own], layer.replaced[own]
    gradients = layer.gradients[:, own]
    if site == "q":
        before, after = before[:, positions], after[:, positions]
        gradients = gradients[:, :, positions]
    else:
        columns = torch.zeros(before.shape[-1], dtype=torch.bool)
        columns[positions] = True
        after = torch.where(columns, after, before)
    moved = torch.softmax(after, dim=-1) - torch.softmax(before, dim=-1)
    return (gradients * moved).sum(dim=(1, 2, 3))


@dataclass(frozen=True, eq=False)
class _Run:
    """A forward's attention, by layer ``[head, query, key]``, and its heads' outputs."""

    scores: dict[int, Tensor]
    patterns: dict[int, Tensor]
    z: dict[int, Tensor]
    logits: Float[Tensor, "read d_vocab"]


def softmax_effects(
    model: TransformerBridge,
    pair: PromptPair,
    nodes: Sequence[Node],
    source: Mapping[Node, Tensor],
    rows: Int[Tensor, " row"],
    metrics: Mapping[str, Metric],
    method: AttributionMethod,
) -> SoftmaxEffects:
    """What :class:`SoftmaxEffects` needs of the nodes at ``q`` and ``k``.

    ``source``: the source's queries and keys for the destination's positions ``rows``.

    Raises:
        InterpError: a pattern that is not the softmax of the scores.
    """
    reading = reading_of(pair.destination.ids, pair, metrics)
    require_one_prompt(model, reading)
    require_rules(model, method, reading.prompt)
    layers = sorted({layer for _, layer in nodes})
    runs, logits = [], []
    with torch.enable_grad():
        for forward, read in zip(reading.forwards, reading.reads(), strict=True):
            runs.append(_run(model, forward, read, layers, method))
            logits.append(runs[-1].logits)
        values = apply_metrics(metrics, torch.cat(logits)[None], pair)
    by_forward = _pattern_gradients(values, runs)
    attention: dict[Node, list[_Attention]] = {node: [] for node in nodes}
    for forward, run, gradients in zip(reading.forwards, runs, by_forward, strict=True):
        _require_softmax(model, run)
        for site in SOFTMAX_SITES:
            own = [node for node in nodes if node[0] == site]
            replaced = _replaced_scores(model, forward, run, own, source, rows)
            for node, scores in replaced.items():
                layer = node[1]
                before = run.scores[layer].detach().float().cpu()
                attention[node].append(_Attention(before, scores, gradients[layer]))
    return SoftmaxEffects(attention, n_heads(model, "k"))


def _run(
    model: TransformerBridge,
    forward: OwnForward,
    read: Tensor,
    layers: Sequence[int],
    method: AttributionMethod,
) -> _Run:
    """The destination's forward, with a graph from the first layer's pattern on."""
    found: dict[str, dict[int, Tensor]] = {"scores": {}, "pattern": {}, "z": {}}

    def keeper(kind: str, layer: int) -> Callable[..., Tensor | None]:
        def keep(activation: Tensor, hook: Any) -> Tensor | None:
            if kind != "pattern":
                found[kind][layer] = activation.detach()
                return None
            first = layer == layers[0]
            fresh = activation.detach().requires_grad_() if first else activation.clone()
            found[kind][layer] = fresh
            return fresh

        return keep

    names = {"scores": "edges", "pattern": "pattern", "z": "z"}
    hooks: list[Hook] = [
        (hook_of(name, layer), keeper(kind, layer))
        for layer in layers
        for kind, name in names.items()
    ]
    with model.hooks(fwd_hooks=hooks), rules_of(model, method):
        logits = logits_at(model, forward.ids, read)
    scores = {layer: values[0] for layer, values in found["scores"].items()}
    return _Run(scores, found["pattern"], found["z"], logits)


def _pattern_gradients(
    values: Mapping[str, Tensor], runs: Sequence[_Run]
) -> list[dict[int, Float[Tensor, "metric head query key"]]]:
    """By forward and layer the derivatives of every metric by the pattern."""
    places = [(k, layer) for k, run in enumerate(runs) for layer in run.patterns]
    patterns = [runs[k].patterns[layer] for k, layer in places]
    found: list[dict[int, list[Tensor]]] = [{layer: [] for layer in run.patterns} for run in runs]
    for name, value in values.items():
        require_gradient(name, value)
        gradients = torch.autograd.grad(
            value.sum(), patterns, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for (k, layer), gradient in zip(places, gradients, strict=True):
            found[k][layer].append(gradient[0].float().cpu())
    return [{layer: torch.stack(own) for layer, own in one.items()} for one in found]


@torch.no_grad()
def _replaced_scores(
    model: TransformerBridge,
    forward: OwnForward,
    run: _Run,
    nodes: Sequence[Node],
    source: Mapping[Node, Tensor],
    rows: Int[Tensor, " row"],
) -> dict[Node, Float[Tensor, "head query key"]]:
    """The scores of every layer with the source's queries (or keys) in the destination's stream."""
    found: dict[Node, Tensor] = {}
    if not nodes:
        return found

    def replacer(node: Node) -> Callable[..., Tensor]:
        def replace(activation: Tensor, hook: Any) -> Tensor:
            activation = activation.clone()
            activation[0, rows.to(activation.device)] = source[node].to(activation)
            return activation

        return replace

    def reader(node: Node) -> Callable[..., None]:
        def read(activation: Tensor, hook: Any) -> None:
            found[node] = activation[0].detach().float().cpu()

        return read

    def restorer(layer: int) -> Callable[..., Tensor]:
        return lambda activation, hook: run.z[layer]

    hooks: list[Hook] = []
    for node in nodes:
        site, layer = node
        hooks.append((hook_of(site, layer), replacer(node)))
        hooks.append((hook_of("edges", layer), reader(node)))
        hooks.append((hook_of("z", layer), restorer(layer)))
    with model.hooks(fwd_hooks=hooks):
        logits_at(model, forward.ids, torch.tensor([len(forward.ids) - 1]))
    return found


def require_scores(model: TransformerBridge, sites: Sequence[str]) -> None:
    """Refuse a model whose scores hooks do not show, or whose heads share a norm of q or k.

    Raises:
        InterpError: names the remedy.
    """
    if not set(SOFTMAX_SITES) & set(sites):
        raise InterpError(f"exact_softmax is for the sites q and k, not {', '.join(sites)}")
    name = type(model.original_model).__name__
    if not supports_hook(model, "edges"):
        raise InterpError(
            f"exact_softmax needs attention scores, which no hook of {name} shows: leave it out"
        )
    for block in model.blocks:
        shared = getattr(block.attn, "_qk_norm_phase", None) == "pre_reshape"
        if shared and {"q_norm", "k_norm"} & set(block.attn.submodules):
            raise InterpError(
                f"exact_softmax takes head for head, but a norm of {name} goes over the queries of "
                "all heads: leave it out"
            )


def _require_softmax(model: TransformerBridge, run: _Run) -> None:
    for layer, scores in run.scores.items():
        pattern = run.patterns[layer][0].detach().float()
        apart = float((torch.softmax(scores.float(), dim=-1) - pattern).abs().max())
        if not apart <= TOLERANCE.get(model.cfg.dtype, 1e-2):
            raise InterpError(
                f"exact_softmax: the pattern of layer {layer} of {type(model.original_model).__name__} "
                "is not the softmax of its scores (attention sinks, say): leave it out"
            )
