from dataclasses import replace

import jaxtyping
import pytest

from interp.data.bundle import bundled_choices, bundled_completions
from interp.data.items import Choice
from interp.errors import InterpError
from interp.prompts import (
    ANSWER_PREFIX,
    Segment,
    Turn,
    build_completion,
    build_conversation,
    cyclic_orders,
    follow_up,
    tokenize,
)
from tests.conftest import make_tokenizer

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


def test_in_the_system_turn_the_instruction_stands_alone_and_the_question_is_the_clean_one():
    clean = build_conversation(ITEM)
    for placement in ("before", "after"):
        system = build_conversation(ITEM, " Please. ", turn="system", placement=placement)
        assert system.turns[0] == Turn("system", (Segment("instruction", "Please."),))
        assert system.turns[1:] == clean.turns
    assert build_conversation(ITEM, turn="system") == clean


@pytest.mark.parametrize("chat", [True, False])
def test_a_system_instruction_is_a_span_between_header_and_question(chat):
    prompt = tokenize(make_tokenizer(chat=chat), build_conversation(ITEM, "Please.", turn="system"))
    assert list(prompt.spans)[:4] == ["header", "instruction", "template_1", "context"]
    assert "".join(prompt.str_tokens[prompt.span("instruction")]) in ("Please.", " Please.")


def test_a_template_without_system_turns_says_so():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}" + tokenizer.chat_template
    )
    conversation = build_conversation(ITEM, "Please.", turn="system")
    with pytest.raises(InterpError, match=r"chat template refuses.*System role not supported"):
        tokenize(tokenizer, conversation)


def test_an_unknown_turn_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InterpError, match="turn is 'assistant'; choose from user, system"):
        build_conversation(ITEM, "Please.", turn="assistant")


def test_a_completion_is_asked_for_in_the_reported_words():
    item = bundled_completions()[0]
    conversation = build_completion(item, "Please.")
    assert conversation.turns[0].content == (
        f'Please complete the sentence after "Completion:".\nCompletion: {item.prompt.strip()}'
        "\n\nPlease."
    )
    assert spans(conversation) == ["request", "prompt", "separator", "instruction"]
    assert spans(build_completion(item, "Please.", placement="before"))[0] == "instruction"
    assert build_completion(item, "Please.", turn="system").turns[0].role == "system"
    assert conversation.answer_prefix == ""


def test_a_follow_up_keeps_what_was_said_and_numbers_replies_and_requests():
    first = build_conversation(ITEM, "Please.")
    second = follow_up(first, " The student ", " Are you sure? ")
    third = follow_up(second, "Yes", "Why?", answer_prefix="")
    assert second.turns[: len(first.turns)] == first.turns
    assert [turn.role for turn in third.turns] == ["user", "assistant"] * 2 + ["user"]
    assert third.turns[1].content == f"{ANSWER_PREFIX} The student"
    assert [s.span for turn in third.turns[1:] for s in turn.segments] == [
        "answer_prefix_1", "reply_1", "request_2", "answer_prefix_2", "reply_2", "request_3",
    ]  # fmt: skip
    assert third.answer_prefix == ""
    assert third.label == first.label


@pytest.mark.parametrize("chat", [True, False])
def test_the_spans_of_a_followed_up_conversation_hold_their_words(chat):
    conversation = follow_up(build_conversation(ITEM), "The student", "Are you sure?")
    prompt = tokenize(make_tokenizer(chat=chat), conversation)
    texts = {name: "".join(prompt.str_tokens[span]) for name, span in prompt.spans.items()}
    # without a chat template the blank after "Assistant:" holds the first word
    assert texts["answer_prefix_1"] == ANSWER_PREFIX.removeprefix("" if chat else "The")
    assert texts["reply_1"] == " The student"
    assert "Are you sure?" in texts["request_2"]
    assert texts["answer_prefix"].strip() == ANSWER_PREFIX


def test_an_assistants_turn_without_a_word_and_an_empty_request_are_refused():
    silent = build_conversation(ITEM, answer_prefix="")
    with pytest.raises(InterpError, match=f"{ITEM.id}: reply 1 is empty"):
        follow_up(silent, " ", "Why?")
    with pytest.raises(InterpError, match=f"{ITEM.id}: request 2 is empty"):
        follow_up(silent, "Yes", " ")
    prefix_alone = follow_up(build_conversation(ITEM), "", "Why?")
    assert prefix_alone.turns[1].content == ANSWER_PREFIX
