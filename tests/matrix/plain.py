"""What the matrix compares with: Hugging Face's own model, run plainly."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from interp.prompts import PromptPair

LENGTH, FIRST = 16, 12
"""Tokens of the prompts of a pair, and the first that differs."""


def log_probs(logits: Tensor) -> Tensor:
    return logits.detach().float().log_softmax(-1)


def hf_log_probs(hf: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return log_probs(hf(input_ids=ids[None], use_cache=False).logits[0])


def layer_inputs(hf: Any, model: Any, pair: PromptPair, ids: Tensor) -> tuple[list[Tensor], Tensor]:
    """What enters every layer, in a graph, and the margin."""
    assert pair.target is not None
    blocks = hf.get_submodule(model.adapter.component_mapping["blocks"].name)
    states: list[Tensor] = []

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            states.append(args[0] if args[0].requires_grad else args[0].detach().requires_grad_())
            return (states[-1], *args[1:]), kwargs
        states.append(kwargs["hidden_states"])
        return args, kwargs

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks]
    try:
        logits = hf(input_ids=ids[None], use_cache=False).logits[0, -1].float()
    finally:
        for handle in handles:
            handle.remove()
    return states, logits[pair.target.a] - logits[pair.target.b]


@torch.no_grad()
def hf_sweep(model: Any, hf: Any, pair: PromptPair) -> Tensor:
    """The margin with one row of one layer's input replaced, in Hugging Face's own model."""
    assert pair.target is not None
    source, _ = layer_inputs(hf, model, pair, pair.source.ids)
    blocks = hf.get_submodule(model.adapter.component_mapping["blocks"].name)
    margins = torch.empty(len(blocks), LENGTH - FIRST)
    for layer, position in product(range(len(blocks)), range(FIRST, LENGTH)):

        def enter(module: Any, args: Any, kwargs: Any, at: tuple[int, int]) -> Any:
            hidden = (args[0] if args else kwargs["hidden_states"]).clone()
            hidden[0, at[1]] = source[at[0]][0, at[1]]
            if args:
                return (hidden, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": hidden}

        handle = blocks[layer].register_forward_pre_hook(
            partial(enter, at=(layer, position)), with_kwargs=True
        )
        try:
            logits = hf(input_ids=pair.destination.ids[None], use_cache=False).logits[0, -1]
        finally:
            handle.remove()
        margins[layer, position - FIRST] = logits[pair.target.a] - logits[pair.target.b]
    return margins
