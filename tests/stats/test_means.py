from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from interp.errors import InterpError
from interp.stats.means import cluster_mean, success_rate
from interp.stats.variance import Deletion


def test_items_that_are_their_own_clusters_give_students_interval() -> None:
    values = np.random.default_rng(0).standard_normal(9)
    found, public = cluster_mean(values, range(9)), ttest_1samp(values, 0.0)
    bounds = public.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx(
        (bounds.low, bounds.high, public.pvalue)
    )
    assert (found.method, found.df) == ("t", pytest.approx(8.0))


def test_equal_clusters_are_students_interval_of_their_means() -> None:
    values = np.random.default_rng(1).standard_normal((4, 12))
    clusters = np.arange(12) % 4
    means = np.stack([values[:, clusters == c].mean(1) for c in range(4)], axis=1)
    for kind in ("mean", "cluster_mean"):
        found = cluster_mean(values, clusters, statistic=kind)  # type: ignore[arg-type]
        public = ttest_1samp(means, 0.0, axis=1)
        np.testing.assert_allclose(found.p, public.pvalue)
        np.testing.assert_allclose(found.low, public.confidence_interval().low)
        assert found.method == "t"


def test_unequal_clusters_take_the_jackknife_without_its_bias() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 3.0])
    clusters = np.array([0, 0, 0, 1, 2])
    found = cluster_mean(values, clusters)
    without = np.array([values[clusters != c].mean() for c in range(3)])
    jackknife = 2 / 3 * ((without - values.mean()) ** 2).sum()
    assert found.method == "jackknife_t"
    assert 0 < found.se**2 < jackknife
    assert found.df < 2.0
    weighed = cluster_mean(values, clusters, statistic="cluster_mean")
    assert weighed.estimate == pytest.approx((7 / 3 + 8 + 3) / 3)
    assert weighed.df == pytest.approx(2.0)


def test_the_variance_has_the_expectation_and_degrees_of_freedom_of_its_working_model() -> None:
    clusters = np.repeat(np.arange(6), [1, 1, 2, 3, 5, 8])
    deletion = Deletion.of(clusters, np.ones(20))
    assert deletion is not None
    generator = np.random.default_rng(2)
    values = generator.standard_normal((40_000, 6))[:, clusters]
    values = values + 1e-6 * generator.standard_normal(values.shape)
    found = deletion.component(values)  # correlation 1 within clusters
    true = values.mean(1).var()
    assert found.variance.mean() == pytest.approx(true, rel=0.03)
    t = np.abs(values.mean(1)) / np.sqrt(found.variance)
    from scipy.stats import t as student

    assert (t > student.ppf(0.975, found.df)).mean() == pytest.approx(0.05, abs=0.02)


def test_equal_sizes_have_one_degree_of_freedom_less_than_clusters_at_any_correlation() -> None:
    for units, size in ((2, 1), (6, 1), (6, 3), (40, 2)):
        deletion = Deletion.of(np.repeat(np.arange(units), size), np.ones(units * size))
        assert deletion is not None
        np.testing.assert_allclose(deletion.dfs, units - 1.0, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_order_scale_shift_and_holes(seed: int, scale: float, shift: float) -> None:
    generator = np.random.default_rng(seed)
    values, clusters = generator.standard_normal(14), generator.integers(0, 5, 14)
    order = generator.permutation(14)
    found = cluster_mean(values, clusters)
    other = cluster_mean(scale * values[order] + shift, clusters[order])
    assert other.se == pytest.approx(scale * found.se, nan_ok=True, rel=1e-6)
    assert other.df == pytest.approx(found.df, nan_ok=True, rel=1e-5)
    holes = np.append(values, [np.nan, np.nan])
    assert str(cluster_mean(holes, [*clusters, 0, 9])) == str(found)


def test_a_single_cluster_gives_the_mean_alone() -> None:
    found = cluster_mean([1.0, 3.0], "aa")
    assert (found.estimate, found.reason) == (2.0, "a single cluster: no interval")
    assert np.isnan([found.low, found.se, found.p]).all()
    assert cluster_mean([np.nan], "a").reason == "no defined item"


def test_rates_stay_within_0_and_1_and_extremes_are_exact() -> None:
    rate = success_rate([1, 1, 1, 0, np.nan], range(5))
    assert (rate.estimate, rate.high, rate.n) == (0.75, 1.0, 4)
    assert np.isnan(rate.p)
    for outcome in (0, 1):
        found = success_rate([outcome] * 8, [0, 0, 1, 1, 2, 2, 3, 3])
        public = binomtest(4 * outcome, 4).proportion_ci(method="exact")
        assert (found.low, found.high) == pytest.approx((public.low, public.high))
        assert found.method == "clopper_pearson"
    alone = success_rate([1, 0], "aa")
    assert np.isnan(alone.low)
    with pytest.raises(InterpError, match="successes holds 2"):
        success_rate([2.0], "a")
