"""Interchange interventions by TransformerLens's hooks, to hold the truth against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.known import Truth, TruthNode, load_known, names
from interp.prompts import PromptPair, make_pair
from interp.stats import rng

VARIANTS: dict[str, dict[str, Any]] = {
    "compiled": {},
    "rotated": {"rotated": True},
    "rotated, noise": {"rotated": True, "noise": 2.0},
}


QUICK = ("copy_previous", "early_rewrite", "relayed_flag", "decodable_unused")
"""A head that copies, an MLP that rewrites, a chain of nodes, a node that nothing reads."""


def of_programs(variants: Sequence[str] | None = None) -> list[Any]:
    """Cases by program, and variant where these are given; those of :data:`QUICK` are not slow."""
    cases = (
        [(name, v) for name in names() for v in variants]
        if variants
        else [(name,) for name in names()]
    )
    return [
        pytest.param(*case, marks=() if case[0] in QUICK else pytest.mark.slow) for case in cases
    ]


@cache
def known(name: str, variant: str = "compiled") -> tuple[TransformerBridge, Truth]:
    """A known model; tests leave it as it is."""
    return load_known(name, **VARIANTS[variant])


def random_pairs(
    truth: Truth, n: int, keep: Callable[[Tensor, Tensor], bool] = lambda a, b: True
) -> list[tuple[Tensor, Tensor]]:
    """``n`` pairs of inputs, or fewer where no more are kept."""
    inputs, generator = truth.inputs(), rng(0, "pairs", truth.name)
    drawn = (
        (inputs[int(a)], inputs[int(b)]) for a, b in generator.integers(len(inputs), size=(4000, 2))
    )
    return list(islice((pair for pair in drawn if keep(*pair)), n))


def answers_differ(truth: Truth) -> Callable[[Tensor, Tensor], bool]:
    return lambda a, b: truth.answer(a) != truth.answer(b)


def pair_of(model: TransformerBridge, truth: Truth, source: Tensor, to: Tensor) -> PromptPair:
    target = truth.target(truth.answer(source), truth.answer(to))
    return make_pair(model, source, to, target=target, spans=truth.spans)


@torch.no_grad()
def last_logits(model: TransformerBridge, ids: Tensor) -> Tensor:
    return model(ids)[:, -1]


@torch.no_grad()
def interchanged(
    model: TransformerBridge,
    ids: Tensor,
    source: Tensor,
    nodes: Sequence[TruthNode],
    positions: Sequence[int],
) -> Tensor:
    """Last logits ``[batch, d_vocab]`` with the nodes' outputs taken from the source's run."""
    names = {node.hook for node in nodes}
    _, cache = model.run_with_cache(source, names_filter=lambda name: name in names)
    where = list(positions)

    def setter(node: TruthNode) -> Callable[[Tensor, Any], Tensor]:
        def write(activation: Tensor, hook: Any) -> Tensor:
            patched = activation.clone()
            if node.head is None:
                patched[:, where] = cache[node.hook][:, where]
            else:
                patched[:, where, node.head] = cache[node.hook][:, where, node.head]
            return patched

        return write

    hooks = [(node.hook, setter(node)) for node in nodes]
    return model.run_with_hooks(ids, fwd_hooks=hooks)[:, -1]
