"""The options of a choice item behind a prompt: their tokens and form, the logit difference of two."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

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

OptionForm = Literal["name", "the", "other", ""]
"""How the option that names a person or group begins; empty for an item without a contrast."""

_FUNCTION_WORDS = frozenset(
    ("a", "an", "this", "that", "these", "those", "some", "any", "both", "neither", "either",
     "i", "me", "my", "we", "us", "our", "you", "your", "he", "him", "his", "she", "her", "hers",
     "it", "its", "they", "them", "their", "theirs")
)  # fmt: skip
"""First words of an option that is neither a bare name or noun phrase nor "The ..."."""


def option_form(item: ChoiceItem) -> OptionForm:
    """The form of option b of the item's contrast, which names a person or group.

    ``"the"``: it begins with that word; ``"other"``: with another article, a determiner or a pronoun;
    ``"name"``: a bare name or noun phrase. An abstention (option a of ambiguous items) has no such
    form, so that the first tokens that the margin compares depend on this one.
    """
    contrast = item.contrast()
    if contrast is None:
        return ""
    words = item.choices[contrast[1]].text.split()
    first = words[0].strip(".,;:!?\"'()").lower() if words else ""
    if first == "the":
        return "the"
    return "other" if not first or first in _FUNCTION_WORDS else "name"


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
