from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import stats
from interp.errors import InterpError
from interp.stats import resampling

eighths = st.integers(-80, 80).map(lambda i: i / 8)  # exact in binary, so ties are real ties


def clustered(seed: int, n_clusters: int, size: int, mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Items whose clusters share half of the variance; the clusters' sizes are equal."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(n_clusters, 1))
    own = generator.normal(size=(n_clusters, size))
    names = np.array([f"template {i:03}" for i in range(n_clusters)])
    return (mean + shared + own).ravel(), np.repeat(names, size)


def test_interval_prints_three_digits_and_knows_what_it_excludes() -> None:
    interval = stats.Interval(0.12, 0.05, 0.19, n=10, n_clusters=5)
    assert str(interval) == "0.120 [0.050, 0.190]"
    assert interval.excludes(0)
    assert not interval.excludes(0.05)
    nothing = stats.Interval(math.nan, math.nan, math.nan, 0, 0, reason="no defined item")
    assert not nothing.excludes(0)
    assert str(nothing) == "nan [nan, nan] (no defined item)"


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_auc_equals_the_one_of_scikit_learn_with_ties(rows: list[tuple[int, bool]]) -> None:
    from sklearn.metrics import roc_auc_score

    scores, labels = [float(s) for s, _ in rows], [y for _, y in rows]
    interval = stats.auc_interval(scores, labels, range(len(rows)), n_resamples=20, seed=0)
    if len(set(labels)) == 1:
        assert math.isnan(interval.estimate)
        assert interval.reason == "only one class"
        return
    assert interval.estimate == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=6, max_size=20),
    st.integers(0, 20),
)
@settings(max_examples=30, deadline=None)
def test_auc_of_many_cells_is_that_of_each_by_itself(
    rows: list[tuple[int, bool]], seed: int
) -> None:
    first = np.array([float(score) for score, _ in rows])
    labels = np.array([label for _, label in rows])
    table = np.stack([first, -first, np.random.default_rng(seed).permutation(first)])
    table = np.stack([table, table + np.arange(len(rows)) / 4])
    table[1, 2, ::4] = np.nan  # a cell with items of its own
    groups = [i // 2 for i in range(len(rows))]
    together = stats.auc_interval(table, labels, groups, n_resamples=40, seed=seed)
    assert np.shape(together.estimate) == (2, 3)
    for cell in np.ndindex(2, 3):
        alone = stats.auc_interval(table[cell], labels, groups, n_resamples=40, seed=seed)
        picked = together.at(*cell)
        assert (picked.n, picked.n_clusters, picked.reason) == (
            alone.n, alone.n_clusters, alone.reason,
        )  # fmt: skip
        assert [picked.estimate, picked.low, picked.high] == pytest.approx(
            [alone.estimate, alone.low, alone.high], abs=1e-12, nan_ok=True
        )
    assert np.allclose(
        together.estimate[0, 0], 1 - together.estimate[0, 1], atol=1e-12, equal_nan=True
    )


def test_auc_in_blocks_of_items_and_resamples_is_that_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.tile([0, 1, 1], 20)
    scores = np.random.default_rng(0).normal(size=(3, 60)).round(1) + labels
    groups = np.arange(60) // 3
    whole = stats.auc_interval(scores, labels, groups, n_resamples=100, seed=0)
    monkeypatch.setattr(resampling, "_CHUNK", 250)  # 4 resamples, 12 positives at a time
    blocks = stats.auc_interval(scores, labels, groups, n_resamples=100, seed=0)
    for name in ("estimate", "low", "high"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), rtol=1e-12)


def test_auc_resamples_are_those_of_weighted_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    labels = np.tile([0, 1], 30)
    scores = labels + generator.normal(0, 1.5, 60).round(1)
    groups = np.repeat(np.arange(30), 2)  # names 10..39 sort as numbers do
    shuffled = generator.permutation(60)
    interval = stats.auc_interval(
        scores[shuffled], labels[shuffled], groups[shuffled] + 10, n_resamples=200, seed=9
    )
    draws = [
        roc_auc_score(labels, scores, sample_weight=weights[groups])
        for weights in resampling.ResamplingPlan(0.95, 200, 9, ()).all_weights(30, "clusters")
    ]
    assert [interval.low, interval.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]))
    assert interval.n_clusters == 30


def test_auc_leaves_out_undefined_scores_and_refuses_other_labels() -> None:
    interval = stats.auc_interval([0.1, 0.9, math.nan, 0.2, 0.8], [0, 1, 1, 0, 1], range(5), seed=0)
    assert (interval.estimate, interval.n) == (1.0, 4)
    assert (interval.low, interval.high) == (1.0, 1.0)
    with pytest.raises(InterpError, match="labels holds 2"):
        stats.auc_interval([0.1, 0.2], [1, 2], range(2), seed=0)
    with pytest.raises(InterpError, match="every item a label"):
        stats.auc_interval([0.1, 0.2], [1, 0, 1], range(2), seed=0)
