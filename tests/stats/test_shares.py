from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from interp.errors import InterpError
from interp.stats import share
from interp.stats.means import cluster_mean


def sample(seed: int, n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    whole = 2.0 + generator.standard_normal(n)
    return 0.3 * whole + 0.2 * generator.standard_normal(n), whole


def test_the_bounds_are_the_shares_at_which_the_t_test_of_the_rest_turns() -> None:
    top, whole = sample(0)
    found = share(top, whole, range(10))

    def p_minus(ratio: float) -> float:
        return float(cluster_mean(top - ratio * whole, range(10)).p) - 0.05

    assert found.estimate == pytest.approx(top.mean() / whole.mean())
    assert found.low == pytest.approx(brentq(p_minus, found.estimate - 2, found.estimate))
    assert found.high == pytest.approx(brentq(p_minus, found.estimate, found.estimate + 2))
    assert found.p == pytest.approx(cluster_mean(top, range(10)).p)
    assert found.method == "fieller"


def test_the_whole_is_all_of_itself_and_nothing_is_none_of_it() -> None:
    _, whole = sample(1)
    all_of_it, none = share(whole, whole, range(10)), share(0 * whole, whole, range(10))
    assert (all_of_it.estimate, all_of_it.low, all_of_it.high) == pytest.approx((1.0, 1.0, 1.0))
    assert (none.estimate, none.low, none.high, none.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_denominator_that_may_be_0_has_no_share() -> None:
    top, whole = sample(2)
    found = share(top, whole - whole.mean() + 0.1, range(10))
    assert found.reason == "the denominator's interval contains 0"
    assert np.isnan([found.estimate, found.low, found.high, found.p]).all()
    assert share(top, whole, ["a"] * 10).reason == "a single cluster: no interval"


def test_the_order_of_observations_does_not_matter_and_holes_are_left_out() -> None:
    top, whole = sample(3)
    clusters = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4, 5])
    order = np.random.default_rng(0).permutation(10)
    found = share(top, whole, clusters)
    assert share(top[order], whole[order], clusters[order]).low == pytest.approx(found.low)
    longer = share(np.append(top, np.nan), np.append(whole, 1.0), [*clusters, 9])
    assert (longer.low, longer.high, longer.n) == pytest.approx((found.low, found.high, 10))
    doubled = share(2 * top, whole, clusters)
    assert (doubled.low, doubled.high) == pytest.approx((2 * found.low, 2 * found.high))


def test_wordings_that_differ_make_the_interval_wider_and_those_per_observation_do_not() -> None:
    generator = np.random.default_rng(4)
    wordings = np.arange(60) % 6
    whole = 2.0 + generator.standard_normal(60)
    top = 0.3 * whole + 0.5 * generator.standard_normal(6)[wordings] + 0.1 * whole * 0
    one, two = share(top, whole, range(60)), share(top, whole, range(60), wordings)
    assert two.high - two.low > 1.5 * (one.high - one.low)
    own = share(top, whole, range(60), range(60))
    assert (own.low, own.high) == pytest.approx((one.low, one.high), abs=0.02)


def test_a_row_of_cells_shares_one_denominator() -> None:
    top, whole = sample(5)
    found = share(np.stack([top, 2 * top]), whole, range(10))
    assert found.at(0).low == pytest.approx(share(top, whole, range(10)).low)
    with pytest.raises(InterpError, match="do not broadcast"):
        share(top, whole[:4], range(10))
