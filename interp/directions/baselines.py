"""What a direction has to beat: classifiers that see only the words, or only the length."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from interp.data.items import LabelledText
from interp.directions.scores import held_out_auc, repeated_folds
from interp.stats import FloatArray, Interval, of_sums


def word_baselines(
    texts: Sequence[LabelledText], *, n_folds: int = 5, seed: int = 0
) -> dict[str, Interval]:
    """Held-out ROC-AUC of a bag of words and of the length in characters.

    The bag of words (single words, logistic regression) is scored on the grouped folds that
    :func:`~interp.directions.fit_direction` uses, with the same interval
    (:func:`interp.stats.corrected_cv`). A direction whose AUC is not above these may read
    vocabulary or length. Nothing is fitted to the length: below 0.5 means that positive texts are
    shorter, and its interval is a delete-a-group jackknife (:func:`grouped_auc`).
    """
    labels = torch.tensor([text.label for text in texts], dtype=torch.bool)
    groups = [text.group for text in texts]
    lengths = np.array([float(len(text.text)) for text in texts])
    return {
        "bag of words": words_auc(texts, n_folds=n_folds, seed=seed),
        "length": grouped_auc(lengths, labels.numpy(), groups),
    }


def words_auc(texts: Sequence[LabelledText], *, n_folds: int = 5, seed: int = 0) -> Interval:
    """Held-out ROC-AUC of :func:`words_classifier`, on the folds of the directions.

    Raises:
        InterpError: fewer than two folds, or more than there are groups; a fold with one label.
    """
    labels = torch.tensor([text.label for text in texts], dtype=torch.bool)
    groups = [text.group for text in texts]
    splits = repeated_folds(labels, groups, n_folds, seed)
    words, truth = np.array([text.text for text in texts], dtype=object), labels.numpy()
    scores = []
    for split in splits:
        found = np.empty(len(texts))
        for train, test in split:
            fitted = words_classifier().fit(words[train], truth[train])
            found[test] = fitted.decision_function(words[test])
        scores.append(found)
    return held_out_auc(scores, truth, groups, splits)


def grouped_auc(
    scores: FloatArray, labels: npt.NDArray[np.bool_], groups: Sequence[str]
) -> Interval:
    """ROC-AUC of scores that were not fitted to these texts, with a jackknife over groups.

    The AUC is a mean over texts of label 1 of the share of texts of label 0 that they exceed. Leaving
    out a group changes both; the variance is that of the two parts' means over groups (DeLong,
    DeLong and Clarke-Pearson 1988, for clustered texts Obuchowski 1997), which is the jackknife of
    the AUC's linear part. ``p`` tests .5. Perfect separation gives the point [1, 1].
    """
    up, down = scores[labels], scores[~labels]
    won = np.zeros(len(scores))
    won[labels] = (
        np.searchsorted(np.sort(down), up, "left") + np.searchsorted(np.sort(down), up, "right")
    ) / (2 * len(down))
    won[~labels] = 1 - (
        np.searchsorted(np.sort(up), down, "left") + np.searchsorted(np.sort(up), down, "right")
    ) / (2 * len(up))
    ones = labels.astype(np.float64)
    columns = np.stack([won * ones, ones, won * (1 - ones), 1 - ones])
    # both means are the AUC, and their deviations from it add up
    auc = float(won[labels].mean())
    beyond = of_sums(lambda s: s[0] / s[1] + s[2] / s[3] - auc - 0.5, columns, groups)
    low, high = beyond.low + 0.5, beyond.high + 0.5
    if auc in (0.0, 1.0):
        low = high = auc
    return dataclasses.replace(beyond, estimate=auc, low=low, high=high).within(0.0, 1.0)


def words_classifier() -> Pipeline:
    """A bag of single words and logistic regression."""
    return make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
