"""Readings of hand-made rows: no model is run, every expected number can be worked out on paper."""

import jaxtyping
import numpy as np
import pandas as pd
import pytest

from interp import stats
from interp.behaviour import OptionScores, bias_score, score_options
from interp.data.bundle import bundled_choices
from interp.errors import InterpError
from interp.models import ModelCard

NAN = float("nan")
CARD = ModelCard(
    name="hand-made", source="", quantisation="none", weights_sha256=None, licence=None,
    fingerprint="0", architecture="Tiny", mode="raw", dtype="float32", device="cpu", n_layers=1,
    n_heads=1, n_key_value_heads=1, d_model=1, d_head=1, d_mlp=1, d_vocab=2, n_ctx=8, n_params=1,
    chat_template=True, versions={}, checks=(),
)  # fmt: skip


def row(item="i1", condition="clean", slot=0, order=0, **values):
    """One prompt with plausible readings; the test states the ones it is about."""
    defaults = {
        "item": item,
        "benchmark": "b",
        "category": "c",
        "cluster": item,
        "context_condition": "ambiguous",
        "condition": condition,
        "text_id": f"{condition}-{slot}",
        "slot": slot,
        "control_of": "instructed" if condition == "placebo" else "",
        "order": order,
        "instruction_tokens": 5,
        "prompt_tokens": 50,
        "mismatch": 0.0 if condition == "placebo" else NAN,
        "margin": 0.0,
        "option_margin": 0.0,
        "p_gold": 0.5,
        "p_unknown": 0.5,
        "p_stereotyped": 0.3,
        "p_counter": 0.2,
        "gold_rank": 1,
        "correct": True,
        "chosen_role": "unknown",
        "gold_role": "unknown",
        "chosen_position": 0,
        "option_form": "the",
        "single_token": False,
        **{f"p_position_{k}": p for k, p in enumerate((0.5, 0.3, 0.2))},
        **{f"letter_{letter}": p for letter, p in zip("abc", (0.6, 0.3, 0.1), strict=True)},
    }
    assert set(values) <= set(defaults)
    if "margin" in values:  # the primary metric goes with it, unless the test says otherwise
        defaults["option_margin"] = values["margin"]
    return {**defaults, **values}


def scores_of(rows):
    return OptionScores(pd.DataFrame(rows), CARD)


def arms(treated, control, *, items=("i1", "i2", "i3"), **values):
    """Rows of 'instructed' and 'placebo' texts with the given margins, the same for every item."""
    return [
        row(item, condition, slot, margin=margin, **values)
        for condition, margins in (("instructed", treated), ("placebo", control))
        for slot, margin in enumerate(margins)
        for item in items
    ]


def test_hand_made_rows_have_the_columns_of_scored_ones(tiny_model):
    scored = score_options(tiny_model, bundled_choices()[:1], conditions=["clean"], progress=False)
    assert set(scored.frame.columns) == set(row())


def test_an_effect_is_the_mean_of_the_texts_minus_the_mean_of_their_placebos():
    effect = scores_of(arms((1.0, 3.0), (0.5, 1.5))).effect()
    assert effect.interval.estimate == pytest.approx(2.0 - 1.0)
    assert (effect.interval.n, effect.interval.n_clusters, effect.interval.texts) == (3, 3, (2, 2))
    assert effect.mismatch == 0.0
    assert str(effect).startswith("instructed - placebo (all): 1.000 [")


def test_an_effect_has_the_interval_and_p_of_the_statistics_it_names():
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 3, 8))  # arm, text, item
    items = [f"i{k}" for k in range(8)]
    rows = [
        row(item, condition, slot, cluster=f"c{k // 2}", margin=values[a, slot, k])
        for a, condition in enumerate(("instructed", "placebo"))
        for slot in range(3)
        for k, item in enumerate(items)
    ]
    oracle = stats.effect(*values, [f"c{k // 2}" for k in range(8)])
    assert scores_of(rows).effect().interval == oracle


def test_effects_are_read_in_every_metric_the_primary_one_first():
    rows = [
        row(item, condition, slot, margin=m, option_margin=m / 2, p_gold=0.5 + m / 10)
        for item in ("i1", "i2", "i3")
        for condition, slot, m in (("instructed", 0, 1.0), ("placebo", 0, 0.0))
    ]
    table = scores_of(rows).effects()
    assert table["metric"].tolist() == ["option_margin", "margin", "p_gold"]
    assert table["estimate"].tolist() == pytest.approx([0.5, 1.0, 0.1])
    assert scores_of(rows).effect().metric == "option_margin"


def test_orders_are_averaged_within_an_item_before_texts_and_items():
    rows = arms((1.0,), (0.0,), items=("i1", "i2"))
    rows += [
        row("i1", "instructed", order=1, margin=3.0),
        row("i1", "instructed", order=2, margin=5.0),
    ]
    assert scores_of(rows).effect().interval.estimate == pytest.approx((3.0 + 1.0) / 2)
    assert scores_of(rows).level("instructed").estimate == pytest.approx(2.0)


def test_every_metric_has_its_effect():
    rows = [row(i, "instructed", correct=True, p_unknown=0.7) for i in "ab"]
    rows += [row("a", "placebo", correct=False, p_unknown=0.6), row("b", "placebo", p_unknown=0.2)]
    scores = scores_of(rows)
    assert scores.effect(metric="correct").interval.estimate == pytest.approx(0.5)
    assert scores.effect(metric="p_unknown").interval.estimate == pytest.approx(0.3)
    assert scores.level("placebo", metric="correct").estimate == pytest.approx(0.5)


def test_an_item_with_an_undefined_margin_leaves_both_arms_together():
    rows = arms((1.0, 3.0), (0.0, 0.0), items=("i1", "i2"))
    rows += arms((9.0, NAN), (-5.0, -5.0), items=("i3",))
    rows += [row("i3", "instructed", 0, order=1, margin=9.0)]
    effect = scores_of(rows).effect()
    assert effect.interval.n == 2
    assert effect.interval.estimate == pytest.approx(2.0)
    rows = arms((1.0,), (0.0,), items=("i1", "i2")) + arms((9.0,), (NAN,), items=("i3",))
    assert scores_of(rows).effect().interval.estimate == pytest.approx(1.0)


def test_an_undefined_order_makes_the_item_undefined_rather_than_half_averaged():
    rows = arms((1.0,), (0.0,), items=("i1", "i2"))
    rows += [row("i1", "instructed", order=1, margin=NAN)]
    assert scores_of(rows).effect().interval.n == 1


def test_a_metric_undefined_everywhere_is_nan_with_a_reason():
    effect = scores_of(arms((NAN, NAN), (0.0, 1.0))).effect()
    assert np.isnan([effect.interval.estimate, effect.interval.low, effect.interval.p]).all()
    assert effect.interval.n == 0
    assert effect.interval.reason == "option_margin is undefined on every item"


def test_a_subset_without_margins_leaves_the_effects_of_the_other_standing():
    rows = arms((1.0, 3.0), (0.0, 0.0))
    rows += arms((NAN, NAN), (NAN, NAN), items=("d1", "d2"), context_condition="disambiguated")
    scores = scores_of(rows)
    frame = scores.effects().query("metric == 'option_margin'").set_index("items")
    assert frame.loc["ambiguous", "estimate"] == pytest.approx(2.0)
    assert frame.loc["ambiguous", "reason"] == ""
    assert frame.loc["disambiguated", ["estimate", "low", "high", "p_raw"]].isna().all()
    assert frame.loc["disambiguated", "n"] == 0
    assert frame.loc["disambiguated", "reason"] == "option_margin is undefined on every item"
    assert "undefined on every item" in scores._repr_html_()


def test_subsets_are_read_apart():
    rows = arms((2.0,), (0.0,), items=("a1", "a2"))
    rows += arms((-4.0,), (0.0,), items=("d1", "d2"), context_condition="disambiguated")
    scores = scores_of(rows)
    assert scores.effect(subset="ambiguous").interval.estimate == pytest.approx(2.0)
    assert scores.effect(subset="disambiguated").interval.estimate == pytest.approx(-4.0)
    assert scores.effect().interval.estimate == pytest.approx(-1.0)
    assert scores.level("instructed", subset="disambiguated").estimate == pytest.approx(-4.0)
    with pytest.raises(InterpError, match="no disambiguated item was scored"):
        scores_of(arms((1.0,), (0.0,))).effect(subset="disambiguated")


def three_arms():
    """Clean 0, instructed 3 with placebos 1, negated -2 with placebos 5."""
    return [
        row(item, condition, slot, margin=margin, control_of=control_of, mismatch=mismatch)
        for item in ("i1", "i2")
        for condition, control_of, slot, margin, mismatch in (
            ("clean", "", 0, 0.0, NAN),
            ("instructed", "", 0, 3.0, NAN),
            ("placebo", "instructed", 0, 1.0, 2.0),
            ("negated", "", 0, -2.0, NAN),
            ("placebo", "negated", 0, 5.0, -4.0),
        )
    ]


def test_each_condition_is_compared_with_its_own_placebos():
    scores = scores_of(three_arms())
    assert scores.effect("instructed").interval.estimate == pytest.approx(2.0)
    assert scores.effect("negated").interval.estimate == pytest.approx(-7.0)
    assert scores.effect("instructed", against="clean").interval.estimate == pytest.approx(3.0)
    assert scores.effect("instructed").mismatch == 2.0
    assert scores.effect("negated").mismatch == 4.0
    assert np.isnan(scores.effect("negated", against="clean").mismatch)


def test_placebos_read_alone_are_those_of_the_instructed_texts():
    scores = scores_of(three_arms())
    assert scores.level("placebo").estimate == pytest.approx(1.0)
    assert scores.effect("placebo", against="clean").interval.estimate == pytest.approx(1.0)


def test_without_instructed_texts_placebos_read_alone_are_those_of_the_first_condition():
    rows = [r for r in three_arms() if "instructed" not in (r["condition"], r["control_of"])]
    scores = scores_of(rows)
    assert scores.level("placebo").estimate == pytest.approx(5.0)
    assert scores.effect("placebo", against="clean").interval.estimate == pytest.approx(5.0)
    assert set(scores.summary()["condition"]) == {"clean", "negated", "placebo"}
    assert set(scores.position_bias()["condition"]) == {"clean", "negated", "placebo"}


def test_the_table_of_effects_has_every_treated_condition_against_both_controls():
    frame = scores_of(three_arms()).effects().query("metric == 'option_margin'")
    assert dict(zip(frame["contrast"], frame["estimate"].round(6), strict=True)) == {
        "instructed - placebo": 2.0,
        "instructed - clean": 3.0,
        "negated - placebo": -7.0,
        "negated - clean": -2.0,
        "placebo - clean": 1.0,
    }
    assert set(frame["texts"]) == {"1 x 1"}
    assert frame["n"].tolist() == [2] * 5


@pytest.mark.parametrize(
    ("condition", "against", "complaint"),
    [
        ("revealing", "clean", "'revealing' was not scored; there is clean, instructed"),
        ("instructed", "placebo", "placebo of 'instructed' was not scored; there is clean"),
    ],
)
def test_a_condition_that_was_not_scored_is_refused_with_those_that_were(
    condition, against, complaint
):
    scores = scores_of([row(), row(condition="instructed")])
    with pytest.raises(InterpError, match=complaint):
        scores.effect(condition, against=against)


def test_unknown_subsets_and_metrics_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    scores = scores_of(arms((1.0,), (0.0,)))
    with pytest.raises(InterpError, match="no subset 'ambig'; known: all, ambiguous"):
        scores.effect(subset="ambig")
    with pytest.raises(InterpError, match="no metric 'p_counter'; known: option_margin"):
        scores.level("placebo", metric="p_counter")


def test_arms_scored_on_different_items_are_not_subtracted():
    rows = arms((1.0,), (0.0,), items=("i1", "i2"))
    rows += [row("i3", "instructed"), row("i4", "placebo")]
    with pytest.raises(InterpError, match="'instructed' and 'placebo' were scored on different"):
        scores_of(rows).effect()


def answers(*roles, kind="ambiguous", gold="unknown", n_clusters=4):
    """One row per answered role, in clusters of their own."""
    return pd.DataFrame(
        [
            row(f"i{k}", chosen_role=role, gold_role=gold, context_condition=kind,
                correct=role == gold, cluster=f"c{k % n_clusters}")
            for k, role in enumerate(roles)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["ambiguous", "disambiguated"])
def test_always_following_the_stereotype_scores_one_and_always_against_it_minus_one(kind):
    assert bias_score(answers(*["stereotyped"] * 8, kind=kind)).estimate == 1.0
    assert bias_score(answers(*["counter"] * 8, kind=kind)).estimate == -1.0


@pytest.mark.parametrize("kind", ["ambiguous", "disambiguated"])
def test_the_same_person_whatever_the_polarity_scores_zero(kind):
    assert (
        bias_score(answers(*["stereotyped", "counter"] * 8, kind=kind, n_clusters=8)).estimate == 0
    )


@pytest.mark.parametrize("kind", ["ambiguous", "disambiguated"])
def test_always_unknown_is_undefined_with_n_0(kind):
    score = bias_score(answers(*["unknown"] * 6, kind=kind))
    assert np.isnan(score.estimate)
    assert score.n == 0
    assert score.reason == "every answer was unknown"


def test_the_ambiguous_score_is_the_share_of_errors_times_the_disambiguated_formula():
    roles = ["stereotyped"] * 3 + ["counter"] + ["unknown"] * 6
    accuracy, s = 6 / 10, 2 * 3 / 4 - 1
    assert bias_score(answers(*roles)).estimate == pytest.approx((1 - accuracy) * s)


def test_the_disambiguated_score_leaves_unknown_answers_out():
    roles = ["stereotyped"] * 12 + ["counter"] * 4 + ["unknown"] * 4
    score = bias_score(answers(*roles, kind="disambiguated", gold="stereotyped"))
    assert score.estimate == pytest.approx(2 * 12 / 16 - 1)


def test_items_without_a_stereotyped_option_are_left_out_of_the_bias_score():
    frame = answers(*["stereotyped"] * 4, *["other"] * 4)
    frame.loc[4:, "p_stereotyped"] = NAN
    score = bias_score(frame)
    assert (score.estimate, score.n) == (1.0, 4)
    frame["p_stereotyped"] = NAN
    assert bias_score(frame).reason == "no item has a stereotyped option"


def test_ambiguous_and_disambiguated_rows_are_not_mixed_into_one_bias_score():
    frame = pd.concat([answers("stereotyped"), answers("stereotyped", kind="disambiguated")])
    score = bias_score(frame)
    assert np.isnan(score.estimate)
    assert "scored apart" in score.reason


def test_agreement_is_the_rank_correlation_of_the_items_means():
    readings = {"i1": (1.0, 10.0), "i2": (2.0, 30.0), "i3": (3.0, 20.0), "i4": (4.0, 40.0)}
    rows = [
        row(item, condition, order=order, margin=margin + shift, option_margin=option - shift)
        for item, (margin, option) in readings.items()
        for condition in ("clean", "instructed")
        for order, shift in enumerate((-5.0, 5.0))
    ]
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15)
    assert scores_of(rows).agreement() == pytest.approx(0.8)


def test_agreement_is_one_for_any_rising_relation_and_minus_one_for_a_falling_one():
    margins = [0.1, 2.0, 0.5, 7.0]
    rising = [row(f"i{k}", margin=m, option_margin=m**3) for k, m in enumerate(margins)]
    falling = [row(f"i{k}", margin=m, option_margin=-m) for k, m in enumerate(margins)]
    assert scores_of(rising).agreement() == pytest.approx(1.0)
    assert scores_of(falling).agreement() == pytest.approx(-1.0)


def test_agreement_leaves_out_undefined_items_and_reads_subsets_apart():
    rows = [row(f"a{k}", margin=m, option_margin=m) for k, m in enumerate((1.0, 2.0, 3.0))]
    rows += [row("a3", margin=NAN, option_margin=-100.0)]
    rows += [
        row(f"d{k}", margin=m, option_margin=-m, context_condition="disambiguated")
        for k, m in enumerate((10.0, 20.0, 30.0))
    ]
    scores = scores_of(rows)
    assert scores.agreement(subset="ambiguous") == pytest.approx(1.0)
    assert scores.agreement(subset="disambiguated") == pytest.approx(-1.0)
    assert -1.0 < scores.agreement() < 1.0


@pytest.mark.parametrize("margins", [(1.0, 2.0), (1.0, 1.0, 1.0), (NAN, NAN, 1.0)])
def test_agreement_of_too_few_or_constant_items_is_not_a_number(margins):
    rows = [row(f"i{k}", margin=m, option_margin=float(k)) for k, m in enumerate(margins)]
    assert np.isnan(scores_of(rows).agreement())


def test_the_summary_has_one_line_per_kind_of_item_and_condition():
    rows = [
        row(i, chosen_role="stereotyped", correct=False, gold_rank=2, margin=-1.0) for i in "ab"
    ]
    rows += [row(i, context_condition="disambiguated", margin=2.0) for i in "cd"]
    frame = scores_of(rows).summary().set_index("items")
    assert frame["n_items"].tolist() == [2, 2]
    assert frame.loc["ambiguous", "margin"].estimate == -1.0
    assert frame.loc["ambiguous", "accuracy"].estimate == 0.0
    assert frame.loc["ambiguous", "rank of gold"].estimate == 2.0
    assert frame.loc["ambiguous", "bias score"].estimate == 1.0
    assert frame.loc["disambiguated", "accuracy"].estimate == 1.0
    assert frame.loc["disambiguated", "P(unknown)"].estimate == 0.5


def test_position_bias_averages_scores_choices_and_letters_per_listed_position():
    rows = [row(order=k, chosen_position=p) for k, p in enumerate((0, 0, 2))]
    frame = scores_of(rows).position_bias().set_index("position")
    assert frame["option score"].tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert frame["chosen"].tolist() == pytest.approx([2 / 3, 0.0, 1 / 3])
    assert frame["letter"].tolist() == pytest.approx([0.6, 0.3, 0.1])


def test_an_item_with_fewer_options_still_counts_among_the_letters_chosen():
    rows = [row("two", letter_a=0.2, letter_b=0.8, letter_c=NAN, p_position_2=NAN)]
    rows += [row("three", letter_a=0.6, letter_b=0.3, letter_c=0.1)]
    rows += [row("untold", letter_a=NAN, letter_b=NAN, letter_c=NAN)]
    frame = scores_of(rows).position_bias().set_index("position")
    assert frame["letter chosen"].tolist() == [0.5, 0.5, 0.0]


def test_letters_that_cannot_be_told_apart_are_not_a_number():
    frame = scores_of([row(letter_a=NAN, letter_b=NAN, letter_c=NAN)]).position_bias()
    assert frame["letter chosen"].isna().all()


def test_the_rows_handed_out_are_a_copy():
    scores = scores_of([row()])
    copy = scores.to_dataframe()
    copy["margin"] = 99.0
    assert scores.frame["margin"].tolist() == [0.0]


def test_the_html_opens_with_the_card_and_shows_effects():
    shown = scores_of(three_arms())._repr_html_()
    assert "hand-made" in shown
    assert "instructed - placebo" in shown


def test_a_condition_of_ambiguous_items_alone_has_no_row_in_the_other_subset():
    ambiguous = {"item": "i1", "context_condition": "ambiguous"}
    other = {"item": "i2", "context_condition": "disambiguated"}
    rows = [row(**ambiguous), row(**other), row(**ambiguous, condition="paraphrases")]
    scores = scores_of(rows)
    assert scores.conditions_of("disambiguated") == ("clean",)
    assert scores.conditions_of("all") == ("clean", "paraphrases")
    summary = scores.summary()
    assert list(zip(summary["items"], summary["condition"], strict=True)) == [
        ("ambiguous", "clean"),
        ("ambiguous", "paraphrases"),
        ("disambiguated", "clean"),
    ]
    assert set(scores.effects()["items"]) == {"ambiguous"}
