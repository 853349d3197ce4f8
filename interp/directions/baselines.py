"""What a direction has to beat: classifiers that see only the words, or only the length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from interp.data.items import LabelledText
from interp.errors import InterpError
from interp.stats import FloatArray, Interval, auc_interval


def word_baselines(
    texts: Sequence[LabelledText], *, n_folds: int = 5, seed: int = 0
) -> dict[str, Interval]:
    """Held-out ROC-AUC of a bag of words and of the length in characters.

    The bag of words (single words, logistic regression) is scored on grouped folds as
    :func:`~interp.directions.fit_direction` is. A direction whose AUC is not above these may read
    vocabulary or length. Length is scored as it is: below 0.5 means that positive texts are shorter.
    """
    labels = np.array([text.label for text in texts])
    groups = [text.group for text in texts]
    lengths = np.array([float(len(text.text)) for text in texts])
    words = held_out_words(texts, n_folds=n_folds)
    return {
        "bag of words": auc_interval(words, labels, groups, seed=seed),
        "length": auc_interval(lengths, labels, groups, seed=seed),
    }


def words_classifier() -> Pipeline:
    """A bag of single words and logistic regression."""
    return make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))


def held_out_words(texts: Sequence[LabelledText], *, n_folds: int = 5) -> FloatArray:
    """Held-out decision values of :func:`words_classifier` on grouped folds.

    Raises:
        InterpError: fewer than two folds, or more than there are groups.
    """
    n_groups = len({text.group for text in texts})
    if not 2 <= n_folds <= n_groups:
        raise InterpError(
            f"n_folds is {n_folds}: must be at least 2 and at most the number of groups, {n_groups}"
        )
    return cross_val_predict(
        words_classifier(),
        [text.text for text in texts],
        [text.label for text in texts],
        groups=[text.group for text in texts],
        cv=GroupKFold(n_splits=n_folds),
        method="decision_function",
    )
