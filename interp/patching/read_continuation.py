"""What one run of a pair goes on to say, patched or not: greedy, token by token.

The prompt is read once with the patches, and new tokens go on from its keys and values, so that what
was patched in stays patched. New tokens come behind the last position and read what it reads: attention
edges that the last position loses are lost to them too, as they are to the options
(:func:`interp.patching.read_options`). A model that cannot go on from a KV cache runs every token whole.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.cache import Rows, supports_cache_reuse
from interp.behaviour.generation import end_ids
from interp.errors import InterpError
from interp.patching.branches import Reading, over_all_keys
from interp.patching.cells import Patch
from interp.patching.hooked import patch_hooks
from interp.patching.one_cell import require_settable
from interp.patching.read_options import prompt_read, rows_of_patch, without_last
from interp.prompts import PromptPair, TokenizedPrompt, require_context
from interp.prompts.tokens import decode_each


@torch.no_grad()
def read_continuation(
    model: TransformerBridge,
    pair: PromptPair,
    *,
    run: Literal["source", "destination"] = "destination",
    patches: Sequence[Patch] = (),
    max_new_tokens: int = 20,
    stop_ids: Collection[int] | None = None,
) -> TokenizedPrompt:
    """The prompt of one run followed by its greedy continuation, which is the span ``generated``.

    It goes on behind the answer prefix: leading tokens that the two options share, which stand in the
    pair's prompts, are left out, and so is what is patched at them.

    Args:
        model: a bridge in evaluation mode. Hooks on it act (a direction that steers, say).
        pair: with an item or without.
        run: which prompt.
        patches: of the destination (:func:`interp.patching.cell_patches`,
            :func:`interp.patching.blocked_edges`).
        max_new_tokens: at most so many.
        stop_ids: tokens that end it and are no part of it; None: the end-of-sequence tokens.

    Raises:
        InterpError: nothing to generate, no room for it in the context, patches of the source's run, or
            a site that this model's hooks can only read.
        NotFiniteError: logits that are not finite.

    Example:
        >>> blocked = blocked_edges(model, pair, to="instruction")          # doctest: +SKIP
        >>> read_continuation(model, pair, patches=blocked).text            # doctest: +SKIP
    """
    prompt = prompt_read(pair, run, patches)
    n = len(prompt)
    prompt = without_last(prompt, 0 if pair.options is None else pair.options.n_shared)
    if max_new_tokens < 1:
        raise InterpError(f"max_new_tokens is {max_new_tokens}: generate at least one token")
    end = len(prompt) + max_new_tokens
    require_context(prompt.label, end, int(model.cfg.n_ctx))
    require_settable(model, patches)
    stop = end_ids(model) if stop_ids is None else set(stop_ids)
    cached = supports_cache_reuse(model, end)
    rows, new = Rows(model, [prompt.ids[:0]], [], cached=cached), prompt.ids
    said: list[int] = []
    while len(said) < max_new_tokens:
        reading = Reading(prompt.ids, torch.arange(0), (prompt.ids.new_tensor(said),))
        start = len(reading) - len(new) if cached else 0
        now = [one for patch in patches for one in rows_of_patch(patch, reading, n)]
        with model.hooks(fwd_hooks=patch_hooks(_from_row(start, over_all_keys(now, len(reading))))):
            token = int(rows.feed(new[None], [prompt.label])[0, -1].argmax())
        if token in stop:
            break
        said.append(token)
        new = prompt.ids.new_tensor([token])
    return _continued(model, prompt, prompt.ids.new_tensor(said))


def _from_row(start: int, patches: Sequence[Patch]) -> list[Patch]:
    """The patches of a forward whose first row is the position ``start``."""
    found = []
    for patch in patches:
        here = patch.positions >= start
        if bool(here.any()):
            values = patch.values[here.to(patch.values.device)]
            found.append(replace(patch, positions=patch.positions[here] - start, values=values))
    return found


def _continued(
    model: TransformerBridge, prompt: TokenizedPrompt, said: Int[Tensor, " new"]
) -> TokenizedPrompt:
    """The prompt with its continuation, a span of its own."""
    if not len(said):
        return prompt
    longer = prompt.extend(said, tuple(decode_each(model.tokenizer, said)))
    spans = {**prompt.spans, "generated": slice(len(prompt), len(longer))}
    return replace(longer, spans=spans)
