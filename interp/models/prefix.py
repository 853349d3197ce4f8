"""The KV cache of a prefix: what follows reuses its keys and values and computes only new tokens.

It is kept in full on every layer, also on layers with a sliding window, where the mask alone
keeps far tokens out: so a prefix can be cut back to any length, which the windowed caches of
Hugging Face cannot.

Hooks on the model act in every forward, and so on the cache: a prefix is of use only under the hooks
and weights that it was made with, its ``state``.

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

from interp.models.verdicts import State


@dataclass(frozen=True, eq=False)
class CachedPrefix:
    """Token ids, and their keys and values per layer, ``[1, key-value head, pos, d_head]`` each.

    ``state``: the model's at the time (:func:`interp.models.verdicts.model_state`), None where the
    prefix does not outlive the call that made it.
    """

    ids: Int[Tensor, " pos"]
    layers: tuple[tuple[Tensor, Tensor], ...]
    state: State | None = None

    def shared_with(self, ids: Int[Tensor, " other"]) -> int:
        """Length of the longest common prefix with other ids."""
        n = min(len(ids), len(self.ids))
        differs = (self.ids[:n] != ids[:n]).nonzero()
        return int(differs[0]) if len(differs) else n


def build_cache(prefixes: Sequence[CachedPrefix], lengths: Sequence[int]) -> DynamicCache:
    """A cache whose rows are the first tokens of these prefixes, as many as ``lengths`` says.

    Shorter rows are filled up with zeros in front, which a mask has to leave out. Empty without
    tokens.
    """
    cache = DynamicCache()
    longest = max(lengths, default=0)
    if longest:
        for layer in range(len(prefixes[0].layers)):
            keys, values = (
                torch.cat(
                    [
                        _filled(prefix.layers[layer][side][:, :, :length], longest)
                        for prefix, length in zip(prefixes, lengths, strict=True)
                    ]
                )
                for side in (0, 1)
            )
            cache.update(keys, values, layer)
    return cache


def prefix_from_cache(
    cache: Any, ids: Int[Tensor, " pos"], row: int = 0, state: State | None = None
) -> CachedPrefix:
    """What a cache holds of one of its rows, whose last tokens are ``ids``."""
    start = cache.get_seq_length() - len(ids)
    layers = tuple(
        (layer.keys[row : row + 1, :, start:], layer.values[row : row + 1, :, start:])
        for layer in cache.layers
    )
    return CachedPrefix(ids, layers, state)


def _filled(states: Tensor, length: int) -> Tensor:
    """``states [1, head, pos, d_head]`` with zeros in front, up to ``length`` positions."""
    missing = length - states.shape[2]
    return torch.nn.functional.pad(states, (0, 0, missing, 0)) if missing else states
