"""Learning directions from labelled sentences, with their held-out scores and nulls.

Every layer of every site is read once, at the last token, which is the same full stop for all
sentences (:func:`interp.prompts.sentence_ids`). A layer or site is selected by held-out AUC on these
sentences alone, never by what it shows on the prompts under study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import Site
from interp.data.items import LabelledText
from interp.directions.baselines import word_baselines
from interp.directions.direction import DirectionStack
from interp.directions.fitting import facts_of, fit_states, labels_and_groups, sentence_states
from interp.directions.methods import METHODS, FitMethod
from interp.directions.nulls import contrast_axes, null_aucs
from interp.directions.scores import CLOSED_FORM
from interp.display import html_paragraph, html_table
from interp.errors import InterpError
from interp.stats import Interval, interval_column_names

N_SHUFFLES = 200


@dataclass(frozen=True, eq=False)
class DirectionFits:
    """Directions of several methods at several sites, fitted on the same sentences.

    ``stacks[method, site]``; ``baselines``: held-out AUCs of a bag of words and of the length, on
    the same folds; ``nulls``: AUC of null directions for the same labels (see :func:`.nulls.null_aucs`).
    """

    stacks: Mapping[tuple[FitMethod, Site], DirectionStack]
    baselines: Mapping[str, Interval]
    nulls: pd.DataFrame

    def __getitem__(self, key: tuple[FitMethod, Site]) -> DirectionStack:
        if key not in self.stacks:
            known = ", ".join(f"{method} at {site}" for method, site in self.stacks)
            raise InterpError(f"no {key[0]} at {key[1]}; fitted: {known}")
        return self.stacks[key]

    def __iter__(self) -> Iterator[DirectionStack]:
        return iter(self.stacks.values())

    def best_site(self, method: FitMethod) -> Site:
        """The site with the highest held-out AUC of a method, at its best layer."""
        return _best_site(self.stacks, method)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per (method, site, layer), see :meth:`DirectionStack.to_dataframe`."""
        return pd.concat(
            [
                stack.to_dataframe().assign(method=method, site=site)
                for (method, site), stack in self.stacks.items()
            ],
            ignore_index=True,
        )

    @cached_property
    def best(self) -> pd.DataFrame:
        """One row per (method, site): its best layer, highest AUC first."""
        frame = self.to_dataframe()
        rows = frame.loc[frame.groupby(["method", "site"], sort=False)["auc"].idxmax()]
        first = ["method", "site", "layer", *interval_column_names("auc")]
        rest = [name for name in frame.columns if name not in first]
        return rows.sort_values("auc", ascending=False)[first + rest].reset_index(drop=True)

    def __repr__(self) -> str:
        return "\n".join(repr(stack) for stack in self)

    def _repr_html_(self) -> str:
        words = ", ".join(f"{name} {interval}" for name, interval in self.baselines.items())
        best = self.best.drop(columns=["scale", "offset", *interval_column_names("auc")[3:]])
        head = html_paragraph("held-out AUC at each best layer", bold=True)
        return head + html_paragraph(f"baselines: {words}") + html_table(best, decimals=3)


def fit_direction(
    model: TransformerBridge,
    texts: Sequence[LabelledText],
    *,
    method: FitMethod = "mean_difference",
    site: Site = "resid_post",
    n_folds: int = 5,
    n_shuffles: int = N_SHUFFLES,
    seed: int = 0,
    progress: bool = True,
) -> DirectionStack:
    """Fit one direction per layer on the last token of labelled sentences.

    Every layer is also fitted on ``n_folds`` - 1 folds and scored on the fold left out, with groups
    (pairs) never split; the mean over folds of two cross-validations is the AUC.

    Args:
        model: a bridge in evaluation mode.
        texts: sentences with binary labels; both labels must occur.
        method: how to fit, see :mod:`interp.directions.methods`.
        site: which activation.
        n_folds: folds of the held-out score.
        n_shuffles: label shuffles of the null, see :mod:`interp.directions.scores`.
        seed: seed of the repeats' folds and of the shuffles.
        progress: show a bar.

    Returns:
        :class:`DirectionStack`, signed so that + is label 1.

    Raises:
        InterpError: one label only (also in the training part of a fold), fewer groups than folds,
            an unknown method or site, or (pca) texts that are not paired.
        NotFiniteError: an activation that is not finite; names hook (layer) and sentence.

    Example:
        >>> v = fit_direction(model, interp.load_texts("bundled:morality"))   # doctest: +SKIP
        >>> v.best_layer                                                       # doctest: +SKIP
    """
    labels, groups = labels_and_groups(texts, n_folds)
    states = sentence_states(model, texts, [site], progress=progress)[site]
    facts = facts_of(model, texts, method)
    return fit_states(states, labels, groups, facts, n_folds, n_shuffles, seed)


def fit_directions(
    model: TransformerBridge,
    texts: Sequence[LabelledText],
    *,
    methods: Sequence[FitMethod] = METHODS,
    sites: Sequence[Site] = ("resid_post", "attn_out", "mlp_out"),
    n_folds: int = 5,
    n_shuffles: int = N_SHUFFLES,
    seed: int = 0,
    progress: bool = True,
) -> DirectionFits:
    """:func:`fit_direction` by several methods at several sites, with every control.

    The sentences are read once. The methods without a closed form get their shuffled null at one
    place only: the best layer of their best site. Besides, null directions of the same states and
    of non-moral contrasts are scored on the same labels (:mod:`interp.directions.nulls`).

    Raises:
        InterpError: see :func:`fit_direction`.
    """
    if not methods or not sites:
        raise InterpError("no methods or sites to fit: the list is empty")
    labels, groups = labels_and_groups(texts, n_folds)
    states = sentence_states(model, texts, sites, progress=progress)
    stacks: dict[tuple[FitMethod, Site], DirectionStack] = {}
    plan = [(method, site) for method in methods for site in sites]
    for method, site in tqdm(plan, desc="fitting directions", disable=not progress):
        shuffles = n_shuffles if method in CLOSED_FORM else 0
        facts = facts_of(model, texts, method)
        stacks[method, site] = fit_states(
            states[site], labels, groups, facts, n_folds, shuffles, seed
        )
    for method in tqdm(methods, desc="shuffling labels", disable=not progress):
        if method not in CLOSED_FORM:
            site = _best_site(stacks, method)
            facts = stacks[method, site].facts
            stacks[method, site] = fit_states(
                states[site], labels, groups, facts, n_folds, n_shuffles, seed
            )
    contrasts = contrast_axes(model, methods=methods, sites=sites, progress=progress)
    return DirectionFits(
        stacks=stacks,
        baselines=word_baselines(texts, n_folds=n_folds, seed=seed),
        nulls=pd.concat(
            [null_aucs(states[site], labels, contrasts, seed=seed) for site in sites],
            ignore_index=True,
        ),
    )


def _best_site(stacks: Mapping[tuple[FitMethod, Site], DirectionStack], method: FitMethod) -> Site:
    sites = [site for name, site in stacks if name == method]
    return max(sites, key=lambda site: float(np.max(stacks[method, site].auc.estimate)))
