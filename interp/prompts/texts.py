"""What a user writes as a prompt: a text, chat messages or token ids, with spans of one's own.

- A **text** is plain text, as TransformerLens's ``to_tokens`` reads it: no chat template, and one BOS in
  front where the tokenizer has one and the text does not begin with it.
- **Messages** ``[{"role": "user", "content": "..."}]`` go through the chat template and end where the
  assistant answers; a last message of the assistant is what it has already said. Their spans are
  ``system``, ``user``, ``assistant`` (``user_2``, ... where there are several), ``answer_prefix``,
  and those of the template.
- **Token ids** ``[pos]`` or ``[1, pos]`` are taken as they are.

A model whose tokens were given names (:func:`interp.models.set_token_names`) reads a text as names with
spaces between; one without tokenizer and names reads token ids alone.

Spans of one's own are parts of the text (every token that holds a character of it) or ranges of token
positions, counted from 0 with the BOS. They take their tokens away from the spans that were there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, TypeAlias, get_args

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError, did_you_mean
from interp.models.labels import token_names
from interp.parsing import require_unicode
from interp.prompts.conversation import Conversation, Segment, Turn, TurnRole
from interp.prompts.tokenizer import require_tokenizer
from interp.prompts.tokens import (
    TokenizedPrompt,
    bos_ids,
    encode_names,
    encode_text,
    require_context,
    require_vocabulary,
    token_texts,
    tokenize,
)

ChatMessages: TypeAlias = Sequence[Mapping[str, str]]
"""Chat messages, each with ``role`` and ``content``."""

Written: TypeAlias = str | ChatMessages | Int[Tensor, "..."]
"""A prompt as a user writes it (see the module)."""

SpanOf: TypeAlias = str | slice | tuple[int, int]
"""Where a span is: a part of the prompt's text, or a range of token positions (start, stop)."""

_LABEL_LENGTH = 32


def written_prompt(
    model: TransformerBridge,
    written: Written,
    *,
    label: str | None = None,
    spans: Mapping[str, SpanOf] | None = None,
) -> TokenizedPrompt:
    """The prompt of a text, of chat messages or of token ids (see the module).

    Args:
        model: its tokenizer and chat template render texts.
        written: the text, the messages, or the ids.
        label: names the prompt in errors and tables; None takes the beginning of a text.
        spans: spans of one's own, by name.

    Raises:
        InterpError: something else, a text for a model without tokenizer, a prompt that is empty,
            beyond the context or the vocabulary, or a span that cannot be placed.
    """
    if isinstance(written, str):
        prompt = _prompt_of_text(model, written, label or _beginning(written))
    elif isinstance(written, Tensor):
        prompt = prompt_of_ids(model, written, label or "token ids")
    elif is_messages(written):
        prompt = _prompt_of_messages(model, written, label or "messages")
    else:
        raise InterpError(
            f"{f'{label}: ' if label else ''}expected a text, chat messages ([{{'role': 'user', "
            f"'content': ...}}]) or a tensor of token ids, got {_described(written)}"
        )
    return with_spans(model, prompt, spans or {})


def is_messages(written: object) -> bool:
    """Whether something is a list of mappings, as chat messages are."""
    listed = isinstance(written, list | tuple)
    return listed and bool(written) and all(isinstance(one, Mapping) for one in written)  # type: ignore[attr-defined]


def prompt_of_ids(
    model: TransformerBridge,
    ids: Tensor,
    label: str,
    spans: Mapping[str, SpanOf] | None = None,
) -> TokenizedPrompt:
    """A prompt of token ids ``[pos]`` or ``[1, pos]``, its tokens named as the model names them.

    Raises:
        InterpError: ids that are no prompt of this model, or spans that overlap or lie outside.
    """
    if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        raise InterpError(f"{label} is a tensor of {ids.dtype}: give integer token ids")
    flat = ids.reshape(-1).to(torch.long).cpu()
    if ids.ndim > 1 and ids.shape[0] != 1:
        raise InterpError(f"{label} is a batch of {ids.shape[0]} prompts, give one")
    if len(flat) == 0:
        raise InterpError(f"{label} has no tokens")
    require_vocabulary(model.tokenizer, label, flat, model.cfg.d_vocab)
    require_context(label, len(flat), model.cfg.n_ctx)
    tokens = tuple(token_texts(model, flat))
    text = _between(model).join(tokens)
    prompt = TokenizedPrompt(flat, {"prompt": slice(0, len(flat))}, tokens, text, label)
    return with_spans(model, prompt, spans or {})


def with_spans(
    model: TransformerBridge, prompt: TokenizedPrompt, spans: Mapping[str, SpanOf]
) -> TokenizedPrompt:
    """The prompt with spans of one's own; what is left of the others keeps their names.

    A span that is cut in two goes on as ``prompt_1``, ``prompt_2``, ...

    Raises:
        InterpError: a part of the text that is not there or stands there several times, or spans
            that hold no token, overlap or lie outside.
    """
    if not spans:
        return prompt
    placed = {name: _placed(model, prompt, name, where) for name, where in spans.items()}
    names = list(placed)
    owners: list[str | None] = [None] * len(prompt)
    for name, span in sorted(placed.items(), key=lambda item: item[1].start):
        if not 0 <= span.start < span.stop <= len(prompt) or any(owners[span]):
            raise InterpError(
                f"span {name!r} is {span.start}:{span.stop} of {prompt.label}, which has "
                f"{len(prompt)} tokens: give spans that hold tokens and do not overlap"
            )
        owners[span] = [name] * (span.stop - span.start)
    found: dict[str, slice] = {}
    previous: tuple[bool, str] | None = None
    now = ""
    for position, owner in enumerate(owners):
        base = prompt.span_of(position) if owner is None else owner
        if (owner is None, base) != previous:
            now = base if owner is not None else _free_name(base, [*found, *names])
            found[now] = slice(position, position)
            previous = (owner is None, base)
        found[now] = slice(found[now].start, position + 1)
    return replace(prompt, spans=found)


def _prompt_of_text(model: TransformerBridge, text: str, label: str) -> TokenizedPrompt:
    require_unicode(text, label)
    if not text:
        raise InterpError("the prompt is an empty text: give it at least one token")
    if token_names(model) is not None:
        return prompt_of_ids(model, encode_names(model, text), label)
    require_tokenizer(model.tokenizer)
    body = list(encode_text(model.tokenizer, text)["input_ids"])
    bos = bos_ids(model.tokenizer)
    bos = [] if body[:1] == bos else bos
    prompt = prompt_of_ids(model, torch.tensor(bos + body, dtype=torch.long), label)
    return replace(prompt, text=text, n_bos=len(bos))


def _prompt_of_messages(
    model: TransformerBridge, messages: ChatMessages, label: str
) -> TokenizedPrompt:
    require_tokenizer(model.tokenizer)
    turns: list[Turn] = []
    seen: Counter[str] = Counter()
    for k, message in enumerate(messages):
        role, content = _role_and_content(message, f"{label}: message {k}")
        seen[role] += 1
        name = role if seen[role] == 1 else f"{role}_{seen[role]}"
        turns.append(Turn(role, (Segment(name, content),)))
    said = ""
    if turns[-1].role == "assistant" and len(turns) > 1:
        said = turns.pop().content
    conversation = Conversation(tuple(turns), answer_prefix=said, label=label)
    return tokenize(model.tokenizer, conversation, n_ctx=model.cfg.n_ctx, n_vocab=model.cfg.d_vocab)


def _role_and_content(message: Mapping[str, Any], where: str) -> tuple[TurnRole, str]:
    missing = [key for key in ("role", "content") if not isinstance(message.get(key), str)]
    if missing or len(message) > 2:
        raise InterpError(
            f"{where} has {', '.join(map(repr, message)) or 'no field'}: give 'role' and 'content', "
            "both texts, and nothing else"
        )
    roles: tuple[TurnRole, ...] = get_args(TurnRole)
    for role in roles:
        if message["role"] == role:
            return role, message["content"]
    raise InterpError(f"{where} has the role {message['role']!r}; {did_you_mean('', roles)}")


def _placed(model: TransformerBridge, prompt: TokenizedPrompt, name: str, where: SpanOf) -> slice:
    """The token positions of a span."""
    if isinstance(where, str):
        return _tokens_of(model, prompt, name, where)
    if isinstance(where, tuple):
        if len(where) != 2 or not all(type(edge) is int for edge in where):
            raise InterpError(
                f"span {name!r} is {where!r}: give (start, stop), two token positions"
            )
        where = slice(*where)
    if not isinstance(where, slice) or where.step not in (None, 1):
        raise InterpError(
            f"span {name!r} is {_described(where)}: give a part of the text, (start, stop) or a "
            "slice"
        )
    n = len(prompt)
    start = 0 if where.start is None else where.start
    stop = n if where.stop is None else where.stop
    return slice(start + n if start < 0 else start, stop + n if stop < 0 else stop)


def _tokens_of(model: TransformerBridge, prompt: TokenizedPrompt, name: str, part: str) -> slice:
    """The tokens that hold a character of a part of the text, which stands there once."""
    # outer white space is in the neighbours' tokens too: a part is what is between
    wanted = part.strip() or part
    if not wanted:
        raise InterpError(f"span {name!r} is an empty text: give a part of the prompt's")
    tokens = _token_characters(model, prompt)
    found = [
        [k for k, (a, b) in enumerate(tokens) if a < match.end() and b > match.start()]
        for match in re.finditer(re.escape(wanted), prompt.text)
    ]
    if not found:
        raise InterpError(
            f"span {name!r}: {part!r} is not in {prompt.label}; where the prompts differ, give both "
            "texts, (of the source, of the destination)"
        )
    ranges = [slice(held[0], held[-1] + 1) for held in found if held]
    if len(ranges) != 1:
        listed = " or ".join(f"({one.start}, {one.stop})" for one in ranges[:6])
        raise InterpError(
            f"span {name!r}: {part!r} stands {len(ranges)} times in {prompt.label}: give more of "
            f"the text, or one range of tokens, {listed}"
        )
    return ranges[0]


def _token_characters(model: TransformerBridge, prompt: TokenizedPrompt) -> list[tuple[int, int]]:
    """Which characters of the prompt's text each token holds; none for a BOS put in front."""
    outside = [(0, 0)] * prompt.n_bos
    if model.tokenizer is not None:
        encoded = encode_text(model.tokenizer, prompt.text)
        if list(encoded["input_ids"]) == prompt.ids[prompt.n_bos :].tolist():
            return outside + [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    words, gap = prompt.str_tokens[prompt.n_bos :], _between(model)
    if gap.join(words) != prompt.text:
        raise InterpError(
            f"{prompt.label}: its tokens hold parts of characters, so a part of the text has no "
            "tokens of its own: give the span as (start, stop)"
        )
    starts = accumulate((len(word) + len(gap) for word in words[:-1]), initial=0)
    return outside + [(a, a + len(word)) for a, word in zip(starts, words, strict=True)]


def _between(model: TransformerBridge) -> str:
    """What stands between tokens' texts: nothing, or a space between names."""
    return "" if model.tokenizer is not None else " "


def _free_name(name: str, taken: Sequence[str]) -> str:
    if name not in taken:
        return name
    return next(other for k in range(1, len(taken) + 2) if (other := f"{name}_{k}") not in taken)


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LABEL_LENGTH else f"{line[: _LABEL_LENGTH - 1]}…"


def _described(value: object) -> str:
    if isinstance(value, list | tuple) and value and all(type(one) is int for one in value):
        return (
            f"a {type(value).__name__} of numbers: token ids are torch.tensor({list(value[:3])}...)"
        )
    shown = repr(value).replace("\n", " ")
    kind = type(value).__name__
    return f"{kind} {shown[:40]}" if len(shown) <= 40 else f"{kind} {shown[:40]}…"
