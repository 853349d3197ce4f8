"""Circuits through a plain loop over TransformerLens's hooks, to hold the library against."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.circuits import CircuitNode, circuit_nodes
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import random_ids

TARGET = (20, 90)


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
    names = [
        f"blocks.{k}.{s}"
        for k in range(model.cfg.n_layers)
        for s in ("attn.hook_z", "hook_mlp_out")
    ]
    return {
        name: (
            torch.stack([cache[name][0, 0] for cache in caches]).mean(0),
            torch.cat([cache[name][0, 1:] for cache in caches]).mean(0),
        )
        for name in names
    }
