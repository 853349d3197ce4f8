"""The options of a choice item behind a prompt: their tokens, and the logit difference of two."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.data.items import ChoiceItem
from interp.prompts import (
    TokenizedPrompt,
    encode_option,
    margin_token,
    require_context,
    require_vocabulary,
)


def option_ids(
    model: TransformerBridge, prompt: TokenizedPrompt, text: str
) -> Int[Tensor, " more"]:
    """:func:`interp.prompts.encode_option`, refused where the model cannot run it.

    Raises:
        InterpError: prompt and answer reach beyond the context, or a token beyond the vocabulary.
    """
    ids = encode_option(model.tokenizer, prompt, text)
    require_context(prompt.label, len(prompt) + len(ids) - 1, model.cfg.n_ctx)
    require_vocabulary(model.tokenizer, prompt.label, ids, model.cfg.d_vocab)
    return ids


def contrast_margin(
    item: ChoiceItem,
    options: Sequence[Int[Tensor, " _more"]],
    row: Callable[[int, int], Float[Tensor, " d_vocab"]],
) -> float:
    """The margin, or logit difference, of the options of the contrast: logit(a) - logit(b), nats.

    It is taken at the first token that differs. ``options`` are in the item's order; ``row(k, n)``
    gives the logits that token n of option k is read from. NaN for an item without a contrast, and
    where one option begins the other.
    """
    contrast = item.contrast()
    if contrast is None:
        return math.nan
    a, b = (options[index] for index in contrast)
    at = margin_token(a, b)
    if at is None:
        return math.nan
    logits = row(contrast[0], at)
    return float(logits[a[at]] - logits[b[at]])
