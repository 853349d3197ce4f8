from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from interp.errors import InterpError
from interp.stats import effect, effect_gap, effects_by_context, intervals_of
from interp.stats.two_way import of_observations


def arms(
    seed: int, wordings: tuple[int, int] = (4, 3), n: int = 10, cells: tuple[int, ...] = ()
) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    item = generator.standard_normal((*cells, 1, n))
    return [
        generator.standard_normal((*cells, k, n))
        + item
        + 0.5 * generator.standard_normal((*cells, k, 1))
        for k in wordings
    ]


def test_two_wordings_a_side_and_three_items_by_hand() -> None:
    treated = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 4.0]])
    control = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    found = effect(treated, control, "abc")
    # wordings: means 3, 3 and 1, 1 -> 0; clusters: differences 1, 1, 4 around 2 -> 6 / 2 / 3 = 1
    # pairs: treated -+1, 0, +-1 after centring -> 4 / (2 * 1) / (3 * 2) = 1/3; control the same -> 1/3
    assert found.estimate == pytest.approx(2.0)
    assert found.se == pytest.approx(np.sqrt(0.5))  # no more than half of the sum is subtracted
    assert found.df == pytest.approx(2.0 * 0.5)
    half = student.ppf(0.975, 1.0) * np.sqrt(0.5)
    assert (found.low, found.high) == pytest.approx((2.0 - half, 2.0 + half))
    assert (found.n, found.n_clusters, found.texts, found.method) == (3, 3, (2, 2), "cgm_t")


def test_one_wording_a_side_is_the_paired_t_test_of_the_clusters() -> None:
    treated, control = arms(0, (1, 1))
    found = effect(treated, control, range(10))
    public = ttest_1samp((treated - control)[0], 0.0)
    bounds = public.confidence_interval()
    assert (found.p, found.df) == pytest.approx((public.pvalue, 9.0))
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))
    assert found.texts == (1, 1)


def test_without_noise_of_single_cells_it_is_welchs_variance_of_the_wordings() -> None:
    generator = np.random.default_rng(1)
    above, below = generator.standard_normal(6), generator.standard_normal(6)
    item = generator.standard_normal(8)
    found = effect(above[:, None] + item, below[:, None] + item, range(8))
    variance = above.var(ddof=1) / 6 + below.var(ddof=1) / 6
    assert found.se == pytest.approx(np.sqrt(variance))
    shares = np.array([above.var(ddof=1), below.var(ddof=1)]) / (6 * variance)
    assert found.df == pytest.approx(5 / (shares**2).sum())


def test_two_way_variance_of_observations_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(2)
    clusters, wordings = np.repeat(np.arange(40), 3), generator.integers(0, 12, 120)
    values = generator.standard_normal(120) + generator.standard_normal(12)[wordings]
    model = OLS(values, np.ones(120)).fit()
    both, of_clusters, of_wordings = cov_cluster_2groups(model, clusters, wordings)
    found = of_observations(values[None], clusters, wordings)
    assert found is not None
    # statsmodels' ways are CR1, ours CR2-like jackknives: alike to the order of 1 / units
    assert (found.clusters**2).sum() == pytest.approx(float(of_clusters[0, 0]), rel=0.03)
    assert (found.wordings**2).sum() == pytest.approx(float(of_wordings[0, 0]), rel=0.1)
    assert found.variance[0] == pytest.approx(float(both[0, 0]), rel=0.1)


def test_one_way_variance_of_equal_clusters_is_that_of_statsmodels_exactly() -> None:
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(12), 4)
    values = generator.standard_normal(48) + generator.standard_normal(12)[clusters]
    public = OLS(values, np.ones(48)).fit(
        cov_type="cluster",
        cov_kwds={"groups": clusters, "use_correction": False},
    )
    found = effect(values[None], np.zeros((1, 48)), clusters)
    assert found.se == pytest.approx(float(public.bse[0]) * np.sqrt(12 / 11))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5))
def test_order_scale_and_shift_change_what_they_should(
    seed: int, scale: float, shift: float
) -> None:
    treated, control = arms(seed)
    clusters = np.arange(10) // 2
    found = effect(treated, control, clusters)
    generator = np.random.default_rng(seed)
    items, rows = generator.permutation(10), generator.permutation(4)
    shuffled = effect(treated[rows][:, items], control[:, items], clusters[items])
    scaled = effect(scale * treated + shift, scale * control, clusters)
    assert (shuffled.low, shuffled.high, shuffled.p) == pytest.approx(
        (found.low, found.high, found.p)
    )
    assert scaled.se == pytest.approx(scale * found.se)
    assert scaled.estimate == pytest.approx(scale * found.estimate + shift, abs=1e-9 * scale + 1e-9)
    mirrored = effect(control, treated, clusters)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_undefined_items_and_items_without_weight_are_as_good_as_absent() -> None:
    treated, control = arms(4)
    clusters = np.arange(10) // 3
    kept = np.array([0, 1, 2, 4, 5, 6, 8, 9])
    expected = effect(treated[:, kept], control[:, kept], clusters[kept])
    weights = np.ones(10)
    weights[[3, 7]] = 0.0
    holes = [treated.copy(), control.copy()]
    holes[0][1, 3], holes[1][2, 7] = np.nan, np.nan
    for found in (effect(*holes, clusters), effect(treated, control, clusters, weights=weights)):
        assert found.estimate == pytest.approx(expected.estimate)
        assert (found.se, found.df, found.n) == pytest.approx((expected.se, expected.df, 8))


def test_weights_that_are_whole_numbers_repeat_an_item_of_its_cluster() -> None:
    treated, control = arms(5, n=6)
    twice = [0, 1, 1, 2, 3, 4, 4, 5]
    weights = np.bincount(twice).astype(float)
    found = effect(treated, control, range(6), weights=weights)
    repeated = effect(treated[:, twice], control[:, twice], twice)
    assert found.estimate == pytest.approx(repeated.estimate)
    assert found.se == pytest.approx(repeated.se, rel=0.05)


def test_a_cell_is_what_it_would_be_alone_whatever_its_neighbours_lack() -> None:
    treated, control = arms(6, cells=(3, 2))
    treated[1, 0, 0, 4], control[2, 1, :, :] = np.nan, np.nan
    found = effect(treated, control, np.arange(10) // 2)
    for cell in np.ndindex(3, 2):
        alone = effect(treated[cell], control[cell], np.arange(10) // 2)
        assert str(found.at(*cell)) == str(alone)
        assert found.at(*cell).p == pytest.approx(alone.p, nan_ok=True)
    assert found.at(2, 1).reason == "no defined item"


def test_few_units_give_wide_intervals_and_one_cluster_none() -> None:
    treated, control = arms(7, (6, 6))
    one = effect(treated, control, ["a"] * 10)
    assert one.estimate == pytest.approx(treated.mean() - control.mean())
    assert np.isnan([one.low, one.high, one.p, one.se]).all()
    assert one.reason == "a single cluster: no interval"
    two = effect(treated, control, [0] * 5 + [1] * 5)
    assert two.high - two.low > 0.0
    assert two.reason == ""
    few = effect(treated[:2], control[:2], range(10))
    assert few.df < effect(treated, control, range(10)).df


def test_effects_without_any_variation_are_points_with_the_sign_flips_p() -> None:
    ones = np.ones((3, 5))
    nothing, something = effect(ones, ones, range(5)), effect(ones + 0.1, ones, range(5))
    assert (nothing.estimate, nothing.low, nothing.high, nothing.p) == (0.0, 0.0, 0.0, 1.0)
    assert (something.low, something.high) == pytest.approx((0.1, 0.1))
    assert something.p == 2 / 2**5


def test_arms_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InterpError, match="differ outside the text axis"):
        effect(np.zeros((2, 5)), np.zeros((2, 4)), range(5))
    with pytest.raises(InterpError, match="an arm has no text"):
        effect(np.zeros((0, 5)), np.zeros((2, 5)), range(5))
    with pytest.raises(InterpError, match="give 5 numbers >= 0"):
        effect(np.zeros((2, 5)), np.zeros((2, 5)), range(5), weights=[1, 1, -1, 1, 1])


def test_a_gap_is_the_difference_of_the_effects_with_the_jackknifes_variance() -> None:
    treated, control = (arm[:1] for arm in arms(8, n=12))
    clusters, inside = np.arange(12) // 2, np.arange(12) < 5  # one cluster lies on both sides
    found = effect_gap(treated, control, clusters, inside)
    difference = (treated - control)[0]

    def gap(kept: np.ndarray) -> float:
        return float(difference[kept & inside].mean() - difference[kept & ~inside].mean())

    assert found.estimate == pytest.approx(gap(np.ones(12, dtype=bool)))
    without = np.array([gap(clusters != c) for c in range(6)])
    jackknife = 5 / 6 * ((without - found.estimate) ** 2).sum()
    assert found.se**2 == pytest.approx(jackknife, rel=0.35)  # the jackknife's bias is divided out
    assert found.se**2 < jackknife


def test_a_gap_between_halves_of_every_cluster_is_the_effect_on_the_difference() -> None:
    treated, control = arms(9, (3, 3), n=16)
    clusters, inside = np.arange(16) // 2, np.arange(16) % 2
    found = effect_gap(treated, control, clusters, inside)
    expected = effect(
        treated[:, 1::2] - treated[:, ::2], control[:, 1::2] - control[:, ::2], range(8)
    )
    assert found.estimate == pytest.approx(expected.estimate)
    assert (found.se, found.df) == pytest.approx((expected.se, expected.df), rel=1e-6)


def test_a_gap_needs_both_sides_and_two_clusters_on_each() -> None:
    treated, control = arms(10)
    nothing = effect_gap(treated, control, range(10), np.zeros(10), undefined="no such rank")
    assert nothing.reason == "no such rank"
    assert np.isnan(nothing.estimate)
    alone = effect_gap(treated, control, range(10), np.arange(10) == 0)
    assert alone.reason == "a single cluster on a side: no interval"
    assert np.isfinite(alone.estimate)
    assert np.isnan(alone.low)


def test_effects_by_context_are_those_of_their_items() -> None:
    import pandas as pd

    treated, control = arms(11)
    contexts = ["ambiguous", "disambiguated"] * 5
    frame = pd.DataFrame(effects_by_context(treated, control, list(range(10)), contexts))
    assert list(frame["context"]) == ["all", "ambiguous", "disambiguated"]
    of_all, ambiguous, _ = intervals_of(frame)
    assert of_all.p == pytest.approx(effect(treated, control, range(10)).p)
    expected = effect(treated[:, ::2], control[:, ::2], range(5))
    assert (ambiguous.low, ambiguous.p) == pytest.approx((expected.low, expected.p))
    only = effects_by_context(treated, control, list(range(10)), ["ambiguous"] * 10)
    assert [row["context"] for row in only] == ["ambiguous"]
