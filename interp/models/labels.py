"""What a token is called: by the tokenizer, by names given to a model without one, or by its number.

A model that was compiled from a program, or trained on a toy task, has no tokenizer: prompts are token
tensors, and the names come from the program. Its outputs may be others than its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.native import n_outputs


@dataclass(frozen=True)
class TokenNames:
    """The text of every token id, and of every row of logits."""

    tokens: tuple[str, ...]
    outputs: tuple[str, ...]


_named: WeakKeyDictionary[TransformerBridge, TokenNames] = WeakKeyDictionary()


def set_token_names(
    model: TransformerBridge, tokens: Sequence[str], outputs: Sequence[str] | None = None
) -> None:
    """Name the tokens of a model without a tokenizer, in the order of their ids.

    Args:
        model: a bridge without a tokenizer.
        tokens: a name for each token id.
        outputs: a name for each row of logits, where these are not the tokens.

    Raises:
        InterpError: a model with a tokenizer, or another number of names than tokens or outputs.

    Example:
        >>> set_token_names(model, ["BOS", "a", "b"])     # doctest: +SKIP
    """
    if model.tokenizer is not None:
        raise InterpError("set_token_names: this model has a tokenizer, which names its tokens")
    outputs = tokens if outputs is None else outputs
    for what, names, wanted in (
        ("tokens", tokens, int(model.cfg.d_vocab)),
        ("outputs", outputs, n_outputs(model)),
    ):
        if len(names) != wanted:
            raise InterpError(f"set_token_names: {len(names)} names for {wanted} {what}")
    _named[model] = TokenNames(tuple(map(str, tokens)), tuple(map(str, outputs)))


def token_names(model: TransformerBridge) -> TokenNames | None:
    """The names given by :func:`set_token_names`; None where there are none."""
    return _named.get(model)
