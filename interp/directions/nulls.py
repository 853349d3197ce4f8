"""Null directions, against which a learned one is compared.

Isotropic random directions are too weak a null: states vary far more along some axes than along
others, and any direction with a share in those moves far. Three stronger ones:

(i)   :func:`covariance_nulls`: random directions with the covariance of the states themselves;
(ii)  :func:`placebo_nulls`: the difference that one placebo text makes to another;
(iii) :func:`contrast_directions`: directions fitted in the same way on contrasts that are not moral
      (tense, number, topic, sentiment, ...).

All are unit vectors; whoever steers along them gives them the learned direction's step, so that the
norms match.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import pandas as pd
import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import Site, States
from interp.data.bundle import bundled_categories, bundled_texts
from interp.data.items import LabelledText
from interp.directions.direction import DirectionStack
from interp.directions.fitting import facts_of, fit_states, labels_and_groups, sentence_states
from interp.directions.methods import Axes, FitMethod, Labels, axes
from interp.directions.scores import rank_auc
from interp.errors import InterpError
from interp.stats import rng


def covariance_nulls(
    states: Float[Tensor, "*layer prompt d_model"], n: int, *, seed: int = 0
) -> Float[Tensor, "*layer n d_model"]:
    """``n`` unit vectors drawn from a normal distribution with the covariance of the states.

    A random combination of the centred states has just that covariance, so the matrix is never
    formed. The combinations are the same at every layer.

    Raises:
        InterpError: fewer than two states.
    """
    n_prompts = states.shape[-2]
    if n_prompts < 2:
        raise InterpError(f"{n_prompts} states have no covariance: give at least two")
    weights = rng(seed, "covariance nulls").standard_normal((n, n_prompts))
    centred = states - states.mean(-2, keepdim=True)
    drawn = torch.from_numpy(weights).to(centred) @ centred
    return torch.nn.functional.normalize(drawn, dim=-1)


def placebo_nulls(
    states: Float[Tensor, "*layer text prompt d_model"],
) -> Float[Tensor, "*layer pair d_model"]:
    """Unit differences of the mean states under every two placebo texts.

    Raises:
        InterpError: fewer than two texts.
    """
    n_texts = states.shape[-3]
    if n_texts < 2:
        raise InterpError(f"{n_texts} placebo text makes no difference: give at least two")
    means = states.mean(-2)
    differences = [means[..., a, :] - means[..., b, :] for a, b in combinations(range(n_texts), 2)]
    return torch.nn.functional.normalize(torch.stack(differences, dim=-2), dim=-1)


def contrast_directions(
    model: TransformerBridge,
    *,
    site: Site = "resid_post",
    method: FitMethod = "mean_difference",
    n_folds: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, DirectionStack]:
    """Directions of the twelve bundled non-moral contrasts, fitted in the same way, by name.

    + is the contrast's first pole (past, plural, pleasant, ...). They come with their own held-out
    AUC, which says whether they separate what they are meant to.
    """
    found = {}
    for name, texts, states in _contrast_states(model, [site], progress):
        labels, groups = labels_and_groups(texts, n_folds)
        facts = facts_of(model, texts, method)
        found[name] = fit_states(states[site], labels, groups, facts, n_folds, 0, seed)
    return found


def contrast_axes(
    model: TransformerBridge,
    *,
    sites: Sequence[Site],
    methods: Sequence[FitMethod],
    progress: bool = True,
) -> dict[tuple[str, FitMethod, Site], Axes]:
    """The vectors of :func:`contrast_directions` for several methods and sites, without scores."""
    found = {}
    for name, texts, states in _contrast_states(model, sites, progress):
        labels = torch.tensor([text.label for text in texts], dtype=torch.bool)
        groups = [text.group for text in texts]
        with threadpool_limits(limits=1):  # small systems, see fit_states
            for method in methods:
                for site in sites:
                    vectors = axes(method, states[site].values, labels, groups)
                    found[name, method, site] = vectors
    return found


def _contrast_states(
    model: TransformerBridge, sites: Sequence[Site], progress: bool
) -> Iterator[tuple[str, tuple[LabelledText, ...], dict[Site, States]]]:
    names = bundled_categories("contrasts")
    for name in tqdm(names, desc="non-moral contrasts", disable=not progress):
        texts = bundled_texts(f"contrasts:{name}")
        yield name, texts, sentence_states(model, texts, sites, progress=False)


def null_aucs(
    states: States,
    labels: Labels,
    contrasts: Mapping[tuple[str, FitMethod, Site], Axes],
    *,
    n_random: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """How well null directions separate labelled sentences: ROC-AUC, .5 is chance.

    Columns: ``site``, ``layer``, ``null`` (``covariance`` or ``contrast``), ``method`` (empty for
    the random ones), ``name`` (a number, or the contrast), ``auc``. A contrast's sign has nothing
    to do with the labels': an AUC as far below .5 as a direction's is above it is as strong.
    """
    random = covariance_nulls(states.values, n_random, seed=seed)
    kinds: list[tuple[str, str, str, Tensor]] = [
        ("covariance", "", str(k), random[:, k]) for k in range(n_random)
    ]
    kinds += [
        ("contrast", method, name, vectors)
        for (name, method, site), vectors in contrasts.items()
        if site == states.site
    ]
    vectors = torch.stack([vector for *_, vector in kinds], dim=1)
    dots = torch.einsum("lpd,lkd->lkp", states.values, vectors).double().numpy()
    aucs = rank_auc(dots, labels.numpy())
    frames = [
        pd.DataFrame(
            {
                "site": states.site,
                "layer": states.layers,
                "null": null,
                "method": method,
                "name": name,
                "auc": aucs[:, k],
            }
        )
        for k, (null, method, name, _) in enumerate(kinds)
    ]
    return pd.concat(frames, ignore_index=True)
