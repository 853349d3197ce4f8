"""Tables of single prompts from hand-made rows: every expected number can be worked out on paper."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest

from interp.behaviour import OptionScores, calibration, score_options
from interp.behaviour import prompt_tables as tables
from interp.data.bundle import bundled_choices
from interp.data.items import Choice, ChoiceItem
from interp.models import ModelCard
from interp.stats import effect

NAN = float("nan")
ROLES = ("unknown", "stereotyped", "counter")
CARD = ModelCard(
    name="hand-made", source="", quantisation="none", weights_sha256=None, licence=None,
    fingerprint="0", architecture="Tiny", mode="raw", dtype="float32", device="cpu", n_layers=1,
    n_heads=1, n_key_value_heads=1, d_model=1, d_head=1, d_mlp=1, d_vocab=2, n_ctx=8, n_params=1,
    chat_template=True, versions={}, checks=(),
)  # fmt: skip


def prompt(item="i1", condition="clean", slot=0, order=0, *, chosen="unknown", gold="unknown",
           p=(0.5, 0.3, 0.2), control_of=None, **values):  # fmt: skip
    """One scored prompt: ``p`` are the options' scores in the order listed, roles as in ROLES."""
    if control_of is None:
        control_of = "instructed" if condition == "placebo" else ""
    return {
        "item": item, "benchmark": "b", "category": "c", "cluster": item,
        "context_condition": "ambiguous" if gold == "unknown" else "disambiguated",
        "condition": condition, "text_id": f"{condition}-{slot}", "slot": slot,
        "control_of": control_of, "order": order, "instruction_tokens": 5, "prompt_tokens": 50,
        "mismatch": 0.0 if condition == "placebo" else NAN, "margin": 0.0, "option_margin": 0.0,
        "p_gold": p[ROLES.index(gold)], "gold_rank": 1 + ROLES.index(gold),
        "correct": chosen == gold, "chosen_role": chosen, "gold_role": gold,
        "chosen_position": ROLES.index(chosen),
        **{f"p_{role}": score for role, score in zip(ROLES, p, strict=True)},
        **{f"p_position_{k}": score for k, score in enumerate(p)},
        **{f"letter_{x}": score for x, score in zip("abc", (0.6, 0.3, 0.1), strict=True)},
        **({"option_margin": values["margin"]} if "margin" in values else {}),
        **values,
    }  # fmt: skip


def scores_of(rows):
    return OptionScores(pd.DataFrame(rows), CARD)


def value(table, *, column="estimate", **where):
    """The one number of a table at these labels."""
    chosen = table.loc[np.logical_and.reduce([table[k] == v for k, v in where.items()])]
    assert len(chosen) == 1, f"{len(chosen)} rows at {where}"
    return chosen[column].iloc[0]


def three_arms(items=("i1", "i2"), texts=2, orders=2, **values):
    """Margins: clean 0, instructed 2 + text, its placebos 1, negated -3 without placebos."""
    arms = {("clean", ""): 1, ("instructed", ""): texts, ("placebo", "instructed"): texts,
            ("negated", ""): 1}  # fmt: skip
    margin = {"clean": 0.0, "instructed": 2.0, "placebo": 1.0, "negated": -3.0}
    return [
        prompt(item, condition, slot, order, control_of=control_of,
               margin=margin[condition] + (slot if condition == "instructed" else 0), **values)
        for item, ((condition, control_of), n) in itertools.product(items, arms.items())
        for slot, order in itertools.product(range(n), range(orders))
    ]  # fmt: skip


def test_hand_made_prompts_have_the_columns_of_scored_ones(tiny_model):
    scored = score_options(tiny_model, bundled_choices()[:1], conditions=["clean"], progress=False)
    assert set(prompt()) <= set(scored.frame.columns)
    assert set(tables.levels(scored, seed=0)["items"]) == {"all", "ambiguous"}


# ---------------------------------------------------------------------------- levels


def test_levels_average_orders_and_texts_within_items_before_items():
    rows = [
        *(prompt("i1", margin=m, order=k) for k, m in enumerate((1.0, 3.0, 5.0))),
        prompt("i2", margin=9.0, chosen="counter", p=(0.25, 0.25, 0.5)),
    ]
    table = tables.levels(scores_of(rows), seed=0)
    assert value(table, items="all", measure="margin") == pytest.approx((3.0 + 9.0) / 2)
    assert value(table, items="all", measure="accuracy") == pytest.approx(0.5)
    assert value(table, items="ambiguous", measure="p_unknown") == pytest.approx(0.375)
    entropy = [-sum(x * np.log(x) for x in p) for p in ((0.5, 0.3, 0.2), (0.25, 0.25, 0.5))]
    assert value(table, items="all", measure="entropy") == pytest.approx(np.mean(entropy))
    # chosen with .5 throughout: three of four answers are right, an error of .25 or less by chance
    assert value(table, items="all", measure="ece") < 0.25
    assert value(table, items="all", measure="ece", column="p_raw") > 0.05
    assert value(table, items="all", measure="ece", column="n") == 4
    assert value(table, items="all", measure="margin", column="n") == 2


def test_arms_are_read_apart_and_placebos_by_what_they_control():
    rows = three_arms() + [
        prompt(i, "placebo", 0, order, control_of="negated", margin=7.0)
        for i, order in itertools.product(("i1", "i2"), (0, 1))
    ]
    table = tables.levels(scores_of(rows), seed=0)
    margins = table[(table["measure"] == "margin") & (table["items"] == "all")]
    assert margins.set_index(["condition", "control_of"])["estimate"].to_dict() == {
        ("clean", ""): 0.0, ("instructed", ""): 2.5, ("placebo", "instructed"): 1.0,
        ("negated", ""): -3.0, ("placebo", "negated"): 7.0,
    }  # fmt: skip


def bias_rows():
    """Ambiguous: 2 unknown, 3 stereotyped, 1 counter. Disambiguated: see the test."""
    ambiguous = ["unknown"] * 2 + ["stereotyped"] * 3 + ["counter"]
    rows = [prompt(f"a{k}", chosen=role) for k, role in enumerate(ambiguous)]
    answers = [("stereotyped", "stereotyped")] * 3 + [("counter", "stereotyped"),
               ("counter", "unknown")]  # fmt: skip
    return rows + [prompt(f"d{k}", gold=g, chosen=c) for k, (g, c) in enumerate(answers)]


def test_bias_is_of_one_context_condition_with_both_readings_where_they_differ():
    table = tables.levels(scores_of(bias_rows()), seed=0)
    wrong, s_ambiguous, s_disambiguated = 4 / 6, 2 * 3 / 4 - 1, 2 * 4 / 4 - 1
    bias = {(r.items, r.measure): r.estimate for r in table.itertuples() if r.measure in (
        "bias_official", "bias_literal", "over_abstention", "accuracy_gap")}  # fmt: skip
    assert bias == pytest.approx(
        {
            ("ambiguous", "bias_official"): wrong * s_ambiguous,
            ("ambiguous", "bias_literal"): wrong * s_disambiguated,
            ("disambiguated", "bias_official"): s_disambiguated,
            ("disambiguated", "over_abstention"): 1 / 5,
            ("disambiguated", "accuracy_gap"): 1.0 - 0.0,
        }
    )


def test_undefined_levels_are_nan_with_a_reason():
    rows = [prompt(f"i{k}", margin=NAN, chosen="unknown") for k in range(2)]
    table = tables.levels(scores_of(rows), seed=0)
    for measure in ("margin", "bias_official", "bias_literal"):
        where = {"items": "ambiguous", "measure": measure}
        assert np.isnan(value(table, **where))
        assert value(table, column="reason", **where)


def test_a_single_cluster_has_estimates_without_bounds():
    rows = [prompt(f"i{k}", cluster="only", margin=float(k), chosen=("unknown", "counter")[k])
            for k in range(2)]  # fmt: skip
    table = tables.levels(scores_of(rows), seed=0)
    assert value(table, items="all", measure="margin") == pytest.approx(0.5)
    assert np.isnan(value(table, items="all", measure="margin", column="low"))
    assert np.isnan(value(table, items="all", measure="ece", column="low"))


def test_an_item_with_an_undefined_prompt_leaves_the_arm():
    rows = [prompt("i1", margin=1.0), prompt("i2", margin=5.0), prompt("i2", order=1, margin=NAN)]
    table = tables.levels(scores_of(rows), seed=0)
    assert value(table, items="all", measure="margin") == pytest.approx(1.0)
    assert value(table, items="all", measure="margin", column="n") == 1


def test_only_subsets_that_are_there_have_rows():
    assert set(tables.levels(scores_of([prompt()]), seed=0)["items"]) == {"all", "ambiguous"}
    disambiguated = tables.levels(scores_of([prompt(gold="counter")]), seed=0)
    assert set(disambiguated["items"]) == {"all", "disambiguated"}


def test_shares_of_one_and_of_zero_have_the_exact_interval():
    from scipy.stats import beta

    rows = [prompt(f"i{k}", chosen="unknown") for k in range(5)]
    table = tables.levels(scores_of(rows), seed=0)
    assert value(table, items="all", measure="accuracy") == 1.0
    low = value(table, items="all", measure="accuracy", column="low")
    assert low == pytest.approx(beta.ppf(0.025, 5, 1), abs=1e-3)
    # a rank of 1 throughout is no share: its bounds are a point
    assert value(table, items="all", measure="gold_rank", column="low") == 1.0


# ---------------------------------------------------------------------------- effects


def test_effects_are_those_of_the_scores_with_their_conditions_and_all_items():
    scores = scores_of(three_arms(orders=1) + three_arms(("d1", "d2"), orders=1, gold="counter"))
    table = tables.effects(scores)
    assert set(table["items"]) == {"all", "ambiguous", "disambiguated"}
    assert list(dict.fromkeys(table["metric"])) == ["option_margin", "margin", "p_gold"]
    table = table[table["metric"] == "option_margin"]
    ambiguous = table[table["items"] == "ambiguous"].set_index("contrast")
    assert ambiguous["estimate"].to_dict() == pytest.approx(
        {"instructed - placebo": 1.5, "instructed - clean": 2.5, "negated - clean": -3.0,
         "placebo - clean": 1.0}
    )  # fmt: skip
    assert ambiguous.loc["negated - clean", ["condition", "against"]].tolist() == [
        "negated", "clean",
    ]  # fmt: skip
    whole = table[table["items"] == "all"].set_index("contrast").loc["instructed - placebo"]
    arms = [np.full((2, 4), 0.0) + np.array(x)[:, None] for x in ((2.0, 3.0), (1.0, 1.0))]
    oracle = effect(*arms, ["d1", "d2", "i1", "i2"])
    assert (whole["estimate"], whole["low"], whole["high"]) == (
        oracle.estimate, oracle.low, oracle.high,
    )  # fmt: skip
    assert whole["texts"] == "2 x 2"


def test_data_sets_are_rows_of_their_own():
    rows = three_arms() + three_arms(("x1", "x2"), benchmark="other")
    table = tables.effects(scores_of(rows))
    assert set(table["items"]) == {"b, ambiguous", "other, ambiguous"}
    levels = tables.levels(scores_of(rows), seed=0)
    assert "bias_official" in set(levels.loc[levels["items"] == "b, ambiguous", "measure"])


def test_an_effect_that_cannot_be_taken_is_a_row_with_its_reason():
    rows = [*three_arms(), prompt("i9", "instructed"), prompt("i9", "placebo")]
    table = tables.effects(scores_of(rows))
    row = table[(table["contrast"] == "instructed - clean") & (table["items"] == "all")].iloc[0]
    assert np.isnan(row["estimate"])
    assert "different items" in row["reason"]
    single = tables.effects(scores_of(three_arms(("i1",))))
    assert set(single["reason"]) == {"a single cluster: no interval"}
    assert single["estimate"].notna().all()
    assert tables.effects(scores_of([prompt()])).empty


# ---------------------------------------------------------------------------- rank


def rank_rows():
    """Ranks before: i1 first, i2 second (i3 second); gains on order 1: 4, 1 and 3."""
    rows = []
    for item, gold_rank, gain in (("i1", 1, 4.0), ("i2", 2, 1.0), ("i3", 2, 3.0)):
        rows += [prompt(item, gold_rank=gold_rank), prompt(item, order=1, gold_rank=3)]
        for condition, margin in (("instructed", gain), ("placebo", 0.0)):
            rows += [prompt(item, condition, order=0, margin=99.0)]
            chosen = "counter" if item == "i3" else "unknown"
            rows += [prompt(item, condition, order=1, margin=margin, chosen=chosen)]
    return rows


def test_gain_by_rank_is_read_on_the_other_orders_and_ranks_without_items_are_named():
    table = tables.rank_gain(scores_of(rank_rows()))
    assert set(table["items"]) == {"all", "ambiguous"}
    assert set(table["condition"] + table["against"]) == {"instructedplacebo"}
    every = table[table["items"] == "all"]
    found = {(r.rank, r.measure): r.estimate for r in every.itertuples()}
    assert found["1", "gain"] == pytest.approx(4.0)
    assert found["2", "gain"] == pytest.approx(2.0)
    assert found["2", "correct"] == pytest.approx(0.5)
    assert found["top - rest", "gain"] == pytest.approx(2.0)
    assert found["top - rest", "gain_margin"] == pytest.approx(2.0)
    third = every[every["rank"] == "3"]
    assert third["estimate"].isna().all()
    assert set(third["reason"]) == {"gold had this rank on no item"}
    assert len(every) == 3 * 3 + 2


def test_a_subset_without_gains_gives_rows_with_the_reason():
    rows = rank_rows() + [prompt("d1", c, order=k, gold="counter", margin=NAN)
                          for c in ("clean", "instructed", "placebo") for k in (0, 1)]  # fmt: skip
    table = tables.rank_gain(scores_of(rows))
    empty = table[table["items"] == "disambiguated"]
    assert len(empty) == 11
    assert empty["estimate"].isna().all()
    assert set(empty["reason"]) == {"no item has both a rank before and a gain on its other orders"}
    assert tables.rank_gain(scores_of([prompt(), prompt(condition="negated")])).empty


# ---------------------------------------------------------------------------- flips


def flip_rows(n=6):
    """Right before on even items; text 0 spoils item 0, text 1 mends all odd ones."""
    rows = []
    for k in range(n):
        before = k % 2 == 0
        rows += [prompt(f"i{k}", chosen="unknown" if before else "counter", cluster=f"c{k // 2}")]
        rows += [prompt(f"i{k}", order=1, chosen="counter", cluster=f"c{k // 2}")]
        for slot, right in ((0, before and k > 0), (1, True)):
            rows += [prompt(f"i{k}", "instructed", slot, cluster=f"c{k // 2}",
                            chosen="unknown" if right else "counter")]  # fmt: skip
    return rows


def test_flips_count_every_text_against_the_clean_prompt_of_its_item():
    row = tables.flips(scores_of(flip_rows())).query("items == 'all'").iloc[0]
    counts = row[["right_right", "right_wrong", "wrong_right", "wrong_wrong"]].tolist()
    assert counts == [5, 1, 3, 3]
    assert row["net"] == pytest.approx(2 / 12)
    assert (row["net_n"], row["net_n_clusters"], row["net_texts"]) == (6, 3, "2 x 1")
    assert row["net_low"] <= row["net"] <= row["net_high"]


def test_the_net_change_is_an_effect_against_the_clean_prompt():
    row = tables.flips(scores_of(flip_rows())).query("items == 'all'").iloc[0]
    after = [[0.0, 0.0, 1.0, 0.0, 1.0, 0.0], [1.0] * 6]
    before = [[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]]
    oracle = effect(after, before, ["c0", "c0", "c1", "c1", "c2", "c2"])
    assert (row["net"], row["net_low"], row["net_p_raw"]) == (oracle.estimate, oracle.low, oracle.p)


def test_an_arm_without_a_clean_prompt_beside_it_has_no_flips():
    table = tables.flips(scores_of([prompt(condition="instructed")]))
    assert table["net"].isna().all()
    assert table["net_n"].tolist() == [0, 0]
    assert set(table["net_reason"]) == {"no item was answered both before and after"}
    one = tables.flips(scores_of([prompt(), prompt(condition="instructed")])).iloc[0]
    assert (one["net"], one["right_right"]) == (0.0, 1)
    assert np.isnan(one["net_p_raw"])


# ---------------------------------------------------------------------------- categories, letters


def test_categories_compare_each_condition_with_its_own_placebos():
    rows = three_arms(("i1", "i2"), category="Work") + three_arms(("i3",), category="Home")
    rows += [prompt(i, "placebo", 0, o, control_of="negated", margin=0.0, chosen="counter",
                    category="Home" if i == "i3" else "Work")
             for i in ("i1", "i2", "i3") for o in (0, 1)]  # fmt: skip
    table = tables.categories(scores_of(rows))
    assert list(dict.fromkeys(table["category"])) == ["all", "Work", "Home"]
    where = {"category": "Work", "items": "all"}
    assert value(table, condition="instructed", measure="effect", **where) == pytest.approx(1.5)
    assert value(table, condition="negated", measure="effect", **where) == pytest.approx(-3.0)
    placebo = {"measure": "accuracy_placebo", **where}
    assert value(table, condition="instructed", **placebo) == 1.0
    assert value(table, condition="negated", **placebo) == 0.0
    assert value(table, condition="negated", measure="accuracy_clean", **where) == 1.0
    single = table[(table["category"] == "Home") & (table["measure"] == "effect")]
    assert set(single["reason"]) == {"a single cluster: no interval"}


def test_a_condition_without_placebos_says_so_in_every_category():
    table = tables.categories(scores_of(three_arms()))
    where = {"category": "all", "items": "all", "condition": "negated", "column": "reason"}
    assert "placebo of 'negated' was not scored" in value(table, measure="effect", **where)
    assert value(table, measure="accuracy_placebo", **where) == "placebo of negated was not scored"


def test_benchmarks_are_never_pooled_in_categories():
    rows = three_arms() + three_arms(("w1", "w2"), benchmark="w", category="x")
    table = tables.categories(scores_of(rows))
    assert set(zip(table["benchmark"], table["category"], strict=True)) == {
        ("b", "all"), ("b", "c"), ("w", "all"), ("w", "x"),
    }  # fmt: skip
    assert value(table, benchmark="w", category="all", items="all", condition="instructed",
                 measure="effect", column="n") == 2  # fmt: skip


def test_letters_are_shares_of_prompts_with_all_placebos_together():
    turned = {"letter_a": 0.1, "letter_b": 0.8, "letter_c": 0.1}
    rows = [prompt("i1"), prompt("i2", chosen="counter", **turned), prompt("i3"), prompt("i4"),
            prompt("i1", "placebo"),
            prompt("i1", "placebo", control_of="negated", **turned)]  # fmt: skip
    table = tables.letters(scores_of(rows)).set_index(["condition", "letter"])
    assert table.loc[("clean", "a"), ["share", "option_chosen", "n"]].tolist() == [0.75, 0.75, 4]
    assert table.loc[("clean", "b"), "probability"] == pytest.approx((3 * 0.3 + 0.8) / 4)
    assert table.loc[("clean", "c"), "option_chosen"] == 0.25
    assert table.loc[("placebo", "a"), ["share", "n"]].tolist() == [0.5, 2]
    assert table.groupby("condition")["share"].sum().tolist() == [1.0, 1.0]


# ---------------------------------------------------------------------------- winogender


def pronoun_item(k, percent):
    choices = tuple(
        Choice(text, role)
        for text, role in zip(
            ("he", "she", "they"), ("stereotyped", "counter", "unknown"), strict=True
        )
    )
    meta = {"occupation": f"job{k}", "percent_women": percent}
    return ChoiceItem(
        f"w{k}",
        "winogender",
        "x",
        "_____ came.",
        "Which?",
        choices,
        2,
        "ambiguous",
        f"job{k}",
        meta,
    )


def test_pronouns_that_follow_the_statistics_correlate_with_them():
    percents = (10.0, 40.0, 70.0)
    items = [pronoun_item(k, percent) for k, percent in enumerate(percents)]
    rows = []
    for k, percent in enumerate(percents):
        she = 0.8 * percent / 100
        p = (0.8 - she, she, 0.2)
        rows += [prompt(f"w{k}", benchmark="winogender", p=p),
                 # in cyclic order 1 "she" is listed first
                 prompt(f"w{k}", benchmark="winogender", order=1, p=(p[1], p[2], p[0]))]  # fmt: skip
    table = tables.winogender(scores_of([*rows, prompt("other")]), items)
    assert value(table, condition="clean", measure="correlation") == pytest.approx(1.0)
    assert value(table, condition="clean", measure="neutral_share") == pytest.approx(0.2)
    few = tables.winogender(scores_of(rows[:4]), items[:2])
    assert np.isnan(value(few, condition="clean", measure="correlation"))
    reason = value(few, condition="clean", measure="correlation", column="reason")
    assert reason == "fewer than three occupations"
    assert value(few, condition="clean", measure="neutral_share") == pytest.approx(0.2)


def test_without_winogender_items_the_table_is_empty_with_its_columns():
    table = tables.winogender(scores_of([prompt()]), [])
    assert table.empty
    assert list(table)[:3] == ["condition", "measure", "estimate"]


# ---------------------------------------------------------------------------- shared


def test_self_distinguish_reads_the_clean_prompts_by_benchmark():
    rows = [prompt("i1", margin=2.0), prompt("i2", margin=-1.0, chosen="counter"),
            prompt("j1", benchmark="other", margin=4.0),
            prompt("i1", "instructed", margin=99.0)]  # fmt: skip
    table = tables.self_distinguish(scores_of(rows))
    assert value(table, benchmark="b", measure="margin") == pytest.approx(0.5)
    assert value(table, benchmark="b", measure="accuracy") == pytest.approx(0.5)
    assert value(table, benchmark="other", measure="margin") == pytest.approx(4.0)


def many(n_items=200, texts=6, seed=0):
    """A run of ordinary size: 1 + 2 x 6 texts, three orders, random answers."""
    random, rows = np.random.default_rng(seed), []
    for k in range(n_items):
        gold = ROLES[k % 3]
        for condition, n in (("clean", 1), ("instructed", texts), ("placebo", texts)):
            for slot, order in itertools.product(range(n), range(3)):
                p = random.dirichlet(np.ones(3))
                rows.append(prompt(f"i{k}", condition, slot, order, gold=gold, p=tuple(p),
                                   chosen=ROLES[int(p.argmax())], margin=random.normal(),
                                   cluster=f"c{k // 3}", category=f"k{k % 5}"))  # fmt: skip
    return scores_of(rows)


@pytest.mark.slow
def test_a_run_of_ordinary_size_takes_seconds_and_gives_the_same_numbers_again():
    scores = many()
    start = time.perf_counter()
    names = ("effects", "rank_gain", "flips", "categories")
    done = {name: getattr(tables, name)(scores) for name in names}
    done["levels"] = tables.levels(scores, seed=0)
    assert time.perf_counter() - start < 30
    levels = done["levels"].set_index(["items", "condition", "measure"])
    clean = scores.frame[scores.frame["condition"] == "clean"]
    sure = clean[[f"p_position_{k}" for k in range(3)]].max(axis=1)
    ece = calibration(sure, clean["correct"].astype(float)).error
    assert 0.0 < levels.loc[("all", "clean", "ece"), "estimate"] < ece
    level = scores.level("instructed", subset="ambiguous", metric="margin")
    assert levels.loc[("ambiguous", "instructed", "margin"), "estimate"] == pytest.approx(
        level.estimate
    )
    pd.testing.assert_frame_equal(tables.flips(scores), done["flips"])


def test_effects_are_shown_by_the_form_of_the_option():
    rows = three_arms(option_form="name", single_token=False)
    rows += three_arms(("x1", "x2"), option_form="the", single_token=True)
    for row in rows:
        if row["item"].startswith("x") and row["condition"] == "instructed":
            row["option_margin"] = row["margin"] = 0.0
    table = tables.option_forms(scores_of(rows))
    where = {"items": "all", "condition": "instructed", "metric": "option_margin"}
    assert value(table, option_form="name", **where) == pytest.approx(1.5)
    assert value(table, option_form="the", **where) == pytest.approx(-1.0)
    assert value(table, option_form="the", column="single_token", **where) == 1.0
    assert tables.option_forms(scores_of(three_arms())).empty
