import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, entropy
from sklearn.calibration import calibration_curve

from interp.behaviour.answers import (
    calibration,
    calibration_error,
    flip_matrix,
    gain_by_rank,
    letter_bias,
    option_entropy,
)
from interp.errors import InterpError

NAN = float("nan")


# ---------------------------------------------------------------------------- flips


def test_flips_by_hand():
    before = [1, 1, 1, 0, 0, 0, 0, 0, 0]
    after = [1, 1, 0, 1, 1, 1, 1, 0, 0]
    flips = flip_matrix(before, after, range(9))
    assert (flips.right_right, flips.right_wrong) == (2, 1)
    assert (flips.wrong_right, flips.wrong_wrong) == (4, 2)
    assert flips.n == 9
    # one correct -> incorrect of five changed: 2 * (C(5,0) + C(5,1)) / 2^5
    assert flips.p == pytest.approx(2 * 6 / 32)
    assert flips.net.estimate == pytest.approx(3 / 9)
    assert flips.to_dataframe().loc["wrong", "right"] == 4
    assert flips.to_dataframe().to_numpy().sum() == 9


def test_nothing_changed_is_no_evidence():
    flips = flip_matrix([True, False], [True, False], ["a", "b"])
    assert (flips.p, flips.net.estimate) == (1.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_counts_add_up_and_time_reversed_transposes_them(pairs):
    before, after = np.array(pairs).T
    flips, back = (
        flip_matrix(*arms, range(len(pairs))) for arms in ((before, after), (after, before))
    )
    assert flips.n == len(pairs)
    assert (flips.right_wrong, flips.wrong_right) == (back.wrong_right, back.right_wrong)
    assert flips.p == pytest.approx(back.p)
    changed = flips.right_wrong + flips.wrong_right
    tail = binom.cdf(min(flips.right_wrong, flips.wrong_right), changed, 0.5)
    assert flips.p == pytest.approx(min(1.0, 2 * tail))
    assert flips.net.estimate == pytest.approx(after.mean() - before.mean())


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([1], [1, 0], "one value per item"),
        ([], [], "one value per item"),
        ([NAN], [1], "has no correctness"),
        ([0.5], [1], "holds 0.5"),
    ],
)
def test_flips_need_the_same_items(before, after, message):
    with pytest.raises(InterpError, match=message):
        flip_matrix(before, after, range(len(before)))


# ---------------------------------------------------------------------------- calibration


def test_calibration_error_by_hand():
    result = calibration([0.55, 0.6, 0.95, 0.95, 0.05], [1, 0, 1, 0, 0], n_bins=10)
    # (.5, .6]: .575 against .5, two answers; (.9, 1]: .95 against .5, two; [0, .1]: .05 against 0
    assert result.error == pytest.approx((2 * 0.075 + 2 * 0.45 + 1 * 0.05) / 5)
    assert result.n == result.bins["n"].sum() == 5
    assert result.bins["n"].tolist() == [1, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert np.isnan(result.bins["accuracy"][1])


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 15)
)
def test_bins_are_scikit_learns(rows, n_bins):
    confidence, correct = np.array([c for c, _ in rows]), np.array([r for _, r in rows])
    result = calibration(confidence, correct, n_bins=n_bins)
    filled = result.bins.dropna()
    accuracy, mean = calibration_curve(correct, confidence, n_bins=n_bins)
    np.testing.assert_allclose(filled["accuracy"], accuracy)
    np.testing.assert_allclose(filled["confidence"], mean)
    expected = (filled["n"] * np.abs(accuracy - mean)).sum() / len(rows)
    assert result.error == pytest.approx(expected)
    assert 0.0 <= result.error <= 1.0


def test_the_error_is_told_less_what_calibrated_answers_show():
    random = np.random.default_rng(0)
    sure = random.uniform(size=300)
    clusters = [f"c{k // 3}" for k in range(300)]
    wrong = calibration_error(sure, np.zeros(300), clusters, seed=0)
    assert wrong.p < 0.01
    assert 0.3 < wrong.estimate < calibration(sure, np.zeros(300)).error
    assert np.isnan(wrong.low)
    right = calibration_error(sure, (random.uniform(size=300) < sure), clusters, seed=0)
    assert right.p > 0.05
    assert (right.n, right.n_clusters, right.method) == (300, 100, "calibrated_null")


def test_answers_without_a_confidence_or_a_correctness_leave_the_error():
    interval = calibration_error([0.5, NAN, 0.9], [1.0, 1.0, NAN], ["a", "b", "c"], seed=0)
    assert (interval.n, interval.n_clusters) == (1, 1)
    nothing = calibration_error([NAN], [1.0], ["a"], seed=0)
    assert np.isnan(nothing.estimate)
    assert nothing.reason == "no answer with a confidence"
    with pytest.raises(InterpError, match="2 clusters: give one of each"):
        calibration_error([0.5], [1.0], ["a", "b"], seed=0)
    with pytest.raises(InterpError, match=r"confidence 1\.2 is outside"):
        calibration_error([1.2], [1.0], ["a"], seed=0)


def test_bad_confidences_are_refused():
    for confidence, correct, message in (
        ([1.2], [1], "1.2 is outside"), ([NAN], [1], "nan is outside"),
        ([], [], "at least one answer"), ([0.5], [1, 0], "both for every answer"),
    ):  # fmt: skip
        with pytest.raises(InterpError, match=message):
            calibration(confidence, correct)
    with pytest.raises(InterpError, match="n_bins is 0"):
        calibration([0.5], [1], n_bins=0)


# ---------------------------------------------------------------------------- entropy


def test_entropy_by_hand_in_nats():
    p = [[1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0.5, 0.5, NAN], [NAN, NAN, NAN]]
    expected = [math.log(3), 0.0, math.log(2), NAN]
    np.testing.assert_allclose(option_entropy(p), expected, atol=1e-15)


@settings(max_examples=40)
@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=8))
def test_entropy_is_scipys_and_at_most_log_k(weights):
    p = np.array(weights) / sum(weights)
    assert option_entropy(p) == pytest.approx(entropy(p))
    assert 0.0 <= option_entropy(p) <= math.log(len(p)) + 1e-12


def test_what_is_no_distribution_has_no_entropy():
    with pytest.raises(InterpError, match=r"sum to 0\.9, not 1"):
        option_entropy([0.5, 0.4])
    with pytest.raises(InterpError, match="each at least 0"):
        option_entropy([1.5, -0.5])


# ---------------------------------------------------------------------------- gain by rank


def scored(item, rank, gain, *, noise=0.0, correct=True, margin=1.0):
    """Three orders of three conditions; what the first order of an arm says must not count."""
    rows = []
    for condition, value in (("clean", 0.0), ("instructed", margin + gain), ("placebo", margin)):
        for order in range(3):
            first = order == 0
            rows.append(
                {
                    "item": item, "cluster": item, "condition": condition, "order": order,
                    "slot": 0, "control_of": "instructed" if condition == "placebo" else "",
                    "gold_rank": rank if first and condition == "clean" else 3 - rank % 3,
                    "option_margin": value + (99 + noise if first else 0.0),
                    "correct": (not correct) if first else correct,
                }
            )  # fmt: skip
    return rows


def test_gain_by_rank_before_by_hand():
    rows = scored("a", 1, 2.0) + scored("b", 1, 4.0, correct=False)
    rows += scored("c", 2, 1.0, noise=7) + scored("d", 3, -1.0, correct=False)
    result = gain_by_rank(pd.DataFrame(rows))
    table = result.table.set_index(["rank", "measure"])
    assert table["estimate"].to_dict() == pytest.approx(
        {
            (1, "gain"): 3.0, (1, "correct"): 0.5, (2, "gain"): 1.0, (2, "correct"): 1.0,
            (3, "gain"): -1.0, (3, "correct"): 0.0,
        }
    )  # fmt: skip
    assert table["n"].tolist() == [2, 2, 1, 1, 1, 1]
    assert result.top_minus_rest.estimate == pytest.approx(3.0 - 0.0)
    assert result.top_minus_rest.n == 4


def test_noise_of_the_ranking_order_moves_no_gain():
    generator = np.random.default_rng(0)
    noisy = [
        row for k in range(40)
        for row in scored(f"i{k}", int(generator.integers(1, 4)), 0.5, noise=generator.normal())
    ]  # fmt: skip
    table = gain_by_rank(pd.DataFrame(noisy)).table
    assert table[table["measure"] == "gain"]["estimate"].tolist() == pytest.approx([0.5] * 3)


def test_items_without_a_margin_are_left_out_and_missing_conditions_are_named():
    frame = pd.DataFrame(scored("a", 1, 2.0) + scored("b", 2, NAN))
    result = gain_by_rank(frame)
    assert result.table["rank"].tolist() == [1, 1]
    assert result.top_minus_rest.reason == "needs items at rank 1 and at other ranks"
    with pytest.raises(InterpError, match="'clean' was not scored in its first order"):
        gain_by_rank(frame[frame["condition"] != "clean"])
    with pytest.raises(InterpError, match="'negated' was not scored beyond its first order"):
        gain_by_rank(frame, condition="negated")
    with pytest.raises(InterpError, match="'instructed' was not scored beyond"):
        gain_by_rank(frame[frame["order"] == 0])
    with pytest.raises(InterpError, match="no item has both a rank"):
        gain_by_rank(frame[frame["item"] == "b"])
    assert gain_by_rank(frame, against="clean").table["estimate"][0] == pytest.approx(3.0)


def test_only_the_placebos_of_the_condition_are_compared():
    foreign = [
        {**row, "control_of": "negated", "option_margin": 50.0}
        for row in scored("a", 1, 0.0) if row["condition"] == "placebo"
    ]  # fmt: skip
    result = gain_by_rank(pd.DataFrame(scored("a", 1, 2.0) + foreign))
    assert result.table["estimate"][0] == pytest.approx(2.0)


def test_the_gain_resamples_wordings_where_there_are_several():
    """Six wordings that differ by much: their mean alone would have no width."""
    rows = []
    for slot, shift in enumerate((-3.0, -2.0, -1.0, 1.0, 2.0, 3.0)):
        for k in range(12):
            rows += [
                {**row, "slot": slot}
                for row in scored(f"i{k}", 1 + k % 2, 0.5 + shift * (k % 2))
                if row["condition"] == "instructed" or slot == 0
            ]
    result = gain_by_rank(pd.DataFrame(rows))
    table = result.table.set_index(["rank", "measure"])
    assert table.loc[(1, "gain"), ["low", "high"]].tolist() == pytest.approx([0.5, 0.5])
    assert table.loc[(2, "gain"), "low"] < -0.5 < 1.5 < table.loc[(2, "gain"), "high"]
    assert result.top_minus_rest.texts == (6, 1)
    assert result.top_minus_rest.low < -1 < 1 < result.top_minus_rest.high
    with_gap = gain_by_rank(pd.DataFrame([r for r in rows if (r["item"], r["slot"]) != ("i0", 3)]))
    assert with_gap.table["n"].tolist() == [5, 5, 6, 6]  # an item without one wording is left out


# ---------------------------------------------------------------------------- letters


def test_letter_bias_by_hand():
    bias = letter_bias("ccca", "abc")
    assert bias.shares == (0.25, 0.0, 0.75)
    assert (bias.top, bias.max_share, bias.n) == ("c", 0.75, 4)
    assert bias.entropy == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    assert bias.max_entropy == pytest.approx(math.log(3))
    assert letter_bias(["b"] * 9, ("a", "b", "c")).entropy == 0.0
    even = letter_bias("abcabc", "abc")
    assert even.entropy == pytest.approx(even.max_entropy)
    with pytest.raises(InterpError, match="answer 'd' is none of a, b, c"):
        letter_bias("abd", "abc")
    with pytest.raises(InterpError, match="no answered letters"):
        letter_bias("", "abc")
