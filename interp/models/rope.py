"""Rotary frequencies that depend on what ran before."""

from __future__ import annotations

from typing import Any

from transformer_lens.model_bridge import TransformerBridge


def reset_rope(model: TransformerBridge) -> None:
    """Dynamic rotary frequencies as they are in a model that has run nothing yet.

    transformers keeps those of the longest prompt so far ("dynamic" NTK scaling), so that a prompt's
    numbers would depend on its predecessors.
    """
    for module in model.original_model.modules():
        # a bridge's wrapper answers for the module inside, but its buffers are not its own
        if {"max_seq_len_cached", "rope_type"} <= vars(module).keys():
            _reset(module)


def _reset(module: Any) -> None:
    kinds = module.rope_type
    for layer_type, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
        prefix = "" if layer_type is None else f"{layer_type}_"
        own = f"{prefix}max_seq_len_cached"
        longest = getattr(module, own, module.max_seq_len_cached)
        if "dynamic" in str(kind) and longest > module.original_max_seq_len:
            first = getattr(module, f"{prefix}original_inv_freq")
            frequencies = first.to(getattr(module, f"{prefix}inv_freq").device)
            module.register_buffer(f"{prefix}inv_freq", frequencies, persistent=False)
            setattr(module, own, module.original_max_seq_len)
