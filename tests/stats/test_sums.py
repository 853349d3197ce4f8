import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.stats import cluster_bootstrap, ratio_bootstrap, two_way_bootstrap
from interp.stats.sums import sums_bootstrap, two_way_gap


def mean_of(sums):
    return sums[0] / sums[1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-9, 9), st.integers(0, 4)), min_size=1, max_size=25),
    st.integers(0, 3),
)
def test_the_mean_as_a_function_of_sums_is_the_cluster_bootstrap(rows, seed):
    values, clusters = np.array([v for v, _ in rows]), [c for _, c in rows]
    columns = np.stack([values, np.ones_like(values)])
    ours = sums_bootstrap(mean_of, columns, clusters, n_resamples=50, seed=seed)
    theirs = cluster_bootstrap(values, clusters, n_resamples=50, seed=seed)
    assert (ours.n, ours.n_clusters, ours.reason) == (theirs.n, theirs.n_clusters, theirs.reason)
    for name in ("estimate", "low", "high"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), nan_ok=True)


def test_a_share_is_the_ratio_bootstrap_on_the_same_resamples():
    generator = np.random.default_rng(0)
    above, below = generator.normal(1, 1, 40), generator.normal(5, 1, 40)
    ours = sums_bootstrap(mean_of, np.stack([above, below]), range(40), seed=1)
    theirs = ratio_bootstrap(above, below, range(40), seed=1)
    assert [ours.estimate, ours.low, ours.high] == pytest.approx(
        [theirs.estimate, theirs.low, theirs.high]
    )


def test_the_statistic_is_taken_anew_in_every_resample():
    # two clusters, drawn 2-0, 1-1 or 0-2: the ratio is 1/2, 4/5 or 3/3, never in between
    interval = sums_bootstrap(mean_of, [[1.0, 3.0], [2.0, 3.0]], ["a", "b"], seed=0)
    assert interval.estimate == pytest.approx(4 / 5)
    assert (interval.low, interval.high) == pytest.approx((1 / 2, 1.0))


def test_an_undefined_estimate_says_why_and_undefined_resamples_are_left_out():
    interval = sums_bootstrap(mean_of, [[0.0], [0.0]], ["a"], undefined="nothing", n=0, seed=0)
    assert np.isnan(interval.estimate)
    assert (interval.n, interval.reason) == (0, "nothing")
    assert sums_bootstrap(mean_of, np.empty((2, 0)), [], undefined="none", seed=0).reason == "none"
    # the resample of b alone is 0 / 0
    some = sums_bootstrap(mean_of, [[1.0, 0.0], [1.0, 0.0]], ["a", "b"], seed=0)
    assert (some.estimate, some.low, some.high) == (1.0, 1.0, 1.0)


def test_one_cluster_has_no_bounds_and_bad_input_is_refused():
    interval = sums_bootstrap(mean_of, [[1.0, 2.0], [1.0, 1.0]], ["a", "a"], seed=0)
    assert interval.estimate == 1.5
    assert np.isnan(interval.low)
    assert interval.reason == "a single cluster: no interval"
    with pytest.raises(InterpError, match="without NaN"):
        sums_bootstrap(mean_of, [[np.nan], [1.0]], ["a"], seed=0)
    with pytest.raises(InterpError, match="2 cluster names for 1 items"):
        sums_bootstrap(mean_of, [[1.0], [1.0]], ["a", "b"], seed=0)


def arms(seed, n_texts=(4, 3), n_items=24):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(k, 1)) + generator.normal(size=(k, n_items)) for k in n_texts]


def test_the_gap_is_the_effect_inside_minus_the_effect_outside():
    treated, control = arms(0)
    inside, clusters = np.arange(24) % 3 == 0, np.arange(24) // 2
    gap = two_way_gap(treated, control, clusters, inside, seed=0)
    effects = [
        two_way_bootstrap(treated, control, clusters, weights=side, seed=0).estimate
        for side in (inside, ~inside)
    ]
    assert gap.estimate == pytest.approx(effects[0] - effects[1])
    assert gap.low < gap.estimate < gap.high
    assert (gap.n, gap.n_clusters, gap.texts) == (24, 12, (4, 3))


def test_with_no_effect_outside_and_equal_groups_in_every_cluster_the_gap_is_the_effect():
    """Each cluster has one item on either side, so that both effects see the same resamples."""
    treated, control = arms(1)
    inside, clusters = np.arange(24) % 2 == 0, np.arange(24) // 2
    treated[:, ~inside], control[:, ~inside] = 1.0, 1.0
    gap = two_way_gap(treated, control, clusters, inside, seed=3)
    effect = two_way_bootstrap(
        treated[:, inside], control[:, inside], clusters[inside], n_resamples=2000, seed=3
    )
    assert [gap.estimate, gap.low, gap.high] == pytest.approx(
        [effect.estimate, effect.low, effect.high]
    )


def test_single_texts_reduce_the_gap_to_a_function_of_sums():
    treated, control = arms(2, n_texts=(1, 1))
    inside = np.arange(24) < 9
    gap = two_way_gap(treated, control, range(24), inside, seed=0)
    gain, a = (treated - control)[0], inside.astype(float)
    by_sums = sums_bootstrap(
        lambda s: s[0] / s[1] - s[2] / s[3],
        np.stack([gain * a, a, gain * (1 - a), 1 - a]),
        range(24),
        seed=0,
    )
    assert [gap.estimate, gap.low, gap.high] == pytest.approx(
        [by_sums.estimate, by_sums.low, by_sums.high]
    )


def test_a_difference_between_groups_that_depends_on_the_wording_is_not_sure():
    """Every wording moves the group by its own amount; many items do not make up for few wordings."""
    generator = np.random.default_rng(0)
    inside = np.arange(200) % 2 == 0
    own = generator.normal(size=(6, 1)) * inside
    treated = own + 0.01 * generator.normal(size=(6, 200))
    control = 0.01 * generator.normal(size=(6, 200))
    gap = two_way_gap(treated, control, range(200), inside, seed=0)
    fixed = cluster_bootstrap((treated.mean(0) - control.mean(0))[inside], range(100), seed=0)
    assert gap.high - gap.low > 20 * (fixed.high - fixed.low)


def test_undefined_items_are_left_out_and_a_gap_needs_both_groups():
    treated, control = arms(4)
    inside = np.arange(24) < 12
    treated[1, 3], control[0, 20] = np.nan, np.nan
    kept = [k for k in range(24) if k not in (3, 20)]
    whole = two_way_gap(treated, control, range(24), inside, seed=0)
    part = two_way_gap(treated[:, kept], control[:, kept], kept, inside[kept], seed=0)
    assert (whole.n, whole.estimate, whole.low) == (22, part.estimate, part.low)
    alone = two_way_gap(treated, control, range(24), np.ones(24), undefined="one group", seed=0)
    assert np.isnan(alone.estimate)
    assert alone.reason == "one group"
    none = two_way_gap(treated * np.nan, control, range(24), inside, seed=0)
    assert (none.n, none.reason) == (0, "needs items inside the group and outside")
    one = two_way_gap(treated, control, ["a"] * 24, inside, seed=0)
    assert one.reason == "a single cluster: no interval"


def test_a_gap_of_arms_on_different_items_or_an_odd_group_is_refused():
    treated, control = arms(5)
    with pytest.raises(InterpError, match=r"are \[4, 24\], \[3, 23\], \[24\]: give"):
        two_way_gap(treated, control[:, 1:], range(24), np.ones(24), seed=0)
    with pytest.raises(InterpError, match="inside holds 2"):
        two_way_gap(treated, control, range(24), np.full(24, 2), seed=0)
