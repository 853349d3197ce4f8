"""A model, or a part of it, for a moment in a wider number type.

Two ways of computing the same number differ by rounding. In bfloat16 that is as large as many real
differences; computed in float32 from the same weights, two ways that are the same stay within 1e-5
and two that are not do not. So comparisons of half precision models are made in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

HALF = (torch.bfloat16, torch.float16)


def wider(dtype: torch.dtype) -> torch.dtype:
    """The type in which comparisons are made: float32 for the half types, else the type itself."""
    return torch.float32 if dtype in HALF else dtype


@contextmanager
def widened(tensors: Iterable[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """These weights in a wider type; their very own values are put back afterwards."""
    size = torch.finfo(dtype).bits
    before: dict[int, tuple[Tensor, Tensor]] = {}
    try:
        for tensor in tensors:
            narrow = tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < size
            if narrow and id(tensor) not in before:
                before[id(tensor)] = (tensor, tensor.data)
                tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, data in before.values():
            tensor.data = data


def weights_of(module: torch.nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


def widened_values(value: Any, dtype: torch.dtype) -> Any:
    """Floating tensors inside tuples, lists and dictionaries, in another type."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(widened_values(v, dtype) for v in value)
    if type(value) is dict:
        return {name: widened_values(v, dtype) for name, v in value.items()}
    return value


@contextmanager
def widened_model(model: TransformerBridge, dtype: torch.dtype) -> Iterator[None]:
    """A whole model in a wider type, its blocks one at a time so that little memory is needed."""
    if dtype == model.cfg.dtype:
        yield
        return
    blocks = list(model.blocks)
    inside = {id(tensor) for block in blocks for tensor in weights_of(block)}
    outside = [t for t in weights_of(model.original_model) if id(t) not in inside]
    open_now: dict[int, ExitStack] = {}

    def enter(block: torch.nn.Module, args: Any) -> None:
        stack = open_now.setdefault(id(block), ExitStack())
        stack.enter_context(widened(weights_of(block), dtype))

    def leave(block: torch.nn.Module, args: Any, out: Any) -> None:
        if id(block) in open_now:
            open_now.pop(id(block)).close()

    own = model.cfg.dtype
    with ExitStack() as stack:
        stack.enter_context(widened(outside, dtype))
        for block in blocks:
            for handle in (
                block.register_forward_pre_hook(enter),
                block.register_forward_hook(leave, always_call=True),
            ):
                stack.callback(handle.remove)
        stack.callback(setattr, model.cfg, "dtype", own)
        model.cfg.dtype = dtype
        try:
            yield
        finally:
            for left in open_now.values():
                left.close()
