"""Greedy continuation of a prompt, as a prompt again.

The continuation is a span of its own, ``generated``, so that everything that reads prompts reads
generated tokens too: causality makes one forward over the whole sequence give the states that the
tokens were generated from.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.limits import require_finite
from interp.prompts import TokenizedPrompt
from interp.prompts.tokens import decode_each


@torch.no_grad()
def complete(
    model: TransformerBridge,
    prompt: TokenizedPrompt,
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
    if max_new_tokens < 1:
        raise InterpError(f"max_new_tokens is {max_new_tokens}: generate at least one token")
    if "generated" in prompt.spans:
        raise InterpError(f"{prompt.label}: was continued already")
    if len(prompt) + max_new_tokens > model.cfg.n_ctx:
        raise InterpError(
            f"{prompt.label}: {len(prompt)} tokens and {max_new_tokens} new ones exceed the "
            f"context of {model.cfg.n_ctx}: shorten the prompt or generate less"
        )
    stop = _end_ids(model) if stop_ids is None else set(stop_ids)
    new = _greedy(model, prompt.ids, max_new_tokens, stop, prompt.label)
    tokens = tuple(decode_each(model.tokenizer, new))
    return replace(
        prompt,
        ids=torch.cat([prompt.ids, new]),
        spans={**prompt.spans, "generated": slice(len(prompt), len(prompt) + len(new))}
        if len(new)
        else prompt.spans,
        str_tokens=prompt.str_tokens + tokens,
        text=prompt.text + "".join(tokens),
    )


def _greedy(
    model: TransformerBridge,
    ids: Int[Tensor, " pos"],
    max_new_tokens: int,
    stop: Collection[int],
    label: str,
) -> Int[Tensor, " new"]:
    """The most likely token at every step, until one of ``stop``.

    Not Hugging Face's ``generate``: that also applies what the model's generation config holds (a
    repetition penalty, suppressed tokens), and gives other tokens than the model's most likely ones.
    """
    new: list[int] = []
    step, cache = ids[None].to(model.cfg.device), None
    while len(new) < max_new_tokens:
        out = model.original_model(
            input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        require_finite(out.logits, "the logits", label)
        cache, token = out.past_key_values, int(out.logits[0, -1].argmax())
        if token in stop:
            break
        new.append(token)
        step = torch.tensor([[token]], device=step.device)
    return torch.tensor(new, dtype=ids.dtype)


def _end_ids(model: TransformerBridge) -> set[int]:
    """Ids that end an answer: the tokenizer's, and those of the generation's configuration."""
    configured = getattr(model.original_model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return {int(i) for i in [*listed, model.tokenizer.eos_token_id] if i is not None}
