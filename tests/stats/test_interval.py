from __future__ import annotations

import math

from interp import stats


def test_interval_prints_three_digits_and_knows_what_it_excludes() -> None:
    interval = stats.Interval(0.12, 0.05, 0.19, n=10, n_clusters=5)
    assert str(interval) == "0.120 [0.050, 0.190]"
    assert interval.excludes(0)
    assert not interval.excludes(0.05)
    nothing = stats.Interval(math.nan, math.nan, math.nan, 0, 0, reason="no defined item")
    assert not nothing.excludes(0)
    assert str(nothing) == "nan [nan, nan] (no defined item)"
