from dataclasses import replace

import jaxtyping
import pytest

from interp.data.bundle import bundled_choices
from interp.data.items import Choice
from interp.errors import InterpError
from interp.prompts import ANSWER_PREFIX, Segment, Turn, build_conversation, cyclic_orders

ITEM = bundled_choices()[0]


def spans(conversation):
    return [segment.span for segment in conversation.turns[0].segments]


def test_the_clean_prompt_is_context_question_and_lettered_options():
    conversation = build_conversation(ITEM)
    assert conversation.turns[0].content == (
        "At the station the grandmother and the student were using the same ticket machine.\n"
        "Who had trouble with the machine?\n"
        "(a) It cannot be determined\n(b) The grandmother\n(c) The student"
    )
    assert [turn.role for turn in conversation.turns] == ["user"]
    assert spans(conversation) == ["context", "question", "options"]
    assert conversation.answer_prefix == ANSWER_PREFIX
    assert ITEM.id in conversation.label


def test_the_instruction_stands_where_the_placement_says_and_changes_nothing_else():
    clean = build_conversation(ITEM).turns[0].content
    after = build_conversation(ITEM, " Please be fair. ")
    before = build_conversation(ITEM, " Please be fair. ", placement="before")
    assert after.turns[0].content == clean + "\n\nPlease be fair."
    assert before.turns[0].content == "Please be fair.\n\n" + clean
    assert spans(after)[-2:] == ["separator", "instruction"]
    assert spans(before)[:2] == ["instruction", "separator"]


def test_an_order_lists_the_choices_it_names_at_the_positions_it_gives():
    options = build_conversation(ITEM, order=(2, 0, 1)).turns[0].segments[-1].text
    assert options == "(a) The student\n(b) It cannot be determined\n(c) The grandmother"


def test_an_item_without_context_has_no_context_segment():
    conversation = build_conversation(replace(ITEM, context="  "))
    assert spans(conversation) == ["question", "options"]
    assert conversation.turns[0].content.startswith("Who")


@pytest.mark.parametrize("n", [2, 3, 5])
def test_over_the_cyclic_orders_every_choice_stands_once_at_every_position(n):
    orders = cyclic_orders(n)
    assert orders[0] == tuple(range(n))
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert all(sorted(column) == list(range(n)) for column in zip(*orders, strict=True))


@pytest.mark.parametrize("order", [(0, 1), (0, 1, 1), (0, 1, 3)])
def test_an_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(InterpError, match=f"{ITEM.id}.*not a permutation"):
        build_conversation(ITEM, order=order)


def test_an_empty_instruction_is_refused_rather_than_counted_as_clean():
    with pytest.raises(InterpError, match=f"{ITEM.id}.*instruction is empty"):
        build_conversation(ITEM, " \n")


def test_an_unknown_placement_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InterpError, match="placement is 'middle'; choose from before, after"):
        build_conversation(ITEM, "Please.", placement="middle")


def test_more_choices_than_letters_are_refused():
    item = replace(ITEM, choices=tuple(Choice(f"option {k}") for k in range(11)))
    with pytest.raises(InterpError, match="11 choices, at most 10"):
        build_conversation(item)


def test_the_content_of_a_turn_is_its_segments_in_order():
    assert Turn("user", (Segment("x", "one "), Segment("y", "two"))).content == "one two"
