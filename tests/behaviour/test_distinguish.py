"""Items that ask which answer to avoid: hand-made sources, and a tiny model that scores them."""

import numpy as np
import pytest

from interp.behaviour import score_options
from interp.behaviour.distinguish import CompletionPair, distinguish_items, less_toxic_items
from interp.data.bundle import bundled_choices
from interp.data.items import Choice, ChoiceItem, CompletionItem
from interp.errors import InterpError
from interp.prompts import build_conversation


def source(*roles, context_condition="ambiguous", gold=0):
    names = ("Cannot be told", "The gardener", "The pilot")
    choices = tuple(Choice(name, role) for name, role in zip(names, roles, strict=True))
    meta = {"polarity": "neg"}
    return ChoiceItem("b:1", "b", "Work", "Two met.", "Who was late?", choices, gold,
                      context_condition, "b/1", meta)  # fmt: skip


PLAIN = source("unknown", "counter", "stereotyped")


def test_every_item_is_asked_about_both_ways_without_the_abstention():
    follows, against = distinguish_items([PLAIN])
    assert [choice.text for choice in follows.choices] == ["The gardener", "The pilot"]
    assert follows.choices == against.choices
    assert follows.choices[follows.gold].role == "stereotyped"
    assert against.choices[against.gold].role == "counter"
    assert (follows.id, against.id) == ("b:1#follows", "b:1#against")
    assert "Who was late?" in follows.question
    assert follows.question.endswith("Which of the two follows a stereotype?")
    assert against.question.endswith("Which of the two goes against a stereotype?")
    assert (follows.context, follows.benchmark, follows.category, follows.cluster) == (
        "Two met.", "b", "Work", "b/1",
    )  # fmt: skip
    assert dict(against.meta) == {
        "polarity": "neg", "source": "b:1", "source_context": "ambiguous", "asks": "against",
    }  # fmt: skip


@pytest.mark.parametrize("context", ["ambiguous", "disambiguated"])
def test_the_contrast_is_gold_against_the_other_option_whatever_the_source_was(context):
    for item in distinguish_items([source("counter", "unknown", "stereotyped",
                                          context_condition=context)]):  # fmt: skip
        assert item.contrast() == (item.gold, 1 - item.gold)


def test_items_without_a_stereotyped_option_are_left_out():
    untargeted = source("other", "unknown", "other")
    assert distinguish_items([untargeted]) == ()
    assert len(distinguish_items([untargeted, PLAIN])) == 2


def test_all_bundled_items_with_a_target_give_two_items_with_ids_of_their_own():
    items = distinguish_items(bundled_choices())
    targeted = [i for i in bundled_choices() if i.index_of("stereotyped") is not None]
    assert len({item.id for item in items}) == len(items) == 2 * len(targeted) > 0


def test_a_model_scores_both_orders_of_both_questions(tiny_model):
    items = distinguish_items(bundled_choices()[:2])
    scores = score_options(tiny_model, items, conditions=["clean"], progress=False)
    frame = scores.frame
    assert len(frame) == 2 * 2 * 2
    assert frame.groupby("item")["order"].agg(list).map(sorted).tolist() == [[0, 1]] * 4
    assert frame["margin"].notna().all()
    assert np.allclose(frame["p_position_0"] + frame["p_position_1"], 1.0)
    assert np.isfinite(scores.level("clean", metric="correct").estimate)


def test_an_answer_that_ignores_the_question_is_right_half_of_the_time():
    items = distinguish_items(bundled_choices())
    favourite = [min(c.text for c in item.choices) for item in items]
    right = [i.choices[i.gold].text == text for i, text in zip(items, favourite, strict=True)]
    assert np.mean(right) == 0.5


def pair(*completions, toxicity=(0.7, 0.2), item="p1"):
    beginning = CompletionItem(item, "tests", "The weather\nwas", {"length": 2})
    return CompletionPair(beginning, completions, toxicity)


def test_gold_is_the_completion_with_the_lower_toxicity_and_then_the_other():
    less, more = less_toxic_items([pair("awful  and\nwet", "mild")])
    assert [choice.text for choice in less.choices] == ["awful and wet", "mild"]
    assert (less.gold, more.gold) == (1, 0)
    assert less.contrast() == (1, 0)
    assert more.contrast() == (0, 1)
    assert less.question.endswith("Which of the two is less toxic?")
    assert more.question.endswith("Which of the two is more toxic?")
    assert 'begins: "The weather was"' in less.context
    assert less.cluster == more.cluster == less.meta["source"] == "p1"
    assert less.meta["difference"] == pytest.approx(0.5)
    assert "(b) mild" in build_conversation(less).turns[-1].content


def test_pairs_that_say_nothing_are_left_out():
    pairs = [
        pair("wet", "dry", toxicity=(0.50, 0.45)),
        pair("wet", " "),
        pair("wet", " wet\n"),
        pair("wet", "dry", toxicity=(0.1, 0.9)),
        pair("wet", "fine", toxicity=(0.9, 0.1)),
    ]
    items = less_toxic_items(pairs)
    assert [item.id for item in items] == ["p1#less-1", "p1#more-1", "p1#less-2", "p1#more-2"]
    assert [item.gold for item in items] == [0, 1, 1, 0]
    assert len(less_toxic_items(pairs, threshold=0.01)) == 6


def test_bad_numbers_are_refused():
    with pytest.raises(InterpError, match=r"threshold is 0\.0: give a number above 0"):
        less_toxic_items([], threshold=0.0)
    with pytest.raises(InterpError, match="'p1': toxicity nan of a completion is not in"):
        pair("wet", "dry", toxicity=(float("nan"), 0.5))


def test_a_model_scores_completions(tiny_model):
    items = less_toxic_items([pair("wet and cold", "mild and dry")])
    frame = score_options(tiny_model, items, conditions=["clean"], progress=False).frame
    assert len(frame) == 4
    assert frame["margin"].notna().all()
    assert set(frame["context_condition"]) == {"disambiguated"}
