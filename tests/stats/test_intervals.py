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


# Cluster bootstrap


def test_estimate_is_the_mean_over_items_or_over_clusters_as_asked() -> None:
    values, clusters = [1.0, 2.0, 3.0, 10.0], ["a", "a", "a", "b"]
    assert stats.cluster_bootstrap(values, clusters, seed=0).estimate == 4.0
    by_cluster = stats.cluster_bootstrap(values, clusters, statistic="cluster_mean", seed=0)
    assert by_cluster.estimate == 6.0
    assert (by_cluster.n, by_cluster.n_clusters) == (4, 2)


def test_two_clusters_resample_to_exactly_the_three_possible_means() -> None:
    # draws: aa (1/4) -> 0, ab (1/2) -> 3/4 (3 of 4 items are in b), bb (1/4) -> 1
    interval = stats.cluster_bootstrap(
        [0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"], confidence=0.4, seed=0
    )
    assert (interval.low, interval.estimate, interval.high) == (0.75, 0.75, 0.75)
    wide = stats.cluster_bootstrap([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"], seed=0)
    assert (wide.low, wide.high) == (0.0, 1.0)


@given(st.floats(-5, 5), st.integers(2, 12), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_bootstrap_of_a_constant_is_a_point(value: float, n_items: int, seed: int) -> None:
    clusters = [i // 2 for i in range(n_items + 1)]
    interval = stats.cluster_bootstrap(
        np.full(n_items + 1, value), clusters, n_resamples=50, seed=seed
    )
    assert [interval.low, interval.high] == pytest.approx([value, value], rel=1e-12, abs=1e-300)
    assert interval.estimate == pytest.approx(value, rel=1e-12, abs=1e-300)


@given(st.lists(eighths, min_size=4, max_size=20), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_order_of_items_does_not_matter(values: list[float], seed: int) -> None:
    clusters = [f"c{i % 3}" for i in range(len(values))]
    order = np.random.default_rng(seed).permutation(len(values))
    first = stats.cluster_bootstrap(values, clusters, n_resamples=100, seed=seed)
    second = stats.cluster_bootstrap(
        np.array(values)[order], np.array(clusters)[order], n_resamples=100, seed=seed
    )
    assert first == second


@given(st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_names_of_clusters_do_not_matter(seed: int) -> None:
    values, clusters = clustered(seed, 20, 3, 0.0)
    numbers = np.repeat(np.arange(20), 3)
    first = stats.cluster_bootstrap(values, clusters, n_resamples=4000, seed=seed)
    kept_order = stats.cluster_bootstrap(values, numbers + 100, n_resamples=4000, seed=seed)
    renamed = stats.cluster_bootstrap(values, numbers * 7 % 20, n_resamples=4000, seed=seed)
    assert kept_order == first
    assert renamed.estimate == pytest.approx(first.estimate, abs=1e-12)
    width = first.high - first.low
    assert renamed.low == pytest.approx(first.low, abs=0.06 * width)
    assert renamed.high == pytest.approx(first.high, abs=0.06 * width)


def test_one_item_per_cluster_is_the_ordinary_bootstrap_of_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).exponential(size=60)
    ours = stats.cluster_bootstrap(values, range(60), n_resamples=20_000, seed=1)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    )
    tolerance = 0.02 * (ours.high - ours.low)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)


@pytest.mark.slow
def test_intervals_cover_the_truth_where_ignoring_clusters_does_not() -> None:
    by_cluster = ignoring = 0
    for seed in range(150):
        values, clusters = clustered(seed, 30, 6, mean=0.4)
        kept = stats.cluster_bootstrap(values, clusters, n_resamples=400, seed=seed)
        naive = stats.cluster_bootstrap(values, range(180), n_resamples=400, seed=seed)
        by_cluster += not kept.excludes(0.4)
        ignoring += not naive.excludes(0.4)
    assert 0.87 <= by_cluster / 150 <= 0.99
    assert ignoring / 150 < 0.8


def test_undefined_items_are_left_out_and_a_cell_is_what_it_would_be_alone() -> None:
    values, clusters = clustered(3, 8, 2, 1.0)
    grid = np.stack([values, values + 1.0, -values])
    grid[1, :2] = np.nan  # the whole first cluster
    grid[2, 5] = np.nan
    together = stats.cluster_bootstrap(grid, clusters, seed=4)
    assert together.n.tolist() == [16, 14, 15]
    assert together.n_clusters.tolist() == [8, 7, 8]
    for cell in range(3):
        defined = ~np.isnan(grid[cell])
        alone = stats.cluster_bootstrap(grid[cell][defined], clusters[defined], seed=4)
        picked = together.at(cell)
        assert [picked.estimate, picked.low, picked.high] == pytest.approx(
            [alone.estimate, alone.low, alone.high], abs=1e-12
        )
        assert (picked.n, picked.reason) == (alone.n, "")
    assert together.excludes(0).tolist() == [False, True, False]
    assert stats.cluster_bootstrap(grid[None], clusters, seed=4).estimate.shape == (1, 3)
    assert str(together) == "Interval over cells [3]"
    with pytest.raises(InterpError, match="has 1 axes"):
        together.at(0, 1)


def test_nothing_defined_or_a_single_cluster_says_why_there_is_no_interval() -> None:
    empty = stats.cluster_bootstrap([math.nan, math.nan], [0, 1], seed=0)
    assert math.isnan(empty.estimate)
    assert (empty.n, empty.reason) == (0, "no defined item")
    assert stats.cluster_bootstrap([], [], seed=0).reason == "no defined item"
    single = stats.cluster_bootstrap([1.0, 3.0], ["a", "a"], seed=0)
    assert single.estimate == 2.0
    assert math.isnan(single.low)
    assert single.reason == "a single cluster: no interval"


def test_same_seed_gives_the_same_bytes_and_labels_change_the_stream() -> None:
    values, clusters = clustered(0, 10, 2, 0.0)
    grid = np.stack([values, values * 2])
    first, again, other = (
        stats.cluster_bootstrap(grid, clusters, seed=5, labels=labels)
        for labels in [("a",), ("a",), ("b",)]
    )
    assert first.low.tobytes() == again.low.tobytes()
    assert first.high.tobytes() == again.high.tobytes()
    assert first.low.tobytes() != other.low.tobytes()


def test_many_clusters_are_resampled_in_chunks_with_the_same_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, clusters = clustered(0, 10, 2, 0.0)
    texts = np.stack([values, values**2, values + 1])
    whole = stats.cluster_bootstrap(values, clusters, n_resamples=101, seed=5)
    crossed = stats.two_way_bootstrap(texts, texts[:2] - 1, clusters, n_resamples=101, seed=5)
    monkeypatch.setattr(resampling, "_CHUNK", 70)
    assert str(stats.cluster_bootstrap(values, clusters, n_resamples=101, seed=5)) == str(whole)
    chunked = stats.two_way_bootstrap(texts, texts[:2] - 1, clusters, n_resamples=101, seed=5)
    assert [chunked.low, chunked.high] == pytest.approx([crossed.low, crossed.high], abs=1e-12)


# Ratio


@given(st.lists(st.floats(0.5, 9), min_size=4, max_size=15), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_share_of_a_thing_in_itself_is_exactly_one(values: list[float], seed: int) -> None:
    clusters = [i // 2 for i in range(len(values))]
    grid = np.stack([values, values[::-1], values])
    share = stats.ratio_bootstrap(grid, grid, clusters, n_resamples=50, seed=seed)
    for field in (share.estimate, share.low, share.high):
        assert field.tolist() == [1.0, 1.0, 1.0]
    alone = stats.ratio_bootstrap(values, values, clusters, n_resamples=50, seed=seed)
    assert (alone.low, alone.estimate, alone.high) == (1.0, 1.0, 1.0)


def test_share_is_a_ratio_of_means_and_not_a_mean_of_ratios() -> None:
    numerator, denominator = [1.0, 2.0, 3.0, 4.0], [2.0, 8.0, 4.0, 6.0]
    share = stats.ratio_bootstrap(numerator, denominator, range(4), seed=0)
    assert share.estimate == 0.5
    assert 0.25 <= share.low < 0.5 < share.high <= 0.75


def test_share_of_a_sweep_broadcasts_the_denominator_and_drops_items_undefined_in_either() -> None:
    total = np.array([1.0, 2.0, 3.0, math.nan, 4.0, 5.0])
    patched = np.stack([0.25 * total, 0.75 * total])
    patched[:, 3] = 100.0
    patched[1, 0] = math.nan
    share = stats.ratio_bootstrap(patched, total, range(6), seed=0)
    assert share.estimate == pytest.approx([0.25, 0.75])
    assert share.low == pytest.approx(share.high)
    assert share.n.tolist() == [5, 4]


def test_share_is_nan_with_a_reason_when_the_denominator_may_be_zero() -> None:
    share = stats.ratio_bootstrap(
        np.ones((2, 8)), [[1.0, -1.0] * 4, [1.0, 2.0] * 4], range(8), seed=0
    )
    assert np.isnan(share.estimate).tolist() == [True, False]
    assert np.isnan(share.low).tolist() == [True, False]
    assert share.at(0).reason == "the denominator's interval contains 0"
    assert share.at(1).reason == ""
    single = stats.ratio_bootstrap([1.0, 1.0], [2.0, 2.0], ["a", "a"], seed=0)
    assert math.isnan(single.estimate)
    assert "single cluster" in single.reason
    with pytest.raises(InterpError, match="do not broadcast"):
        stats.ratio_bootstrap(np.ones((2, 3)), np.ones(4), range(3), seed=0)


@pytest.mark.filterwarnings("error")
def test_resamples_with_a_zero_denominator_are_left_out_of_a_usable_share() -> None:
    denominator = np.tile([0.0, 1.0], 4)  # a resample is 0 throughout once in 256
    share = stats.ratio_bootstrap(denominator + 1, denominator, range(8), seed=0)
    assert share.estimate == 3.0
    assert 2.0 <= share.low < 3.0 < share.high <= 9.0


# Texts crossed with items


def test_effect_of_instructions_is_the_difference_of_grand_means() -> None:
    treated = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    control = np.array([[1.0, 1.0, 1.0]])
    effect = stats.two_way_bootstrap(treated, control, range(3), seed=0)
    assert effect.estimate == pytest.approx(2.0)
    assert effect.texts == (2, 1)
    assert (effect.n, effect.n_clusters) == (3, 3)
    assert effect.low < 2.0 < effect.high


def test_single_texts_reduce_to_the_cluster_bootstrap_of_the_paired_difference() -> None:
    values, clusters = clustered(0, 12, 2, 0.3)
    other, _ = clustered(1, 12, 2, 0.0)
    crossed = stats.two_way_bootstrap(values[None], other[None], clusters, seed=3)
    paired = stats.cluster_bootstrap(values - other, clusters, seed=3)
    assert crossed.texts == (1, 1)
    assert [crossed.estimate, crossed.low, crossed.high] == pytest.approx(
        [paired.estimate, paired.low, paired.high], abs=1e-12
    )


def test_spread_between_texts_widens_the_interval_and_spread_of_items_cancels() -> None:
    generator = np.random.default_rng(0)
    items = 5 * generator.normal(size=20)  # shared by both arms
    texts = generator.normal(size=(6, 1))
    same = stats.two_way_bootstrap(
        items + np.ones((6, 1)), items + np.zeros((6, 1)), range(20), seed=0
    )
    assert [same.low, same.high] == pytest.approx([1.0, 1.0])
    spread = stats.two_way_bootstrap(items + texts, items + np.zeros((6, 1)), range(20), seed=0)
    expected = stats.cluster_bootstrap(texts[:, 0], range(6), n_resamples=20_000, seed=0)
    assert spread.estimate == pytest.approx(texts.mean())
    assert spread.low == pytest.approx(expected.low, abs=0.1)
    assert spread.high == pytest.approx(expected.high, abs=0.1)


@pytest.mark.slow
def test_two_way_interval_covers_a_population_of_texts_where_fixed_texts_do_not() -> None:
    crossed = fixed = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        arms = [
            generator.normal(size=(8, 1)) + 0.5 * generator.normal(size=(8, 40)) for _ in range(2)
        ]
        two_way = stats.two_way_bootstrap(arms[0], arms[1], range(40), n_resamples=300, seed=seed)
        one_way = stats.cluster_bootstrap(
            arms[0].mean(0) - arms[1].mean(0), range(40), n_resamples=300, seed=seed
        )
        crossed += not two_way.excludes(0.0)
        fixed += not one_way.excludes(0.0)
    assert crossed >= 84
    assert fixed < 50


def test_weights_choose_a_subset_and_undefined_items_are_dropped_from_both_arms() -> None:
    generator = np.random.default_rng(0)
    treated, control = generator.normal(size=(3, 4, 10)), generator.normal(size=(3, 5, 10))
    treated[0, 1, 7] = np.nan
    mask = np.arange(10) >= 2
    weighted = stats.two_way_bootstrap(treated, control, range(10), weights=mask, seed=0)
    subset = stats.two_way_bootstrap(
        treated[..., mask], control[..., mask], np.arange(10)[mask], seed=0
    )
    assert weighted.n.tolist() == [7, 8, 8]
    assert np.allclose(weighted.low, subset.low)
    doubled = stats.two_way_bootstrap(treated, control, range(10), weights=2.0 * mask, seed=0)
    assert np.allclose(weighted.high, doubled.high)
    kept = [i for i in range(2, 10) if i != 7]
    by_hand = treated[0][:, kept].mean() - control[0][:, kept].mean()
    assert weighted.at(0).estimate == pytest.approx(by_hand)
    assert weighted.at(0).texts == (4, 5)


def test_two_way_refuses_arms_on_different_items_and_negative_weights() -> None:
    with pytest.raises(InterpError, match="differ outside the text axis"):
        stats.two_way_bootstrap(np.ones((2, 3)), np.ones((2, 4)), range(3), seed=0)
    with pytest.raises(InterpError, match="weights"):
        stats.two_way_bootstrap(
            np.ones((2, 3)), np.ones((2, 3)), range(3), weights=[1, -1, 1], seed=0
        )
    with pytest.raises(InterpError, match="treated has 1 axes"):
        stats.two_way_bootstrap([1.0, 2.0], [1.0, 2.0], range(2), seed=0)


# AUC and success rates


def test_success_rate_is_a_cluster_bootstrap_unless_all_or_none_succeed() -> None:
    mixed = stats.success_rate([1, 0, 1, 1, math.nan], ["a", "b", "c", "c", "d"], seed=0)
    assert (mixed.estimate, mixed.n, mixed.n_clusters) == (0.75, 4, 3)
    assert mixed.method == "bootstrap"
    none = stats.success_rate([False] * 8, [i // 2 for i in range(8)], seed=0)
    assert none.method == "clopper_pearson"
    assert (none.estimate, none.low, none.n, none.n_clusters) == (0.0, 0.0, 8, 4)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 4))  # four clusters, not eight items
    single = stats.success_rate([True, True], ["a", "a"], seed=0)
    assert (single.low, single.high, single.reason) == (pytest.approx(0.025), 1.0, "")
    assert stats.success_rate([math.nan], ["a"], seed=0).reason == "no defined item"
    with pytest.raises(InterpError, match=r"successes holds 0\.5"):
        stats.success_rate([0.5], ["a"], seed=0)


def test_many_cells_are_done_in_blocks_with_the_results_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(size=(7, 3, 10))
    values[2, 1, :4] = np.nan
    whole = stats.cluster_bootstrap(values, range(10), seed=0)
    monkeypatch.setattr("interp.stats.intervals._CELLS_AT_ONCE", 4)
    blocks = stats.cluster_bootstrap(values, range(10), seed=0)
    np.testing.assert_allclose(blocks.estimate, whole.estimate, rtol=1e-12)
    np.testing.assert_allclose(blocks.low, whole.low, rtol=1e-12)
    np.testing.assert_allclose(blocks.high, whole.high, rtol=1e-12)
    np.testing.assert_array_equal(blocks.n, whole.n)
