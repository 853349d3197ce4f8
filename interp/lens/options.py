"""The option margin at every layer: both options' full texts, teacher-forced behind the prompt."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis import logit_lens

from interp.errors import InterpError, first_line
from interp.prompts import OptionTokens, TokenizedPrompt, require_context

LensMetric = Literal["margin", "option_margin"]
"""What effects, partings and differences of a lens are read from."""


@torch.no_grad()
def lens_option_margin(
    model: TransformerBridge, prompt: TokenizedPrompt, options: OptionTokens
) -> Float[Tensor, " entry"]:
    """The option margin that every entry of the stream would give, nats per token, float64.

    Mean log P over the tokens of option a minus that of b, each token read at the position before it
    as the logit lens reads the last one; the last entry is the model's own. One forward per option.

    Raises:
        InterpError: a prompt that with an option reaches beyond the context, or a model whose
            output is not the unembedding of its last norm.
    """
    means = []
    for ids, branch in zip((options.a, options.b), options.branches, strict=True):
        tokens = torch.cat([prompt.ids, branch])
        require_context(f"{prompt.label} with its options", len(tokens), model.cfg.n_ctx)
        means.append(_log_probs(model, tokens, ids).mean(-1))
    return means[0] - means[1]


def _log_probs(
    model: TransformerBridge, tokens: Int[Tensor, " pos"], ids: Int[Tensor, " option"]
) -> Float[Tensor, "entry option"]:
    """Log-probability of every token of an option, of which all but the last are fed."""
    device = model.cfg.device
    try:
        result = logit_lens(
            model,
            tokens[None].to(device),
            positions=slice(len(tokens) - len(ids), None),
            targets=ids[None].to(device),
            return_type="log_probs",
        )
    except ValueError as error:  # its way of refusing a model
        name = type(model.original_model).__name__
        raise InterpError(f"no logit lens on {name}: {first_line(error)}") from error
    return result.values.reshape(len(result.labels), len(ids)).double().cpu()
