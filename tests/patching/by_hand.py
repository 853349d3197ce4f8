"""Pairs of token tensors, and margins through TransformerLens's hooks on full prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.prompts import PromptPair
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


def tolerance(effects: Any) -> float:
    """1e-4 of the range of the effects, and never below float32's own rounding of a margin."""
    values = np.asarray(effects)
    return max(1e-4 * float(values.max() - values.min()), 5e-6)
