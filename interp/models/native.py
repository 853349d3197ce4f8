"""TransformerLens's own models (``TransformerBridge.boot_native``): what tells them from others.

Small models built by hand, trained on a toy task, or compiled from a program. They have no
transformers configuration, and often no tokenizer.
"""

from __future__ import annotations

from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.native.model import NativeModel


def is_native(model: TransformerBridge) -> bool:
    """Whether the wrapped model is TransformerLens's own, without a transformers configuration."""
    return isinstance(model.original_model, NativeModel)


def n_outputs(model: TransformerBridge) -> int:
    """Logits per position: they may be others than the tokens (compiled programs)."""
    outputs = int(getattr(model.cfg, "d_vocab_out", -1))
    return outputs if is_native(model) and outputs > 0 else int(model.cfg.d_vocab)
