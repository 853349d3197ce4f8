"""The model inside a bridge: its logits and its configuration, whatever library it comes from.

transformers' classes answer with an output object, compute the rows of logits that they are asked for,
and have a ``config``. TransformerLens's own (``TransformerBridge.boot_native``: small models built by
hand, Tracr's compiled programs) answer with all logits as a plain tensor, know no KV cache and take
any other argument without a word. So every room runs the wrapped model through here.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.models.native import is_native


def wrapped_logits(
    model: TransformerBridge,
    input_ids: Int[Tensor, "batch pos"],
    *,
    logits_to_keep: int | Int[Tensor, " wanted"] | None = None,
    **kwargs: Any,
) -> Float[Tensor, "batch row d_vocab_out"]:
    """Logits of the wrapped model, in its own dtype.

    Args:
        model: a bridge.
        input_ids: on the model's device.
        logits_to_keep: positions of the rows wanted, or the number of last ones; None: all.
        kwargs: for the wrapped model (mask, position ids, KV cache); no cache is used by default.

    Raises:
        TypeError: a KV cache for a model that knows none.
    """
    kwargs = {"use_cache": False, **kwargs}
    if is_native(model):
        if kwargs.get("past_key_values") is not None:
            raise TypeError(f"{type(model.original_model).__name__} knows no KV cache")
        return _rows(model.original_model(input_ids, **kwargs), logits_to_keep)
    if logits_to_keep is not None:
        kwargs["logits_to_keep"] = logits_to_keep
    return model.original_model(input_ids=input_ids, **kwargs).logits


def text_config(model: TransformerBridge) -> Any:
    """The configuration of the wrapped language model: transformers', or the bridge's own."""
    return model.cfg if is_native(model) else model.original_model.config.get_text_config()


def _rows(logits: Tensor, wanted: int | Tensor | None) -> Tensor:
    if wanted is None or (isinstance(wanted, int) and wanted == 0):  # 0 is all, as in transformers
        return logits
    if isinstance(wanted, int):
        return logits[:, -wanted:]
    return logits[:, torch.as_tensor(wanted, device=logits.device)]
