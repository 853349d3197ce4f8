"""Tables of trajectories from hand-made rows: every expected number can be worked out on paper."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest

from interp.behaviour import round_tables as tables
from interp.behaviour import rounds_frame, run_rounds, study_protocol
from interp.data.bundle import bundled_choices, bundled_completions
from interp.errors import InterpError
from interp.stats import cluster_mean, effect, max_t_of_effects

NAN = float("nan")


def said(item="i1", condition="instructed", number=0, slot=0, order=0, sample=0, **values):
    """What every row of a trajectory has."""
    return {
        "item": item, "benchmark": "b", "category": "c", "cluster": item,
        "context_condition": "ambiguous", "condition": condition, "text_id": f"{condition}-{slot}",
        "slot": slot, "control_of": "instructed" if condition == "placebo" else "", "order": order,
        "sample": sample, "round": number, **values,
    }  # fmt: skip


def answer(*place, correct=1.0, margin=0.0, p_chosen=0.6, **values):
    """An answered round of a choice item."""
    rest = {"p_unknown": 0.5, "p_gold": 0.4, "entropy": 1.0, "gold_role": "unknown"} | values
    return said(*place, correct=correct, margin=margin, p_chosen=p_chosen, **rest)


def completion(text, *place, **values):
    return said(*place, completion=text, context_condition="", **values)


def value(table, *, column="estimate", **where):
    """The one number of a table at these labels."""
    chosen = table.loc[np.logical_and.reduce([table[k] == v for k, v in where.items()])]
    assert len(chosen) == 1, f"{len(chosen)} rows at {where}"
    return chosen[column].iloc[0]


def frame_of(margins, *, items=("i1", "i2", "i3"), **values):
    """``margins[condition][slot]`` is the margin of every round, the same for every item."""
    return pd.DataFrame(
        [
            answer(item, condition, number, slot, margin=margin, **values)
            for condition, texts in margins.items()
            for slot, rounds in enumerate(texts)
            for number, margin in enumerate(rounds)
            for item in items
        ]
    )


def test_frames_of_real_rounds_give_every_table(tiny_model):
    protocol = study_protocol("bbq")
    histories = run_rounds(tiny_model, bundled_choices()[:2], protocol, 2, orders=[0])
    frame = rounds_frame(histories)
    table = tables.by_round(frame, seed=0)
    assert set(table["round"]) == {0, 1, 2}
    every = table[(table["items"] == "all") & (table["round"] == 2)].set_index("measure")
    assert every.loc["accuracy", "estimate"] == frame[frame["round"] == 2]["correct"].mean()
    assert every.loc["entropy", "n"] == 2
    assert set(tables.flips_by_round(frame, seed=0)["round"]) == {1, 2}
    assert tables.effects_by_round(frame, seed=0).empty  # no control was run


# ---------------------------------------------------------------------------- levels


def test_a_round_is_averaged_over_orders_and_texts_within_an_item_first():
    rows = [answer("i1", "instructed", 1, 0, order, margin=m) for order, m in ((0, 1.0), (1, 3.0))]
    rows += [
        answer("i1", "instructed", 1, 1, margin=5.0),
        answer("i2", "instructed", 1, margin=7.0),
    ]
    table = tables.by_round(pd.DataFrame(rows), seed=0)
    where = {"items": "all", "round": 1}
    assert value(table, measure="margin", **where) == pytest.approx((3.0 + 7.0) / 2)
    assert value(table, measure="margin", column="n", **where) == 2
    assert set(table["items"]) == {"all", "ambiguous"}


def test_answers_that_could_not_be_read_count_in_parsed_alone():
    rows = [answer("i1", "instructed", 1, 0, k, correct=x) for k, x in enumerate((1.0, NAN, 0.0))]
    rows += [answer("i2", "instructed", 1, correct=NAN, p_chosen=NAN)]
    table = tables.by_round(pd.DataFrame(rows), seed=0)
    where = {"items": "all", "round": 1}
    assert value(table, measure="parsed", **where) == pytest.approx((2 / 3 + 0.0) / 2)
    assert value(table, measure="accuracy", **where) == pytest.approx(0.5)
    assert value(table, measure="accuracy", column="n", **where) == 1
    assert value(table, measure="parsed", column="n", **where) == 2


def test_generated_answers_have_no_readings_of_scores_and_say_so():
    rows = [said("i1", "instructed", 1, correct=1.0, gold_role="unknown")]
    table = tables.by_round(pd.DataFrame(rows), seed=0).query("items == 'all'")
    readings = table.set_index("measure")
    for measure in ("margin", "p_unknown", "entropy", "ece"):
        assert np.isnan(readings.loc[measure, "estimate"])
        assert readings.loc[measure, "reason"]
    assert readings.loc["accuracy", "estimate"] == 1.0


def test_the_calibration_error_of_a_round_by_hand():
    # bins (.5, .6]: sure .6, right 1 of 2; (.8, .9]: sure .9, right 1 of 1
    answers = ((0.6, 1.0), (0.6, 0.0), (0.9, 1.0))
    rows = [answer(f"i{k}", "instructed", 1, p_chosen=p, correct=c)
            for k, (p, c) in enumerate(answers)]  # fmt: skip
    table = tables.by_round(pd.DataFrame(rows), seed=0)
    error = (2 * abs(0.5 - 0.6) + abs(1.0 - 0.9)) / 3
    assert value(table, items="all", measure="ece") < error  # less that of calibrated answers
    assert value(table, items="all", measure="ece", column="n") == 3
    assert value(table, items="all", measure="ece", column="p_raw") > 0.05


def test_an_interval_of_a_round_is_that_of_its_items_alone():
    random = np.random.default_rng(0)
    rows = [answer(f"i{k}", "instructed", r, margin=random.normal(), cluster=f"c{k // 2}")
            for k in range(20) for r in (0, 1)]  # fmt: skip
    frame = pd.DataFrame(rows)
    table = tables.by_round(frame, seed=4)
    first = frame[frame["round"] == 1]
    oracle = cluster_mean(first["margin"], first["cluster"])
    row = table.query("items == 'all' and round == 1 and measure == 'margin'").iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((oracle.low, oracle.high))


def test_a_frame_without_choice_items_gives_empty_tables_with_their_columns():
    frame = pd.DataFrame([completion("a b", number=k) for k in (0, 1)])
    for table in (tables.by_round(frame, seed=0), tables.flips_by_round(frame, seed=0)):
        assert table.empty
        assert {"items", "condition", "control_of", "round"} <= set(table)


# ---------------------------------------------------------------------------- effects


def test_effects_are_taken_round_by_round_and_round_0_has_no_test():
    frame = frame_of({"instructed": [(0.0, 2.0, 3.0), (0.0, 4.0, 5.0)],
                      "placebo": [(0.0, 1.0, 0.0), (0.0, 1.0, 2.0)]})  # fmt: skip
    table = tables.effects_by_round(frame, seed=0)
    margins = table.query("items == 'all' and measure == 'margin'").set_index("round")
    assert margins["estimate"].tolist() == pytest.approx([0.0, 2.0, 3.0])
    assert set(margins["against"] + margins["texts"]) == {"placebo2 x 2"}
    assert np.isnan(margins.loc[0, "p_corrected"])
    assert 0.0 < margins.loc[1, "p_corrected"] <= 1.0
    accuracy = table.query("items == 'all' and measure == 'accuracy'")
    assert accuracy["estimate"].tolist() == [0.0, 0.0, 0.0]


def test_effects_have_the_interval_and_p_of_the_statistics_they_name():
    random = np.random.default_rng(1)
    items, rows = [f"i{k:02d}" for k in range(12)], []
    values = random.normal(size=(2, 3, 2, 12))  # arm, round, text, item
    for (a, condition), r, slot, k in itertools.product(
        enumerate(("instructed", "placebo")), range(3), range(2), range(12)
    ):
        rows.append(answer(items[k], condition, r, slot, margin=values[a, r, slot, k],
                           cluster=f"c{k // 2}"))  # fmt: skip
    table = tables.effects_by_round(pd.DataFrame(rows), seed=2)
    table = table.query("items == 'all' and measure == 'margin'")
    clusters = [f"c{k // 2}" for k in range(12)]
    oracle = effect(*values, clusters)
    expected = np.stack([oracle.estimate, oracle.low, oracle.high, oracle.p], axis=1)
    assert np.allclose(table[["estimate", "low", "high", "p_raw"]], expected)
    labels = ("rounds", "instructed", "placebo")
    p = max_t_of_effects(*values[:, 1:], clusters, seed=2, labels=labels).p_corrected
    assert table["p_corrected"].tolist()[1:] == pytest.approx(p.tolist())


def test_equal_cost_compares_with_asking_again_without_an_instruction():
    frame = frame_of({"instructed": [(0.0, 2.0), (0.0, 4.0)], "placebo": [(0.0, 1.0)] * 2,
                      "specificity_0": [(0.0, 0.5)]})  # fmt: skip
    table = tables.effects_by_round(frame, seed=0)
    where = {"items": "all", "condition": "instructed", "round": 1, "measure": "margin"}
    assert value(table, against="specificity_0", **where) == pytest.approx(2.5)
    assert value(table, against="specificity_0", column="texts", **where) == "2 x 1"
    assert value(table, against="placebo", **where) == pytest.approx(2.0)
    assert set(table["condition"]) == {"instructed"}


def test_only_answers_that_both_sides_have_are_compared():
    rows = [
        answer("i1", "instructed", 1, 0, 0, correct=1.0),
        answer("i1", "instructed", 1, 0, 1, correct=0.0),
        answer("i1", "placebo", 1, 0, 0, correct=0.0),
        answer("i1", "placebo", 1, 0, 1, correct=NAN),
        answer("i2", "instructed", 1, correct=1.0),
        answer("i2", "placebo", 1, correct=1.0),
        answer("i3", "instructed", 1, correct=1.0),
    ]
    table = tables.effects_by_round(pd.DataFrame(rows), seed=0)
    where = {"items": "all", "measure": "accuracy"}
    assert value(table, **where) == pytest.approx((1.0 + 0.0) / 2)
    assert value(table, column="n", **where) == 2


def test_effects_that_are_undefined_are_rows_with_a_reason():
    frame = frame_of({"instructed": [(NAN, NAN)], "placebo": [(0.0, 0.0)]})
    table = tables.effects_by_round(frame, seed=0).query("items == 'all' and measure == 'margin'")
    assert table["round"].tolist() == [0, 1]
    assert table["estimate"].isna().all()
    assert set(table["reason"]) == {"no item has a margin in both"}
    single = frame_of({"instructed": [(0.0, 1.0)], "placebo": [(0.0, 0.0)]}, items=("i1",))
    row = (
        tables.effects_by_round(single, seed=0).query("measure == 'margin' and round == 1").iloc[0]
    )
    assert row["estimate"] == pytest.approx(1.0)
    assert row["reason"] == "a single cluster: no interval"
    assert np.isnan(row[["low", "p_raw", "p_corrected"]].astype(float)).all()


def test_any_column_can_be_compared():
    rows = [completion("a", f"i{k}", c, 1, toxicity=t)
            for k in range(3) for c, t in (("instructed", 0.2), ("placebo", 0.5))]  # fmt: skip
    table = tables.effects_by_round(pd.DataFrame(rows), measures={"toxicity": "toxicity"}, seed=0)
    assert table["items"].tolist() == ["all"]
    assert table["estimate"].tolist() == pytest.approx([-0.3])


# ---------------------------------------------------------------------------- flips


def test_flips_by_round_start_from_round_0_of_the_same_trajectory():
    told = {"i1": (1, 0, 1), "i2": (0, 1, 1), "i3": (0, 1, NAN), "i4": (0, 0, 0)}
    rows = [answer(i, "instructed", r, correct=float(c))
            for i, answers in told.items() for r, c in enumerate(answers)]  # fmt: skip
    table = tables.flips_by_round(pd.DataFrame(rows), seed=0).query("items == 'all'")
    columns = ["round", "right_right", "right_wrong", "wrong_right", "wrong_wrong", "net_n"]
    assert table[columns].to_numpy().tolist() == [[1, 0, 1, 2, 1, 4], [2, 1, 0, 1, 1, 3]]
    assert table["net"].tolist() == pytest.approx([0.25, 1 / 3])
    change = np.array([[[-1.0, 1.0, 1.0, 0.0]], [[0.0, 1.0, NAN, 0.0]]])
    labels = ("flips", "instructed", "")
    p = max_t_of_effects(change, 0 * change, list(told), seed=0, labels=labels).p_corrected
    assert table["p_corrected"].tolist() == pytest.approx(p.tolist())


def test_placebo_trajectories_flip_in_rows_of_their_own():
    frame = frame_of({"instructed": [(0.0, 0.0)] * 2, "placebo": [(0.0, 0.0)]})
    table = tables.flips_by_round(frame, seed=0).query("items == 'all'")
    assert table[["condition", "control_of", "net_n"]].to_numpy().tolist() == [
        ["instructed", "", 3],
        ["placebo", "instructed", 3],
    ]
    assert table["right_right"].tolist() == [6, 3]  # pairs of answers, where net counts items
    assert table["net_texts"].tolist() == ["2 x 1", "1 x 1"]
    assert table["p_corrected"].tolist() == [1.0, 1.0]
    unread = frame_of({"instructed": [(0.0, 0.0)]}, correct=NAN)
    row = tables.flips_by_round(unread, seed=0).iloc[0]
    assert (row["net_n"], row["net_reason"]) == (0, "no item was answered both before and after")


# ---------------------------------------------------------------------------- toxicity


def test_mean_toxicity_and_perplexity_by_hand():
    rows = [
        completion("x", "i1", "instructed", 1, 0, nll=1.0),
        completion("x", "i1", "instructed", 1, 1, nll=3.0),
        completion("", "i2", "instructed", 1, 0, nll=NAN),
        completion("x", "i3", "instructed", 1, 0, nll=1.0),
        completion("x", "i1", "placebo", 1, 0, nll=0.0),
    ]
    table = tables.toxicity(pd.DataFrame(rows), [0.2, 0.4, 0.0, 0.9, 0.5], scorer="judge")
    own = {"condition": "instructed", "round": 1}
    assert value(table, measure="mean", **own) == pytest.approx((0.3 + 0.0 + 0.9) / 3)
    assert value(table, measure="perplexity", **own) == pytest.approx(np.exp((2.0 + 1.0) / 2))
    assert value(table, measure="perplexity", column="n", **own) == 2
    assert value(table, measure="empty", **own) == pytest.approx(1 / 3)
    assert value(table, measure="empty", condition="placebo") == 0.0
    assert value(table, condition="placebo", measure="mean") == pytest.approx(0.5)
    assert value(table, condition="placebo", measure="mean", column="control_of") == "instructed"
    assert set(table["scorer"]) == {"judge"}
    assert "expected_maximum" not in set(table["measure"])


def test_the_expected_maximum_takes_the_highest_of_ten_samples_of_each_text():
    highest = {("i1", 0): 0.9, ("i1", 1): 0.5, ("i2", 0): 0.3, ("i2", 1): 0.1}
    rows, scores = [], []
    for ((item, slot), top), k in itertools.product(highest.items(), range(10)):
        rows.append(completion("x", item, "instructed", 1, slot, sample=k))
        scores.append(top if k == 3 else 0.0)
    frame = pd.DataFrame(rows)
    table = tables.toxicity(frame, scores, scorer="judge")
    assert value(table, measure="expected_maximum") == pytest.approx((0.7 + 0.2) / 2)
    assert value(table, measure="mean") == pytest.approx((0.07 + 0.02) / 2)
    assert set(table["samples"]) == {10}
    few = (frame["sample"] < 9).to_numpy()
    table = tables.toxicity(frame[few], np.array(scores)[few], scorer="judge")
    assert np.isnan(value(table, measure="expected_maximum"))
    reason = value(table, measure="expected_maximum", column="reason")
    assert reason == "9 samples per prompt: the maximum needs at least 10"


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [([0.1, 0.2], "scores for 1 completions"), ([NAN], "missing or not in"), ([1.5], "missing or")],
)
def test_scores_that_do_not_fit_are_refused(scores, complaint):
    with pytest.raises(InterpError, match=complaint):
        tables.toxicity(pd.DataFrame([completion("x")]), scores, scorer="judge")


# ---------------------------------------------------------------------------- edits


class ByLetter(dict):
    """The ids of any text: a token per letter."""

    def __missing__(self, text):
        return [ord(letter) for letter in text]


def test_edits_compare_a_round_with_the_one_before_it():
    told = {"i1": ("abcd", "abcdef", "abcdef"), "i2": ("abcd", "wxyz", "w")}
    rows = [completion(text, item, "instructed", r)
            for item, texts in told.items() for r, text in enumerate(texts)]  # fmt: skip
    rows += [completion("abcd", "i1", "placebo", r) for r in range(3)]
    rows += [answer("i9", "instructed", r) for r in range(3)]
    table = tables.edits(pd.DataFrame(rows), ByLetter())
    own = {"condition": "instructed", "round": 1}
    assert value(table, measure="kept_prefix", **own) == pytest.approx(0.5)
    assert value(table, measure="appended", **own) == pytest.approx((2 / 6 + 0.0) / 2)
    assert value(table, measure="rewritten", **own) == pytest.approx(0.5)
    assert value(table, measure="kind_appended", **own) == 0.5
    assert value(table, measure="kind_replaced", **own) == 0.5
    later = {"condition": "instructed", "round": 2}
    assert value(table, measure="kept_tokens", **later) == pytest.approx((1.0 + 0.25) / 2)
    assert value(table, measure="kind_unchanged", **later) == 0.5
    assert value(table, measure="kind_shortened", **later) == 0.5
    kept = {"condition": "placebo", "control_of": "instructed", "measure": "kind_unchanged"}
    assert value(table, round=1, **kept) == 1.0
    kinds = table[table["measure"].str.startswith("kind_")]
    assert kinds.groupby(["condition", "round"])["estimate"].sum().tolist() == [1.0] * 4


def test_texts_and_samples_of_an_item_are_trajectories_of_their_own():
    rows = [
        completion(text, "i1", "instructed", r, slot, sample=sample)
        for (slot, sample), texts in {(0, 0): ("ab", "ab"), (0, 1): ("ab", "cd"),
                                      (1, 0): ("ab", "abcd"), (1, 1): ("ab", "ab")}.items()
        for r, text in enumerate(texts)
    ]  # fmt: skip
    table = tables.edits(pd.DataFrame(rows), ByLetter())
    assert value(table, measure="kept_tokens") == pytest.approx(3 / 4)
    assert value(table, measure="kept_tokens", column="n") == 1
    assert value(table, measure="kept_tokens", column="reason") == "a single cluster: no interval"


def test_what_follows_an_empty_completion_has_a_kind_but_no_shares():
    rows = [completion(text, "i1", "instructed", r) for r, text in enumerate(("", "ab"))]
    table = tables.edits(pd.DataFrame(rows), ByLetter())
    assert np.isnan(value(table, measure="kept_tokens"))
    assert value(table, measure="kind_replaced") == 1.0
    assert tables.edits(frame_of({"instructed": [(0.0,)]}), ByLetter()).empty


@pytest.mark.slow
def test_edits_of_real_completions(tiny_model):
    protocol = study_protocol("rtp")
    items = bundled_completions()[:2]
    frame = rounds_frame(run_rounds(tiny_model, items, protocol, 1))
    tokenizer = tiny_model.tokenizer
    ids = {text: tokenizer(text)["input_ids"] for text in frame["completion"]}
    table = tables.edits(frame, ids)
    assert set(table["round"]) == {1}
    assert len(table) == 9


@pytest.mark.slow
def test_a_run_of_ordinary_size_takes_seconds():
    random = np.random.default_rng(0)
    rows = [
        answer(f"i{k}", condition, r, slot, order, margin=random.normal(), cluster=f"c{k // 2}",
               correct=float(random.random() < 0.5), p_chosen=random.uniform(0.3, 1.0))
        for condition, k, slot, order, r in itertools.product(
            ("instructed", "placebo"), range(100), range(2), range(3), range(6)
        )
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    start = time.perf_counter()
    for table in (tables.by_round, tables.effects_by_round, tables.flips_by_round):
        table(frame, seed=0)
    assert time.perf_counter() - start < 30
