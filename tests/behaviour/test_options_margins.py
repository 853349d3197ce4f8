"""Scoring's option margin is the metric of patching; the options' form and single tokens beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from interp.behaviour import ScoringPlan, score_item, score_options
from interp.behaviour.options import option_form
from interp.data import load_items
from interp.data.bundle import bundled_choices
from interp.data.items import Choice, ChoiceItem
from interp.data.sample import sample_items
from interp.patching import sweep
from interp.prompts import TextBank, make_pair
from tests.behaviour.test_scoring import DISAMBIGUATED, PREFIX, SHARED_START, item_of

PLAN = ScoringPlan(("clean", "instructed", "placebo"), n_texts=1, n_control_texts=1)
PRONOUNS = item_of("they", "he", "she")


@pytest.mark.parametrize(
    "item",
    [bundled_choices()[0], DISAMBIGUATED, SHARED_START, PREFIX, PRONOUNS],
    ids=["bundled", "disambiguated", "shared", "prefix", "pronouns"],
)
def test_the_unpatched_runs_of_a_sweep_have_scorings_option_margin(
    tiny_model: Any, item: ChoiceItem
) -> None:
    bank = TextBank(tiny_model.tokenizer)
    frame = score_item(tiny_model, bank, item, PLAN)
    first = frame[frame["order"] == 0].set_index("condition")
    pair = make_pair(tiny_model, item, "instructed", bank=bank)
    result = sweep(tiny_model, pair, layers=[0], metric="option_margin", progress=False)
    own = first["option_margin"]
    assert float(result.source_baseline) == pytest.approx(own["instructed"], abs=2e-5)
    assert float(result.baseline) == pytest.approx(own["placebo"], abs=2e-5)
    assert pair.options is not None
    assert set(frame["single_token"]) == {pair.options.single_token}


def test_single_tokens_are_marked_and_their_margins_are_one(tiny_model: Any) -> None:
    item = item_of("teacher", "farmer", "The teacher")
    frame = score_options(tiny_model, [item], conditions=["clean"], progress=False).frame
    assert frame["single_token"].all()
    assert (frame["margin"] - frame["option_margin"]).abs().max() <= 2e-5
    longer = replace(item, choices=(item.choices[0], Choice("yy zz", "stereotyped"),
                                    item.choices[2]))  # fmt: skip
    frame = score_options(tiny_model, [longer], conditions=["clean"], progress=False).frame
    assert not frame["single_token"].any()


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The grandfather", "the"),
        ("the young farmer", "the"),
        ("Theodore", "name"),
        ("Maria Lopez, a nurse", "name"),
        ("pregnant woman", "name"),
        ("Muslim people", "name"),
        ("A boy", "other"),
        ("My friend", "other"),
        ("he", "other"),
        ("Their", "other"),
    ],
)
def test_the_form_is_that_of_the_option_that_names_a_person(text: str, form: str) -> None:
    assert option_form(item_of("Not known", text, "The river")) == form
    chosen = item_of("Not known", "The river", text, gold=1)
    disambiguated = replace(chosen, context_condition="disambiguated")
    assert option_form(disambiguated) == form  # b is the other group's


def test_an_item_without_a_contrast_has_no_form(tiny_model: Any) -> None:
    item = item_of("Unknown", "The teacher", "He", roles=("unknown", "other", "other"))
    assert option_form(item) == ""
    frame = score_options(tiny_model, [item], conditions=["clean"], progress=False).frame
    assert not frame["single_token"].any()
    assert set(frame["option_form"]) == {""}
    assert frame["option_margin"].isna().all()


@pytest.mark.dataset
@pytest.mark.model
def test_winogender_is_a_single_token_task_of_the_default_model(default_model: Any) -> None:
    items = load_items("winogender", limit=8, seed=0)
    frame = score_options(default_model, items, conditions=["clean"], progress=False).frame
    assert frame["single_token"].all()
    assert set(frame["option_form"]) == {"other"}  # pronouns
    assert (frame["margin"] - frame["option_margin"]).abs().max() <= 1e-4


@pytest.mark.dataset
def test_bbq_has_names_and_the(bbq: tuple[ChoiceItem, ...]) -> None:
    forms = {option_form(item) for item in sample_items(bbq, 200, seed=0)}
    assert {"name", "the"} <= forms
