"""What the behaviour study asks: prompts and conversations equal those made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.behaviour import units
from analyses.behaviour.config import BehaviourConfig
from analyses.behaviour.units import BehaviourBench
from interp.behaviour import (
    completion_nll,
    load_histories,
    rounds_frame,
    run_rounds,
    score_options,
    score_variants,
)
from interp.data import ChoiceItem, CompletionItem
from interp.data.bundle import bundled_choices, bundled_completions
from interp.prompts import Condition, TextBank, load_conditions

pytestmark = pytest.mark.slow

ITEM = bundled_choices()[0]
CHOICES = bundled_choices()[::24][:3]
BEGUN = bundled_completions()[:2]
KEYS = ["item", "condition", "control_of", "slot", "order"]


class Counting:
    """A scorer of its own: the share of the letter e, so that every text has another score."""

    name = "stub:e"

    def score(self, texts: Any) -> Any:
        return np.array([text.count("e") / max(len(text), 1) for text in texts])


def config(*conditions: str, **options: Any) -> BehaviourConfig:
    return BehaviourConfig(**{"conditions": conditions, "texts": 2, "rounds": 1, **options})


def bank_of(model: Any, **options: Any) -> TextBank:
    return TextBank(model.tokenizer, **options)


def score(model: Any, items: Any, settings: BehaviourConfig, **options: Any) -> pd.DataFrame:
    """The rows of single prompts."""
    n_options = max(len(item.choices) for item in items)
    bench = BehaviourBench(settings, model, bank_of(model, **options), n_options=n_options)
    return pd.concat([units.score_prompts(bench, item) for item in items], ignore_index=True)


def hold(model: Any, talks: Any, settings: BehaviourConfig, **options: Any) -> pd.DataFrame:
    """The rounds of conversations."""
    bench = BehaviourBench(settings, model, bank_of(model), **options)
    return pd.concat([units.hold_talk(bench, talk) for talk in talks], ignore_index=True)


def histories_of(frame: pd.DataFrame, folder: Path) -> Any:
    """The conversations whose lines stand beside the first rounds."""
    path = folder / "histories.jsonl"
    path.write_text("".join(f"{line}\n" for line in frame["history"] if line), encoding="utf-8")
    return load_histories(path)


def arms(frame: pd.DataFrame) -> dict[tuple[str, str], list[int]]:
    return {
        (str(condition), str(control_of)): sorted(set(rows["slot"]))
        for (condition, control_of), rows in frame.groupby(["condition", "control_of"])
    }


@pytest.mark.parametrize(
    ("name", "alone"),
    [("clean", True), ("instructed", True), ("revealing", True), ("feedback", True),
     ("placebo", False), ("specificity_0", False), ("reask_leading", False), ("critique", False),
     ("chain_of_thought", False), ("nontoxic", False)],
)  # fmt: skip
def test_a_single_prompt_is_one_call_with_words_of_its_own_or_clean(name: str, alone: bool) -> None:
    assert units.is_single_prompt(load_conditions()[name]) is alone


# ---------------------------------------------------------------------------- single prompts


def test_scores_are_those_of_score_options_with_the_same_bank(tiny_model: Any) -> None:
    names = ("clean", "instructed", "placebo", "revealing")
    scores = score(tiny_model, CHOICES[:2], config(*names))
    known = score_options(
        tiny_model, CHOICES[:2], conditions=names, n_texts=2, n_control_texts=2,
        bank=bank_of(tiny_model), progress=False,
    )  # fmt: skip
    one, other = (frame.set_index(KEYS).sort_index() for frame in (scores, known.frame))
    pd.testing.assert_frame_equal(one[other.columns], other, rtol=1e-4, atol=1e-4)


def test_every_matched_text_has_its_placebo_and_clean_and_unmatched_ones_none(
    tiny_model: Any,
) -> None:
    names = ("clean", "instructed", "specificity_0", "justice", "chain_of_thought", "placebo")
    frame = score(tiny_model, [ITEM], config(*names))
    assert arms(frame) == {
        ("clean", ""): [0],
        ("instructed", ""): [0, 1],
        ("justice", ""): [0, 1],
        ("placebo", "instructed"): [0, 1],
        ("placebo", "justice"): [0, 1],
    }
    assert frame.loc[frame["condition"] == "placebo", "mismatch"].notna().all()


def test_placebos_come_only_when_they_are_named(tiny_model: Any) -> None:
    frame = score(tiny_model, [ITEM], config("clean", "instructed"))
    assert set(frame["condition"]) == {"clean", "instructed"}


def test_conditions_with_fewer_texts_than_asked_for_give_all_they_have(tiny_model: Any) -> None:
    frame = score(tiny_model, [ITEM], config("instructed", "gender", texts=9))
    assert arms(frame) == {("instructed", ""): [*range(9)], ("gender", ""): [*range(6)]}


@pytest.mark.parametrize(("placement", "turn"), [("before", "user"), ("after", "system")])
def test_placement_and_turn_reach_texts_and_their_placebos(
    tiny_model: Any, placement: Any, turn: Any
) -> None:
    settings = config("clean", "instructed", "placebo", placement=placement, turn=turn, texts=1)
    frame = score(tiny_model, [ITEM], settings)
    bank = bank_of(tiny_model)
    (text,) = bank.texts("instructed", ITEM, 1)
    placed = [replace(v, turn=turn) for v in (text, *bank.placebos((text,)))]
    variants = [Condition("clean", "clean", None), *placed]
    expected = score_variants(tiny_model, ITEM, variants, placement=placement)
    pd.testing.assert_frame_equal(frame[expected.columns], expected, rtol=1e-4, atol=1e-4)
    usual = score_variants(tiny_model, ITEM, [text])["margin"]
    moved = frame.loc[frame["condition"] == "instructed", "margin"]
    assert not np.allclose(moved, usual, atol=1e-3)


def test_the_place_that_a_condition_fixes_is_not_moved(tiny_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("early:\n  description: d\n  texts: [Take care.]\n  placement: before\n")
    specs = load_conditions(path)
    settings = config("early", turn="system", texts=1)
    frame = score(tiny_model, [ITEM], settings, conditions=specs)
    first = Condition("early", "early-01", "Take care.", placement="before")
    expected = score_variants(tiny_model, ITEM, [first])
    np.testing.assert_allclose(frame["margin"], expected["margin"], atol=1e-4)


def test_items_of_two_and_of_three_options_have_the_same_columns(tiny_model: Any) -> None:
    other = ITEM.choices[(ITEM.gold + 1) % 3]
    two = replace(ITEM, id="two", choices=(ITEM.choices[ITEM.gold], other), gold=0)
    three = CHOICES[1]
    frame = score(tiny_model, [three, two], config("clean"))
    assert frame.groupby("item").size().to_dict() == {three.id: 3, "two": 2}
    absent = frame[["p_position_2", "letter_c"]].isna().all(axis=1)
    assert absent.tolist() == (frame["item"] == "two").tolist()
    sums = frame[[f"p_position_{k}" for k in range(3)]].sum(axis=1)
    np.testing.assert_allclose(sums, 1.0, atol=1e-5)


def test_feedback_of_a_file_stands_in_the_prompt_of_its_item(tiny_model: Any) -> None:
    told = {item.id: f"Look at word {k}." for k, item in enumerate(CHOICES[:2])}
    settings = config("feedback", texts=1)
    frame = score(tiny_model, CHOICES[:2], settings, feedback=told)
    for item in CHOICES[:2]:
        text = f"A reviewer left this comment: {told[item.id]}"
        expected = score_variants(tiny_model, item, [Condition("feedback", "feedback-01", text)])
        own = frame[frame["item"] == item.id]
        np.testing.assert_allclose(own["margin"], expected["margin"], atol=1e-4)


# ---------------------------------------------------------------------------- conversations


def protocols(talks: Any) -> list[str]:
    return list(dict.fromkeys(talk.protocol.name for talk in talks))


def test_trajectories_are_those_of_the_conditions_each_before_its_control(tiny_model: Any) -> None:
    names = ("clean", "instructed", "specificity_0", "chain_of_thought", "nontoxic", "placebo")
    settings = config(*names, rounds=3, round_texts=2)
    talks = units.talks(bank_of(tiny_model), [ITEM], "choice", settings)
    assert protocols(talks) == [
        "instructed-0", "instructed-1", "instructed-0-placebo", "instructed-1-placebo",
        "specificity_0", "chain_of_thought-0", "chain_of_thought-1", "chain_of_thought-0-placebo",
        "chain_of_thought-1-placebo",
    ]  # fmt: skip
    rounds = {talk.protocol.name: talk.protocol.n_rounds for talk in talks}
    assert (rounds["instructed-0"], rounds["chain_of_thought-0"]) == (3, 1)


def test_items_are_asked_in_parts_that_depend_on_the_plan_alone(tiny_model: Any) -> None:
    items = bundled_choices()[:19]
    talks = units.talks(bank_of(tiny_model), items, "choice", config("specificity_0"))
    assert [len(talk.items) for talk in talks] == [8, 8, 3]
    assert tuple(item for talk in talks for item in talk.items) == items


def test_without_rounds_or_items_nobody_talks(tiny_model: Any) -> None:
    bank = bank_of(tiny_model)
    assert units.talks(bank, [ITEM], "choice", config("instructed", rounds=0)) == ()
    assert units.talks(bank, [], "choice", config("instructed")) == ()
    assert units.talks(bank, [ITEM], "choice", config("clean")) == ()


def test_only_completions_are_sampled_beside_the_greedy_ones(tiny_model: Any) -> None:
    bank, settings = bank_of(tiny_model), config("instructed", "placebo", samples=10)
    assert protocols(units.talks(bank, [ITEM], "choice", settings))[-1] == "instructed-0-placebo"
    talks = units.talks(bank, BEGUN, "completion", settings)
    assert protocols(talks) == [
        "instructed-0", "instructed-0-placebo", "instructed-0+sampled",
        "instructed-0-placebo+sampled",
    ]  # fmt: skip
    greedy, sampled = talks[0].protocol.decoding, talks[-1].protocol.decoding
    assert (greedy.temperature, sampled.temperature, sampled.top_p) == (0.0, 1.0, 0.9)
    assert sampled.max_new_tokens == greedy.max_new_tokens


@pytest.mark.parametrize(("placement", "turn"), [("before", "user"), ("after", "system")])
def test_rounds_are_those_of_run_rounds_and_their_histories_are_kept(
    tiny_model: Any, tmp_path: Path, placement: Any, turn: Any
) -> None:
    settings = config(
        "instructed", "placebo", rounds=2, round_orders=2, placement=placement, turn=turn
    )
    talks = units.talks(bank_of(tiny_model), CHOICES, "choice", settings)
    frame = hold(tiny_model, talks, settings)
    histories = [
        history
        for talk in talks
        for history in run_rounds(tiny_model, CHOICES, talk.protocol, orders=(0, 1))
    ]
    rounds = frame.drop(columns="history")
    pd.testing.assert_frame_equal(rounds, rounds_frame(histories), check_dtype=False)
    kept = histories_of(frame, tmp_path)
    pd.testing.assert_frame_equal(rounds_frame(kept), rounds, check_dtype=False)
    for history in kept:
        history.verify(tiny_model.tokenizer)
        turns = history[1].conversation.turns
        first = turns[0].segments[0].span
        if turn == "system":
            assert (turns[0].role, first, turns[1].role) == ("system", "instruction", "user")
        else:
            assert (turns[0].role, first) == ("user", "instruction")


def test_thoughts_before_an_answer_are_kept(tiny_model: Any, tmp_path: Path) -> None:
    settings = config("chain_of_thought", "placebo", rounds=3)
    talks = units.talks(bank_of(tiny_model), [ITEM], "choice", settings)
    frame = hold(tiny_model, talks, settings)
    assert frame["round"].tolist() == [0, 1] * 2
    for history in histories_of(frame, tmp_path):
        assert [len(done.earlier) for done in history.rounds] == [0, 1]
        (thought,) = history[1].earlier
        assert thought.gives == "thought"
        assert thought.text.strip() in history[1].prompt.text
        history.verify(tiny_model.tokenizer)


def test_samples_stand_beside_the_greedy_completions_and_change_nothing_about_them(
    tiny_model: Any,
) -> None:
    settings = config("nontoxic", samples=10)
    greedy = units.talks(bank_of(tiny_model), BEGUN, "completion", config("nontoxic"))
    alone = hold(tiny_model, greedy, config("nontoxic"), scorer=Counting())
    both = units.talks(bank_of(tiny_model), BEGUN[:1], "completion", settings)
    frame = hold(tiny_model, both, settings, scorer=Counting())
    sampled = frame["protocol"].str.endswith(units.SAMPLED)
    assert (
        frame[sampled].groupby(["item", "round"])["sample"].apply(list).tolist()
        == [list(range(10))] * 2
    )
    assert frame.loc[sampled & (frame["round"] == 1), "completion"].nunique() > 1
    same = alone[alone["item"] == BEGUN[0].id].reset_index(drop=True)
    assert frame[~sampled]["text"].tolist() == same["text"].tolist()
    np.testing.assert_allclose(frame[~sampled]["nll"], same["nll"], rtol=1e-5)
    share = frame["completion"].str.count("e") / frame["completion"].str.len().clip(lower=1)
    np.testing.assert_allclose(frame["toxicity"], share)
    prompt_of = {item.id: item.prompt for item in BEGUN}
    for row in alone.itertuples():
        alone_nll = completion_nll(tiny_model, prompt_of[str(row.item)], str(row.completion))
        assert row.nll == pytest.approx(alone_nll, rel=1e-4)


# ---------------------------------------------------------------------------- questions


def test_stereotypes_are_asked_of_bbq_items_that_have_both_groups() -> None:
    bbq = [replace(item, benchmark="bbq") for item in CHOICES]
    no_target = replace(
        bbq[0], id="none", choices=tuple(replace(c, role="other") for c in bbq[0].choices)
    )
    questions = units.stereotype_questions([CHOICES[0], *bbq, no_target])
    assert [q.meta["source"] for q in questions] == [i.id for i in bbq for _ in range(2)]


def completed(item: CompletionItem, protocol: str, texts: Any, toxicity: Any) -> list[Any]:
    return [
        {"item": item.id, "protocol": protocol, "round": k, "completion": text, "toxicity": score}
        for k, (text, score) in enumerate(zip(texts, toxicity, strict=True))
    ]


def test_toxicity_is_asked_of_the_first_and_the_last_greedy_completion() -> None:
    rows = [
        *completed(BEGUN[0], "nontoxic-0", ["a rude one", "x", "a kind one"], [0.9, 0.5, 0.1]),
        *completed(BEGUN[0], "nontoxic-0-placebo", ["a rude one", "y"], [0.9, 0.85]),
        *completed(BEGUN[1], "nontoxic-0", ["mild", "worse"], [0.2, 0.4]),
        *completed(BEGUN[1], "nontoxic-0+sampled", ["one", "other"], [0.0, 1.0]),
    ]
    questions = units.toxicity_questions(pd.DataFrame(rows), BEGUN)
    found = [([c.text for c in q.choices], q.gold, q.meta["asks"]) for q in questions]
    assert found == [
        (["a rude one", "a kind one"], 1, "less"),
        (["a rude one", "a kind one"], 0, "more"),
        (["mild", "worse"], 0, "less"),
        (["mild", "worse"], 1, "more"),
    ]
    assert BEGUN[1].prompt in questions[2].context
    assert units.toxicity_questions(pd.DataFrame(rows).drop(columns="toxicity"), BEGUN) == ()


def test_questions_are_scored_under_the_clean_prompt(tiny_model: Any) -> None:
    questions = units.stereotype_questions([replace(ITEM, benchmark="bbq")])
    bench = BehaviourBench(config("clean"), tiny_model, bank_of(tiny_model))
    frame = pd.concat([units.score_question(bench, q) for q in questions], ignore_index=True)
    known = score_options(tiny_model, questions, conditions=["clean"], progress=False)
    pd.testing.assert_frame_equal(frame, known.frame)


def test_lines_of_histories_stand_in_the_order_of_the_plan(tiny_model: Any) -> None:
    items: tuple[ChoiceItem, ...] = bundled_choices()[:9]
    settings = config("specificity_0")
    talks = units.talks(bank_of(tiny_model), items, "choice", settings)
    lines = [line for line in hold(tiny_model, talks, settings)["history"] if line]
    assert [json.loads(line)["item"]["id"] for line in lines] == [item.id for item in items]


def test_ids_of_completions_are_those_of_each_text_alone(tiny_model: Any) -> None:
    bench = BehaviourBench(config("clean"), tiny_model, bank_of(tiny_model))
    table = units.token_ids(bench, ["The teacher", ""])
    ids = tiny_model.tokenizer("The teacher", add_special_tokens=False)["input_ids"]
    assert table.to_dict("list") == {"text": ["The teacher", ""], "ids": [ids, []]}
