"""Texts, messages and ids as prompts, and spans of one's own."""

from __future__ import annotations

from typing import Any

import jaxtyping
import pytest
import torch

from interp.errors import InterpError
from interp.prompts import build_conversation, prompt_of_ids, tokenize, with_spans
from interp.prompts.texts import written_prompt

TEXT = "The teacher met the farmer. The farmer was late for the teacher"


def held(prompt: Any, name: str) -> str:
    return "".join(prompt.str_tokens[prompt.span(name)])


def test_a_text_begins_with_one_bos_and_no_chat_template(tiny_model: Any) -> None:
    prompt = written_prompt(tiny_model, TEXT)
    ids = tiny_model.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert prompt.ids.tolist() == [tiny_model.tokenizer.bos_token_id, *ids]
    assert (prompt.n_bos, prompt.text) == (1, TEXT)
    assert prompt.label == "The teacher met the farmer. The…"
    again = written_prompt(tiny_model, "<s>" + TEXT)
    assert again.ids.tolist() == prompt.ids.tolist()


def test_messages_are_rendered_as_a_conversation_is(tiny_model: Any) -> None:
    messages = [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": "Who was late?"},
        {"role": "assistant", "content": "The teacher."},
        {"role": "user", "content": "Are you sure?"},
    ]
    prompt = written_prompt(tiny_model, messages)
    expected = tiny_model.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert prompt.text == expected
    assert [n for n in prompt.spans if "template" not in n and n != "header"] == [
        "system", "user", "assistant", "user_2",
    ]  # fmt: skip
    said = written_prompt(tiny_model, [*messages, {"role": "assistant", "content": "The"}])
    assert said.text == expected + "The"
    assert held(said, "answer_prefix") == "The"


def test_spans_are_parts_of_the_text_or_ranges_of_tokens(tiny_model: Any) -> None:
    spans = {"first": "teacher met", "end": slice(-2, None), "bos": (0, 1)}
    prompt = written_prompt(tiny_model, TEXT, spans=spans)
    assert held(prompt, "first").strip() == "teacher met"
    assert prompt.spans["bos"] == slice(0, 1)
    assert prompt.spans["end"] == slice(len(prompt) - 2, len(prompt))
    covered = [p for span in prompt.spans.values() for p in range(span.start, span.stop)]
    assert covered == list(range(len(prompt)))
    assert list(prompt.spans) == ["bos", "prompt", "first", "prompt_1", "end"]


def test_a_part_holds_every_token_with_one_of_its_characters(tiny_model: Any) -> None:
    prompt = written_prompt(
        tiny_model, "Café ☕ now: 漢字 here", spans={"cup": "☕ ", "sign": "漢"}
    )
    for name, text in (("cup", "☕"), ("sign", "漢")):
        ids = prompt.ids[prompt.span(name)].tolist()
        assert tiny_model.tokenizer.decode(ids).strip() == text


def test_a_span_in_a_message_leaves_the_rest_of_the_message(tiny_model: Any) -> None:
    messages = [{"role": "user", "content": "Who was late? Please be fair. Think."}]
    prompt = written_prompt(tiny_model, messages, spans={"instruction": "Please be fair."})
    names = list(prompt.spans)
    assert names[names.index("user") :][:3] == ["user", "instruction", "user_1"]
    assert held(prompt, "user_1") == " Think."


def test_parts_of_a_rendered_item_and_of_token_ids(tiny_model: Any) -> None:
    from interp.data import bundled_choices

    prompt = tokenize(tiny_model.tokenizer, build_conversation(bundled_choices()[0]))
    again = with_spans(tiny_model, prompt, {"asked": "choice"})
    assert held(again, "asked").strip() == "choice"
    assert list(again.spans)[-3:] == ["answer_prefix", "asked", "answer_prefix_1"]
    ids = prompt_of_ids(tiny_model, written_prompt(tiny_model, TEXT).ids, "own", {"x": "was late"})
    assert held(ids, "x").strip() == "was late"


@pytest.mark.parametrize(
    ("spans", "complaint"),
    [
        ({"x": "nowhere"}, "'nowhere' is not in The teacher met"),
        (
            {"x": "farmer"},
            r"'farmer' stands 2 times in .*one range of tokens, \(\d+, \d+\) or \(\d",
        ),
        ({"x": ""}, "an empty text"),
        ({"x": (3, 3)}, "'x' is 3:3 of .*: give spans that hold tokens and do not overlap"),
        ({"x": (0, 999)}, "'x' is 0:999"),
        ({"x": (0, 4), "y": (3, 6)}, "'y' is 3:6"),
        ({"x": slice(0, 4, 2)}, "give a part of the text"),
        ({"x": (1, 2, 3)}, "give .start, stop., two token positions"),
        ({"x": 3}, "give a part of the text, .start, stop. or a slice"),
    ],
)
def test_a_span_that_cannot_be_placed_is_refused(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, spans: Any, complaint: str
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InterpError, match=complaint) as refused:
        written_prompt(tiny_model, TEXT, spans=spans)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("", "empty text"),
        ("a" * 3000, "the model's context is 1024"),
        ("half \ud83d", "half a surrogate pair"),
        (3, "expected a text, chat messages"),
        ([3, 4], r"token ids are torch.tensor\(\[3, 4\]"),
        ({"role": "user", "content": "x"}, "expected a text, chat messages"),
        ([{"role": "user"}], "message 0 has 'role': give 'role' and 'content'"),
        ([{"role": "bot", "content": "x"}], "message 0 has the role 'bot'; known: system, user"),
        (torch.tensor([0.5]), "give integer token ids"),
        (torch.zeros(2, 3, dtype=torch.long), "a batch of 2 prompts"),
    ],
)
def test_what_is_no_prompt_is_refused_in_one_line(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, written: Any, complaint: str
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InterpError, match=complaint) as refused:
        written_prompt(tiny_model, written)
    assert "\n" not in str(refused.value)
