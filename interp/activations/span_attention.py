"""How much attention goes from each span to each other span, per head: one forward per prompt.

The patterns are summed up layer by layer inside the forward, so that long prompts and many prompts
need no more memory than one layer's patterns.

Example::

    masses = interp.activations.read_span_attention(model, [pair.source for pair in pairs])
    masses.mass("instruction")  # [layer, head], of all later positions
    masses.to_dataframe().nlargest(10, "mass")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.display import short_repr
from interp.errors import InterpError
from interp.prompts import Given, TokenizedPrompt, as_prompt
from interp.prompts.given import each_given

LATER = "later positions"
"""The positions after a span, as one row: of a span that ends the prompt, the last position."""


@dataclass(frozen=True, eq=False)
class SpanAttention:
    """Mean attention mass (0 to 1) from the positions of a span to the tokens of a span, per head.

    ``values`` ``[layer, head, query, key]``: a query position's probabilities are summed over the key
    span's tokens, and averaged over the query span's positions and then over prompts that have both
    spans. ``queries`` are ``later positions`` (those after the key span) and the spans' names, ``keys``
    the spans' names; NaN where no prompt has them.
    """

    values: Float[Tensor, "layer head query key"]
    layers: tuple[int, ...]
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    n_prompts: int = 1

    __repr__ = short_repr

    def mass(self, key: str, query: str = LATER) -> Float[Tensor, "layer head"]:
        """The mass from one span (or all later positions) to another.

        Raises:
            InterpError: no such span.
        """
        for name, known in ((key, self.keys), (query, self.queries)):
            if name not in known:
                raise InterpError(f"no span {name!r}; there are {', '.join(known)}")
        return self.values[:, :, self.queries.index(query), self.keys.index(key)]

    def to_dataframe(self) -> pd.DataFrame:
        """A row per layer, head, query span and key span: ``layer, head, query, key, mass``."""
        heads = range(self.values.shape[1])
        names = ["layer", "head", "query", "key"]
        cells = pd.MultiIndex.from_product(
            [self.layers, heads, self.queries, self.keys], names=names
        )
        return pd.DataFrame({"mass": self.values.flatten().tolist()}, index=cells).reset_index()


@torch.no_grad()
def read_span_attention(
    model: TransformerBridge, prompts: Given | Sequence[Given]
) -> SpanAttention:
    """Attention from span to span at every head, of one prompt or averaged over several.

    Args:
        model: a bridge in evaluation mode.
        prompts: a prompt, a pair (its source), a text, chat messages or token ids; or several.

    Raises:
        InterpError: no prompt (:func:`interp.prompts.as_prompt`).
    """
    asked = [as_prompt(model, one) for one in each_given(prompts)]
    if not asked:
        raise InterpError("no prompts to read: the list is empty")
    return mean_span_attention([_read(model, prompt) for prompt in asked])


def mean_span_attention(each: Sequence[SpanAttention]) -> SpanAttention:
    """The mean over prompts, span by span; each counts where it has both spans."""
    queries, keys = (
        tuple(dict.fromkeys(name for one in each for name in getattr(one, which)))
        for which in ("queries", "keys")
    )
    shape = (*each[0].values.shape[:2], len(queries), len(keys))
    total, counted = torch.zeros(shape), torch.zeros(shape)
    for one in each:
        rows = torch.tensor([queries.index(name) for name in one.queries])
        columns = torch.tensor([keys.index(name) for name in one.keys])
        total[:, :, rows[:, None], columns] += one.values.nan_to_num()
        counted[:, :, rows[:, None], columns] += (~one.values.isnan()).float()
    n_prompts = sum(one.n_prompts for one in each)
    return SpanAttention(total / counted, each[0].layers, queries, keys, n_prompts)


def sum_by_span(
    pattern: Float[Tensor, "head dest src"], prompt: TokenizedPrompt
) -> Float[Tensor, "head query key"]:
    """The mass of one layer's patterns from later positions and each span to each span."""
    n, spans = len(prompt), list(prompt.spans.values())
    member = torch.zeros(len(spans), n, device=pattern.device)
    later = torch.zeros(len(spans), n, device=pattern.device)
    for k, span in enumerate(spans):
        member[k, span] = 1
        later[k, min(span.stop, n - 1) :] = 1
    to_span = torch.einsum("hds,ks->hdk", pattern.float(), member)
    of_later = torch.einsum("hdk,kd->hk", to_span, later / later.sum(-1, keepdim=True))
    of_spans = torch.einsum("hdk,qd->hqk", to_span, member / member.sum(-1, keepdim=True))
    return torch.cat([of_later[:, None], of_spans], dim=1)


def names_of(prompt: TokenizedPrompt) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The query and key names of a prompt: later positions and its spans, and its spans."""
    spans = tuple(prompt.spans)
    return (LATER, *spans), spans


def _read(model: TransformerBridge, prompt: TokenizedPrompt) -> SpanAttention:
    n_layers = int(model.cfg.n_layers)
    found: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(pattern: Tensor, hook: Any) -> None:
            found[layer] = sum_by_span(pattern[0], prompt).cpu()

        return hook

    hooks = [(f"blocks.{layer}.attn.hook_pattern", keep(layer)) for layer in range(n_layers)]
    model.run_with_hooks(prompt.ids[None].to(model.cfg.device), fwd_hooks=hooks)
    layers = tuple(range(n_layers))
    return SpanAttention(torch.stack([found[layer] for layer in layers]), layers, *names_of(prompt))
