"""Conversation -> token ids with named spans.

The tokenizer's chat template gives the text (:mod:`interp.prompts.rendering`). Spans come from
character offsets: every token belongs to the segment in which its first character lies, so a token
that straddles a border (a full stop merged with a line break) belongs to the earlier segment. What
the template adds is named too: ``header`` before the first message, ``template_1`` ... between
messages, and ``template`` after the last one, where the assistant's turn opens; ``answer_start`` is
what closes a thought that the template opens there. A model without a chat template gets
:data:`~interp.models.chat_template.PLAIN_TEMPLATE`.

No prompt gets a second BOS. A chat template writes every special token it needs (that is what
Hugging Face asks of templates), so nothing is added to it, also where the tokenizer would begin
plain text with a BOS (TransformerLens switches that on at load). Without a template the prompt
starts with the tokenizer's own BOS, if it has one (:func:`bos_ids`).

A token id must be a row of the model's embedding. Tokenizers may know more tokens than the model
(one added for a template, say): such a prompt is refused by its name.

A message may not contain a special token's own spelling ("<|im_end|>"): the tokenizer would read it
as the token and end the turn there. Such a text is refused by the name of its segment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.display import escape_html, visible_token
from interp.errors import InterpError
from interp.models.labels import token_names
from interp.parsing import require_unicode
from interp.prompts.conversation import Conversation
from interp.prompts.rendering import render_pieces, template_spans
from interp.prompts.tokenizer import require_tokenizer


@dataclass(frozen=True, eq=False)
class TokenizedPrompt:
    """Token ids with named, contiguous spans.

    ``spans`` maps a name to a slice of positions; ``str_tokens`` are the decoded single tokens;
    ``text`` is the rendered prompt, without the ``n_bos`` BOS tokens put before it.
    """

    ids: Int[Tensor, " pos"]
    spans: Mapping[str, slice]
    str_tokens: tuple[str, ...]
    text: str
    label: str = "prompt"
    n_bos: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def span(self, name: str) -> slice:
        """The positions of a span.

        Raises:
            InterpError: no such span, or a span without tokens; names those there are.
        """
        found = self.spans.get(name)
        if found is None:
            known = ", ".join(self.spans)
            raise InterpError(f"{self.label}: no span {name!r}; this prompt has {known}")
        return found

    def span_of(self, position: int) -> str:
        """Name of the span that holds this position."""
        for name, span in self.spans.items():
            if span.start <= position < span.stop:
                return name
        raise InterpError(f"{self.label}: position {position} is outside 0..{len(self) - 1}")

    @property
    def labels(self) -> tuple[str, ...]:
        """One unique label per position, ``token_index``."""
        return tuple(f"{token}_{i}" for i, token in enumerate(self.str_tokens))

    def extend(self, ids: Int[Tensor, " more"], str_tokens: tuple[str, ...]) -> TokenizedPrompt:
        """The prompt with more tokens at the end, counted to the last span."""
        last = max(self.spans, key=lambda name: self.spans[name].stop)
        start = self.spans[last].start
        spans = {**self.spans, last: slice(start, len(self) + len(ids))}
        return replace(
            self,
            ids=torch.cat([self.ids, ids]),
            spans=spans,
            str_tokens=self.str_tokens + str_tokens,
            text=self.text + "".join(str_tokens),
        )

    def __repr__(self) -> str:
        return f"TokenizedPrompt {self.label!r}, {span_summary(self)}"

    def _repr_html_(self) -> str:
        colours = ("rgba(74,163,223,.17)", "rgba(230,159,0,.17)")  # on a light and on a dark page
        cells = []
        for k, (name, span) in enumerate(self.spans.items()):
            shown = "".join(visible_token(token) for token in self.str_tokens[span])
            text = escape_html(shown).replace("⏎", "⏎<br>")
            cells.append(
                f'<span style="background:{colours[k % 2]}" title="{escape_html(name)} '
                f'{span.start}:{span.stop}">{text}</span>'
            )
        legend = ", ".join(f"{escape_html(n)} {s.start}:{s.stop}" for n, s in self.spans.items())
        body = "".join(cells)
        return f"<div style='font-family:monospace'>{body}</div><small>{legend}</small>"


def span_summary(prompt: TokenizedPrompt) -> str:
    """How many tokens a prompt has, and where its (first dozen) spans are: for one line."""
    named = [f"{name} {span.start}:{span.stop}" for name, span in prompt.spans.items()]
    more = f", and {len(named) - 12} more" if len(named) > 12 else ""
    return f"{len(prompt)} tokens ({', '.join(named[:12])}{more})"


def tokenize(
    tokenizer: Any,
    conversation: Conversation,
    *,
    n_ctx: int | None = None,
    n_vocab: int | None = None,
) -> TokenizedPrompt:
    """Render a conversation with the tokenizer's chat template and name its spans.

    Args:
        tokenizer: a fast Hugging Face tokenizer (character offsets are needed).
        conversation: turns that end where the assistant answers.
        n_ctx: refuse a prompt longer than this.
        n_vocab: refuse a token id that is not below this (the model's ``cfg.d_vocab``).

    Raises:
        InterpError: a slow tokenizer, a template that alters the messages, two segments of one
            name, a special token inside a message, a text that is no valid Unicode, an instruction
            that became no token, a prompt beyond the context, or a token beyond the vocabulary;
            names the prompt.
    """
    _require_fast(tokenizer)
    pieces = list(render_pieces(tokenizer, conversation))
    _require_unique_names(pieces, conversation.label)
    text = "".join(piece for _, piece in pieces)
    for span, piece in pieces:
        require_unicode(piece, f"{conversation.label}: the {span}")
    encoded = encode_text(tokenizer, text)
    owners = _owners(pieces, encoded["offset_mapping"])
    _refuse_special_tokens(tokenizer, conversation, text, encoded, owners)
    bos = _missing_bos(tokenizer, encoded["input_ids"])
    ids = torch.tensor(bos + list(encoded["input_ids"]), dtype=torch.long)
    require_context(conversation.label, len(ids), n_ctx)
    require_vocabulary(tokenizer, conversation.label, ids, n_vocab)
    spans = _spans([pieces[0][0]] * len(bos) + owners)
    for turn in conversation.turns:
        for segment in turn.segments:
            if segment.span == "instruction" and segment.span not in spans:
                raise InterpError(
                    f"{conversation.label}: the instruction {segment.text!r} has no token"
                )
    return TokenizedPrompt(
        ids=ids,
        spans=spans,
        str_tokens=tuple(decode_each(tokenizer, ids)),
        text=text,
        label=conversation.label,
        n_bos=len(bos),
    )


def require_context(label: str, n_tokens: int, n_ctx: int | None) -> None:
    """Refuse a prompt of more tokens than the model's context, by its name."""
    if n_ctx is not None and n_tokens > n_ctx:
        raise InterpError(
            f"{label}: {n_tokens} tokens, the model's context is {n_ctx}: shorten the item or the "
            "instruction"
        )


def require_vocabulary(
    tokenizer: Any, label: str, ids: Int[Tensor, " pos"], n_vocab: int | None
) -> None:
    """Refuse a token id that the model's embedding has no row for, by the token and the prompt."""
    if n_vocab is None:
        return
    outside = ids[(ids < 0) | (ids >= n_vocab)]
    if len(outside):
        first = int(outside[0])
        known = tokenizer is not None and 0 <= first < len(tokenizer)
        token = f" ({tokenizer.convert_ids_to_tokens(first)!r})" if known else ""
        raise InterpError(
            f"{label}: token id {first}{token} is outside the model's vocabulary, "
            f"0..{n_vocab - 1}: "
            + ("the tokenizer does not fit these weights" if known else "check the ids")
        )


def bos_ids(tokenizer: Any) -> list[int]:
    """The id of the tokenizer's own BOS, as a list of one; empty where it has none.

    TransformerLens sets a missing BOS to the end-of-sequence token (inventing one if that is missing
    too), which is not how these models saw their texts begin: such a stand-in is no BOS.
    """
    if tokenizer.bos_token_id is None:
        return []
    default = signature(type(tokenizer).__init__).parameters.get("bos_token")
    declared = tokenizer.init_kwargs.get("bos_token", default and default.default)
    if declared in (None, Parameter.empty) and tokenizer.bos_token_id == tokenizer.eos_token_id:
        return []
    return [tokenizer.bos_token_id]


def decode_each(tokenizer: Any, ids: Int[Tensor, " pos"]) -> list[str]:
    """Every token decoded alone, with its leading space.

    Sentencepiece tokenizers drop the space of the first token, so each is decoded as the second of
    two copies. A token that holds a part of a character gives the replacement character.

    Raises:
        InterpError: an id below 0.
    """
    if len(ids) and int(ids.min()) < 0:
        raise InterpError(f"token id {int(ids.min())} is below 0: check the ids")
    out = []
    for i in ids.tolist():
        once, twice = (
            tokenizer.decode([i] * n, clean_up_tokenization_spaces=False) for n in (1, 2)
        )
        out.append(twice[len(once) :])
    return out


def encode_continuation(
    tokenizer: Any, prompt: TokenizedPrompt, continuation: str
) -> Int[Tensor, " more"]:
    """Tokens that ``continuation`` adds to the prompt when both are encoded together.

    A special token's spelling is read as the token, so that the end of a turn can be scored.

    Raises:
        InterpError: the continuation changes the tokens of the prompt itself.
    """
    require_unicode(continuation, f"{prompt.label}: the continuation")
    full = encode_text(tokenizer, prompt.text + continuation)["input_ids"]
    known = prompt.ids[prompt.n_bos :].tolist()
    if full[: len(known)] != known or len(full) == len(known):
        raise InterpError(
            f"{prompt.label}: the tokenizer merges {continuation!r} with the end of the prompt; "
            "use an answer prefix that ends in a whole word"
        )
    return torch.tensor(full[len(known) :], dtype=torch.long)


def token_texts(model: TransformerBridge, ids: Int[Tensor, " pos"]) -> list[str]:
    """The text of every token: decoded alone, or the name or number of a model without tokenizer."""
    if model.tokenizer is not None:
        return decode_each(model.tokenizer, ids)
    names = token_names(model)
    return _texts(ids, () if names is None else names.tokens)


def output_texts(model: TransformerBridge, ids: Int[Tensor, " out"]) -> list[str]:
    """The same for rows of logits, which are the tokens unless the model says otherwise."""
    if model.tokenizer is not None:
        return decode_each(model.tokenizer, ids)
    names = token_names(model)
    return _texts(ids, () if names is None else names.outputs)


def encode_names(model: TransformerBridge, text: str) -> Int[Tensor, " pos"]:
    """Token ids of names with spaces between, for a model whose tokens were given names.

    Raises:
        InterpError: a model without names (or with a tokenizer), or an unknown name.
    """
    names = token_names(model)
    if names is None:
        require_tokenizer(model.tokenizer)
        raise InterpError("encode_names: this model has a tokenizer, which reads its texts")
    unknown = [word for word in text.split() if word not in names.tokens]
    if unknown:
        raise InterpError(
            f"{text[:40]!r}: no token is named {unknown[0]!r}; this model has "
            f"{', '.join(names.tokens)}"
        )
    return torch.tensor([names.tokens.index(word) for word in text.split()], dtype=torch.long)


def _texts(ids: Tensor, names: tuple[str, ...]) -> list[str]:
    return [names[i] if 0 <= i < len(names) else str(i) for i in ids.tolist()]


def _require_fast(tokenizer: Any) -> None:
    require_tokenizer(tokenizer)
    if not getattr(tokenizer, "is_fast", False):
        raise InterpError(
            f"{type(tokenizer).__name__} gives no character offsets; load the fast tokenizer "
            "(tokenizer.json) of this model"
        )


def encode_text(tokenizer: Any, text: str) -> Any:
    """A text's token ids, without a BOS, and the characters that each token holds.

    Raises:
        InterpError: a tokenizer that gives no character offsets.
    """
    _require_fast(tokenizer)
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)


def _missing_bos(tokenizer: Any, ids: list[int]) -> list[int]:
    """The BOS to prepend: a chat template has written its own, plain text begins with one."""
    bos = bos_ids(tokenizer)
    return [] if getattr(tokenizer, "chat_template", None) or ids[:1] == bos else bos


def _require_unique_names(pieces: list[tuple[str, str]], label: str) -> None:
    names = [name for name, _ in pieces]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InterpError(
            f"{label}: the span name {repeated!r} is used twice; give every segment its own"
        )


def _owners(pieces: list[tuple[str, str]], offsets: list[tuple[int, int]]) -> list[str]:
    """Name of the piece that holds each token's first character (empty pieces hold none)."""
    borders = [0, *accumulate(len(text) for _, text in pieces)][:-1]
    owners, end = [], 0
    for start, stop in offsets:
        # some tokenizers leave the leading space out of the offsets; it is the token's all the same
        owners.append(pieces[bisect_right(borders, min(start, end)) - 1][0])
        end = max(end, stop)
    return owners


def _refuse_special_tokens(
    tokenizer: Any, conversation: Conversation, text: str, encoded: Any, owners: list[str]
) -> None:
    special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    template = template_spans(len(conversation.turns))
    tokens = zip(encoded["input_ids"], encoded["offset_mapping"], owners, strict=True)
    for token, (start, stop), owner in tokens:
        # an unknown character becomes a special token too, but does not spell it
        if owner not in template and token in special and special[token] in text[start:stop]:
            raise InterpError(
                f"{conversation.label}: the {owner} contains {special[token]!r}, which this "
                "tokenizer reads as a special token; remove or respell it"
            )


def _spans(owners: list[str]) -> dict[str, slice]:
    spans: dict[str, slice] = {}
    for position, owner in enumerate(owners):
        first = spans[owner].start if owner in spans else position
        spans[owner] = slice(first, position + 1)
    return spans
