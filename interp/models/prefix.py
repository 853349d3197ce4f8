"""Keys and values kept of tokens that have been read, so that what follows needs no second reading.

They are kept in full on every layer, also on layers with a sliding window, where the mask alone
keeps far tokens out: so a prefix can be cut back to any length, which the windowed caches of
Hugging Face cannot.

Hooks on the model act in every forward, and so on what is kept: do not use a prefix under other
hooks or other weights than those it was made with.

Cost: ``2 * layers * key-value heads * d_head`` numbers per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache


@dataclass(frozen=True, eq=False)
class CachedPrefix:
    """Token ids, and their keys and values per layer, ``[1, key-value head, pos, d_head]`` each."""

    ids: Int[Tensor, " pos"]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def shared_with(self, ids: Int[Tensor, " other"]) -> int:
        """Length of the longest common prefix with other ids."""
        n = min(len(ids), len(self.ids))
        differs = (self.ids[:n] != ids[:n]).nonzero()
        return int(differs[0]) if len(differs) else n


def cache_of(prefixes: Sequence[CachedPrefix], length: int) -> DynamicCache:
    """A cache whose rows are the first ``length`` tokens of these prefixes; empty for length 0."""
    cache = DynamicCache()
    if length:
        for layer in range(len(prefixes[0].layers)):
            keys, values = (
                torch.cat([prefix.layers[layer][side][:, :, :length] for prefix in prefixes])
                for side in (0, 1)
            )
            cache.update(keys, values, layer)
    return cache


def kept_of(cache: Any, ids: Int[Tensor, " pos"], row: int = 0) -> CachedPrefix:
    """What a cache holds of one of its rows, whose tokens are ``ids``."""
    layers = tuple(
        (layer.keys[row : row + 1], layer.values[row : row + 1]) for layer in cache.layers
    )
    return CachedPrefix(ids, layers)
