"""Pairs of token tensors, and margins through TransformerLens's hooks on full prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.prompts import PromptPair, make_pair
from interp.prompts.align import align

SEQUENTIAL = [
    ("gpt2", False),
    ("llama", False),
    ("qwen2", False),
    ("gemma", False),
    ("gemma2", False),
    ("gpt2", True),
    ("gemma2", True),
]
"""(architecture, compatibility mode) of tiny models with sequential blocks."""

MODELS = [*SEQUENTIAL, ("neox", False)]
N_LAYERS = 4
TARGET = (20, 90)


def name_of(parameter: tuple[str, bool]) -> str:
    return f"{parameter[0]}-{'compatibility' if parameter[1] else 'raw'}"


EVERY_ARCHITECTURE = [
    (architecture, False)
    for architecture in (
        "gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3", "neox", "opt", "phi",
    )
] + [("gpt2", True), ("llama", True), ("gemma2", True), ("neox", True)]  # fmt: skip
"""(architecture, compatibility mode) of the models of :func:`rough_model`."""

_WINDOW = {"sliding_window": 6, "random_vectors": True}
_OPTIONS: dict[str, dict[str, Any]] = {
    "gemma2": {**_WINDOW, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 5.0},
    # every second layer sees everything, with another rotary base
    "gemma3": {**_WINDOW, "sliding_window_pattern": 2},
}


def rough_model(load_tiny: Callable[..., Any], parameter: tuple[str, bool]) -> Any:
    """A tiny model in which nothing is neutral.

    Random biases and norm weights, soft caps near the scores, a window shorter than the prompts.
    """
    architecture, compatibility_mode = parameter
    options = rough_options(architecture)
    return load_tiny(architecture, compatibility_mode=compatibility_mode, **options)


def rough_options(architecture: str) -> dict[str, Any]:
    """The options of ``tiny_folder`` that make the folder of :func:`rough_model`."""
    return _OPTIONS.get(architecture, {"random_vectors": True})


def rough_pair(model: Any) -> PromptPair:
    """Prompts of equal length (longer than the window, if the model has one) that differ at four
    positions from the fourth on, one span per position."""
    windowed = getattr(model.original_model.config, "sliding_window", None)
    n = 18 if windowed else 9
    source = random_ids(n, 0)
    destination = source.clone()
    for position in (3, 4, n // 2 + 1, n - 2):
        destination[position] = (source[position] + 17) % 300 + 50
    pair = make_pair(model, source, destination, target=TARGET)
    spans = {f"p{i}": slice(i, i + 1) for i in range(n)}
    return with_spans(pair, spans, spans)


def random_ids(n: int, seed: int) -> Tensor:
    return torch.randint(100, 400, (n,), generator=torch.Generator().manual_seed(seed))


def with_spans(
    pair: PromptPair, source: dict[str, slice], destination: dict[str, slice]
) -> PromptPair:
    a, b = replace(pair.source, spans=source), replace(pair.destination, spans=destination)
    return replace(pair, source=a, destination=b, alignment=align(a, b))


@torch.no_grad()
def own_margin(model: Any, pair: PromptPair, ids: Tensor) -> float:
    assert pair.target is not None
    logits = model(ids[None])[0, -1]
    return float(logits[pair.target.a] - logits[pair.target.b])


@torch.no_grad()
def patched_by_hand(
    model: Any, pair: PromptPair, name: str, moves: Sequence[tuple[int, int]]
) -> float:
    """Margin of the full destination prompt with (source, destination) positions patched."""
    assert pair.target is not None
    _, cache = model.run_with_cache(pair.source.ids[None], names_filter=lambda n: n == name)

    def patch(activation: Tensor, hook: Any) -> Tensor:
        patched = activation.clone()
        for source, destination in moves:
            patched[0, destination] = cache[name][0, source]
        return patched

    logits = model.run_with_hooks(pair.destination.ids[None], fwd_hooks=[(name, patch)])[0, -1]
    return float(logits[pair.target.a] - logits[pair.target.b])


@torch.no_grad()
def activations(model: Any, ids: Tensor, site: str) -> list[Tensor]:
    """``hook_{site}`` of every layer, ``[pos, ...]``; of a pattern ``[pos, head, key]``."""
    inside = site in ("q", "k", "v", "z", "pattern")
    names = [
        f"blocks.{layer}.{'attn.' if inside else ''}hook_{site}"
        for layer in range(model.cfg.n_layers)
    ]
    _, cache = model.run_with_cache(ids[None], names_filter=names)
    found = [cache[name][0].clone() for name in names]
    return [rows.transpose(0, 1) for rows in found] if site == "pattern" else found


def hook_counts(model: Any) -> tuple[int, int]:
    """Hooks of TransformerLens's hook points, and of torch's modules."""
    points = model.hook_dict.values()
    return (
        sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in points),
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
    )


def tolerance(effects: Any) -> float:
    """1e-4 of the range of the effects, and never below float32's own rounding of a margin."""
    values = np.asarray(effects)
    return max(1e-4 * float(values.max() - values.min()), 5e-6)
