"""Which classes of model can be analysed, said before weights are read.

The workbench asks what a prompt's earlier tokens do to the prediction of the next one, block by block.
So a model has to be one stack of causal blocks, for which TransformerLens has an adapter. Whether every
block has attention and an MLP that add to the residual stream shows only when it runs
(:mod:`interp.models.checks`).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge.sources.transformers import (
    determine_architecture_from_hf_config,
)
from transformer_lens.utilities.architectures import classify_architecture

from interp.errors import InterpError

_ONLY = "the workbench analyses causal decoders, which predict the next token"
_OTHERS = {
    "seq2seq": "an encoder-decoder",
    "masked_lm": "an encoder trained on masked tokens",
    "audio": "a model of sound",
    "vision": "a model of images",
}
_ENDINGS = {
    "ForMaskedLM": "masked_lm",
    "ForPreTraining": "masked_lm",
    "ForImageClassification": "vision",
    "ForAudioClassification": "audio",
    "ForCTC": "audio",
}
_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def adapted_architecture(source: str, config: Any) -> str:
    """The name under which TransformerLens adapts a causal decoder.

    Args:
        source: what is loaded, for the message.
        config: its transformers configuration.

    Raises:
        InterpError: an encoder-decoder, an encoder, a classifier, or a class without an adapter.
    """
    name = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    kind = _kind(name, config)
    if kind in _OTHERS:
        raise InterpError(f"{source}: {name} is {_OTHERS[kind]}; {_ONLY}")
    if name.endswith(_HEADS):
        raise InterpError(f"{source}: {name} predicts labels and no tokens; {_ONLY}")
    ArchitectureAdapterFactory.discover_entry_points()
    if name in ArchitectureAdapterFactory._adapters:
        return str(name)
    try:
        return str(determine_architecture_from_hf_config(config))
    except ValueError as error:
        raise InterpError(
            f"{source}: TransformerLens {version('transformer-lens')} has no adapter for the class "
            f"{name}, so its activations cannot be reached; choose a model of another class, or "
            "register an adapter (ArchitectureAdapterFactory.register_adapter)"
        ) from error


def _kind(name: str, config: Any) -> str:
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    return str(classify_architecture(name))
