"""Transfer: every cell is what fitting here and testing there gives, and sets are named in errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from interp.activations import read_states
from interp.data import LabelledText, load_texts
from interp.directions import Transfer, fit_direction, sentence_ids, transfer_matrix
from interp.errors import InterpError


@pytest.fixture(scope="module")
def sets() -> dict[str, tuple[LabelledText, ...]]:
    return {
        "sentiment": load_texts("bundled:contrasts:sentiment"),
        "tense": load_texts("bundled:contrasts:tense"),
        "morality": load_texts("bundled:morality", limit=40),
    }


@pytest.fixture(scope="module")
def transfer(tiny_model: Any, sets: dict[str, tuple[LabelledText, ...]]) -> Transfer:
    return transfer_matrix(tiny_model, sets, progress=False)


def cell(transfer: Transfer, trained_on: str, tested_on: str, reader: str) -> Any:
    keys = ["trained_on", "tested_on", "reader"]
    return transfer.frame.set_index(keys).loc[trained_on, tested_on, reader]


@pytest.mark.slow
def test_the_matrix_has_a_row_for_every_pair_of_sets_and_reader(
    transfer: Transfer, sets: dict[str, Any]
) -> None:
    assert len(transfer.frame) == len(sets) ** 2 * 2
    assert transfer.table().shape == (3, 3)
    assert list(transfer.table("bag of words").index) == list(sets)
    assert "trained on (rows)" in transfer._repr_html_()


def test_off_the_diagonal_the_trained_direction_ranks_the_other_sets_states(
    transfer: Transfer, tiny_model: Any, sets: dict[str, Any]
) -> None:
    stack = fit_direction(tiny_model, sets["tense"], n_shuffles=0, progress=False)
    texts = sets["sentiment"]
    states = read_states(
        tiny_model, sentence_ids(tiny_model, texts), layers=[stack.best_layer], progress=False
    )
    dots = (states.values[0] @ stack.best.vector).numpy()
    row = cell(transfer, "tense", "sentiment", "direction")
    assert row["auc"] == pytest.approx(roc_auc_score([t.label for t in texts], dots))
    assert row["layer"] == stack.best_layer
    assert row["auc_low"] <= row["auc"] <= row["auc_high"]
    assert row["auc_n_clusters"] == len({t.group for t in texts})


def test_the_diagonal_is_the_held_out_score(
    transfer: Transfer, tiny_model: Any, sets: dict[str, Any]
) -> None:
    for name, texts in sets.items():
        stack = fit_direction(tiny_model, texts, n_shuffles=0, progress=False)
        auc = cell(transfer, name, name, "direction")["auc"]
        assert auc == pytest.approx(float(np.max(stack.auc.estimate)))


def test_words_are_trained_and_tested_on_the_same_sentences(
    transfer: Transfer, sets: dict[str, Any]
) -> None:
    train, test = sets["sentiment"], sets["tense"]
    words = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
    words.fit([t.text for t in train], [t.label for t in train])
    scores = words.decision_function([t.text for t in test])
    auc = cell(transfer, "sentiment", "tense", "bag of words")["auc"]
    assert auc == pytest.approx(roc_auc_score([t.label for t in test], scores))


def test_one_set_and_a_set_of_one_label_are_refused_by_name(
    tiny_model: Any, sets: dict[str, Any]
) -> None:
    with pytest.raises(InterpError, match="at least two data sets, has 1"):
        transfer_matrix(tiny_model, {"tense": sets["tense"]}, progress=False)
    one_label = [t for t in sets["tense"] if t.label]
    with pytest.raises(InterpError, match=r"^broken: 24 texts with one label only"):
        transfer_matrix(tiny_model, {**sets, "broken": one_label}, progress=False)
