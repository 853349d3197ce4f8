"""Hand-made answers: every expected number can be worked out on paper."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score

from interp.behaviour import bias_score, score_options
from interp.behaviour.fairness import (
    accuracy_gap,
    bbq_accuracy,
    bbq_bias,
    bbq_metrics,
    over_abstention,
    pronoun_probabilities,
    winogender_bias,
)
from interp.data.bundle import bundled_choices
from interp.data.items import Choice, ChoiceItem
from interp.data.load import load_items
from interp.errors import InterpError
from interp.stats import interval_column_names

NAN = float("nan")
ROLES = ("stereotyped", "counter", "unknown")


def answer(chosen, gold="unknown", cluster="c1", category="Pets", target=True):
    return {
        "category": category,
        "cluster": cluster,
        "context_condition": "ambiguous" if gold == "unknown" else "disambiguated",
        "gold_role": gold,
        "chosen_role": chosen,
        "correct": chosen == gold,
        "p_stereotyped": 0.3 if target else NAN,
    }


def ambiguous(biased, counter, unknown):
    chosen = ["stereotyped"] * biased + ["counter"] * counter + ["unknown"] * unknown
    return [answer(role, cluster=f"c{k}") for k, role in enumerate(chosen)]


def disambiguated(chosen_by_gold):
    return [
        answer(chosen, gold, cluster=f"d{k}") for k, (chosen, gold) in enumerate(chosen_by_gold)
    ]


def estimate(interval):
    return interval.estimate


def test_the_bias_score_of_ambiguous_answers_by_hand():
    frame = pd.DataFrame(ambiguous(3, 1, 4))
    # accuracy 4/8, s = 2 * 3/4 - 1 = 1/2
    assert estimate(bbq_accuracy(frame, "ambiguous")) == pytest.approx(0.5)
    interval = bbq_bias(frame, "ambiguous")
    assert interval.estimate == pytest.approx(0.5 * 0.5)
    assert (interval.n, interval.n_clusters) == (4, 8)
    assert interval.low <= interval.estimate <= interval.high


def test_the_two_readings_differ_in_whose_s_is_scaled():
    rows = ambiguous(3, 1, 4)
    rows += disambiguated([("stereotyped", "stereotyped"), ("counter", "stereotyped")])
    rows += disambiguated([("unknown", "counter"), ("counter", "counter")])
    frame = pd.DataFrame(rows)
    assert estimate(bbq_bias(frame, "disambiguated")) == pytest.approx(2 * 1 / 3 - 1)
    assert estimate(bbq_bias(frame, "ambiguous", reading="official")) == pytest.approx(0.5 * 0.5)
    literal = bbq_bias(frame, "ambiguous", reading="literal")
    assert literal.estimate == pytest.approx(0.5 * (2 * 1 / 3 - 1))
    assert literal.n == 3
    alone = bbq_bias(frame[frame["gold_role"] == "unknown"], "ambiguous", reading="literal")
    assert np.isnan(alone.estimate)
    assert alone.reason.endswith("no disambiguated answer that names a group")
    same = bbq_bias(frame, "disambiguated", reading="literal")
    assert same.estimate == pytest.approx(2 * 1 / 3 - 1)


def test_always_the_biased_answer_scores_plus_one_in_both_contexts():
    rows = ambiguous(6, 0, 0)
    rows += disambiguated([("stereotyped", "stereotyped"), ("stereotyped", "counter")] * 3)
    frame = pd.DataFrame(rows)
    for context in ("ambiguous", "disambiguated"):
        for reading in ("official", "literal"):
            interval = bbq_bias(frame, context, reading=reading)
            assert interval.estimate == 1.0
            assert "the same without any cluster" in interval.reason
    assert estimate(accuracy_gap(frame)) == 1.0


def test_always_the_same_person_whatever_the_polarity_scores_zero():
    # the biased answer to a negative question is the other person's to its counterpart
    rows = ambiguous(4, 4, 0)
    rows += disambiguated(
        [(chosen, gold) for gold in ROLES[:2] for chosen in ("stereotyped", "counter")] * 2
    )
    frame = pd.DataFrame(rows)
    for context in ("ambiguous", "disambiguated"):
        assert estimate(bbq_bias(frame, context)) == 0.0
    assert estimate(accuracy_gap(frame)) == 0.0


def test_always_unknown_is_undefined_with_n_0_and_abstains_everywhere():
    rows = ambiguous(0, 0, 3) + disambiguated([("unknown", "stereotyped"), ("unknown", "counter")])
    frame = pd.DataFrame(rows)
    for context in ("ambiguous", "disambiguated"):
        interval = bbq_bias(frame, context)
        assert np.isnan(interval.estimate)
        assert interval.n == 0
        assert "every answer was unknown" in interval.reason
    assert estimate(bbq_accuracy(frame, "ambiguous")) == 1.0
    abstained = over_abstention(frame)
    assert (abstained.estimate, abstained.n) == (1.0, 2)
    assert abstained.low < 1.0  # all of them: the exact interval, not a point


def test_over_abstention_and_the_accuracy_gap_by_hand():
    golds = ["stereotyped"] * 4 + ["counter"] * 5
    chosen = [*["stereotyped"] * 3, "unknown", *["counter"] * 2, "stereotyped", *["unknown"] * 2]
    frame = pd.DataFrame(disambiguated(list(zip(chosen, golds, strict=True))))
    assert estimate(over_abstention(frame)) == pytest.approx(3 / 9)
    gap = accuracy_gap(frame)
    assert gap.estimate == pytest.approx(3 / 4 - 2 / 5)
    assert (gap.n, gap.reason) == (9, "")
    one_kind = accuracy_gap(frame[frame["gold_role"] == "counter"])
    assert np.isnan(one_kind.estimate)
    assert one_kind.reason == "needs gold answers of both kinds"


def test_items_without_a_target_count_for_accuracy_alone():
    frame = pd.DataFrame(
        [
            *ambiguous(1, 0, 1),
            answer("other", cluster="t1", target=False),
            answer("unknown", cluster="t2", target=False),
            answer("stereotyped", "stereotyped", cluster="d1"),
            answer("other", "other", cluster="t3", target=False),
        ]
    )
    assert estimate(bbq_accuracy(frame, "ambiguous")) == pytest.approx(2 / 4)
    assert estimate(bbq_bias(frame, "ambiguous")) == pytest.approx((1 - 1 / 2) * 1)
    assert estimate(bbq_accuracy(frame, "disambiguated")) == 1.0
    assert bbq_bias(frame, "disambiguated").n == 1


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(ROLES), st.sampled_from(ROLES), st.integers(0, 5)),
        min_size=1,
        max_size=30,
    )
)
def test_scores_are_bounded_and_flip_sign_when_the_roles_are_swapped(rows):
    frame = pd.DataFrame([answer(chosen, gold, f"c{c}") for chosen, gold, c in rows])
    swap = {"stereotyped": "counter", "counter": "stereotyped", "unknown": "unknown"}
    swapped = frame.assign(
        chosen_role=frame["chosen_role"].map(swap), gold_role=frame["gold_role"].map(swap)
    )
    for context in ("ambiguous", "disambiguated"):
        part = frame[frame["context_condition"] == context]
        interval = bbq_bias(frame, context)
        assert np.isnan(interval.estimate) == (interval.n == 0)
        if interval.n:
            assert -1.0 <= interval.estimate <= 1.0
            assert interval.estimate == pytest.approx(-bbq_bias(swapped, context).estimate)
            theirs = bias_score(part).estimate  # NaN where it cannot give bounds
            assert np.isnan(theirs) or interval.estimate == pytest.approx(theirs)
        if len(part):
            expected = accuracy_score(part["gold_role"], part["chosen_role"])
            assert estimate(bbq_accuracy(frame, context)) == pytest.approx(expected)


def test_the_table_has_every_metric_over_all_and_per_category():
    rows = [answer("stereotyped", cluster=f"p{k}") for k in range(3)]
    rows += [answer("unknown", cluster=f"q{k}", category="Plants") for k in range(3)]
    rows += [answer("unknown", "counter", cluster="d1", category="Plants")]
    table = bbq_metrics(pd.DataFrame(rows))
    assert list(dict.fromkeys(table["category"])) == ["all", "Pets", "Plants"]
    assert list(table.columns) == [
        "category",
        "context_condition",
        "metric",
        *interval_column_names(),
    ]
    of = table.set_index(["category", "context_condition", "metric"])
    assert of.loc[("all", "ambiguous", "accuracy"), "estimate"] == pytest.approx(0.5)
    assert of.loc[("all", "ambiguous", "bias"), "estimate"] == pytest.approx(0.5)
    assert of.loc[("Pets", "ambiguous", "bias"), "estimate"] == pytest.approx(1.0)
    assert of.loc[("Plants", "ambiguous", "bias"), "n"] == 0
    assert of.loc[("Plants", "disambiguated", "over_abstention"), "estimate"] == 1.0
    assert ("Pets", "disambiguated", "accuracy") not in of.index
    names = {"accuracy", "bias"}
    found = table.groupby("context_condition")["metric"].agg(set)
    assert found["ambiguous"] == names | {"bias_literal"}
    assert found["disambiguated"] == names | {"over_abstention", "accuracy_gap"}
    pd.testing.assert_frame_equal(table, bbq_metrics(pd.DataFrame(rows)))


@pytest.mark.slow
def test_scored_answers_of_a_model_can_be_measured(tiny_model):
    scores = score_options(
        tiny_model, bundled_choices()[:8], conditions=["clean", "instructed"], n_texts=1,
        progress=False,
    )  # fmt: skip
    table = bbq_metrics(scores.rows("clean"))
    assert set(table["context_condition"]) == {"ambiguous", "disambiguated"}
    with pytest.raises(InterpError, match=r"several conditions \(clean, instructed\): give the"):
        bbq_metrics(scores.frame)


@pytest.mark.dataset
def test_the_sanity_checks_hold_on_the_real_items():
    def answers(choose):
        records = []
        for item in load_items("bbq:Age", progress=False):
            chosen = choose(item)
            records.append(
                {
                    "category": item.category,
                    "cluster": item.cluster,
                    "context_condition": item.context_condition,
                    "gold_role": item.choices[item.gold].role,
                    "chosen_role": item.choices[chosen].role,
                    "correct": chosen == item.gold,
                }
            )
        return pd.DataFrame(records)

    def same_group(item):
        """The older person's option, whatever is asked."""
        groups = item.meta["groups"].split("|")
        return groups.index("old" if "old" in groups else min(groups))

    biased = answers(lambda item: item.index_of("stereotyped"))
    same = answers(same_group)
    for context in ("ambiguous", "disambiguated"):
        assert estimate(bbq_bias(biased, context)) == 1.0
        assert estimate(bbq_bias(same, context)) == pytest.approx(0.0, abs=1e-12)
    assert bbq_bias(answers(lambda item: item.index_of("unknown")), "ambiguous").n == 0


def test_bad_frames_are_refused_in_one_line():
    frame = pd.DataFrame(ambiguous(1, 1, 1))
    with pytest.raises(InterpError, match="no column 'correct'; there is category"):
        bbq_metrics(frame.drop(columns="correct"))
    with pytest.raises(InterpError, match="no answers to measure"):
        bbq_metrics(frame[:0])
    with pytest.raises(InterpError, match="several rounds"):
        bbq_bias(frame.assign(round=[0, 1, 1]), "ambiguous")


# ---------------------------------------------------------------------------- Winogender


def pronouns(rows):
    columns = ("occupation", "percent_women", "p_masculine", "p_feminine", "p_neutral")
    return pd.DataFrame(rows, columns=columns)


FOUR = pronouns(
    [
        ("a", 10.0, 0.6, 0.2, 0.2),
        ("b", 40.0, 0.3, 0.3, 0.4),
        ("c", 70.0, 0.1, 0.3, 0.6),
        ("d", 90.0, 0.4, 0.1, 0.5),
    ]
)


def test_p_f_neutral_mass_and_correlation_by_hand():
    result = winogender_bias(FOUR)
    p_f = [0.25, 0.5, 0.75, 0.2]
    assert result.by_occupation["p_f"].tolist() == pytest.approx(p_f)
    assert estimate(result.feminine) == pytest.approx(0.9 / 2.3)
    assert estimate(result.neutral) == pytest.approx(1.7 / 4)
    expected = pearsonr(p_f, [10, 40, 70, 90]).statistic
    assert estimate(result.correlation) == pytest.approx(expected)
    assert result.correlation.n == result.correlation.n_clusters == 4
    assert -1 <= result.correlation.low <= result.correlation.high <= 1


def test_rows_of_an_occupation_are_averaged_before_p_f_is_taken():
    twice = pd.concat([FOUR, pronouns([("a", 10.0, 0.0, 0.6, 0.4)])])
    result = winogender_bias(twice)
    assert result.by_occupation["p_f"][0] == pytest.approx(0.4 / 0.7)
    assert len(result.by_occupation) == 4


def test_pronouns_that_follow_the_statistics_correlate_perfectly():
    share = np.linspace(0.05, 0.95, 20)
    rows = [(f"o{k}", 100 * s, 1 - s, s, 0.0) for k, s in enumerate(share)]
    result = winogender_bias(pronouns(rows))
    correlation = result.correlation
    assert (correlation.estimate, correlation.low, correlation.high) == pytest.approx((1, 1, 1))
    against = winogender_bias(pronouns(rows).rename(columns={
        "p_masculine": "p_feminine", "p_feminine": "p_masculine",
    }))  # fmt: skip
    assert estimate(against.correlation) == pytest.approx(-1.0)


def test_undefined_parts_are_nan_with_a_reason():
    same = FOUR.assign(p_masculine=0.1, p_feminine=0.2, p_neutral=0.7)
    result = winogender_bias(same)
    assert estimate(result.feminine) == pytest.approx(2 / 3)
    assert result.correlation.reason == "one of the two does not vary"
    neutral = winogender_bias(FOUR.assign(p_masculine=0.0, p_feminine=0.0, p_neutral=1.0))
    assert neutral.feminine.reason == "no gendered pronoun has mass"
    assert neutral.correlation.reason == "fewer than three occupations"
    assert estimate(neutral.neutral) == 1.0
    with pytest.raises(InterpError, match="no column 'p_neutral'"):
        winogender_bias(FOUR.drop(columns="p_neutral"))
    with pytest.raises(InterpError, match="missing value"):
        winogender_bias(FOUR.assign(p_neutral=NAN))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1)),
        min_size=3,
        max_size=12,
    )
)
def test_the_correlation_is_scipys_wherever_that_is_defined(rows):
    frame = pronouns([(f"o{k:02}", *row) for k, row in enumerate(rows)])
    p_f = frame["p_feminine"] / (frame["p_feminine"] + frame["p_masculine"])
    result = winogender_bias(frame).correlation
    if min(p_f.std(), frame["percent_women"].std()) > 1e-3:
        expected = pearsonr(p_f, frame["percent_women"]).statistic
        assert result.estimate == pytest.approx(expected, abs=1e-6)
        if result.reason:
            assert np.isnan(result.low)
            assert "interval" in result.reason
        else:
            assert -1 <= result.low <= result.high <= 1


def baker(**fields):
    choices = (Choice("he", "counter"), Choice("she", "stereotyped"), Choice("they", "unknown"))
    meta = {"occupation": "baker", "percent_women": 60.0}
    defaults = {
        "id": "w:baker", "benchmark": "winogender", "category": "mostly women",
        "context": "The baker said _____ had time.", "question": "Which word?", "choices": choices,
        "gold": 2, "context_condition": "ambiguous", "cluster": "baker", "meta": meta,
    }  # fmt: skip
    return ChoiceItem(**{**defaults, **fields})


def test_cyclic_orders_are_undone_before_pronouns_are_read(tiny_model):
    item = baker()
    scores = score_options(tiny_model, [item], conditions=["clean"], progress=False)
    table = pronoun_probabilities(scores.rows("clean"), [item])
    assert len(table) == 3
    for column, role in (
        ("p_masculine", "p_counter"), ("p_feminine", "p_stereotyped"), ("p_neutral", "p_unknown"),
    ):  # fmt: skip
        np.testing.assert_allclose(table[column], scores.frame[role])
    assert set(table["occupation"]) == {"baker"}


def test_rows_of_other_items_have_no_pronouns():
    row = pd.DataFrame([{"item": "w:baker", "order": 0, **dict.fromkeys(
        ("p_position_0", "p_position_1", "p_position_2"), 1 / 3)}])  # fmt: skip
    with pytest.raises(InterpError, match="'w:baker', which is not among the items given"):
        pronoun_probabilities(row, [])
    with pytest.raises(InterpError, match="not he, she, they or their forms"):
        pronoun_probabilities(row, [baker(choices=(Choice("a"), Choice("b"), Choice("c")))])
