"""The option margin at every layer: both options' full texts, teacher-forced behind the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.lens.entries import read_out, stream_entries
from interp.models.forward import Place
from interp.prompts import OptionTokens, TokenizedPrompt, require_context

LensMetric = Literal["margin", "option_margin"]
"""What effects, partings and differences of a lens are read from."""


def lens_option_margin(
    model: TransformerBridge, prompt: TokenizedPrompt, options: OptionTokens
) -> Float[Tensor, " entry"]:
    """The option margin that every entry of the stream would give, nats per token, float64.

    Mean log P over the tokens of option a minus that of b, each token read at the position before it
    as the logit lens reads the last one; the last entry is the model's own.

    Raises:
        InterpError: a prompt that with an option reaches beyond the context, or a model whose
            output is not the unembedding of its last norm.
    """
    return option_margins(model, [prompt], [options])[0]


def option_margins(
    model: TransformerBridge, prompts: Sequence[TokenizedPrompt], options: Sequence[OptionTokens]
) -> list[Float[Tensor, " entry"]]:
    """:func:`lens_option_margin` of prompts that run together, each with both its options' texts."""
    if not prompts:
        return []
    fed: list[Tensor] = []
    places: list[Place] = []
    targets: list[Tensor] = []
    for prompt, both in zip(prompts, options, strict=True):
        for ids, branch in zip((both.a, both.b), both.branches, strict=True):
            tokens = torch.cat([prompt.ids, branch])
            require_context(f"{prompt.label} with its options", len(tokens), model.cfg.n_ctx)
            places += [(len(fed), len(tokens) - len(ids) + k) for k in range(len(ids))]
            fed.append(tokens)
            targets.append(ids)
    entries = stream_entries(model, fed, places)
    log_probs = read_out(model, entries, torch.cat(targets), values="log_probs")[..., 0].double()
    means = [one.mean(-1) for one in log_probs.split([len(ids) for ids in targets], dim=1)]
    return [a - b for a, b in zip(means[::2], means[1::2], strict=True)]
