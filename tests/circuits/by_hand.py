"""Circuits through a plain loop over TransformerLens's hooks, to hold the library against."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits import CircuitEdge, CircuitNode, circuit_nodes
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import random_ids

TARGET = (20, 90)
SITES = ("attn.hook_z", "hook_mlp_out")


def prompts(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two prompts of equal length that differ at the fourth and the sixth position."""
    source = random_ids(n, seed)
    destination = source.clone()
    destination[[3, 5]] = (source[[3, 5]] + 17) % 300 + 50
    return source, destination


def pairs_of(model: TransformerBridge, n: int = 3) -> list[PromptPair]:
    return [make_pair(model, *prompts(8 + k, k), target=TARGET) for k in range(n)]


@torch.no_grad()
def margin_of(
    model: TransformerBridge,
    pair: PromptPair,
    circuit: Collection[CircuitNode],
    ablation: str,
    mean: dict[str, tuple[Tensor, Tensor]] | None = None,
) -> float:
    """The margin of the source prompt where all nodes outside the circuit are ablated one by one."""
    ids = pair.source.ids[None]
    _, cache = model.run_with_cache(pair.destination.ids[None])
    hooks = []
    for node in circuit_nodes(model):
        if node in circuit:
            continue
        site = "hook_mlp_out" if node.head is None else "attn.hook_z"
        name = f"blocks.{node.layer}.{site}"

        def write(
            activation: Tensor, hook: Any, node: CircuitNode = node, name: str = name
        ) -> Tensor:
            patched = activation.clone()
            for position in range(ids.shape[1]):
                if ablation == "resample":
                    value = cache[name][0, position]
                elif ablation == "mean":
                    assert mean is not None
                    value = mean[name][0 if position == 0 else 1]
                else:
                    value = torch.zeros_like(activation[0, position])
                if node.head is None:
                    patched[0, position] = value
                else:
                    patched[0, position, node.head] = value[node.head]
            return patched

        hooks.append((name, write))
    logits = model.run_with_hooks(ids, fwd_hooks=hooks)[0, -1].float()
    assert pair.target is not None
    return float(logits[pair.target.a] - logits[pair.target.b])


@torch.no_grad()
def means_of(model: TransformerBridge, pairs: list[PromptPair]) -> dict[str, tuple[Tensor, Tensor]]:
    """By hook, the placebos' mean output at the first position and at all others."""
    caches = [model.run_with_cache(pair.destination.ids[None])[1] for pair in pairs]
    names = [f"blocks.{k}.{s}" for k in range(model.cfg.n_layers) for s in SITES]
    names.append("blocks.0.hook_resid_pre")
    return {
        name: (
            torch.stack([cache[name][0, 0] for cache in caches]).mean(0),
            torch.cat([cache[name][0, 1:] for cache in caches]).mean(0),
        )
        for name in names
    }


@torch.no_grad()
def edge_margin_of(
    model: TransformerBridge,
    pair: PromptPair,
    circuit: Collection[CircuitEdge],
    ablation: str,
    mean: dict[str, tuple[Tensor, Tensor]] | None = None,
) -> float:
    """The margin of the source prompt where receivers read ablated outputs along all other edges.

    One receiver after the other, each in runs of its own: the whole stream before its layer is set to
    what it reads, and what it makes of that is noted.
    """
    ids, n_heads = pair.source.ids[None], model.cfg.n_heads
    kept = {(edge.source, edge.destination, edge.input) for edge in circuit}
    n_kv = getattr(model.cfg, "n_key_value_heads", None) or n_heads

    def run(hooks: dict[str, Tensor], *read: str) -> list[Tensor]:
        found: dict[str, Tensor] = {}

        def setter(value: Tensor) -> Any:
            return lambda activation, hook: value.to(activation).expand_as(activation).clone()

        def reader(name: str) -> Any:
            return lambda activation, hook: found.__setitem__(name, activation.clone())

        own = [(name, setter(value)) for name, value in hooks.items()]
        own += [(name, reader(name)) for name in read]
        found["logits"] = model.run_with_hooks(ids, fwd_hooks=own)
        return [found[name] for name in (*read, "logits")]

    names = ["blocks.0.hook_resid_pre"]
    names += [f"blocks.{k}.{s}" for k in range(model.cfg.n_layers) for s in SITES]
    _, cache = model.run_with_cache(pair.destination.ids[None])
    put = {}
    for name in names:
        value = cache[name]
        if ablation == "zero":
            value = torch.zeros_like(value)
        if ablation == "mean":
            assert mean is not None
            value = torch.stack([mean[name][int(p > 0)] for p in range(ids.shape[1])])[None]
        put[name] = value
    given = {names[0]: run({}, names[0])[0]}

    def stream(receiver: str, kind: str, layers: int, heads_too: bool) -> Tensor:
        """What a receiver reads: all of the first layers, and the next one's heads."""

        def of(sender: str, name: str) -> Tensor:
            return (given if (sender, receiver, kind) in kept else put)[name]

        total = of("embed", names[0])
        for k in range(layers + heads_too):
            z = f"blocks.{k}.attn.hook_z"
            heads = [of(f"L{k}H{h}", z)[:, :, h] for h in range(n_heads)]
            out = f"blocks.{k}.hook_attn_out"
            total = total + run({z: torch.stack(heads, dim=2)}, out)[0]
            if k < layers:
                total = total + of(f"L{k} MLP", f"blocks.{k}.hook_mlp_out")
        return total

    nothing = torch.zeros(1)
    for k in range(model.cfg.n_layers):
        pre, z = f"blocks.{k}.hook_resid_pre", f"blocks.{k}.attn.hook_z"
        projected = {}
        for kind, n in (("q", n_heads), ("k", n_kv), ("v", n_kv)):
            hook, heads = f"blocks.{k}.attn.hook_{kind}", []
            for h in range(n):
                label = f"L{k}H{h}" if kind == "q" or n_kv == n_heads else f"L{k}KV{h}"
                heads.append(run({pre: stream(label, kind, k, False)}, hook)[0][:, :, h])
            projected[hook] = torch.stack(heads, dim=2)
        given[z] = run(projected, z)[0]
        parallel = bool(getattr(model.cfg, "parallel_attn_mlp", False))
        read = stream(f"L{k} MLP", "mlp", k, not parallel)
        out = f"blocks.{k}.hook_mlp_out"
        given[out] = run({pre: read, f"blocks.{k}.hook_attn_out": nothing}, out)[0]
    last = model.cfg.n_layers - 1
    hooks = {f"blocks.{last}.hook_{s}": nothing for s in ("attn_out", "mlp_out")}
    hooks[f"blocks.{last}.hook_resid_pre"] = stream("logits", "logits", last + 1, False)
    logits = run(hooks)[0][0, -1].float()
    assert pair.target is not None
    return float(logits[pair.target.a] - logits[pair.target.b])
