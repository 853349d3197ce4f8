"""Raw sentences -> token ids: what directions are fitted on and likelihoods are measured of."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.data.items import LabelledText
from interp.errors import InterpError
from interp.models.labels import token_names
from interp.parsing import require_unicode
from interp.prompts.tokenizer import require_tokenizer
from interp.prompts.tokens import (
    bos_ids,
    encode_names,
    require_context,
    require_vocabulary,
)

_CLOSING_MARKS = re.compile(r"[\s.!?…;:,\"'”’)\]]+$")


def sentence_ids(
    model: TransformerBridge, texts: Sequence[LabelledText]
) -> list[Int[Tensor, " _pos"]]:
    """Token ids of raw sentences that all end in the same token: the full stop.

    Closing marks are taken off and the full stop is encoded by itself, so that the last token says
    nothing about the sentence. One BOS is put in front where the tokenizer has one.

    For a model whose tokens were given names (:func:`interp.models.set_token_names`) a text is a list
    of names with spaces between, and nothing is added to it.

    Raises:
        InterpError: a sentence without tokens, beyond the context or the vocabulary, or that is no
            valid Unicode.
    """
    if token_names(model) is not None:
        return [_named_ids(model, text) for text in texts]
    tokenizer = model.tokenizer
    require_tokenizer(tokenizer)
    bos = bos_ids(tokenizer)
    stop = tokenizer(".", add_special_tokens=False)["input_ids"]
    out = []
    for text in texts:
        require_unicode(text.text, f"{text.source}: the text {text.text[:40]!r}")
        body = _CLOSING_MARKS.sub("", text.text)
        ids = tokenizer(body, add_special_tokens=False)["input_ids"]
        if not ids or len(bos) + len(ids) + len(stop) > model.cfg.n_ctx:
            raise InterpError(
                f"{text.source}: the text {text.text[:40]!r} has {len(ids)} tokens, must be 1 to "
                f"{model.cfg.n_ctx - len(bos) - len(stop)}"
            )
        out.append(torch.tensor([*bos, *ids, *stop], dtype=torch.long))
        label = f"{text.source}: the text {text.text[:40]!r}"
        require_vocabulary(tokenizer, label, out[-1], model.cfg.d_vocab)
    return out


def _named_ids(model: TransformerBridge, text: LabelledText) -> Int[Tensor, " pos"]:
    ids = encode_names(model, text.text)
    if not len(ids):
        raise InterpError(f"{text.source}: the text {text.text[:40]!r} names no token")
    require_context(f"{text.source}: the text {text.text[:40]!r}", len(ids), model.cfg.n_ctx)
    return ids
