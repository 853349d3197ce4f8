from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import stats
from interp.errors import InterpError

eighths = st.integers(-80, 80).map(lambda i: i / 8)  # exact in binary, so ties are real ties


# Permutation of texts


@given(st.lists(eighths, min_size=1, max_size=4), st.lists(eighths, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_exact_p_equals_brute_force_over_all_labellings(
    treated: list[float], control: list[float]
) -> None:
    pooled, k = np.array(treated + control), len(treated)
    observed = abs(np.mean(treated) - np.mean(control))
    differences = []
    for chosen in itertools.combinations(range(len(pooled)), k):
        mask = np.isin(np.arange(len(pooled)), chosen)
        differences.append(abs(pooled[mask].mean() - pooled[~mask].mean()))
    test = stats.permute_texts(treated, control, seed=0)
    assert test.exact
    assert test.n_permutations == len(differences)
    assert test.p == np.mean(np.array(differences) >= observed - 1e-9)
    assert test.statistic == pytest.approx(np.mean(treated) - np.mean(control), abs=1e-12)


def test_six_clearly_separated_texts_against_six_give_two_in_924() -> None:
    test = stats.permute_texts(np.arange(6) + 10.0, np.arange(6.0), seed=0)
    assert (test.p, test.n_permutations, test.exact) == (2 / 924, 924, True)
    assert test.statistic == 10.0


def test_exact_p_agrees_with_the_two_sided_test_of_scipy_for_equal_arms() -> None:
    from scipy.stats import permutation_test

    generator = np.random.default_rng(0)
    treated, control = generator.normal(0.8, 1, (3, 6)), generator.normal(0, 1, (3, 6))
    ours = stats.permute_texts(treated, control, seed=0)
    theirs = permutation_test(
        (treated, control),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        axis=-1,
        vectorized=True,
        n_resamples=1000,
    )
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.p.shape == (3,)


def test_ties_count_as_hits_whatever_the_offset_of_the_means() -> None:
    # 0.1 + 0.2 and 0.3 differ in the last bit: the labellings that tie must all count
    test = stats.permute_texts([1e3 + 0.1, 1e3 + 0.2], [1e3 + 0.3, 1e3], seed=0)
    assert test.p == 1.0
    assert stats.permute_texts([2.0, 2.0], [2.0, 2.0], seed=0).p == 1.0


def test_too_many_labellings_are_sampled_and_the_observed_one_is_counted() -> None:
    generator = np.random.default_rng(0)
    treated, control = generator.normal(5, 0.1, 10), generator.normal(0, 0.1, 10)
    test = stats.permute_texts(treated, control, n_permutations=999, seed=0)
    assert (test.exact, test.n_permutations, test.p) == (False, 1000, 1 / 1000)
    mild = generator.normal(0.3, 1, 8), generator.normal(0, 1, 8)
    sampled = stats.permute_texts(*mild, n_permutations=5000, seed=1)
    assert sampled.p == pytest.approx(stats.permute_texts(*mild, seed=1).p, abs=0.03)
    assert sampled == stats.permute_texts(*mild, n_permutations=5000, seed=1)


def test_permutation_refuses_missing_means_and_empty_arms() -> None:
    with pytest.raises(InterpError, match="NaN mean"):
        stats.permute_texts([1.0, math.nan], [1.0], seed=0)
    with pytest.raises(InterpError, match="at least one text"):
        stats.permute_texts([1.0], [], seed=0)


# Max-T


@given(
    st.integers(2, 8).flatmap(lambda n: st.lists(eighths, min_size=n, max_size=n)),
)
@settings(max_examples=40, deadline=None)
def test_single_cell_has_the_exact_sign_flip_p_of_transformer_lens(values: list[float]) -> None:
    import torch
    from transformer_lens.utilities.statistics import sign_flip_permutation_pvalue

    expected = float(sign_flip_permutation_pvalue(torch.tensor(values, dtype=torch.float64)))
    result = stats.sign_flip_max_t(values, range(len(values)), seed=0)
    assert result.exact
    assert result.n_permutations == 2 ** len(values)
    assert result.p_raw == result.p_corrected == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_clusters", [7, 15])
def test_corrected_p_follows_from_brute_force_and_is_never_below_the_raw_p(n_clusters: int) -> None:
    generator = np.random.default_rng(n_clusters)
    values = generator.normal(0.4, 1.0, size=(2, 3, n_clusters))
    result = stats.sign_flip_max_t(values, range(n_clusters), n_permutations=500, seed=0)
    assert result.p_corrected.shape == (2, 3)
    assert (result.p_corrected >= result.p_raw).all()
    assert result.exact == (n_clusters == 7)
    below = np.abs(result.statistic) > result.critical
    assert (below == (result.p_corrected <= result.alpha)).all()
    if not result.exact:
        assert result.n_permutations == 501
        return
    from scipy.stats import ttest_1samp

    maxima = [
        np.abs(ttest_1samp(values * signs, 0.0, axis=-1).statistic).max()
        for signs in itertools.product([1, -1], repeat=n_clusters)
    ]
    observed = ttest_1samp(values, 0.0, axis=-1).statistic
    assert result.statistic == pytest.approx(observed)
    for t, p in zip(observed.ravel(), result.p_corrected.ravel(), strict=True):
        assert p == np.mean(np.array(maxima) >= abs(t) - 1e-9)


@pytest.mark.parametrize("n_clusters", [8, 15])
def test_critical_value_separates_the_corrected_p_at_every_level(n_clusters: int) -> None:
    values = np.random.default_rng(1).normal(0.4, 1.0, size=(12, n_clusters))
    first = stats.sign_flip_max_t(values, range(n_clusters), seed=0)
    reached = first.p_corrected[first.p_corrected < 1]
    assert len(reached) > 1
    for alpha in [*reached, *(reached - 0.5 / first.n_permutations)]:
        at = stats.sign_flip_max_t(values, range(n_clusters), alpha=float(alpha), seed=0)
        assert ((at.p_corrected <= alpha) == (np.abs(at.statistic) > at.critical)).all()


def test_units_are_the_means_of_the_defined_items_of_a_cluster() -> None:
    values = np.array([1.0, 3.0, math.nan, 5.0, 4.0, 8.0])
    result = stats.sign_flip_max_t(values, ["a", "a", "b", "b", "c", "c"], seed=0)
    means = stats.sign_flip_max_t([2.0, 5.0, 6.0], range(3), seed=0)
    assert result.statistic == pytest.approx(means.statistic)
    assert (result.n, result.n_clusters) == (5, 3)


def test_units_are_the_means_of_clusters() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, size=36)
    clusters = np.repeat(np.arange(9), 4)
    by_items = stats.sign_flip_max_t(values, clusters, seed=0)
    by_means = stats.sign_flip_max_t(values.reshape(9, 4).mean(1), range(9), seed=0)
    assert by_items.p_raw == by_means.p_raw
    assert by_items.statistic == pytest.approx(by_means.statistic)
    assert (by_items.n, by_items.n_clusters) == (36, 9)


def test_identical_cells_cost_nothing_and_independent_cells_do() -> None:
    generator = np.random.default_rng(2)
    effect = generator.normal(0.8, 1, 10)
    alone = stats.sign_flip_max_t(effect, range(10), seed=0).p_corrected
    copies = stats.sign_flip_max_t(np.tile(effect, (50, 1)), range(10), seed=0)
    assert copies.p_corrected == pytest.approx(np.full(50, alone))
    noise = np.vstack([effect, generator.normal(size=(50, 10))])
    assert stats.sign_flip_max_t(noise, range(10), seed=0).p_corrected[0] > 2 * alone


def test_family_wise_error_stays_at_its_level_for_correlated_cells() -> None:
    false_alarms = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        null = generator.normal(size=(1, 9)) + generator.normal(size=(12, 9))
        false_alarms += bool(
            (stats.sign_flip_max_t(null, range(9), seed=0).p_corrected <= 0.05).any()
        )
    assert false_alarms / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_constant_cells_have_p_one_at_zero_and_the_smallest_p_elsewhere() -> None:
    values = np.stack([np.zeros(8), np.full(8, 0.1), np.full(8, -3.0), np.arange(8.0) - 3])
    result = stats.sign_flip_max_t(values, range(8), seed=0)
    assert result.statistic[:3].tolist() == [0.0, math.inf, -math.inf]
    assert result.p_raw[:3].tolist() == [1.0, 2 / 256, 2 / 256]
    assert result.p_corrected[:3].tolist() == [1.0, 2 / 256, 2 / 256]
    assert (result.p_corrected[:3] <= 0.05).tolist() == (
        np.abs(result.statistic[:3]) > result.critical
    ).tolist()


def test_cells_share_their_clusters_and_an_undefined_cell_is_outside_the_family() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, size=(3, 8))
    values[1] = np.nan
    values[2, 4] = np.nan
    result = stats.sign_flip_max_t(values, range(8), seed=0)
    kept = np.delete(values[[0, 2]], 4, axis=-1)
    expected = stats.sign_flip_max_t(kept, range(7), seed=0)
    assert (result.n, result.n_clusters) == (7, 7)
    assert np.isnan(result.p_corrected).tolist() == [False, True, False]
    assert result.p_corrected[[0, 2]].tolist() == expected.p_corrected.tolist()
    nothing = stats.sign_flip_max_t(np.full((2, 3), np.nan), range(3), seed=0)
    assert np.isnan(nothing.p_corrected).all()
    assert math.isnan(stats.sign_flip_max_t([1.0, 2.0], ["a", "a"], seed=0).p_raw)


def test_max_t_is_reproducible_and_refuses_a_bad_level() -> None:
    values = np.random.default_rng(0).normal(size=(4, 20))
    first, again = (stats.sign_flip_max_t(values, range(20), seed=3) for _ in range(2))
    assert first.p_corrected.tobytes() == again.p_corrected.tobytes()
    assert first.critical == again.critical
    with pytest.raises(InterpError, match="alpha"):
        stats.sign_flip_max_t(values, range(20), alpha=5.0, seed=0)


# Holm


def test_holm_matches_the_computation_by_hand() -> None:
    # sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, running maximum .04 .06 .06 .06
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert stats.holm([[0.5, 0.9]]).tolist() == [[1.0, 1.0]]
    assert stats.holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_holm_is_monotone_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    raw = np.array(p_values)
    adjusted = stats.holm(raw)
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1.0, raw * len(raw))).all()


def test_holm_refuses_what_is_no_probability() -> None:
    with pytest.raises(InterpError, match=r"p-value 1\.5"):
        stats.holm([0.1, 1.5])
