"""Saved rounds: what was written is what is read, and rendering again is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.behaviour.completions import strip_echo
from interp.behaviour.generation import Decoding
from interp.behaviour.history import (
    Round,
    RoundHistory,
    history_line,
    load_histories,
    rounds_frame,
    save_histories,
)
from interp.behaviour.rounds import run_rounds
from interp.errors import InterpError
from interp.models import model_card
from interp.prompts import Call, Segment
from tests.behaviour.spoken import BEGUN, ITEM, SCORED

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

COMPLETED = replace(
    SCORED,
    name="completed",
    task="completion",
    answer="generate",
    answer_prefix="",
    decoding=Decoding(max_new_tokens=6, stop=("\n",)),
)
THOUGHTFUL = replace(
    SCORED,
    name="thoughtful",
    calls=(Call(begins="Let us think about", gives="thought"), Call(asks="So who was it?")),
    condition="chain",
    text_id="chain-01",
    slot=2,
    verdict_accuracy=0.5,
    decoding=Decoding(max_new_tokens=6),
)
SAMPLED = replace(COMPLETED, decoding=Decoding(temperature=1.0, top_p=0.9, max_new_tokens=6))


@pytest.fixture(scope="module")
def histories(tiny_model: Any) -> Any:
    scored = run_rounds(tiny_model, ITEM, SCORED, orders=[0, 1])
    begun = run_rounds(tiny_model, BEGUN, COMPLETED, seed=3)
    return scored + begun + run_rounds(tiny_model, ITEM, THOUGHTFUL, orders=[2])


def calls(history: RoundHistory) -> list[Round]:
    return [call for done in history.rounds for call in (*done.earlier, done)]


def test_a_saved_history_reads_back_whole(histories: Any, tmp_path: Path, tiny_model: Any) -> None:
    path = save_histories(tmp_path / "rounds.jsonl", histories)
    loaded = load_histories(path)
    assert len(loaded) == 4
    for a, b in zip(histories, loaded, strict=True):
        assert (a.item, a.protocol, a.order, a.sample, a.seed) == (
            b.item,
            b.protocol,
            b.order,
            b.sample,
            b.seed,
        )
        assert b.fingerprint == model_card(tiny_model).fingerprint
        assert b.mode == "raw"
        b.verify(tiny_model.tokenizer)
        assert [len(done.earlier) for done in a.rounds] == [len(done.earlier) for done in b.rounds]
        for x, y in zip(calls(a), calls(b), strict=True):
            assert x.conversation == y.conversation
            assert torch.equal(x.prompt.ids, y.prompt.ids)
            assert torch.equal(x.answer_ids, y.answer_ids)
            for name in ("spans", "str_tokens", "text", "label", "n_bos"):
                assert getattr(x.prompt, name) == getattr(y.prompt, name)
            for name in (
                "number",
                "text",
                "raw_text",
                "answered_by",
                "choice",
                "reason",
                "option_log_probs",
                "n_reused",
                "n_recomputed",
                "gives",
            ):
                assert getattr(x, name) == getattr(y, name)
            assert y.margin == pytest.approx(x.margin, nan_ok=True, abs=0)
    assert "NaN" not in path.read_text(encoding="utf-8")
    assert rounds_frame(loaded).equals(rounds_frame(histories))
    assert path.read_bytes() == save_histories(tmp_path / "again.jsonl", loaded).read_bytes()


def test_one_history_is_a_file_of_one_line(histories: Any, tmp_path: Path) -> None:
    path = histories[0].save(tmp_path / "one.jsonl")
    assert path.read_text(encoding="utf-8").count("\n") == 1
    assert load_histories(path)[0].item == histories[0].item


def test_a_history_line_is_its_line_of_the_file(histories: Any, tmp_path: Path) -> None:
    path = save_histories(tmp_path / "rounds.jsonl", histories)
    lines = [history_line(history) for history in histories]
    assert path.read_text(encoding="utf-8") == "".join(f"{line}\n" for line in lines)
    assert all("\n" not in line for line in lines)
    assert json.loads(lines[0])["item"]["id"] == histories[0].item.id


def test_line_separators_inside_texts_do_not_end_a_line(histories: Any, tmp_path: Path) -> None:
    first = replace(histories[2][0], text="one\u2028two\nthree\u0085", raw_text="\r")
    odd = replace(histories[2], rounds=(first, *histories[2].rounds[1:]))
    (loaded,) = load_histories(odd.save(tmp_path / "odd.jsonl"))
    assert (loaded[0].text, loaded[0].raw_text) == (first.text, "\r")


def test_a_history_that_renders_otherwise_is_noticed(
    histories: Any, tiny_model: Any, load_tiny: Callable[..., Any]
) -> None:
    with pytest.raises(InterpError, match="item farm-1, order 0, round 0: rendered again"):
        histories[0].verify(load_tiny("llama", chat=False).tokenizer)
    done = histories[0][1]
    (turn,) = done.conversation.turns
    changed = replace(turn, segments=(*turn.segments[:-1], Segment("instruction", "Be brief.")))
    other = replace(done, conversation=replace(done.conversation, turns=(changed,)))
    spoilt = replace(histories[0], rounds=(histories[0][0], other))
    with pytest.raises(InterpError, match="round 1: rendered again, its ids differ from position"):
        spoilt.verify(tiny_model.tokenizer)


def test_a_thought_that_renders_otherwise_is_noticed(histories: Any, tiny_model: Any) -> None:
    histories[3].verify(tiny_model.tokenizer)
    done = histories[3][1]
    (thought,) = done.earlier
    other = replace(thought, conversation=replace(thought.conversation, answer_prefix="Well,"))
    rounds = (histories[3][0], replace(done, earlier=(other,)), *histories[3].rounds[2:])
    with pytest.raises(InterpError, match="order 2, round 1, call 1: rendered again, its ids diff"):
        replace(histories[3], rounds=rounds).verify(tiny_model.tokenizer)


def test_the_table_has_a_row_per_round_and_names_of_option_scores(histories: Any) -> None:
    frame = rounds_frame(histories)
    assert len(frame) == 16
    assert list(frame["round"][:4]) == [0, 1, 2, 3]
    assert set(frame["protocol"]) == {"scored", "completed", "thoughtful"}
    assert list(frame["instruction_tokens"] > 0) == [False, True, True, True] * 4
    scored = frame[frame["protocol"] == "scored"]
    for _, row in scored.iterrows():
        done = histories[row["order"]][row["round"]]
        p = torch.tensor(done.option_log_probs, dtype=torch.float64).softmax(0)
        assert row["p_gold"] == row["p_unknown"] == pytest.approx(float(p[2]))
        assert row["p_chosen"] == pytest.approx(float(p.max()))
        assert row["correct"] == float(int(p.argmax()) == 2)
        assert row["gold_rank"] == 1 + int((p > p[2]).sum())
        assert row["entropy"] == pytest.approx(float(-(p * p.log()).sum()))
        assert row["margin"] == done.margin
        # order k lists choice k first
        assert row["chosen_position"] == (int(p.argmax()) - row["order"]) % 3
    assert scored["completion"].isna().all()
    completed = frame[frame["protocol"] == "completed"]
    for column in ("correct", "margin", "entropy", "chosen_position"):
        assert completed[column].isna().all()
    assert list(completed["completion"]) == [strip_echo(text, BEGUN) for text in completed["text"]]
    thoughtful = frame[frame["protocol"] == "thoughtful"]
    assert set(thoughtful["condition"]) == {"chain"}
    assert set(thoughtful["text_id"]) == {"chain-01"}
    assert set(thoughtful["slot"]) == {2}


def test_an_echoed_beginning_stays_in_the_history_and_is_left_out_of_the_reading(
    histories: Any,
) -> None:
    said = replace(histories[2][0], text=f" Completion: {BEGUN.prompt} went home.")
    frame = rounds_frame([replace(histories[2], rounds=(said,))])
    assert list(frame["completion"]) == ["went home."]
    assert list(frame["text"]) == [said.text]


def test_samples_and_seeds_are_kept(tiny_model: Any, tmp_path: Path) -> None:
    done = run_rounds(tiny_model, BEGUN, SAMPLED, n_rounds=1, n_samples=2, seed=9)
    loaded = load_histories(save_histories(tmp_path / "s.jsonl", done))
    assert [(h.sample, h.seed) for h in loaded] == [(0, 9), (1, 9)]


def test_files_that_hold_no_histories_are_refused(histories: Any, tmp_path: Path) -> None:
    with pytest.raises(InterpError, match=r"none\.jsonl: cannot be read"):
        load_histories(tmp_path / "none.jsonl")
    path = histories[0].save(tmp_path / "one.jsonl")
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(InterpError, match=r"one\.jsonl, line 2: not valid JSON"):
        load_histories(path)
    row = json.loads(whole) | {"format": 99}
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InterpError, match=r"line 1: .*format 99, this version reads 2"):
        load_histories(path)
    with pytest.raises(InterpError, match="cannot write the histories"):
        save_histories(tmp_path, histories)
    with pytest.raises(InterpError, match=r"no round 4, only 0\.\.3"):
        histories[0].prompt(4)
