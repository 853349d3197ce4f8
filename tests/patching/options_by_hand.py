"""Pairs with options, and option margins by two full forwards through TransformerLens's hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from interp.models.rope import reset_rope
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import random_ids, with_spans

OPTIONS = ([5, 20, 7, 9, 11], [5, 90, 33])
"""Of five and three tokens, of which they share the first."""


def option_pair(
    model: Any, options: Sequence[Sequence[int]] = OPTIONS, n: int | None = None, *, seed: int = 0
) -> PromptPair:
    """As ``rough_pair``: prompts of equal length that differ at four positions, a span per position."""
    windowed = getattr(model.original_model.config, "sliding_window", None)
    n = n or (18 if windowed else 9)
    source = random_ids(n, seed)
    destination = source.clone()
    for position in (3, 4, n // 2 + 1, n - 2):
        destination[position] = (source[position] + 17) % 300 + 50
    pair = make_pair(model, source, destination, options=(options[0], options[1]))
    spans = {f"p{i}": slice(i, i + 1) for i in range(len(pair.destination))}
    return with_spans(pair, spans, spans)


def full_texts(pair: PromptPair, prompt: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The tokens fed for each option, and the option's: the prompt ends in what both share."""
    assert pair.options is not None
    before = prompt[: len(prompt) - pair.options.n_shared]
    return [(torch.cat([before, ids[:-1]]), ids) for ids in (pair.options.a, pair.options.b)]


def mean_log_prob(logits: Tensor, ids: Tensor) -> Tensor:
    """Of an option whose tokens but the last end the tokens fed; ``logits [pos, d_vocab]``."""
    rows = logits[-len(ids) :].double().log_softmax(-1)
    return rows.gather(-1, ids[:, None]).mean()


@torch.no_grad()
def own_option_margin(model: Any, pair: PromptPair, prompt: Tensor) -> float:
    values = []
    for fed, ids in full_texts(pair, prompt):
        reset_rope(model)  # frequencies that depend on the length are those of the longest so far
        values.append(float(mean_log_prob(model(fed[None])[0], ids)))
    return values[0] - values[1]


@torch.no_grad()
def patched_option_margin(
    model: Any, pair: PromptPair, name: str, write: Callable[[Tensor, Tensor], None]
) -> float:
    """With ``write(activation, source's)`` at one hook of the prompt + option runs, in place."""
    values = []
    both = zip(
        full_texts(pair, pair.source.ids), full_texts(pair, pair.destination.ids), strict=True
    )
    for (source, ids), (destination, _) in both:
        _, cache = model.run_with_cache(source[None], names_filter=lambda hook: hook == name)

        def patch(activation: Tensor, hook: Any, clean: Tensor = cache[name]) -> Tensor:
            patched = activation.clone()
            write(patched, clean)
            return patched

        logits = model.run_with_hooks(destination[None], fwd_hooks=[(name, patch)])[0]
        values.append(float(mean_log_prob(logits, ids)))
    return values[0] - values[1]
