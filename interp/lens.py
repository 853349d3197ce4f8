"""Logit-lens trajectories of the answer options.

At every layer the residual stream of the last position is read through the model's own final norm
and unembedding (TransformerLens's :func:`~transformer_lens.tools.analysis.logit_lens`), for both
runs of a pair, and the margin of the two options is followed. The last entry is the model's own.

Sign: margin = logit(a) - logit(b) in nats, + is the better answer. ``log_prob`` and ``rank`` (1 =
the top token of the vocabulary) are given for both options' tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis import logit_lens

from interp.errors import InterpError
from interp.prompts import MarginTarget, PromptPair, TokenizedPrompt


@dataclass(frozen=True)
class LensTrajectory:
    """Lens readings of both runs of some pairs, tidy.

    Columns: ``pair``, ``item``, ``cluster``, ``run``, ``condition``, ``layer`` (0 = the embedding,
    n_layers = the output), ``margin``, ``log_prob_a``, ``log_prob_b``, ``rank_a``, ``rank_b``.
    """

    frame: pd.DataFrame

    def to_dataframe(self) -> pd.DataFrame:
        """A copy of the rows."""
        return self.frame.copy()

    def difference(self) -> pd.DataFrame:
        """Margin of the source minus the destination, one row per (pair, layer), in nats."""
        wide = self.frame.pivot_table(
            index=["pair", "item", "cluster", "layer"], columns="run", values="margin", sort=False
        )
        return (wide["source"] - wide["destination"]).rename("difference").reset_index()

    def _repr_html_(self) -> str:
        mean = self.frame.pivot_table(index="layer", columns="condition", values="margin")
        return "<p><b>lens margin, nats</b></p>" + mean.to_html(
            border=0, float_format="{:.2f}".format
        )


def lens_trajectory(
    model: TransformerBridge, pairs: PromptPair | Sequence[PromptPair], *, progress: bool = True
) -> LensTrajectory:
    """Follow the options' margin through the layers, for both runs of each pair.

    Raises:
        InterpError: no pairs, or one without a margin target.

    Example:
        >>> lens_trajectory(model, pair).difference()          # doctest: +SKIP
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    if not pairs:
        raise InterpError("no pairs to follow: the list is empty")
    frames = []
    for k, pair in enumerate(tqdm(pairs, desc="logit lens", disable=not progress)):
        if pair.target is None:
            raise InterpError(f"{pair.label}: no margin target; its options cannot be told apart")
        for run, prompt, condition in (
            ("source", pair.source, pair.source_name),
            ("destination", pair.destination, pair.destination_name),
        ):
            frame = lens_prompt(model, prompt, pair.target)
            frame.insert(0, "condition", condition)
            frame.insert(0, "run", run)
            frame.insert(0, "cluster", pair.item.cluster if pair.item else str(k))
            frame.insert(0, "item", pair.item.id if pair.item else "")
            frame.insert(0, "pair", k)
            frames.append(frame)
    return LensTrajectory(pd.concat(frames, ignore_index=True))


def lens_prompt(
    model: TransformerBridge, prompt: TokenizedPrompt, target: MarginTarget
) -> pd.DataFrame:
    """Lens readings of one prompt's last position, one row per layer."""
    result = logit_lens(
        model,
        prompt.ids[None].to(model.cfg.device),
        positions=-1,
        targets=[target.a, target.b],
        return_type="log_probs",
    )
    n = len(result.labels)
    values = result.values.reshape(n, 2).double().cpu().numpy()
    ranks = result.readout.target_ranks
    assert ranks is not None  # asked for targets
    rank = 1 + np.asarray(ranks.reshape(n, 2).cpu())
    return pd.DataFrame(
        {
            "layer": range(n),
            "margin": values[:, 0] - values[:, 1],
            "log_prob_a": values[:, 0],
            "log_prob_b": values[:, 1],
            "rank_a": rank[:, 0],
            "rank_b": rank[:, 1],
        }
    )
