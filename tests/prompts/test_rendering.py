"""Conversations under templates of reasoning models: dropped thoughts, closed thoughts, digests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from interp.data import Choice, ChoiceItem
from interp.errors import InterpError
from interp.prompts import (
    Conversation,
    TokenizedPrompt,
    align,
    build_conversation,
    encode_continuation,
    follow_up,
    prompts_digest,
    render,
    tokenize,
)
from tests.conftest import CHAT_TEMPLATE, make_tokenizer
from tests.thinking import (
    CHANNELS,
    CUTS_OUT,
    EMPTIED,
    EMPTIES,
    OPENS,
    OPENS_ON_THE_LINE,
    SWITCH,
    with_template,
)

OPTIONS = (
    Choice("Not known", "unknown"),
    Choice("The teacher", "stereotyped"),
    Choice("The farmer", "counter"),
)
ITEM = ChoiceItem(
    "q1",
    "own",
    "own",
    "The teacher met the farmer.",
    "Who was late?",
    OPTIONS,
    0,
    "ambiguous",
    "q1",
)
THOUGHT = "<think>\nThe farmer?\n\nNo.\n</think>\n\n"
REASONING = [SWITCH, OPENS, OPENS_ON_THE_LINE, EMPTIED, EMPTIES]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


def talk(*replies: str, prefix: str = "", last: str = "It is") -> Conversation:
    conversation = build_conversation(ITEM, "Be fair.", answer_prefix=prefix)
    for k, reply in enumerate(replies):
        end = last if k + 1 == len(replies) else prefix
        conversation = follow_up(conversation, reply, f"Ask {k + 2}?", answer_prefix=end)
    return conversation


def text_of(prompt: TokenizedPrompt, span: str) -> str:
    return "".join(prompt.str_tokens[prompt.span(span)])


@pytest.mark.parametrize("template", REASONING)
def test_thoughts_are_dropped_from_three_rounds_as_the_template_drops_them(
    tokenizer: Any, template: str
) -> None:
    changed = with_template(tokenizer, template)
    conversation = talk(THOUGHT + "The teacher", "The farmer", THOUGHT + "Not known")
    prompt = tokenize(changed, conversation)
    spans = {name: text_of(prompt, name) for name in prompt.spans if name.startswith("reply_")}
    bare = {name: text.removeprefix("<think></think>").strip() for name, text in spans.items()}
    assert bare == {"reply_1": "The teacher", "reply_2": "The farmer", "reply_3": "Not known"}
    assert "No." not in prompt.text
    messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
    rendered = changed.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert prompt.text.startswith(rendered)
    assert "".join(prompt.str_tokens) == prompt.text == render(changed, conversation)
    assert [text_of(prompt, f"request_{k}") for k in (2, 3, 4)] == ["Ask 2?", "Ask 3?", "Ask 4?"]


def test_an_answer_prefix_goes_with_the_thought_behind_it_and_comes_first_in_the_other_case(
    tokenizer: Any,
) -> None:
    conversation = talk("<think>hm</think> The teacher", prefix="My answer is")
    dropped = tokenize(with_template(tokenizer, OPENS), conversation)
    assert "answer_prefix_1" not in dropped.spans
    assert text_of(dropped, "reply_1") == " The teacher"
    gemma = talk("<|channel>thought\nhm<channel|> The teacher", prefix="My answer is")
    kept = tokenize(with_template(tokenizer, CUTS_OUT), gemma)
    assert text_of(kept, "answer_prefix_1") == "My answer is"
    assert text_of(kept, "reply_1").split() == ["The", "teacher"]
    assert "hm" not in kept.text


def test_a_thought_that_the_template_keeps_stays_and_so_does_one_without_an_end(
    tokenizer: Any,
) -> None:
    whole = tokenize(tokenizer, talk(THOUGHT + "The teacher"))
    assert text_of(whole, "reply_1") == THOUGHT + "The teacher"
    cut = tokenize(with_template(tokenizer, OPENS), talk("<think>\nThe farmer?"))
    assert text_of(cut, "reply_1") == "<think>\nThe farmer?"
    only = tokenize(with_template(tokenizer, OPENS), talk("<think>\nThe farmer?\n</think>"))
    assert "reply_1" not in only.spans


@pytest.mark.parametrize(
    "what",
    [
        "c.split('</think>')[-1] | upper",
        "c.split('</think>')[0]",
        "c.split('</think>')[-1] + '!'",
        "c.split('</think>')[-1].split(' ')[-1]",
        "c.replace('hm', 'well')",
    ],
)
def test_any_other_rewriting_is_refused(tokenizer: Any, what: str) -> None:
    rewriting = CHAT_TEMPLATE.replace(
        "{{ m['content'] }}", "{% set c = m['content'] %}{{ " + what + " }}"
    ).replace(
        "{{ message['content'] }}",
        "{% set c = message['content'] %}{% if '</think>' in c %}{{ " + what + " }}{% else %}"
        "{{ c }}{% endif %}",
    )
    assert rewriting != CHAT_TEMPLATE
    with pytest.raises(InterpError, match="item q1: the chat template rewrites the messages"):
        tokenize(with_template(tokenizer, rewriting), talk("<think>hm</think>The teacher"))


def test_a_users_message_may_not_lose_what_looks_like_a_thought(tokenizer: Any) -> None:
    every = CHAT_TEMPLATE.replace(
        "{{ message['content'] }}", "{{ message['content'].split('</think>')[-1] }}"
    )
    asked = build_conversation(replace(ITEM, context="<think>hm</think> They met."), "Be fair.")
    with pytest.raises(InterpError, match="the chat template rewrites the messages"):
        tokenize(with_template(tokenizer, every), asked)


@pytest.mark.parametrize(
    ("template", "start", "end"),
    [
        (OPENS, "\n</think>\n\n", "<think>\n\n</think>\n\nIt is"),
        (OPENS_ON_THE_LINE, "\n\n</think>\n\n", "<think>\n\n</think>\n\nIt is"),
        (EMPTIED, "<think></think>", "<|assistant|>\n<think></think>It is"),
        (
            CHANNELS,
            "<|channel|>final<|message|>",
            "<|start|>assistant<|channel|>final<|message|>It is",
        ),
        (SWITCH, "", "<think>\n\n</think>\n\nIt is"),
    ],
)
def test_an_answer_prefix_never_lands_inside_a_thought(
    tokenizer: Any, template: str, start: str, end: str
) -> None:
    changed = with_template(tokenizer, template)
    asked = build_conversation(ITEM, answer_prefix="It is")
    prompt, open_ended = (tokenize(changed, replace(asked, answer_prefix=p)) for p in ("It is", ""))
    assert prompt.text.endswith(end)
    assert prompt.text == open_ended.text + "It is"  # choice and generation agree
    assert list(prompt.spans)[-1] == "answer_prefix"
    assert ("answer_start" in prompt.spans) == bool(start)
    if start:
        assert start in text_of(prompt, "template") + text_of(prompt, "answer_start")
        assert list(prompt.spans)[-2] == "answer_start"
    assert len(encode_continuation(changed, prompt, " Not known"))


def test_prompts_with_a_closed_thought_align(tokenizer: Any) -> None:
    changed = with_template(tokenizer, OPENS)
    clean = tokenize(changed, build_conversation(ITEM))
    told = tokenize(changed, build_conversation(ITEM, "Please be fair, and unbiased."))
    table = align(told, clean)
    for name in ("answer_start", "answer_prefix"):
        a, b = told.span(name), clean.span(name)
        assert table.to_destination[a].tolist() == list(range(b.start, b.stop))


def test_the_digest_is_of_the_texts_and_their_order(tokenizer: Any) -> None:
    one, two = build_conversation(ITEM), build_conversation(ITEM, "Be fair.")
    digest = prompts_digest(tokenizer, [one, two])
    assert digest == prompts_digest(tokenizer, [replace(one, label="other"), two])
    others = [
        prompts_digest(tokenizer, [two, one]),
        prompts_digest(tokenizer, [one]),
        prompts_digest(tokenizer, [one, replace(two, answer_prefix="It is")]),
        prompts_digest(with_template(tokenizer, CHAT_TEMPLATE.replace("<|", "<")), [one, two]),
        prompts_digest(with_template(tokenizer, OPENS), [one, two]),
    ]
    assert len({digest, *others}) == 6
    with pytest.raises(InterpError, match="the chat template refuses the conversation"):
        prompts_digest(with_template(tokenizer, "{{ raise_exception('no') }}"), [one])
