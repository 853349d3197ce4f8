from __future__ import annotations

import numpy as np
import pytest

from interp.errors import InterpError
from interp.stats import of_sums
from interp.stats.means import cluster_mean


def test_a_mean_is_a_function_of_sums_with_its_t_interval() -> None:
    values = np.random.default_rng(0).standard_normal(12)
    clusters = np.arange(12) // 2
    found = of_sums(lambda s: s[0] / s[1], np.stack([values, np.ones(12)]), clusters)
    expected = cluster_mean(values, clusters)
    assert found.estimate == pytest.approx(expected.estimate)
    assert (found.se, found.df, found.p) == pytest.approx((expected.se, expected.df, expected.p))


def test_a_difference_of_rates_is_the_jackknife_by_hand() -> None:
    generator = np.random.default_rng(1)
    right, group = generator.integers(0, 2, (2, 20)).astype(float)
    clusters = np.arange(20) % 7
    columns = np.stack([right * group, group, right * (1 - group), 1 - group])
    found = of_sums(lambda s: s[0] / s[1] - s[2] / s[3], columns, clusters)

    def gap(kept: np.ndarray) -> float:
        in_group = kept & (group == 1)
        return float(right[in_group].mean() - right[kept & (group == 0)].mean())

    without = np.array([gap(clusters != c) for c in range(7)])
    assert found.estimate == pytest.approx(gap(np.ones(20, dtype=bool)))
    assert found.se**2 == pytest.approx(6 / 7 * ((without - without.mean()) ** 2).sum())
    assert 1.0 < found.df <= 6.0
    order = generator.permutation(20)
    shuffled = of_sums(lambda s: s[0] / s[1] - s[2] / s[3], columns[:, order], clusters[order])
    assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high))


def test_undefined_scores_say_so() -> None:
    columns = np.array([[0.0, 0.0], [0.0, 0.0]])
    found = of_sums(lambda s: s[0] / s[1], columns, "ab", undefined="nobody answered")
    assert found.reason == "nobody answered"
    one = np.array([[1.0, 0.0], [1.0, 0.0]])
    fragile = of_sums(lambda s: s[0] / s[1], one, "ab", undefined="nobody answered")
    assert fragile.estimate == 1.0
    assert fragile.reason == "without one cluster nobody answered: no interval"
    same = of_sums(lambda s: s[0] / s[1], [[1.0, 1.0], [1.0, 1.0]], "ab")
    assert (same.estimate, same.reason) == (
        1.0,
        "it is the same without any cluster: no interval",
    )
    assert of_sums(lambda s: s[0] / s[1], one, "aa").reason == "a single cluster: no interval"
    assert of_sums(lambda s: s[0], np.zeros((1, 0)), [], undefined="none").reason == "none"
    with pytest.raises(InterpError, match="without NaN"):
        of_sums(lambda s: s[0], [[np.nan]], "a")
