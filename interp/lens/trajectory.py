"""The options' margin, log-probability and rank at every layer, for both runs of a pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError
from interp.lens.entries import read_out, stream_entries
from interp.lens.options import LensMetric, option_margins
from interp.prompts import (
    Given,
    MarginTarget,
    OptionTokens,
    PromptPair,
    TokenizedPrompt,
    as_prompt,
    each_given,
    with_answers,
)

_READ_OUT_AT_ONCE = 4
"""Prompts whose distributions exist at a time."""


@dataclass(frozen=True)
class LensTrajectory:
    """Lens readings of both runs of some pairs, or of single prompts, tidy.

    Columns: ``pair``, ``item``, ``cluster``, ``run`` (``source``, ``destination``; ``prompt`` for a
    single one), ``condition``, ``layer`` (0 = the embedding,
    n_layers = the output), ``margin``, ``log_prob_a``, ``log_prob_b``, ``rank_a``, ``rank_b``, and
    ``option_margin`` where that is the ``metric``, from which differences are read.
    """

    frame: pd.DataFrame
    metric: LensMetric = "margin"

    __repr__ = short_repr

    def to_dataframe(self) -> pd.DataFrame:
        """A copy of the rows."""
        return self.frame.copy()

    @property
    def paired(self) -> bool:
        """Whether all readings are of pairs, which have a difference."""
        return set(self.frame["run"]) == {"source", "destination"}

    def difference(self) -> pd.DataFrame:
        """The metric of the source minus that of the destination, one row per (pair, layer).

        Raises:
            InterpError: single prompts, which have no other run.
        """
        if not self.paired:
            raise InterpError("a difference needs pairs, these are single prompts: give pairs")
        keys = ["pair", "item", "cluster", "layer"]
        wide = self.frame.pivot_table(index=keys, columns="run", values=self.metric, sort=False)
        return (wide["source"] - wide["destination"]).rename("difference").reset_index()

    def _repr_html_(self) -> str:
        mean = self.frame.pivot_table(index="layer", columns="condition", values=self.metric)
        return html_paragraph(lens_title(self.metric), bold=True) + html_table(
            mean, decimals=2, index=True
        )


def lens_title(metric: LensMetric) -> str:
    """What a table of a lens shows."""
    return "lens margin, nats" if metric == "margin" else "lens option margin, nats per token"


def lens_trajectory(
    model: TransformerBridge,
    pairs: Given | Sequence[Given],
    *,
    answers: tuple[str, str] | None = None,
    metric: LensMetric = "margin",
    progress: bool = True,
) -> LensTrajectory:
    """The options' margin (logit difference) at every layer, for both runs of each pair.

    Args:
        model: a bridge in evaluation mode.
        pairs: one or several pairs; or, with ``answers``, prompts: a prompt, a text, chat messages or
            token ids.
        answers: for single prompts, the better answer's text and the worse one's, as
            :func:`interp.make_pair` takes them.
        metric: ``"option_margin"`` reads the options' full texts too
            (:func:`interp.lens.lens_option_margin`), in a column of its own.
        progress: show a bar.

    Raises:
        InterpError: nothing to read, a pair without a margin target or options, a single prompt
            without answers, or an unknown metric.

    Example:
        >>> lens_trajectory(model, pair).difference()          # doctest: +SKIP
        >>> lens_trajectory(model, "The sky is", answers=(" blue", " red"))      # doctest: +SKIP
    """
    require_lens_metric(metric)
    given = each_given(pairs)
    if not given:
        raise InterpError("no pairs to follow: the list is empty")
    frames = []
    for k, one in enumerate(tqdm(given, desc="logit lens", disable=not progress)):
        if isinstance(one, PromptPair):
            frames += [with_pair(frame, k, one) for frame in _of_pair(model, one, metric)]
        else:
            frames.append(_of_prompt(model, one, answers, metric).assign(pair=k, cluster=str(k)))
    return LensTrajectory(pd.concat(frames, ignore_index=True), metric)


def _of_pair(
    model: TransformerBridge, pair: PromptPair, metric: LensMetric
) -> Iterator[pd.DataFrame]:
    """The readings of both runs, each with its ``run`` and ``condition``."""
    if pair.target is None:
        raise InterpError(f"{pair.label}: no margin target; no token distinguishes its options")
    prompts = [pair.source, pair.destination]
    read = [option_readings(one, pair.target) for one in each_lens_logits(model, prompts)]
    if metric == "option_margin":
        if pair.options is None:
            raise InterpError(
                f"{pair.label}: no options, so no option margin: give make_pair answers=(a, b) or "
                "options=(ids a, ids b)"
            )
        read = with_option_margins(read, model, prompts, [pair.options] * 2)
    names = (("source", pair.source_name), ("destination", pair.destination_name))
    for frame, (run, condition) in zip(read, names, strict=True):
        frame.insert(0, "condition", condition)
        frame.insert(0, "run", run)
        yield frame


def _of_prompt(
    model: TransformerBridge, given: Given, answers: tuple[str, str] | None, metric: LensMetric
) -> pd.DataFrame:
    """The readings of a single prompt, with the columns of a pair's."""
    prompt = as_prompt(model, given)
    if answers is None:
        raise InterpError(
            f"{prompt.label}: a single prompt needs answers=(better, worse), whose logit difference "
            'is followed, such as (" blue", " red"); a pair brings its own'
        )
    (prompt,), target, options = with_answers(model, [prompt], answers)
    read = [lens_prompt(model, prompt, target)]
    if metric == "option_margin":
        read = with_option_margins(read, model, [prompt], [options])
    frame = read[0]
    frame.insert(0, "condition", prompt.label)
    frame.insert(0, "run", "prompt")
    for name in ("cluster", "item", "pair"):  # the caller numbers them
        frame.insert(0, name, "")
    return frame


def require_lens_metric(metric: str) -> None:
    """Refuse an unknown metric."""
    if metric not in get_args(LensMetric):
        raise InterpError(f"no lens metric {metric!r}; known: {', '.join(get_args(LensMetric))}")


def with_option_margins(
    frames: Sequence[pd.DataFrame],
    model: TransformerBridge,
    prompts: Sequence[TokenizedPrompt],
    options: Sequence[OptionTokens],
) -> list[pd.DataFrame]:
    """Readings of prompts with the column ``option_margin``, in nats per token."""
    longer = [k for k, one in enumerate(options) if not one.single_token]
    read = option_margins(model, [prompts[k] for k in longer], [options[k] for k in longer])
    margins = dict(zip(longer, read, strict=True))
    return [
        # of options of one token the normaliser is common: it is the margin
        frame.assign(option_margin=margins[k].numpy() if k in margins else frame["margin"])
        for k, frame in enumerate(frames)
    ]


def lens_prompt(
    model: TransformerBridge, prompt: TokenizedPrompt, target: MarginTarget
) -> pd.DataFrame:
    """Lens readings of one prompt's last position, one row per layer."""
    return option_readings(lens_logits(model, prompt), target)


def lens_logits(
    model: TransformerBridge, prompt: TokenizedPrompt
) -> Float[Tensor, "entry d_vocab"]:
    """The logits that every entry of the last position's stream would give, float32, on the CPU.

    ``entry`` runs over n_layers + 1 states: the embedding first, the model's own output last. A soft
    cap of the output is applied to every entry.

    Raises:
        InterpError: a model whose output is not the unembedding of its last norm.
    """
    return next(each_lens_logits(model, [prompt]))


def each_lens_logits(
    model: TransformerBridge, prompts: Sequence[TokenizedPrompt]
) -> Iterator[Float[Tensor, "entry d_vocab"]]:
    """:func:`lens_logits` of prompts that run together, one after the other."""
    last = [(k, len(prompt) - 1) for k, prompt in enumerate(prompts)]
    entries = stream_entries(model, [prompt.ids for prompt in prompts], last)
    for some in entries.split(_READ_OUT_AT_ONCE, dim=1):
        yield from read_out(model, some).unbind(1)


def option_readings(logits: Float[Tensor, "entry d_vocab"], target: MarginTarget) -> pd.DataFrame:
    """Margin, log-probabilities and ranks of two tokens, one row per entry (``layer``).

    The margin is the logit difference, which is also that of the log-probabilities. A rank is 1 + the
    number of tokens with a larger logit.

    Raises:
        InterpError: a target outside the vocabulary.
    """
    tokens = [target.a, target.b]
    if not 0 <= min(tokens) <= max(tokens) < logits.shape[-1]:
        raise InterpError(
            f"target tokens {tokens} are outside the vocabulary of {logits.shape[-1]}"
        )
    values = logits.log_softmax(-1)[:, tokens].double().numpy()
    rank = [1 + (logits > logits[:, [token]]).sum(-1).numpy() for token in tokens]
    return pd.DataFrame(
        {
            "layer": range(len(logits)),
            "margin": values[:, 0] - values[:, 1],
            "log_prob_a": values[:, 0],
            "log_prob_b": values[:, 1],
            "rank_a": rank[0],
            "rank_b": rank[1],
        }
    )


def enumerate_pairs(
    pairs: PromptPair | Sequence[PromptPair], progress: bool
) -> Iterator[tuple[int, PromptPair]]:
    """The pairs with their numbers, under a bar.

    Raises:
        InterpError: no pairs.
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    if not pairs:
        raise InterpError("no pairs to follow: the list is empty")
    yield from enumerate(tqdm(pairs, desc="logit lens", disable=not progress))


def with_pair(frame: pd.DataFrame, number: int, pair: PromptPair) -> pd.DataFrame:
    """Rows of a pair with its number, item and cluster in front."""
    frame.insert(0, "cluster", pair.item.cluster if pair.item else str(number))
    frame.insert(0, "item", pair.item.id if pair.item else "")
    frame.insert(0, "pair", number)
    return frame
