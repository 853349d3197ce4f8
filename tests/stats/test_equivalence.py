from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from interp.errors import InterpError
from interp.stats import (
    Interval,
    equivalence,
)
from interp.stats.means import cluster_mean


def test_equivalence_is_statsmodels_two_one_sided_tests() -> None:
    values = 0.05 * np.random.default_rng(5).standard_normal(20) + 0.01
    found = equivalence(cluster_mean(values, range(20)), 0.05)
    public = DescrStatsW(values).ttost_mean(-0.05, 0.05)[0]
    assert found.p == pytest.approx(public)
    bounds = DescrStatsW(values).tconfint_mean(alpha=0.1)
    assert (found.low, found.high) == pytest.approx(bounds)
    assert found.verdict == "no effect"


def test_verdicts() -> None:
    def interval(estimate: float, se: float) -> Interval:
        return Interval(estimate, 0, 0, 9, 9, se=se, df=8.0)

    assert equivalence(interval(0.0, 0.01), 0.1).verdict == "no effect"
    assert equivalence(interval(0.0, 0.1), 0.1).verdict == "undetermined"
    assert equivalence(interval(1.0, 0.1), 0.1).verdict == "effect"
    both = equivalence(interval(0.05, 0.01), 0.1)
    assert (both.verdict, both.small) == ("effect", True)
    assert equivalence(interval(0.0, 0.0), 0.1).verdict == "no effect"
    unknown = equivalence(Interval(0.1, 0.0, 0.2, 9, 9), 0.1)
    assert (unknown.verdict, unknown.half_width != unknown.half_width) == ("undetermined", True)
    with pytest.raises(InterpError, match="delta is 0"):
        equivalence(interval(0.0, 0.1), 0.0)
    with pytest.raises(InterpError, match="one cell"):
        equivalence(cluster_mean(np.zeros((2, 3)), range(3)), 0.1)
