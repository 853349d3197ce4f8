"""How far two runs' lens distributions lie apart at every layer, over the whole vocabulary.

Three readings: the Kullback-Leibler divergence KL(source || destination) and the Jensen-Shannon
divergence, in nats, both 0 for equal distributions (Jensen-Shannon is symmetric and at most ln 2);
and the overlap of the two top-5 lists, the share of tokens that both hold (arXiv 2407.15286). None is
ever negative and any two sentences differ a little: compare with two sentences of no content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.lens.trajectory import each_lens_logits, enumerate_pairs, with_pair
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
        source, destination = each_lens_logits(model, [pair.source, pair.destination])
        frame = compare(source, destination, k=k)
        frame.insert(0, "layer", range(len(frame)))
        frames.append(with_pair(frame, number, pair))
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True, eq=False)
class LensDistributions:
    """The distributions of a stack of logits, made once for all that they are compared with.

    ``log_p`` and ``p``: float64; ``top``: the likeliest tokens.
    """

    log_p: Float[Tensor, "entry d_vocab"]
    p: Float[Tensor, "entry d_vocab"]
    top: Int[Tensor, "entry k"]

    @classmethod
    def of(cls, logits: Float[Tensor, "entry d_vocab"], *, k: int = TOP_K) -> LensDistributions:
        """The distributions, and lists of ``k`` tokens.

        Raises:
            InterpError: a ``k`` outside the vocabulary.
        """
        if not 1 <= k <= logits.shape[-1]:
            raise InterpError(f"k is {k}: the top list takes 1 to {logits.shape[-1]} tokens")
        log_p = logits.double().log_softmax(-1)
        return cls(log_p, log_p.exp(), logits.topk(int(k), dim=-1).indices)


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
    return compare_distributions(
        LensDistributions.of(source, k=k), LensDistributions.of(destination, k=k)
    )


def compare_distributions(
    source: LensDistributions, destination: LensDistributions
) -> pd.DataFrame:
    """:func:`compare` of stacks whose distributions are there already, with lists of one length."""
    p, q, ratio = source.p, destination.p, destination.log_p - source.log_p
    over_p = torch.logaddexp(ratio, torch.zeros(())).sub_(math.log(2))  # the log of middle over p
    over_q = (over_p - ratio).nan_to_num(nan=-math.log(2))  # where p is 0, and the ratio infinite
    js = -(_mean_under(p, over_p) + _mean_under(q, over_q)) / 2
    return pd.DataFrame(
        {
            "kl": _mean_under(p, -ratio).clamp(min=0.0).numpy(),
            "js": js.clamp(min=0.0, max=math.log(2)).numpy(),
            "overlap": _overlap(source.top, destination.top).numpy(),
        }
    )


def _mean_under(p: Tensor, values: Tensor) -> Tensor:
    """Mean of values under p, tokens of probability 0 left out."""
    return torch.where(p > 0, p * values, 0.0).sum(-1)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, :, None] == b[:, None, :]).any(-1).double().mean(-1)
