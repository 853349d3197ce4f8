import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.stats import cluster_bootstrap, ratio_bootstrap
from interp.stats.sums import sums_bootstrap


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
