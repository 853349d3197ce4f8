"""Rounds with a reasoning model: thoughts are dropped from the history, and are no part of an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.behaviour import replies
from interp.behaviour.generation import Decoding, Generation
from interp.behaviour.history import RoundHistory, load_histories, rounds_frame, save_histories
from interp.behaviour.options import option_ids
from interp.behaviour.rounds import run_rounds
from interp.models import model_card
from interp.prompts import Call, build_conversation, tokenize
from tests.behaviour.spoken import BEGUN, ITEM, SCORED
from tests.thinking import CUTS_OUT, EMPTIED, OPENS, SWITCH

TEMPLATES = [SWITCH, OPENS, EMPTIED, CUTS_OUT]
WRITTEN = replace(
    SCORED, name="written", answer="generate", answer_prefix="", decoding=Decoding(max_new_tokens=6)
)


@pytest.fixture
def model(load_tiny: Callable[..., Any]) -> Any:
    """A tiny model whose template the test may change."""
    model = load_tiny("llama")
    before = model.tokenizer.chat_template
    yield model
    model.tokenizer.chat_template = before


def writes(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Every generated reply is the next of these texts."""
    left = list(texts)
    real = replies.generate

    def generate(*args: Any, **options: Any) -> tuple[Generation, ...]:
        made = real(*args, **options)
        return tuple(replace(one, text=left[0], raw_text=left.pop(0)) for one in made)

    monkeypatch.setattr(replies, "generate", generate)


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("answer", ["score", "generate"])
def test_a_kept_cache_gives_what_no_cache_gives_where_thoughts_leave_the_history(
    model: Any, template: str, answer: Any
) -> None:
    """A dropped thought moves all later tokens: what was computed behind it must not be reused."""
    model.tokenizer.chat_template = template
    cuts_out = template == CUTS_OUT
    thought = "<|channel>thought\nhm<channel|>" if cuts_out else "<think>hm</think>"
    protocol = replace(
        SCORED, answer=answer, answer_prefix=f"{thought} It is", decoding=Decoding(max_new_tokens=6)
    )
    (kept,) = run_rounds(model, ITEM, protocol, orders=[1])
    (fresh,) = run_rounds(model, ITEM, protocol, orders=[1], cached=False)
    kept.verify(model.tokenizer)
    for a, b in zip(kept.rounds, fresh.rounds, strict=True):
        assert torch.equal(a.prompt.ids, b.prompt.ids)
        assert torch.equal(a.answer_ids, b.answer_ids)
        assert a.option_log_probs == pytest.approx(b.option_log_probs, abs=1e-4)
    assert [done.thoughts_dropped for done in kept.rounds] == [0, 0, 1, 2]
    for before, after in zip(kept.rounds, kept.rounds[1:], strict=False):
        n = min(len(before.prompt), len(after.prompt))
        same = (before.prompt.ids[:n] == after.prompt.ids[:n]).int().cumprod(0).sum()
        assert after.n_reused == int(same)


@pytest.mark.slow
@pytest.mark.parametrize("template", [SWITCH, OPENS, EMPTIED])
def test_the_answer_is_read_behind_the_thought_and_the_history_keeps_the_raw_reply(
    model: Any, template: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model.tokenizer.chat_template = template
    said = (
        "It is not known",
        "<think>\nThe teacher?\n</think>\n\nThe old farmer",
        "<think>\nThe old farmer or",
        "hm</think>The teacher",
    )
    writes(monkeypatch, *said)
    histories = run_rounds(model, ITEM, WRITTEN, orders=[0])
    frame = rounds_frame(histories)
    assert frame["text"].tolist() == list(said)
    assert frame["choice"].tolist()[:2] == [2, 1]
    assert frame["choice"].isna().tolist() == [False, False, True, False]
    assert frame["reason"].tolist() == ["", "", "the thought is unfinished", ""]
    assert frame["thoughts_dropped"].tolist() == [0, 0, 1, 1]
    (again,) = load_histories(save_histories(tmp_path / "h.jsonl", histories))
    again.verify(model.tokenizer)
    assert again[2].conversation.turns[1].content == said[1]
    assert "teacher?" not in again.prompt(2).text
    assert again[2].thoughts_dropped == 1


def test_a_completion_is_what_follows_the_thought(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.tokenizer.chat_template = OPENS
    said = ("met.", "<think>hm</think> The teacher and the farmer met.", "<think>hm", "ran.")
    writes(monkeypatch, *said)
    completed = replace(WRITTEN, name="completed", task="completion")
    frame = rounds_frame(run_rounds(model, BEGUN, completed))
    assert frame["completion"].tolist() == ["met.", "met.", "", "ran."]
    assert frame["reason"].tolist() == ["", "", "the thought is unfinished", ""]


def test_a_call_that_asks_for_thoughts_hands_its_reply_on_as_the_template_leaves_it(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.tokenizer.chat_template = OPENS
    calls = (Call(gives="thought"), Call(asks="So who was it?"))
    writes(monkeypatch, "met.", "<think>Well</think> Let me see.", "The teacher")
    protocol = replace(WRITTEN, calls=calls, n_rounds=1)
    history: RoundHistory
    (history,) = run_rounds(model, ITEM, protocol, orders=[0])
    assert history[1].earlier[0].text == "<think>Well</think> Let me see."
    assert "Well" not in history.prompt(1).text
    assert "Let me see." in history.prompt(1).text
    assert (history[1].choice, history[1].thoughts_dropped) == (0, 1)


def test_options_without_a_prefix_follow_the_answers_header_at_once(model: Any) -> None:
    model.tokenizer.chat_template = EMPTIED
    prompt = tokenize(model.tokenizer, build_conversation(ITEM, answer_prefix=""))
    ids = option_ids(model, prompt, "The teacher")
    assert model.tokenizer.decode(ids) == "The teacher"
    model.tokenizer.chat_template = CUTS_OUT  # the template's own end, without white space
    prompt = tokenize(model.tokenizer, build_conversation(ITEM, answer_prefix=""))
    assert model.tokenizer.decode(option_ids(model, prompt, "The teacher")) == " The teacher"


def test_the_card_says_how_thoughts_are_kept_out(model: Any) -> None:
    model.tokenizer.chat_template = OPENS
    card = model_card(model)
    assert card.thinking == "closed"
    assert card.one_line.endswith("raw weights, thinking: closed")
