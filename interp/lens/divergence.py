"""How far two runs' lens distributions lie apart at every layer, over the whole vocabulary.

Three readings: the Kullback-Leibler divergence KL(source || destination) and the Jensen-Shannon
divergence, in nats, both 0 for equal distributions (Jensen-Shannon is symmetric and at most ln 2);
and the overlap of the two top-5 lists, the share of tokens that both hold (arXiv 2407.15286). None is
ever negative and any two sentences differ a little: compare with two sentences of no content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.lens.trajectory import enumerate_pairs, lens_logits, with_pair
from interp.prompts import PromptPair

TOP_K = 5
"""Length of the compared lists, the study's."""


def lens_divergence(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    k: int = TOP_K,
    progress: bool = True,
) -> pd.DataFrame:
    """Divergence of the two runs' lens distributions, one row per (pair, layer).

    Columns: ``pair``, ``item``, ``cluster``, ``layer``, ``kl`` (source || destination), ``js``, both in
    nats, and ``overlap`` of the top ``k`` (0..1). The pairs need no margin target. Two distributions
    ``[n_layers + 1, d_vocab]`` are held at a time.

    Raises:
        InterpError: no pairs, or a ``k`` outside the vocabulary.
    """
    frames = []
    for number, pair in enumerate_pairs(pairs, progress):
        source, destination = (lens_logits(model, p) for p in (pair.source, pair.destination))
        frame = compare(source, destination, k=k)
        frame.insert(0, "layer", range(len(frame)))
        frames.append(with_pair(frame, number, pair))
    return pd.concat(frames, ignore_index=True)


def compare(
    source: Float[Tensor, "entry d_vocab"],
    destination: Float[Tensor, "entry d_vocab"],
    *,
    k: int = TOP_K,
) -> pd.DataFrame:
    """``kl``, ``js`` (nats, float64) and ``overlap`` of two stacks of logits, one row per entry.

    A logit of -inf is probability 0; KL is infinite where the destination alone has it.

    Raises:
        InterpError: a ``k`` outside the vocabulary.
    """
    if not 1 <= k <= source.shape[-1]:
        raise InterpError(f"k is {k}: the top list takes 1 to {source.shape[-1]} tokens")
    p, q = (logits.double().log_softmax(-1) for logits in (source, destination))
    return pd.DataFrame(
        {
            "kl": _mean_under(p, p - q).numpy(),
            "js": ((_to_middle(p, q) + _to_middle(q, p)) / 2).clamp(max=math.log(2)).numpy(),
            "overlap": _overlap(source, destination, k).numpy(),
        }
    )


def _mean_under(log_p: Tensor, values: Tensor) -> Tensor:
    """Mean of values under p, tokens of probability 0 left out; rounding below 0 is cut."""
    p = log_p.exp()
    return torch.where(p > 0, p * values, 0.0).sum(-1).clamp(min=0.0)


def _to_middle(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || (p + q) / 2), exactly 0 for equal distributions."""
    ratio = log_q - log_p
    return _mean_under(log_p, math.log(2) - torch.logaddexp(torch.zeros_like(ratio), ratio))


def _overlap(source: Tensor, destination: Tensor, k: int) -> Tensor:
    a, b = (logits.topk(int(k), dim=-1).indices for logits in (source, destination))
    return (a[:, :, None] == b[:, None, :]).any(-1).double().mean(-1)
