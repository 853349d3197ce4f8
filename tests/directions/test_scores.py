"""Held-out scores and their null: one fit at a time, labels that are exchanged, and pure noise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from interp.directions import METHODS, FitMethod
from interp.directions.baselines import grouped_auc
from interp.directions.methods import axes, class_units
from interp.directions.scores import (
    CLOSED_FORM,
    _null,
    folds,
    held_out_scores,
    rank_auc,
    repeated_folds,
    score_and_null,
    shuffled_labels,
)
from interp.errors import InterpError
from interp.stats import corrected_cv
from tests.directions.made_up import labels_of, noise, paired_groups, planted

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

UNEVEN = ["a", "a", "b", "b", "b", "c", "d", "d", "e", "e", "f", "f", "g", "h", "h", "h"]


def refitted(
    method: FitMethod,
    values: torch.Tensor,
    labels: torch.Tensor,
    groups: list[str],
    n_folds: int,
) -> np.ndarray:
    """Every fold by itself: an axis of the other folds, in their class units."""
    scores = np.empty(values.shape[:2])
    split = GroupKFold(n_splits=n_folds).split(np.zeros(len(labels)), groups=groups)
    for train, test in split:
        vectors = axes(method, values[:, train], labels[train], [groups[k] for k in train])
        scale, offset = class_units(values[:, train], labels[train], vectors)
        dots = torch.einsum("lpd,ld->lp", values[:, test], vectors)
        scores[:, test] = ((dots - offset[:, None]) / scale[:, None]).numpy()
    return scores


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d_model", [6, 60], ids=["n > d", "n < d"])
def test_scores_of_several_labellings_are_those_of_one_fit_at_a_time(
    method: FitMethod, d_model: int
) -> None:
    values, _ = planted(20, strength=1.0, d_model=d_model)
    labels, groups = labels_of(20), paired_groups(20)
    shuffled = torch.from_numpy(shuffled_labels(labels.numpy(), groups, 3, seed=0))
    labellings = torch.cat([labels[None], shuffled])
    scores = held_out_scores(method, values, labellings, groups, folds(labels, groups, 4))
    assert scores.shape == (4, 2, 40)
    for found, chosen in zip(scores, labellings, strict=True):
        expected = refitted(method, values, chosen, groups, 4)
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", CLOSED_FORM)
def test_the_closed_form_holds_for_uneven_classes_and_groups(method: FitMethod) -> None:
    values = noise(2, 16, 5) + 3
    labels = torch.tensor([1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0], dtype=torch.bool)
    scores = held_out_scores(method, values, labels[None], UNEVEN, folds(labels, UNEVEN, 3))[0]
    assert np.allclose(scores, refitted(method, values, labels, UNEVEN, 3), rtol=1e-3, atol=1e-3)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=12, max_size=40),
    st.integers(2, 4),
)
@settings(max_examples=50, deadline=None)
def test_groups_never_straddle_and_every_text_is_scored_once(
    rows: list[tuple[int, bool]], n_folds: int
) -> None:
    groups = [f"g{group}" for group, _ in rows]
    labels = torch.tensor([label for _, label in rows])
    try:
        found = folds(labels, groups, n_folds)
    except InterpError:
        return
    assert sorted(k for _, test in found for k in test) == list(range(len(rows)))
    for train, test in found:
        assert not {groups[k] for k in train} & {groups[k] for k in test}
        assert len(train) + len(test) == len(rows)
        assert 0 < labels[train].sum() < len(train)


def test_folds_refuse_too_few_groups_and_one_label() -> None:
    with pytest.raises(InterpError, match=r"n_folds is 3: .* number of groups, 2"):
        folds(labels_of(2), list("aabb"), 3)
    with pytest.raises(InterpError, match=r"n_folds is 1: must be at least 2"):
        folds(labels_of(2), list("aabb"), 1)
    with pytest.raises(InterpError, match="one of 4 folds leaves texts of one label only"):
        folds(torch.tensor([True, False, False, False]), list("abcd"), 4)


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=2, max_size=12),
    st.integers(0, 100),
)
@settings(max_examples=80, deadline=None)
def test_mixed_groups_keep_their_counts_and_one_label_groups_move_whole_among_their_size(
    members: list[list[bool]], seed: int
) -> None:
    groups = [f"g{k}" for k, inside in enumerate(members) for _ in inside]
    labels = np.array([label for inside in members for label in inside])
    order = np.random.default_rng(seed).permutation(len(labels))  # groups lie scattered
    labels, names = labels[order], np.array(groups)[order]
    for row in shuffled_labels(labels, names.tolist(), 5, seed):
        whole_before: Counter[tuple[int, bool]] = Counter()
        whole_after: Counter[tuple[int, bool]] = Counter()
        for name in set(groups):
            before, after = labels[names == name], row[names == name]
            if 0 < before.sum() < len(before):
                assert before.sum() == after.sum()
            else:
                assert len(set(after.tolist())) == 1
                whole_before[len(before), bool(before[0])] += 1
                whole_after[len(after), bool(after[0])] += 1
        assert whole_before == whole_after


def test_all_exchanges_of_a_pair_and_of_single_texts_are_equally_frequent() -> None:
    labels = np.array([True, False, True, False, False])
    rows = shuffled_labels(labels, ["p", "p", "x", "y", "z"], 6000, seed=0)
    shares = Counter(map(bytes, rows))
    assert len(shares) == 2 * 3
    assert all(abs(count / 6000 - 1 / 6) < 0.02 for count in shares.values())


def test_same_seed_same_shuffles() -> None:
    labels, groups = labels_of(30).numpy(), paired_groups(30)
    one, again, other = (shuffled_labels(labels, groups, 20, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not (one == labels).all(1).any()


@pytest.mark.parametrize("method", ["mean_difference", "lda", "logistic_regression"])
def test_no_shuffle_leaves_a_fold_with_one_label_to_train_on(method: FitMethod) -> None:
    """Four single texts in two folds: a third of the exchanges would put both positives in one."""
    values = noise(1, 4, 3)
    labels = torch.tensor([True, True, False, False])
    groups = list("abcd")
    trains = [train for train, _ in folds(labels, groups, 2)]
    rows = shuffled_labels(labels.numpy(), groups, 300, 0, trains)
    assert all(row[train].sum() == 1 for row in rows for train in trains)
    assert len(set(map(bytes, rows))) == 4
    auc, null = score_and_null(method, values, labels, groups, n_folds=2, n_shuffles=50)
    assert np.isfinite([null.mean, null.low, null.high, null.p]).all()
    assert np.isfinite(np.asarray(auc.estimate)).all()


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_rank_auc_equals_scikit_learns_and_the_intervals_estimate(
    rows: list[tuple[int, bool]], seed: int
) -> None:
    labels = np.array([label for _, label in rows])
    if labels.all() or not labels.any():
        return
    first = np.array([float(score) for score, _ in rows])
    table = np.stack([first, np.random.default_rng(seed).permutation(first)])
    found = rank_auc(table, labels)
    assert found == pytest.approx([roc_auc_score(labels, row) for row in table], abs=1e-12)
    interval = grouped_auc(table[0], labels, [str(k) for k in range(len(rows))])
    assert interval.estimate == pytest.approx(found[0], abs=1e-12)
    own = np.stack([labels, ~labels])
    assert rank_auc(table, own) == pytest.approx([found[0], 1 - found[1]], abs=1e-12)


def test_the_familywise_p_and_the_band_by_hand() -> None:
    observed = np.array([0.6, 0.9, 0.75])
    aucs = np.array([[0.5, 0.6, 0.4, 0.5], [0.2, 0.3, 0.9, 0.4]])  # of layers 0 and 2
    null = _null(observed, np.array([0, 2]), aucs)
    # best of either layer per shuffle: .5, .6, .9, .5
    assert null.p[[0, 2]].tolist() == [3 / 5, 2 / 5]
    assert null.mean[[0, 2]] == pytest.approx([0.5, 0.45])
    assert null.low[0] == pytest.approx(np.quantile([0.5, 0.6, 0.4, 0.5], 0.025))
    assert null.high[2] == pytest.approx(np.quantile([0.2, 0.3, 0.9, 0.4], 0.975))
    assert null.n_shuffles == 4
    for values in (null.mean, null.low, null.high, null.p):
        assert np.isnan(values[1])


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_direction_beats_every_shuffle_whose_band_holds_one_half(
    method: FitMethod,
) -> None:
    values, _ = planted(40, strength=2.0, mean=0.0)
    labels, groups = labels_of(40), paired_groups(40)
    auc, null = score_and_null(method, values, labels, groups, n_shuffles=39)
    shuffled = ~np.isnan(null.p)
    assert shuffled.sum() == (2 if method in CLOSED_FORM else 1)
    assert shuffled[int(np.argmax(auc.estimate))]
    assert np.asarray(auc.estimate).max() > 0.9
    assert (null.low[shuffled] < 0.5).all()
    assert (null.high[shuffled] > 0.5).all()
    assert null.mean[shuffled] == pytest.approx(0.5, abs=0.08)
    assert null.p[shuffled].tolist() == [1 / 40] * int(shuffled.sum())


def test_the_null_of_the_last_layers_statements_reads_the_last_layer() -> None:
    """At the best layer, which is not the last: as if every layer had been shuffled."""
    values = noise(3, 40, 5)
    values[0, :, 0] += 5 * torch.where(labels_of(20), 1.0, -1.0)
    values[2, :, 0] += 1.5 * torch.where(labels_of(20), 1.0, -1.0)
    labels, groups = labels_of(20), paired_groups(20)
    auc, null = score_and_null("statements_last", values, labels, groups, n_shuffles=30, seed=4)
    best = int(np.argmax(auc.estimate))
    assert best == 0
    trains = [train for train, _ in folds(labels, groups, 5)]
    shuffled = shuffled_labels(labels.numpy(), groups, 30, 4, trains)
    expected = [
        roc_auc_score(row, refitted("statements_last", values, torch.from_numpy(row), groups, 5)[0])
        for row in shuffled
    ]
    assert null.mean[0] == pytest.approx(np.mean(expected))
    assert null.low[0] == pytest.approx(np.quantile(expected, 0.025))


def test_the_score_is_the_mean_of_the_folds_aucs_of_two_cross_validations() -> None:
    values, _ = planted(20, strength=0.5)
    labels, groups = labels_of(20), paired_groups(20)
    auc, _ = score_and_null("mean_difference", values, labels, groups, n_shuffles=0, seed=3)
    splits = repeated_folds(labels, groups, 5, 3)
    assert len(splits) == 2
    assert [test.tolist() for _, test in splits[0]] != [test.tolist() for _, test in splits[1]]
    aucs = []
    for split in splits:
        for train, test in split:
            assert not {groups[k] for k in train} & {groups[k] for k in test}
            positive = labels[train]
            axis = values[:, train][:, positive].mean(1) - values[:, train][:, ~positive].mean(1)
            dots = torch.einsum("lpd,ld->lp", values[:, test], axis).numpy()
            aucs.append([roc_auc_score(labels[test], row) for row in dots])
    expected = corrected_cv(np.array(aucs).T, test_share=0.2)
    assert np.allclose(auc.estimate, expected.estimate)
    assert np.allclose(auc.low, expected.low)
    assert np.allclose(auc.p, expected.p)
    assert (auc.at(0).n, auc.at(0).n_clusters, auc.method) == (40, 20, "corrected_cv")


def test_scores_fitted_elsewhere_have_the_variance_of_delong_and_a_jackknife_over_groups() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3 == 0
    scores = generator.standard_normal(60) + labels
    found = grouped_auc(scores, labels, [str(k) for k in range(60)])
    up, down = scores[labels], scores[~labels]
    won = (up[:, None] > down[None]).astype(float)
    delong = won.mean(1).var(ddof=1) / len(up) + won.mean(0).var(ddof=1) / len(down)
    # DeLong divides by the texts of a label less one, the jackknife by all groups less one
    assert found.se**2 == pytest.approx(delong, rel=1 / len(up))
    assert found.low < found.estimate < found.high
    assert (found.p < 0.05) == bool(found.excludes(0.5))
    whole = grouped_auc(labels.astype(float), labels, [str(k) for k in range(60)])
    assert (whole.estimate, whole.low, whole.high) == (1.0, 1.0, 1.0)


def test_without_shuffles_there_is_a_score_and_no_null() -> None:
    values, _ = planted(20, strength=1.0)
    for method in METHODS[:3]:
        auc, null = score_and_null(method, values, labels_of(20), paired_groups(20), n_shuffles=0)
        assert np.isfinite(np.asarray(auc.estimate)).all()
        assert null.n_shuffles == 0
        assert np.isnan([null.mean, null.low, null.high, null.p]).all()


def test_a_shuffle_changes_neither_the_score_nor_its_interval() -> None:
    values, _ = planted(20, strength=0.3)
    with_null, without = (
        score_and_null("lda", values, labels_of(20), paired_groups(20), n_shuffles=n)[0]
        for n in (20, 0)
    )
    assert np.allclose(np.asarray(with_null.low), np.asarray(without.low))
    assert np.allclose(np.asarray(with_null.estimate), np.asarray(without.estimate))


@pytest.mark.parametrize(
    ("method", "paired"),
    [
        ("mean_difference", True),
        ("mean_difference", False),
        ("lda", True),
        pytest.param("pca", True, marks=pytest.mark.slow),
        pytest.param("logistic_regression", False, marks=pytest.mark.slow),
    ],
)
def test_on_pure_noise_p_is_roughly_uniform_and_the_band_holds_one_half(
    method: FitMethod, paired: bool
) -> None:
    """Of 60 simulations, at a single layer (the best of several is for the family-wise methods)."""
    layers, n_sim = (3 if method in CLOSED_FORM else 1), 60
    groups = paired_groups(12) if paired else [str(k) for k in range(24)]
    smallest, held = [], 0
    for seed in range(n_sim):
        values = noise(layers, 24, 8, seed=seed)
        _, null = score_and_null(
            method, values, labels_of(12), groups, n_folds=4, n_shuffles=19, seed=seed
        )
        smallest.append(null.p.min())
        held += int((null.low <= 0.5).all() and (null.high >= 0.5).all())
    shares = [np.mean(np.array(smallest) <= level + 1e-9) for level in (0.1, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.1, 0.25, 0.5, 0.75], abs=0.17)
    assert held >= 0.95 * n_sim
