from __future__ import annotations

import math

import numpy as np

from interp import stats


def test_interval_prints_three_digits_and_knows_what_it_excludes() -> None:
    interval = stats.Interval(0.12, 0.05, 0.19, n=10, n_clusters=5)
    assert str(interval) == "0.120 [0.050, 0.190]"
    assert interval.excludes(0)
    assert not interval.excludes(0.05)
    nothing = stats.Interval(math.nan, math.nan, math.nan, 0, 0, reason="no defined item")
    assert not nothing.excludes(0)
    assert str(nothing) == "nan [nan, nan] (no defined item)"


def test_a_bounded_quantity_keeps_the_part_of_its_interval_that_it_can_take() -> None:
    low, high = np.array([-0.1, 0.2, np.nan]), np.array([0.4, 1.2, np.nan])
    many = stats.Interval(np.array([0.2, 0.7, 0.5]), low, high, 3, 3).within(0.0, 1.0)
    np.testing.assert_array_equal(many.low, [0.0, 0.2, np.nan])
    np.testing.assert_array_equal(many.high, [0.4, 1.0, np.nan])
    one = stats.Interval(0.667, 0.125, 1.209, 3, 3).within(0.0, 1.0)
    assert (one.estimate, one.low, one.high) == (0.667, 0.125, 1.0)
