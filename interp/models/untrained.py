"""The untrained copy of a model: its shape, tokenizer and template with fresh weights.

What a method finds in a model that has learned nothing, it finds in its own arithmetic, the prompts and
the tokenizer (a sanity check of saliency maps first: Adebayo et al. 2018, arXiv 1810.03292).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import native
from transformer_lens.model_bridge.sources.native import initialize_native_model

from interp.errors import InterpError, first_line
from interp.models.card import Provenance, attach_card, model_card
from interp.models.labels import set_token_names, token_names
from interp.models.native import is_native


def untrained_copy(model: TransformerBridge, seed: int = 0) -> TransformerBridge:
    """A model of the same shape with the weights that its library starts training from.

    On the model's device and in its dtype, raw (no weight processing), in evaluation mode, with the
    self-checks run. ``load_model("untrained:NAME")`` is the same of a model by name.

    Args:
        model: any bridge.
        seed: of the weights.

    Raises:
        InterpError: a model class that makes no fresh weights.

    Example:
        >>> untrained = untrained_copy(model)                              # doctest: +SKIP
    """
    parameter = next(model.original_model.parameters())
    device, dtype = parameter.device, parameter.dtype
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        boot = _native if is_native(model) else _of_transformers
        fresh = boot(model, seed, device, dtype)
    fresh.eval()
    names = token_names(model)
    if names is not None:
        set_token_names(fresh, names.tokens, names.outputs)
    own = model_card(model)
    attach_card(fresh, Provenance(f"untrained:{own.name}", f"fresh weights, seed {seed}", "none"))
    return fresh


def _native(
    model: TransformerBridge, seed: int, device: torch.device, dtype: torch.dtype
) -> TransformerBridge:
    config = copy.deepcopy(model.cfg)
    config.init_weights = False
    fresh = native.boot(
        config, tokenizer=model.tokenizer, device=device, dtype=dtype, model_name="untrained"
    )
    initialize_native_model(fresh.original_model, config, seed)
    return fresh


def _of_transformers(
    model: TransformerBridge, _: int, device: torch.device, dtype: torch.dtype
) -> TransformerBridge:
    wrapped: Any = model.original_model
    try:
        fresh = type(wrapped)._from_config(copy.deepcopy(wrapped.config), dtype=dtype)
    except Exception as error:
        raise InterpError(
            f"untrained_copy: {type(wrapped).__name__} makes no fresh weights ({first_line(error)})"
        ) from error
    return TransformerBridge.boot_transformers(
        model_card(model).name, hf_model=fresh.to(device), tokenizer=model.tokenizer, dtype=dtype
    )
