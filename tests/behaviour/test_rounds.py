"""Rounds of self-correction: rendered from the history, cached, batched, scored or generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from interp.behaviour import cache, log_likelihood
from interp.behaviour.dialogue import EMPTY_REPLY
from interp.behaviour.generation import Decoding
from interp.behaviour.history import Round, RoundHistory, rounds_frame
from interp.behaviour.protocol import RoundProtocol, placebo_protocol, study_protocol
from interp.behaviour.rounds import run_rounds
from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError
from interp.models import forward
from interp.prompts import Call, encode_continuation, tokenize
from tests.behaviour.spoken import BEGUN, ITEM, SCORED

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

LONGER = replace(ITEM, id="farm-2", question="Who of the two was more careful with the money?")
WRITTEN = replace(SCORED, name="written", answer="generate", decoding=Decoding(max_new_tokens=6))
COMPLETED = replace(WRITTEN, name="completed", task="completion", answer_prefix="")
SAMPLED = replace(
    COMPLETED, name="sampled", decoding=Decoding(temperature=1.0, top_p=0.9, max_new_tokens=6)
)
THOUGHTFUL = replace(
    SCORED,
    name="thoughtful",
    n_rounds=2,
    calls=(
        Call(begins="Let us think about", gives="thought"),
        Call(asks="So who was it?"),
        Call(asks="What is wrong with this?", gives="critique"),
        Call(asks="So who was it after all?"),
    ),
    decoding=Decoding(max_new_tokens=6),
)

MODELS = [
    ("gpt2", True, {}),
    ("llama", True, {}),
    ("llama", False, {}),
    ("gemma2", True, {"sliding_window": 6}),
    ("neox", True, {}),
]


def calls(history: RoundHistory) -> list[Round]:
    """Every call of every round, in order."""
    return [call for done in history.rounds for call in (*done.earlier, done)]


def texts(histories: tuple[RoundHistory, ...]) -> list[list[str]]:
    return [[done.raw_text for done in calls(history)] for history in histories]


@pytest.mark.parametrize(("architecture", "chat", "options"), MODELS)
@pytest.mark.parametrize(
    ("item", "protocol"),
    [
        (ITEM, SCORED),
        (ITEM, WRITTEN),
        (BEGUN, COMPLETED),
        (ITEM, THOUGHTFUL),
        (ITEM, replace(THOUGHTFUL, answer="generate")),
        (BEGUN, replace(THOUGHTFUL, answer="generate", task="completion", answer_prefix="")),
    ],
    ids=[
        "scored",
        "written",
        "completed",
        "thought scored",
        "thought written",
        "thought completed",
    ],
)
def test_every_round_is_rendered_from_the_history_and_cached_equals_uncached(
    load_tiny: Callable[..., Any],
    architecture: str,
    chat: bool,
    options: dict[str, Any],
    item: ChoiceItem | CompletionItem,
    protocol: RoundProtocol,
) -> None:
    model = load_tiny(architecture, chat=chat, **options)
    (history,) = run_rounds(model, item, protocol, orders=[1])
    (uncached,) = run_rounds(model, item, protocol, orders=[1], cached=False)
    history.verify(model.tokenizer)
    for done, again in zip(calls(history), calls(uncached), strict=True):
        rendered = tokenize(model.tokenizer, done.conversation)
        assert torch.equal(rendered.ids, done.prompt.ids)
        assert rendered.spans == done.prompt.spans
        assert torch.equal(done.answer_ids, again.answer_ids)
        assert torch.equal(done.prompt.ids, again.prompt.ids)
        torch.testing.assert_close(
            torch.tensor(done.option_log_probs),
            torch.tensor(again.option_log_probs),
            atol=1e-4,
            rtol=0,
        )
        assert again.n_reused == 0
        assert (done.n_reused > 0) == (done.number > 0)


def test_the_conversation_goes_on_from_the_instructed_turn(tiny_model: Any) -> None:
    (history,) = run_rounds(tiny_model, ITEM, SCORED, orders=[0])
    assert [done.number for done in history.rounds] == [0, 1, 2, 3]
    assert "instruction" not in history.prompt(0).spans
    assert [len(done.conversation.turns) for done in history.rounds] == [1, 1, 3, 5]
    roles = [turn.role for turn in history[3].conversation.turns]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    for before, after in zip(history.rounds[1:], history.rounds[2:], strict=False):
        assert after.conversation.turns[:-2] == before.conversation.turns
        said = f"{SCORED.answer_prefix} {before.text}"
        assert after.conversation.turns[-2].content == said
        assert after.conversation.turns[-1].content == SCORED.reask
    names = set(history.prompt(3).spans)
    assert {"instruction", "reply_1", "request_2", "reply_2", "request_3"} < names


def test_what_is_reused_is_the_longest_common_prefix(tiny_model: Any) -> None:
    (history,) = run_rounds(tiny_model, ITEM, SCORED, orders=[0])
    for before, after in zip(history.rounds, history.rounds[1:], strict=False):
        a, b = before.prompt.ids, after.prompt.ids
        n = min(len(a), len(b))
        common = int((a[:n] != b[:n]).nonzero()[0]) if (a[:n] != b[:n]).any() else n
        assert after.n_reused == common
        assert after.n_recomputed == len(b) - common
    assert history[1].n_reused >= history.prompt(1).span("options").stop - 1


def test_a_model_that_cannot_go_on_from_kept_keys_reads_every_round_whole(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_rounds(tiny_model, ITEM, SCORED, orders=[0])
    monkeypatch.setattr(cache, "supports_cache_reuse", lambda model, n_tokens=1: False)
    (history,) = run_rounds(tiny_model, ITEM, SCORED, orders=[0])
    assert [done.n_recomputed for done in history.rounds] == [len(d.prompt) for d in history.rounds]
    assert texts((history,)) == texts(expected)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox"])
def test_a_batch_equals_single_conversations(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    together = run_rounds(model, [ITEM, LONGER], SCORED)
    alone = run_rounds(model, [ITEM, LONGER], SCORED, batch_size=1)
    assert [h.order_index for h in together] == [0, 1, 2, 0, 1, 2]
    for a, b in zip(together, alone, strict=True):
        for x, y in zip(a.rounds, b.rounds, strict=True):
            assert torch.equal(x.prompt.ids, y.prompt.ids)
            torch.testing.assert_close(
                torch.tensor(x.option_log_probs),
                torch.tensor(y.option_log_probs),
                atol=1e-4,
                rtol=0,
            )
            assert x.n_reused == y.n_reused
    for protocol in (WRITTEN, THOUGHTFUL):
        together = run_rounds(model, [ITEM, LONGER], protocol)
        assert texts(together) == texts(run_rounds(model, [ITEM, LONGER], protocol, batch_size=1))


def test_options_are_scored_as_everywhere(tiny_model: Any) -> None:
    """Against full forwards; tests/behaviour/test_replies.py compares with score_options."""
    histories = run_rounds(tiny_model, ITEM, SCORED)
    for history in histories:
        for done in history.rounds:
            more = [
                encode_continuation(tiny_model.tokenizer, done.prompt, f" {choice.text}")
                for choice in ITEM.choices
            ]
            expected = log_likelihood(
                tiny_model,
                [torch.cat([done.prompt.ids, ids]) for ids in more],
                starts=[done.n_tokens] * 3,
            ).per_token
            torch.testing.assert_close(
                torch.tensor(done.option_log_probs), expected, atol=1e-4, rtol=0
            )
            assert done.choice == int(expected.argmax())
            assert done.text == ITEM.choices[done.choice].text
            assert torch.equal(done.answer_ids, more[done.choice])


def test_generated_answers_are_the_argmax_of_full_runs(tiny_model: Any) -> None:
    thoughtful = replace(THOUGHTFUL, answer="generate", task="completion", answer_prefix="")
    (history,) = run_rounds(tiny_model, BEGUN, COMPLETED)
    (other,) = run_rounds(tiny_model, BEGUN, thoughtful)
    for done in calls(history) + calls(other):
        sequence = torch.cat([done.prompt.ids, done.answer_ids])
        places = [(0, done.n_tokens - 1 + k) for k in range(len(done.answer_ids))]
        if places:
            logits = forward(tiny_model, [sequence], logits_at=places).logits
            assert torch.equal(logits.argmax(1), done.answer_ids)


def test_generated_choices_are_read_or_reported(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter([" (b)", " the old farmer", "", " who knows"])

    def speak(*args: Any, **kwargs: Any) -> Any:
        return tuple(replace(g, text=next(said)) for g in generate(*args, **kwargs))

    from interp.behaviour import replies

    generate = replies.generate
    monkeypatch.setattr(replies, "generate", speak)
    (history,) = run_rounds(tiny_model, ITEM, WRITTEN, orders=[1])
    # order 1 lists choices 1, 2, 0
    assert [done.choice for done in history.rounds] == [2, 1, None, None]
    frame = rounds_frame([history])
    assert list(frame["reason"]) == ["", "", "the answer is empty", "names no option"]
    assert frame["correct"].tolist()[:2] == [1.0, 0.0]
    assert frame["correct"].isna().tolist() == [False, False, True, True]
    assert history[3].conversation.turns[-2].content == f"{WRITTEN.answer_prefix} {EMPTY_REPLY}"
    assert list(frame["chosen_role"]) == ["unknown", "counter", "", ""]


def test_an_answer_never_spells_a_special_token(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp.behaviour import replies

    seen: list[Any] = []
    generate = replies.generate

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        return generate(*args, **kwargs)

    monkeypatch.setattr(replies, "generate", spy)
    run_rounds(tiny_model, BEGUN, COMPLETED, n_rounds=1)
    assert {"<s>", "</s>"} <= set(seen[0]["decoding"].stop)
    assert {0, 1} <= seen[0]["stop_ids"]


def test_samples_depend_on_their_own_seed_alone(tiny_model: Any) -> None:
    other = replace(BEGUN, id="begun-2", prompt="The quick brown fox")
    many = run_rounds(tiny_model, [BEGUN, other], SAMPLED, n_rounds=2, n_samples=3, seed=5)
    few = run_rounds(tiny_model, other, SAMPLED, n_rounds=2, n_samples=2, seed=5, batch_size=1)
    assert texts(many[3:5]) == texts(few)
    assert [h.sample for h in many] == [0, 1, 2, 0, 1, 2]
    assert len({tuple(t) for t in texts(many)}) == 6
    again = run_rounds(tiny_model, other, SAMPLED, n_rounds=2, n_samples=2, seed=6)
    assert texts(again) != texts(few)


def test_the_placebo_trajectory_has_the_same_turns(tiny_model: Any) -> None:
    protocol = replace(study_protocol("bbq"), n_rounds=3)
    control = placebo_protocol(protocol, tiny_model.tokenizer)
    moral, placebo = (
        run_rounds(tiny_model, ITEM, p, orders=[0, 1])  # the same orders, the same rounds
        for p in (protocol, control)
    )
    for a, b in zip(moral, placebo, strict=True):
        assert len(a.rounds) == len(b.rounds) == 4
        for x, y in zip(a.rounds, b.rounds, strict=True):
            assert [t.role for t in x.conversation.turns] == [t.role for t in y.conversation.turns]
            assert list(x.prompt.spans) == list(y.prompt.spans)
        assert torch.equal(a.prompt(0).ids, b.prompt(0).ids)
        assert a[0].option_log_probs == pytest.approx(b[0].option_log_probs, abs=1e-5)


def test_a_template_that_rewrites_an_earlier_answer_is_refused_with_item_and_round(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was run would not be what is saved."""
    model = load_tiny("llama")
    monkeypatch.setattr(
        model.tokenizer,
        "chat_template",
        "{% for m in messages %}<|{{ m['role'] }}|>\n"
        "{{ m['content'].split('Well')[-1] }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    )
    (history,) = run_rounds(model, ITEM, SCORED, orders=[0])  # nothing to strip: handled
    history.verify(model.tokenizer)
    shortened = replace(SCORED, answer_prefix="Well, it is")
    with pytest.raises(InterpError, match="item farm-1, order 0, round 2: the chat template rewr"):
        run_rounds(model, ITEM, shortened, orders=[0])


def test_what_cannot_be_run_is_refused(tiny_model: Any) -> None:
    with pytest.raises(InterpError, match="no items to run"):
        run_rounds(tiny_model, [], SCORED)
    with pytest.raises(InterpError, match="'farm-1' is there twice"):
        run_rounds(tiny_model, [ITEM, ITEM], SCORED)
    with pytest.raises(InterpError, match=r"no cyclic order 3, only 0\.\.2"):
        run_rounds(tiny_model, ITEM, SCORED, orders=[3])
    with pytest.raises(
        InterpError, match="'once' has no re-ask and ends with round 1: n_rounds is 2"
    ):
        run_rounds(tiny_model, ITEM, replace(SCORED, name="once", reask="", n_rounds=1), 2)
    with pytest.raises(InterpError, match="n_rounds is 0: at least 1"):
        run_rounds(tiny_model, ITEM, SCORED, 0)
    with pytest.raises(InterpError, match="2 samples of protocol 'scored' would be equal"):
        run_rounds(tiny_model, ITEM, SCORED, n_samples=2)
    with pytest.raises(InterpError, match="is a completion, and protocol 'scored' is for a choice"):
        run_rounds(tiny_model, BEGUN, SCORED)
    wordy = replace(SCORED, reask="Who was it? " * 200)
    with pytest.raises(InterpError, match=r"item farm-1, order 0, round \d: .* context is 1024"):
        run_rounds(tiny_model, ITEM, wordy, orders=[0])
