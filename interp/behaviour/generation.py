"""Continuations of prompts: greedy by default, sampled with a seed, as prompts again.

The most likely token at every step, or one drawn from the model's distribution at a temperature and
within a nucleus (top-p, arXiv 1904.09751). Not Hugging Face's ``generate``: that also applies what
the model's generation config holds (a repetition penalty, suppressed tokens).

A continuation is a span of its own, ``generated``, so that everything that reads prompts reads
generated tokens too: causality makes one forward over the whole sequence give the states that the
tokens were generated from.

Prompts are read one by one (or with equally long ones) and go on together, one token each: a step
costs little more for many than for one. A continuation does not depend on its company (to rounding),
and neither does its noise: every prompt brings a stream of random numbers of its own, one number per
token. What was computed for a prompt can be handed to the next call (:mod:`interp.behaviour.cache`).

Example::

    (first,) = generate(model, [prompt], decoding=Decoding(max_new_tokens=40))
    sampled = generate(
        model,
        [prompt] * 10,
        decoding=Decoding(temperature=1.0, top_p=0.9),
        streams=[rng(0, prompt.label, k) for k in range(10)],
    )
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.cache import (
    CachedPrefix,
    Rows,
    SequenceOutput,
    buckets,
    forward_cached,
    separate_size,
    supports_cache_reuse,
    supports_ragged,
)
from interp.display import short_repr
from interp.errors import InterpError
from interp.prompts import Given, TokenizedPrompt, as_prompt, each_given
from interp.prompts.tokenizer import require_tokenizer
from interp.prompts.tokens import decode_each

BATCH_SIZE = 16
"""Default number of sequences run together."""

Ended = Literal["end", "stop", "budget"]
"""What ended a continuation: an end token, a stop string, or the budget of new tokens."""


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    ``temperature`` 0 is greedy. ``top_p`` keeps the smallest set of most likely tokens whose
    probabilities sum to at least it. ``stop`` strings are looked for in the decoded text.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 20
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise InterpError(f"temperature is {self.temperature}: give 0 (greedy) or more")
        if not 0.0 < self.top_p <= 1.0:
            raise InterpError(f"top_p is {self.top_p}: give a share above 0, at most 1")
        if self.max_new_tokens < 1:
            raise InterpError(
                f"max_new_tokens is {self.max_new_tokens}: generate at least one token"
            )
        if any(not text for text in self.stop):
            raise InterpError("a stop string is empty: every text contains it")


GREEDY = Decoding()


@dataclass(frozen=True, eq=False)
class Generation:
    """A prompt's continuation.

    ``ids``: all new tokens but the one that ended it; ``raw_text``: their text; ``text``: the same
    up to the first stop string. ``log_probs``: of each new token under the model (temperature 1,
    all tokens), nats. ``prefix``: what may be handed to the next call. ``n_reused``: tokens of the
    prompt that were not computed.
    """

    prompt: TokenizedPrompt
    ids: Int[Tensor, " new"]
    raw_text: str
    text: str
    log_probs: Float[Tensor, " new"]
    ended: Ended
    n_reused: int
    prefix: CachedPrefix | None = field(repr=False)
    str_tokens: tuple[str, ...] = ()

    __repr__ = short_repr

    @property
    def full_prompt(self) -> TokenizedPrompt:
        """The prompt with all new tokens behind it, as the span ``generated``."""
        start = len(self.prompt)
        generated = {"generated": slice(start, start + len(self.ids))} if len(self.ids) else {}
        return replace(
            self.prompt,
            ids=torch.cat([self.prompt.ids, self.ids]),
            spans={**self.prompt.spans, **generated},
            str_tokens=self.prompt.str_tokens + self.str_tokens,
            text=self.prompt.text + "".join(self.str_tokens),
        )


def complete(
    model: TransformerBridge,
    prompt: Given,
    *,
    max_new_tokens: int = 20,
    stop_ids: Collection[int] | None = None,
) -> TokenizedPrompt:
    """The prompt followed by its greedy continuation, which is the span ``generated``.

    Hooks on the model act in every step. The end-of-sequence token (or any of ``stop_ids``) ends
    the continuation and is not part of it.

    Raises:
        InterpError: nothing to generate, a prompt that was continued before, or one that leaves no
            room in the context.
        NotFiniteError: logits that are not finite.
    """
    decoding = Decoding(max_new_tokens=max_new_tokens)
    (done,) = generate(model, [prompt], decoding=decoding, stop_ids=stop_ids)
    return done.full_prompt


def generate(
    model: TransformerBridge,
    prompts: Given | Sequence[Given],
    *,
    decoding: Decoding = GREEDY,
    stop_ids: Collection[int] | None = None,
    streams: Sequence[np.random.Generator] | None = None,
    prefixes: Sequence[CachedPrefix | None] | None = None,
    batch_size: int = BATCH_SIZE,
    cached: bool = True,
) -> tuple[Generation, ...]:
    """Continue every prompt, many together.

    Args:
        model: a bridge in evaluation mode; hooks on it act in every step.
        prompts: one or several, of any lengths: a prompt, a pair (its source), a text, chat messages,
            or token ids.
        decoding: greedy, or a temperature; budget and stop strings.
        stop_ids: tokens that end a continuation and are no part of it; None: the end-of-sequence
            tokens of the tokenizer and of the generation config.
        streams: one generator per prompt (:func:`interp.stats.rng`), for sampling.
        prefixes: KV caches of earlier calls, one per prompt or None.
        batch_size: how many prompts run together at most.
        cached: keep keys and values between tokens; False computes every token from scratch.

    Raises:
        InterpError: no prompts, a prompt that was continued before or leaves no room in the
            context, sampling without streams, or lists of different lengths.
        NotFiniteError: logits that are not finite; names the prompt.
    """
    require_tokenizer(model.tokenizer)
    prompts = [as_prompt(model, one) for one in each_given(prompts)]
    n = len(prompts)
    _check(model, prompts, decoding, streams, prefixes, batch_size)
    stop = end_ids(model) if stop_ids is None else set(stop_ids)
    prefixes = [None] * n if prefixes is None else prefixes
    end = max(len(prompt) for prompt in prompts) + decoding.max_new_tokens
    cached = cached and supports_cache_reuse(model, end)
    if not cached:
        batch_size = separate_size(model, end, batch_size)
    readings = forward_cached(
        model,
        [prompt.ids for prompt in prompts],
        prefixes,
        [prompt.label for prompt in prompts],
        keep=[1] * n,
        batch_size=batch_size,
        cached=cached,
    )
    ragged = cached and supports_ragged(model, end)
    done: dict[int, Generation] = {}
    for group in buckets([0 if ragged else len(prompt) for prompt in prompts], batch_size):
        writers = [
            _Writer(model.tokenizer, prompts[k], decoding, stop, streams[k] if streams else None)
            for k in group
        ]
        found = _run_group(model, writers, [readings[k] for k in group], cached=cached)
        done.update(zip(group, found, strict=True))
    return tuple(done[k] for k in range(n))


def end_ids(model: TransformerBridge) -> set[int]:
    """Ids that end an answer: the tokenizer's, and those of the generation's configuration."""
    generation = getattr(model.original_model, "generation_config", None)
    configured = getattr(generation, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return {int(i) for i in [*listed, model.tokenizer.eos_token_id] if i is not None}


def text_after(tokenizer: Any, before: Int[Tensor, " pos"], new: Sequence[int]) -> str:
    """The text that new tokens add behind others, with its leading space."""
    anchor = before[-1:].tolist()
    once, both = (
        tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        for ids in (anchor, [*anchor, *new])
    )
    return both[len(once) :]


class _Writer:
    """One continuation in the making."""

    def __init__(
        self,
        tokenizer: Any,
        prompt: TokenizedPrompt,
        decoding: Decoding,
        stop_ids: Collection[int],
        stream: np.random.Generator | None,
    ) -> None:
        self.prompt = prompt
        self._tokenizer, self._decoding = tokenizer, decoding
        self._stop_ids, self._stream = stop_ids, stream
        self.ids: list[int] = []
        self._log_probs: list[float] = []
        self.ended: Ended | None = None

    def write(self, logits: Float[Tensor, " d_vocab"]) -> None:
        """Choose the next token; sets ``ended`` when it was the last."""
        token = _choose(logits, self._decoding, self._stream)
        if token in self._stop_ids:
            self.ended = "end"
            return
        self.ids.append(token)
        self._log_probs.append(float(logits.log_softmax(0)[token]))
        if self._decoding.stop and self._cut(self._text()) is not None:
            self.ended = "stop"
        elif len(self.ids) == self._decoding.max_new_tokens:
            self.ended = "budget"

    def generation(self, n_reused: int, prefix: CachedPrefix | None) -> Generation:
        raw = self._text()
        new = torch.tensor(self.ids, dtype=self.prompt.ids.dtype)
        return Generation(
            prompt=self.prompt,
            ids=new,
            raw_text=raw,
            text=raw[: self._cut(raw)],
            log_probs=torch.tensor(self._log_probs),
            ended=self.ended or "budget",
            n_reused=n_reused,
            prefix=prefix,
            str_tokens=tuple(decode_each(self._tokenizer, new)),
        )

    def _text(self) -> str:
        return text_after(self._tokenizer, self.prompt.ids, self.ids)

    def _cut(self, text: str) -> int | None:
        found = [at for stop in self._decoding.stop if (at := text.find(stop)) >= 0]
        return min(found, default=None)


def _run_group(
    model: TransformerBridge,
    writers: Sequence[_Writer],
    readings: Sequence[SequenceOutput],
    *,
    cached: bool,
) -> list[Generation]:
    """Prompts that have been read, token by token; a row leaves when it has ended."""
    read, prefixes = [w.prompt.ids for w in writers], [reading.prefix for reading in readings]
    rows = Rows(model, read, prefixes, cached=cached)
    logits = torch.stack([reading.logits[-1] for reading in readings])
    done: dict[int, Generation] = {}
    going = list(range(len(writers)))
    while going:
        for row, k in enumerate(going):
            writers[k].write(logits[row])
            if writers[k].ended:
                done[k] = writers[k].generation(readings[k].n_reused, rows.prefix(row))
        left = [row for row, k in enumerate(going) if not writers[k].ended]
        if left and len(left) < len(going):
            rows.select(left)
        going = [going[row] for row in left]
        if going:
            new = torch.tensor([[writers[k].ids[-1]] for k in going], dtype=torch.long)
            logits = rows.feed(new, [writers[k].prompt.label for k in going])[:, -1]
    return [done[k] for k in range(len(writers))]


def _choose(
    logits: Float[Tensor, " d_vocab"], decoding: Decoding, stream: np.random.Generator | None
) -> int:
    """The most likely token; or by one uniform number, so that rounding hardly ever matters."""
    if decoding.temperature == 0.0 or stream is None:
        return int(logits.argmax())
    probs, order = (logits.double() / decoding.temperature).softmax(0).sort(descending=True)
    total = probs.cumsum(0)
    n_kept = int((total - probs < decoding.top_p).sum())
    point = torch.tensor(stream.random()) * total[n_kept - 1]
    index = int(torch.searchsorted(total[:n_kept], point, right=True))
    return int(order[min(index, n_kept - 1)])


def _check(
    model: TransformerBridge,
    prompts: Sequence[TokenizedPrompt],
    decoding: Decoding,
    streams: Sequence[Any] | None,
    prefixes: Sequence[Any] | None,
    batch_size: int,
) -> None:
    if not prompts:
        raise InterpError("no prompts to continue: the list is empty")
    if batch_size < 1:
        raise InterpError(f"batch_size is {batch_size}: run at least one prompt at a time")
    for name, given in (("streams", streams), ("prefixes", prefixes)):
        if given is not None and len(given) != len(prompts):
            raise InterpError(f"{len(given)} {name} for {len(prompts)} prompts: give one each")
    if decoding.temperature > 0.0 and streams is None:
        raise InterpError(
            f"temperature {decoding.temperature} samples: give every prompt a stream of random "
            "numbers"
        )
    for prompt in prompts:
        if "generated" in prompt.spans:
            raise InterpError(f"{prompt.label}: was continued already")
        if len(prompt) + decoding.max_new_tokens > model.cfg.n_ctx:
            raise InterpError(
                f"{prompt.label}: {len(prompt)} tokens and {decoding.max_new_tokens} new ones "
                f"exceed the context of {model.cfg.n_ctx}: shorten the prompt or generate less"
            )
