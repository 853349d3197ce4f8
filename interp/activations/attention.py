"""Attention patterns of one prompt, and how much of them goes to a span.

A notebook shows patterns as heatmaps; :func:`interp.viz.attention_page` compares two runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations.span_attention import SpanAttention, names_of, sum_by_span
from interp.display import short_repr
from interp.errors import InterpError
from interp.prompts import Given, TokenizedPrompt, as_prompt


@dataclass(frozen=True, eq=False)
class AttentionPatterns:
    """Attention probabilities ``[layer, head, dest, src]`` of one prompt; sum over src = 1."""

    values: Float[Tensor, "layer head dest src"]
    layers: tuple[int, ...]
    prompt: TokenizedPrompt

    __repr__ = short_repr

    def to_span(self, span: str, *, dest: slice | None = None) -> Float[Tensor, "layer head"]:
        """Mean attention mass that destination positions give to a span.

        Args:
            span: name of the span that is attended to.
            dest: destination positions; None takes every position after the span.

        Raises:
            InterpError: no such span, or no position after it.
        """
        source = self.prompt.span(span)
        rows = slice(source.stop, None) if dest is None else dest
        mass = self.values[:, :, rows, source].sum(dim=-1)
        if mass.shape[-1] == 0:
            raise InterpError(f"no position comes after span {span!r} of {self.prompt.label}")
        return mass.mean(dim=-1)

    def by_span(self) -> SpanAttention:
        """The mass from every span (and all later positions) to every span, at these layers."""
        values = torch.stack([sum_by_span(layer, self.prompt) for layer in self.values])
        return SpanAttention(values, self.layers, *names_of(self.prompt))

    def _repr_html_(self) -> str | None:
        from interp.viz import attention_view  # drawing is another room's, loaded when it is needed

        return attention_view(self)._repr_html_()


@torch.no_grad()
def read_attention(
    model: TransformerBridge, prompt: Given, *, layers: Sequence[int] | None = None
) -> AttentionPatterns:
    """Attention patterns of one prompt at the given layers (all by default), float32 on the CPU.

    ``prompt`` is a prompt, a pair (its source), a text, chat messages or token ids.

    Raises:
        InterpError: no prompt (:func:`interp.prompts.as_prompt`), a layer the model does not have, or
            no layer.
    """
    prompt = as_prompt(model, prompt)
    layers = tuple(range(model.cfg.n_layers)) if layers is None else tuple(layers)
    outside = [layer for layer in layers if not 0 <= layer < model.cfg.n_layers]
    if outside or not layers:
        raise InterpError(
            f"layers {list(layers)} must be one or more of 0..{model.cfg.n_layers - 1}"
        )
    names = {f"blocks.{layer}.attn.hook_pattern" for layer in layers}
    ids = prompt.ids[None].to(model.cfg.device)
    _, cache = model.run_with_cache(ids, names_filter=lambda name: name in names)
    patterns = [cache[f"blocks.{layer}.attn.hook_pattern"][0].float().cpu() for layer in layers]
    return AttentionPatterns(torch.stack(patterns), layers, prompt)
