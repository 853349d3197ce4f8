from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from scipy.stats import t as student

from interp.errors import InterpError
from interp.stats import (
    correlation,
)


def test_r_is_pearsons_and_its_interval_the_jackknife_of_z_by_hand() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 12))
    y = y + 0.5 * x
    found = correlation(x, y)
    assert found.estimate == pytest.approx(pearsonr(x, y).statistic)
    z = np.array([np.arctanh(np.corrcoef(np.delete([x, y], k, 1))[0, 1]) for k in range(12)])
    se = np.sqrt(11 / 12 * ((z - z.mean()) ** 2).sum())
    centre, half = np.arctanh(found.estimate), student.ppf(0.975, 11) * se
    assert (found.low, found.high) == pytest.approx(
        (np.tanh(centre - half), np.tanh(centre + half))
    )
    assert found.p == pytest.approx(2 * student.sf(abs(centre) / se, 11))


def test_with_many_gaussian_pairs_it_is_scipys_interval() -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 4000))
    y = y + 0.5 * x
    public = pearsonr(x, y).confidence_interval()
    found = correlation(x, y)
    assert (found.low, found.high) == pytest.approx((public.low, public.high), abs=0.004)


def test_clusters_enter_by_their_means_and_few_of_them_have_no_interval() -> None:
    x, y = np.random.default_rng(2).standard_normal((2, 12))
    clusters = np.arange(12) // 2
    means = [[v[clusters == c].mean() for c in range(6)] for v in (x, y)]
    assert str(correlation(x, y, clusters=clusters)) == str(correlation(*means))
    assert correlation(x[:3], y[:3]).reason == "3 clusters: an interval needs 4"
    assert correlation(x, np.ones(12)).reason == "one of the two does not vary"
    lone = correlation([0, 0, 0, 0, 1.0], [1.0, 2, 3, 4, 5])
    assert lone.reason == "without one cluster one of the two does not vary: no interval"
    exact = correlation(x, 2 * x)
    assert (exact.estimate, exact.low, exact.high) == pytest.approx((1.0, 1.0, 1.0))
    with pytest.raises(InterpError, match="give \\[n_items\\] twice"):
        correlation(x, y[:3])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_r_ignores_order_scale_shift_and_holes(seed: int, scale: float, shift: float) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((2, 9))
    order = generator.permutation(9)
    found, other = correlation(x, y), correlation(scale * x[order] + shift, y[order])
    assert (other.estimate, other.low, other.p) == pytest.approx(
        (found.estimate, found.low, found.p), rel=1e-5, abs=1e-9
    )
    holes = correlation(np.append(x, np.nan), np.append(y, 1.0))
    assert (holes.low, holes.high) == pytest.approx((found.low, found.high))
