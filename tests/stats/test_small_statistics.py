"""Correlation, cross-validation, calibration, equivalence and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, ttest_1samp
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from interp.errors import InterpError
from interp.stats import (
    Family,
    Interval,
    calibration_error,
    corrected_cv,
    correlation,
    equivalence,
    holm,
)
from interp.stats.calibration import binned_error
from interp.stats.means import cluster_mean


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


def test_corrected_variance_by_hand_and_students_where_nothing_is_shared() -> None:
    scores = np.array([0.6, 0.7, 0.8, 0.65, 0.75, 0.7, 0.6, 0.8, 0.7, 0.7])
    found = corrected_cv(scores, test_share=0.2)
    se = np.sqrt(scores.var(ddof=1) * (1 / 10 + 1 / 4))
    half = student.ppf(0.975, 8) * se  # two repeats of five folds, 4 each
    assert (found.low, found.high) == pytest.approx((0.7 - half, 0.7 + half))
    assert found.p == pytest.approx(2 * student.sf(0.2 / se, 8))
    nearly = corrected_cv(scores, test_share=1e-9)  # tested on next to nothing: one split each
    public = ttest_1samp(scores, 0.5)
    assert nearly.p == pytest.approx(public.pvalue)


def test_folds_that_are_undefined_are_left_out_per_cell() -> None:
    scores = np.array([[0.6, 0.7, np.nan], [0.6, 0.7, 0.8], [0.9, np.nan, np.nan], [np.nan] * 3])
    found = corrected_cv(scores, test_share=0.5, n_items=80, n_clusters=20)
    assert found.at(0).low == pytest.approx(corrected_cv(scores[0, :2], test_share=0.5).low)
    assert found.reason.tolist() == ["", "", "a single fold: no interval", "no defined fold"]
    assert (found.at(1).n, found.at(1).n_clusters) == (80, 20)
    with pytest.raises(InterpError, match="test_share is 1"):
        corrected_cv(scores, test_share=1.0)


def test_the_binned_error_by_hand_and_its_null() -> None:
    stated = np.array([0.55, 0.58, 0.95, 0.91])
    outcome = np.array([1.0, 0.0, 1.0, 0.0])
    by_hand = (abs(1 - 1.13) + abs(1 - 1.86)) / 4
    assert binned_error(stated, outcome[None])[0] == pytest.approx(by_hand)
    found = calibration_error(stated, outcome, range(4), seed=0)
    assert found.raw == pytest.approx(by_hand)
    assert found.debiased < found.raw
    assert (found.n, found.n_clusters) == (4, 4)


def test_calibrated_answers_pass_and_overconfident_ones_do_not() -> None:
    generator = np.random.default_rng(3)
    stated = generator.uniform(0.34, 0.9, 300)
    right = calibration_error(stated, generator.random(300) < stated, range(300), seed=0)
    wrong = calibration_error(stated, generator.random(300) < stated - 0.15, range(300), seed=0)
    assert right.p > 0.05
    assert abs(right.debiased) < 0.05
    assert wrong.p < 0.01
    assert wrong.debiased == pytest.approx(0.15, abs=0.06)
    again = calibration_error(stated, generator.random(300) < stated, range(300), seed=0)
    assert again.null_p95 == right.null_p95


def test_outcomes_that_go_together_widen_the_null() -> None:
    generator = np.random.default_rng(4)
    stated = np.full(100, 0.6)
    outcome = np.repeat(generator.random(20) < 0.6, 5)
    apart = calibration_error(stated, outcome, range(100), seed=0)
    together = calibration_error(stated, outcome, np.arange(100) // 5, seed=0)
    assert together.null_p95 > 1.5 * apart.null_p95
    assert np.isnan(calibration_error([np.nan], [1], "a", seed=0).raw)
    with pytest.raises(InterpError, match=r"outside 0\.\.1"):
        calibration_error([1.2], [1], "a", seed=0)


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


def test_a_family_corrects_all_its_claims_at_once_and_knows_no_others() -> None:
    claims = {"a": 0.01, ("b", 1): 0.04, "c": float("nan"), "d": 0.03}
    family = Family.of("effects", claims)
    expected = multipletests([0.01, 0.04, 0.03], method="holm")[1]
    assert [family.p_holm[k] for k in ("a", ("b", 1), "d")] == pytest.approx(list(expected))
    assert np.isnan(family.p_holm["c"])
    assert len(family) == 3
    assert family.claimed("a")
    assert not family.claimed("d")
    assert not family.claimed("c")
    with pytest.raises(InterpError, match="'z' is not in the family 'effects' of 4 claims"):
        family.claimed("z")
    with pytest.raises(InterpError, match="several cells"):
        Family.of("maps", {"a": cluster_mean(np.zeros((2, 3)), range(3))})


def test_holm_keeps_the_shape_and_the_holes() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(holm(p), [[0.03, np.nan], [0.06, 0.06]])
    with pytest.raises(InterpError, match=r"outside 0\.\.1"):
        holm([1.5])
