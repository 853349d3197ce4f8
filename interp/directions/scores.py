"""How well a method separates sentences it was not fitted on, and what shuffled labels give.

Groups (pairs, quadruples, scenarios) are never split: every group is scored by axes fitted on the
others. The null fits and scores the same way after the labels were exchanged: within groups that
hold both labels, and whole between groups of one label and equal size otherwise. Because a layer is
usually picked for its score, each shuffle's *best* layer gives the family-wise p.

For ``mean_difference`` and ``lda`` a held-out score is linear in the labels' contrast, so that 200
shuffles cost two matrix products per fold; the other methods are fitted again, at one layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from sklearn.model_selection import GroupKFold
from torch import Tensor

from interp.data.labels import require_folds
from interp.directions.methods import FitMethod, Labels, Values, axes, class_units, lda_metric
from interp.errors import InterpError
from interp.stats import FloatArray, IntArray, Interval, corrected_cv, rng

CLOSED_FORM: tuple[str, ...] = ("mean_difference", "lda")

N_REPEATS = 2
"""Cross-validations of a held-out AUC: more narrow its interval by 8 % at twice the time."""

_TIE = 1e-12

HeldOut: TypeAlias = Float[Tensor, "layer held_out d_model"]


@dataclass(frozen=True)
class ShuffledNull:
    """Held-out AUC under shuffled labels, per layer (NaN at layers that were not shuffled).

    ``mean``, ``low``, ``high``: mean and central 95 % of the shuffles. ``p``: share of shuffles whose
    AUC, at its best among the layers shuffled, is at least the observed one (family-wise over those
    layers; the observed labelling counts as one). Where only the best layer was shuffled, ``p`` takes
    the choice of that layer as given and is too small by it.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    n_shuffles: int


def folds(
    labels: Labels, groups: Sequence[str], n_folds: int, shuffled: int | None = None
) -> list[tuple[IntArray, IntArray]]:
    """Train and test indices of every fold, groups never split.

    ``shuffled``: the seed of another assignment of groups to folds; None for the plain one.

    Raises:
        InterpError: fewer groups than folds, or the training part of a fold holds one label only.
    """
    require_folds(groups, n_folds)
    found = []
    split = GroupKFold(n_folds, shuffle=shuffled is not None, random_state=shuffled)
    for train, test in split.split(np.zeros(len(labels)), groups=groups):
        if labels[train].all() or not labels[train].any():
            raise InterpError(
                f"one of {n_folds} folds leaves texts of one label only: spread both labels over "
                "more groups"
            )
        found.append((train, test))
    return found


def held_out_scores(
    method: FitMethod,
    values: Values,
    labellings: Bool[Tensor, "labelling prompt"],
    groups: Sequence[str],
    split: Sequence[tuple[IntArray, IntArray]],
) -> Float[np.ndarray, "labelling layer prompt"]:
    """Projections of every text in class units of the axes fitted without its fold.

    Several labellings of the same texts (the true one, shuffled ones) are scored alike, on the
    folds of one ``split`` (:func:`folds`).
    """
    scores = np.empty((len(labellings), *values.shape[:2]))
    scored = _in_closed_form if method in CLOSED_FORM else _one_by_one
    for train, test in split:
        inside = [groups[k] for k in train]
        scores[:, :, test] = scored(
            method, values[:, train], values[:, test], labellings[:, train], inside
        )
    return scores


def _one_by_one(
    method: FitMethod, train: Values, test: HeldOut, labellings: Tensor, groups: Sequence[str]
) -> FloatArray:
    found = []
    for labels in labellings:
        vectors = axes(method, train, labels, groups)
        scale, offset = class_units(train, labels, vectors)
        dots = torch.einsum("lpd,ld->lp", test, vectors)
        found.append((dots - offset[:, None]) / scale[:, None])
    return torch.stack(found).double().numpy()


def _in_closed_form(
    method: FitMethod, train: Values, test: HeldOut, labellings: Tensor, groups: Sequence[str]
) -> FloatArray:
    """All labellings at once: the metric (identity, or S^-1) does not depend on the labels."""
    centre = train.mean(1, keepdim=True)
    inside, outside = train - centre, test - centre
    positive = labellings.T.float()  # [train, labelling]
    up, down = positive / positive.sum(0), (1 - positive) / (1 - positive).sum(0)
    contrast = (up - down) if method == "mean_difference" else lda_metric(inside) @ (up - down)
    axis = inside.transpose(1, 2) @ contrast  # [layer, d_model, labelling]
    own = inside @ axis
    high, low = (own * up).sum(1), (own * down).sum(1)
    scaled = (outside @ axis - ((high + low) / 2)[:, None]) / ((high - low).abs() / 2)[:, None]
    return scaled.permute(2, 0, 1).double().numpy()


def score_and_null(
    method: FitMethod,
    values: Values,
    labels: Labels,
    groups: Sequence[str],
    *,
    n_folds: int = 5,
    n_shuffles: int = 200,
    seed: int = 0,
) -> tuple[Interval, ShuffledNull]:
    """Held-out AUC per layer with its interval, and the AUC of the same fitting on shuffled labels.

    The AUC is the mean over the folds of :data:`N_REPEATS` cross-validations, with the interval of
    :func:`interp.stats.corrected_cv`: the axes are fitted anew in every fold. The null compares the
    pooled held-out scores of the first cross-validation with those of shuffled labels. Methods in
    closed form are shuffled at all layers, the others at their best one.

    Args:
        method: how axes are fitted.
        values: the states ``[layer, prompt, d_model]``.
        labels: the true labels.
        groups: the group of each text.
        n_folds: folds of the held-out score.
        n_shuffles: how many shuffles; 0 for none (NaN).
        seed: seed of the repeats' folds and of the shuffles.
    """
    splits = repeated_folds(labels, groups, n_folds, seed)
    trains = [train for train, _ in splits[0]]
    shuffled = torch.from_numpy(shuffled_labels(labels.numpy(), groups, n_shuffles, seed, trains))
    at_once = method in CLOSED_FORM
    labellings = torch.cat([labels[None], shuffled]) if at_once else labels[None]
    scores = held_out_scores(method, values, labellings, groups, splits[0])
    again = (held_out_scores(method, values, labels[None], groups, split) for split in splits[1:])
    auc = held_out_auc([scores[0], *(one[0] for one in again)], labels.numpy(), groups, splits)
    observed = rank_auc(scores[0], labels.numpy())
    rows = np.arange(len(values)) if at_once else np.array([int(np.argmax(auc.estimate))])
    if not n_shuffles:
        return auc, _null(observed, rows[:0], np.empty((0, 0)))
    if at_once:
        null_scores = scores[1:]
    else:
        read = values[[*rows, -1]] if method == "statements_last" else values[rows]
        null_scores = held_out_scores(method, read, shuffled, groups, splits[0])[:, : len(rows)]
    aucs = rank_auc(null_scores.transpose(1, 0, 2), shuffled.numpy())
    return auc, _null(observed, rows, aucs)


def repeated_folds(
    labels: Labels, groups: Sequence[str], n_folds: int, seed: int
) -> list[list[tuple[IntArray, IntArray]]]:
    """The folds of :data:`N_REPEATS` cross-validations; the first is that of :func:`folds`.

    A repeat that would leave one label only in a training part is left out.
    """
    found, generator = [folds(labels, groups, n_folds)], rng(seed, "repeated folds")
    for _ in range(N_REPEATS - 1):
        try:
            found.append(folds(labels, groups, n_folds, int(generator.integers(2**31))))
        except InterpError:
            continue
    return found


def held_out_auc(
    scores: Sequence[FloatArray],
    labels: npt.NDArray[np.bool_],
    groups: Sequence[str],
    splits: Sequence[Sequence[tuple[IntArray, IntArray]]],
) -> Interval:
    """Mean ROC-AUC of all folds, of held-out scores ``[*cells, prompt]`` per cross-validation.

    A fold whose test part holds one label only has no AUC and is left out.
    """
    aucs = [
        rank_auc(of_split[..., test], labels[test])
        for of_split, split in zip(scores, splits, strict=True)
        for _, test in split
    ]
    return corrected_cv(
        np.stack(aucs, axis=-1),
        test_share=1 / len(splits[0]),
        n_items=len(labels),
        n_clusters=len(set(groups)),
    ).within(0.0, 1.0)


def _null(observed: FloatArray, rows: IntArray, aucs: FloatArray) -> ShuffledNull:
    """The null at some rows of the layers from its AUCs ``[row, shuffle]``."""
    out = {name: np.full(len(observed), np.nan) for name in ("mean", "low", "high", "p")}
    if len(rows):
        out["mean"][rows] = aucs.mean(-1)
        out["low"][rows], out["high"][rows] = np.quantile(aucs, [0.025, 0.975], axis=-1)
        hits = (aucs.max(0)[None] >= observed[rows][:, None] - _TIE).sum(-1)
        out["p"][rows] = (hits + 1) / (aucs.shape[-1] + 1)
    return ShuffledNull(**out, n_shuffles=aucs.shape[-1])


def shuffled_labels(
    labels: npt.NDArray[np.bool_],
    groups: Sequence[str],
    n_shuffles: int,
    seed: int,
    trains: Sequence[IntArray] = (),
) -> npt.NDArray[np.bool_]:
    """Labels ``[shuffle, prompt]`` exchanged as the module says.

    A shuffle that leaves one label only in one of the training parts ``trains`` is drawn again: the
    true labels were held to the same (:func:`folds`), so all that remain are still equally likely.
    """
    generator = rng(seed, "shuffled labels")
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(groups):
        members[name].append(index)
    mixed = [np.array(m) for m in members.values() if 0 < labels[m].sum() < len(m)]
    of_size: dict[int, list[list[int]]] = defaultdict(list)
    for m in members.values():
        if not 0 < labels[m].sum() < len(m):
            of_size[len(m)].append(m)
    whole = [np.array(same) for same in of_size.values()]  # [group, member]
    out = np.tile(labels, (n_shuffles, 1))
    for row in out:
        usable = False
        while not usable:
            for inside in mixed:
                row[inside] = generator.permutation(labels[inside])
            for same in whole:
                row[same] = generator.permutation(labels[same[:, 0]])[:, None]
            usable = all(0 < row[train].sum() < len(train) for train in trains)
    return out


def rank_auc(scores: FloatArray, labels: npt.NDArray[np.bool_]) -> FloatArray:
    """ROC-AUC ``[*cells]`` of scores ``[*cells, prompt]`` for labels of that shape or ``[prompt]``.

    By ranks, ties counting one half. NaN where one class is missing.
    """
    labels = np.broadcast_to(labels, scores.shape)
    ranks = rankdata(scores, axis=-1)
    n_up = labels.sum(-1)
    wins = (ranks * labels).sum(-1) - n_up * (n_up + 1) / 2
    pairs = np.asarray(n_up * (labels.shape[-1] - n_up), dtype=np.float64)
    return np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
