"""Small native bridges (``TransformerBridge.boot_native``) in which nothing is neutral."""

from __future__ import annotations

from typing import Any

import torch
import transformer_lens.model_bridge.sources.native  # noqa: F401  (attaches boot_native)
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.prompts import PromptPair, make_pair

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one layer": {"n_layers": 1},
    "three layers": {"n_layers": 3},
    "other outputs": {"d_vocab_out": 5},
    "layer norm, gated": {"normalization_type": "LN", "gated_mlp": True, "act_fn": "silu"},
    "rotary, grouped": {
        "normalization_type": "RMS", "final_rms": True, "positional_embedding_type": "rotary",
        "n_heads": 4, "n_key_value_heads": 2,
    },
    "partly rotary": {"positional_embedding_type": "rotary", "rotary_dim": 4},
    "soft caps": {"output_logits_soft_cap": 3.0, "attn_scores_soft_cap": 0.5},
    "own scale": {"use_attn_scale": True, "attn_scale": 2.0},
    "short context": {"n_ctx": 5},
    "few tokens": {"d_vocab": 4, "n_ctx": 6},
}  # fmt: skip

USUAL = ("plain", "rotary, grouped", "short context")
"""Those that the fast tests run; the others are slow."""

TARGET = (1, 3)


def native(*, seed: int = 0, tokenizer: Any = None, **options: Any) -> TransformerBridge:
    """A random native bridge, biases included, as a user boots it."""
    config: dict[str, Any] = {
        "n_layers": 2, "d_model": 16, "d_head": 8, "n_heads": 2, "n_ctx": 24, "d_vocab": 11,
        "d_mlp": 32, "act_fn": "relu", "normalization_type": None, "init_weights": True,
        "initializer_range": 0.3, "seed": seed, **options,
    }  # fmt: skip
    bridge = TransformerBridge.boot_native(config, tokenizer=tokenizer)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in bridge.original_model.named_parameters():
            if name.endswith("bias"):
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return bridge


def native_pair(model: TransformerBridge, **options: Any) -> PromptPair:
    """Prompts that differ at two positions."""
    n = min(8, int(model.cfg.n_ctx))
    source, destination = ids_of(model, n, 0), ids_of(model, n, 0)
    for position in (1, n - 1):
        destination[position] = (source[position] + 1) % int(model.cfg.d_vocab)
    return make_pair(model, source, destination, target=TARGET, **options)


def ids_of(model: TransformerBridge, n: int, seed: int) -> Tensor:
    return torch.randint(
        0, int(model.cfg.d_vocab), (n,), generator=torch.Generator().manual_seed(seed)
    )
