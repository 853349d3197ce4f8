"""Models: loading, the weights catalogue, provenance, self-checks, and the packed forward pass."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.models.card import ModelCard, Provenance, model_card
    from interp.models.catalogue import (
        DEFAULT_MODEL,
        ModelEntry,
        fetch_model,
        model_entry,
        model_names,
    )
    from interp.models.chat_template import (
        TEMPLATE_DATE,
        set_template_date,
        template_facts,
    )
    from interp.models.checks import Check, run_checks
    from interp.models.fingerprint import weights_fingerprint
    from interp.models.forward import Outputs, Place, Write, forward
    from interp.models.labels import TokenNames, set_token_names, token_names
    from interp.models.load import load_model, load_tokenizer
    from interp.models.packed import supports_packing
    from interp.models.tree import PackedPrompts, pack
    from interp.models.untrained import untrained_copy

__all__ = [
    "DEFAULT_MODEL",
    "TEMPLATE_DATE",
    "Check",
    "ModelCard",
    "ModelEntry",
    "Outputs",
    "PackedPrompts",
    "Place",
    "Provenance",
    "TokenNames",
    "Write",
    "fetch_model",
    "forward",
    "load_model",
    "load_tokenizer",
    "model_card",
    "model_entry",
    "model_names",
    "pack",
    "run_checks",
    "set_template_date",
    "set_token_names",
    "supports_packing",
    "template_facts",
    "token_names",
    "untrained_copy",
    "weights_fingerprint",
]

attach(__name__)
