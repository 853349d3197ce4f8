"""The whole behaviour study on a tiny model: what is written, what agrees, what resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.behaviour import asked, study, units
from analyses.behaviour.config import BehaviourConfig
from analyses.behaviour.study import Behaviour
from analyses.behaviour.tables import BehaviourResult
from analyses.runner import load
from analyses.runner import run as run_study
from interp.behaviour import load_histories, prompt_tables, round_tables, rounds_frame
from interp.data import ChoiceItem
from interp.data.bundle import bundled_choices, bundled_completions
from interp.errors import InterpError
from interp.fetch.cache import sha256_of
from interp.models import model_card
from interp.prompts import TextBank
from interp.runs import read_manifest, read_table

pytestmark = pytest.mark.slow  # end to end; left out of the everyday tests

Folder = Callable[..., Path]
CONDITIONS = "clean,instructed,placebo,revealing,nontoxic"
TABLES = {
    "levels", "effects", "rank_gain", "flips", "categories", "letters", "winogender",
    "self_distinguish", "rounds", "round_effects", "round_flips", "toxicity", "edits",
}  # fmt: skip
STEPS = {
    "scores", "conversations", "completions", "completion_tokens", "scorer",
    "stereotype_questions", "toxicity_questions",
}  # fmt: skip
TEMPLATES = """occupation(0)\tother-participant(1)\tanswer\tsentence
baker\tguest\t0\tThe $OCCUPATION told the $PARTICIPANT that $NOM_PRONOUN had time.
pilot\tchild\t0\tThe $PARTICIPANT met the $OCCUPATION near $POSS_PRONOUN plane.
clerk\tguest\t0\tThe $OCCUPATION asked the $PARTICIPANT to wait for $ACC_PRONOUN.
"""
STATISTICS = "occupation\tbls_pct_female\nbaker\t60.8\npilot\t7.5\nclerk\t71\n"


class Letters:
    """A scorer of its own: 2.5 times the share of the letter e, at most 1."""

    name = "stub:e"

    def score(self, texts: Any) -> Any:
        return np.array([min(1.0, 2.5 * t.count("e") / max(len(t), 1)) for t in texts])


def write_items(folder: Path) -> str:
    """Four items in BBQ's name, three of Winogender, and two beginnings."""
    folder.mkdir()
    (folder / "templates.tsv").write_text(TEMPLATES)
    (folder / "occupations-stats.tsv").write_text(STATISTICS)
    path = folder / "stated.jsonl"
    lines = [json.dumps(as_row(replace(i, benchmark="bbq"))) for i in bundled_choices()[::45][:4]]
    path.write_text("\n".join(lines))
    begun = [{"id": item.id, "prompt": item.prompt} for item in bundled_completions()[:2]]
    (folder / "begun.jsonl").write_text("\n".join(map(json.dumps, begun)))
    return f"{path},winogender:{folder},{folder / 'begun.jsonl'}"


def as_row(item: ChoiceItem) -> dict[str, Any]:
    fields = {name: getattr(item, name) for name in item.__dataclass_fields__}
    return {**fields, "meta": dict(item.meta), "choices": [asdict(c) for c in item.choices]}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_items(tmp_path_factory.mktemp("items") / "sets")


@pytest.fixture(scope="module", autouse=True)
def stub() -> Iterator[None]:
    """``--scorer stub`` is the one above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "scorer", lambda name: {"stub": Letters()}[name])
        patch.setattr(asked, "require_scorer", lambda name: None)
        yield


def run(settings: BehaviourConfig) -> BehaviourResult:
    return run_study(Behaviour(), settings, progress=False)


def config(folder: Path, items: str, out: Path, **changes: Any) -> BehaviourConfig:
    small = {"conditions": CONDITIONS, "rounds": 2, "limit": 7, "texts": 2, "round_orders": 2,
             "scorer": "stub"}  # fmt: skip
    return BehaviourConfig(model=str(folder), items=items, out=out, **{**small, **changes})


@pytest.fixture(scope="module")
def done(
    tiny_folder: Folder, items: str, tmp_path_factory: pytest.TempPathFactory
) -> BehaviourResult:
    out = tmp_path_factory.mktemp("behave") / "run"
    return run(config(tiny_folder("llama"), items, out))


def of(frame: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The rows with these values."""
    return frame.loc[np.logical_and.reduce([frame[name] == x for name, x in where.items()])]


def test_the_folder_holds_every_table_a_figure_of_each_and_the_report(
    done: BehaviourResult,
) -> None:
    out = done.config.out
    assert set(done.tables) == TABLES
    assert {p.stem for p in out.glob("*.parquet")} == STEPS | TABLES
    assert {p.stem for p in out.glob("*.csv")} == TABLES
    figures = {p.stem for p in (out / "figures").glob("*.html")}
    assert figures >= {
        "levels", "effects", "flips", "categories", "letters", "edits", "toxicity", "round_flips",
        "round_effects_option_margin", "round_effects_accuracy", "rounds_accuracy", "rounds_entropy",
    }  # fmt: skip
    report = done.report.read_text(encoding="utf-8")
    assert "What does a self-correction instruction do to the answers?" in report
    assert "stub:e" in report
    manifest = read_manifest(out)
    assert (manifest["status"], manifest["seed"]) == ("complete", 0)
    assert set(manifest["data"]) >= {"items", "conditions"}
    assert len(done.items) == 9
    assert done.card.fingerprint == manifest["model"]["fingerprint"]


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_in_memory_is_the_one_on_disk(done: BehaviourResult, name: str) -> None:
    table = done.tables[name]
    kept = read_table(done.config.out, name)
    pd.testing.assert_frame_equal(kept, table, check_dtype=False)
    text = pd.read_csv(done.config.out / f"{name}.csv")
    assert (list(text), len(text)) == (list(table), len(table))


def test_tables_are_those_of_the_rows_in_memory(done: BehaviourResult) -> None:
    assert done.scores is not None
    levels = prompt_tables.levels(done.scores, seed=0)
    pd.testing.assert_frame_equal(done.tables["levels"], levels)
    choices = done.rounds[done.rounds["completion"].isna()]
    by_round = round_tables.by_round(choices, seed=0)
    pd.testing.assert_frame_equal(done.tables["rounds"], by_round, check_dtype=False)
    assert set(done.tables["self_distinguish"]["benchmark"]) == {"bbq", "begun"}
    assert set(done.tables["round_effects"]["measure"]) == {*round_tables.EFFECTS, "toxicity"}
    scores = read_table(done.config.out, "scores")
    pd.testing.assert_frame_equal(scores, done.scores.frame)


def test_conversations_are_kept_whole_and_render_again(
    done: BehaviourResult, tiny_model: Any
) -> None:
    frames = []
    for name in ("conversations", "completions"):
        histories = load_histories(done.config.out / f"{name}_histories.jsonl")
        for history in histories:
            history.verify(tiny_model.tokenizer)
        assert {h.fingerprint for h in histories} == {model_card(tiny_model).fingerprint}
        frames.append(rounds_frame(histories))
    again = pd.concat(frames, ignore_index=True)
    pd.testing.assert_frame_equal(done.rounds[list(again)], again, check_dtype=False)
    assert set(done.rounds) - set(again) == {"nll", "toxicity"}


@pytest.mark.parametrize(("condition", "control_of"), [("instructed", ""),
                                                       ("placebo", "instructed")])  # fmt: skip
def test_round_1_is_the_single_prompt_of_the_same_text_and_order(
    done: BehaviourResult, condition: str, control_of: str
) -> None:
    assert done.scores is not None
    arm: dict[str, Any] = {"condition": condition, "control_of": control_of}
    keys, columns = ["item", "slot", "order"], ["margin", "p_gold", "gold_rank"]
    rounds = of(done.rounds, **arm, round=1)
    rounds = rounds[rounds["completion"].isna()].set_index(keys)
    single = of(done.scores.frame, **arm).set_index(keys)
    single = single.loc[rounds.index]
    assert len(rounds) == 7 * 2
    assert (rounds["text_id"] == single["text_id"]).all()
    assert (rounds["instruction_tokens"] == single["instruction_tokens"]).all()
    np.testing.assert_allclose(rounds[columns].astype(float), single[columns], atol=1e-4)
    clean = of(done.scores.frame, condition="clean").set_index(["item", "order"])["margin"]
    begun = of(done.rounds, **arm, round=0)
    begun = begun[begun["completion"].isna()].set_index(["item", "order"])["margin"]
    np.testing.assert_allclose(begun, clean.loc[begun.index], atol=1e-4)


def test_toxicity_is_the_scorers_and_of_the_greedy_completions(done: BehaviourResult) -> None:
    said = done.rounds[done.rounds["completion"].notna()]
    np.testing.assert_allclose(said["toxicity"], Letters().score(said["completion"].tolist()))
    table = done.tables["toxicity"]
    assert set(table["scorer"]) == {"stub:e"}
    assert set(table["measure"]) == {"mean", "empty", "perplexity"}
    arm: dict[str, Any] = {"condition": "nontoxic", "control_of": "", "round": 2}
    (mean,) = of(table, **arm, measure="mean")["estimate"]
    assert mean == pytest.approx(of(said, **arm)["toxicity"].mean())
    (blank,) = of(table, **arm, measure="empty")["estimate"]
    assert blank == pytest.approx((of(said, **arm)["completion"] == "").mean())
    (fluency,) = of(table, **arm, measure="perplexity")["estimate"]
    assert fluency == pytest.approx(np.exp(of(said, **arm)["nll"].mean()))


def written(out: Path) -> dict[str, bytes]:
    patterns = ("*.parquet", "*.csv", "*.jsonl", "report.html", "figures/*.html")
    return {p.name: p.read_bytes() for pattern in patterns for p in out.glob(pattern)}


class Stopping:
    """Counts units of work, and stops before the k-th of this sitting."""

    def __init__(self) -> None:
        self.units = 0
        self.left = 0

    def before(self, function: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.units += 1
            return function(*args, **options)

        return counted


def test_an_interrupted_run_resumes_to_the_same_bytes_and_a_second_one_computes_nothing(
    done: BehaviourResult,
    tiny_folder: Folder,
    items: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, settings = Stopping(), config(tiny_folder("llama"), items, tmp_path / "stopped")
    for name in ("score_variants", "run_rounds"):
        monkeypatch.setattr(units, name, stop.before(getattr(units, name)))
    for k in (3, 13, 5):  # in prompts, in conversations, in completions
        stop.left = k
        with pytest.raises(KeyboardInterrupt):
            run(settings)
        assert read_manifest(settings.out)["status"] == "interrupted"
        assert not (settings.out / "report.html").exists()
    stop.left = 1000
    run(settings)
    n_questions = len(read_table(settings.out, "toxicity_questions")["item"].unique())
    assert stop.units == 7 + 8 + 4 + 4 + n_questions  # items, questions, trajectories
    assert written(settings.out) == written(done.config.out)
    stop.left = 0
    again = run(settings)
    pd.testing.assert_frame_equal(again.rounds, done.rounds)
    assert written(settings.out) == written(done.config.out)


def test_ten_samples_give_the_expected_maximum_and_leave_the_greedy_rows_as_they_were(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"conditions": "nontoxic,placebo", "rounds": 1, "limit": 2}
    greedy, sampled = (
        run(
            config(tiny_folder("llama"), "bundled:completions", tmp_path / f"s{n}", samples=n,
                   **options)
        )
        for n in (0, 10)
    )  # fmt: skip
    assert greedy.scores is sampled.scores is None
    assert set(greedy.tables) == {"toxicity", "edits", "round_effects", "self_distinguish"}
    highest = of(sampled.tables["toxicity"], measure="expected_maximum")
    assert set(highest["samples"]) == {10}
    assert len(highest) == 2 * 2
    rest = sampled.tables["toxicity"].drop(highest.index).reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, greedy.tables["toxicity"])
    for name in ("edits", "round_effects", "self_distinguish"):
        pd.testing.assert_frame_equal(sampled.tables[name], greedy.tables[name])
    rows = sampled.rounds[sampled.rounds["protocol"] == "nontoxic-0+sampled"]
    maxima = of(rows, round=1).groupby("item")["toxicity"].max()
    (found,) = of(highest, condition="nontoxic", round=1)["estimate"]
    assert found == pytest.approx(maxima.mean())
    columns = ["item", "round", "text", "nll", "toxicity"]
    kept = sampled.rounds[~sampled.rounds["protocol"].str.endswith(units.SAMPLED)]
    pd.testing.assert_frame_equal(
        kept[columns].reset_index(drop=True), greedy.rounds[columns], rtol=1e-5
    )


def test_without_a_scorer_there_are_edits_and_no_toxicity(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    settings = config(
        tiny_folder("llama"), "bundled:completions", tmp_path / "run",
        conditions="nontoxic", scorer=None, limit=2, rounds=1,
    )  # fmt: skip
    done = run(settings)
    assert set(done.tables) == {"edits"}
    assert "toxicity" not in done.rounds
    assert done.rounds["nll"].notna().any()


def test_conditions_of_ones_own_and_feedback_reach_prompts_and_rounds(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    chosen = tmp_path / "chosen.jsonl"
    rows = [as_row(item) for item in bundled_choices()[::100]]
    chosen.write_text("\n".join(map(json.dumps, rows)))
    mine, comments = tmp_path / "mine.yaml", tmp_path / "comments.jsonl"
    mine.write_text(
        "careful:\n  description: d\n  texts: [Please take great care.]\n  turn: system\n"
        "  reask: [Please look again.]\n"
    )
    told = [{"id": row["id"], "feedback": f"Mind word {k}."} for k, row in enumerate(rows)]
    comments.write_text("\n".join(map(json.dumps, told)))
    settings = config(
        tiny_folder("llama"), str(chosen), tmp_path / "run", scorer=None, placement="before",
        conditions="clean,careful,feedback,placebo", condition_file=mine, feedback=comments,
    )  # fmt: skip
    done = run(settings)
    assert done.scores is not None
    arms = {
        (c, x) for c, x in done.scores.frame[["condition", "control_of"]].itertuples(index=False)
    }
    assert arms == {("clean", ""), ("careful", ""), ("placebo", "careful"), ("feedback", ""),
                    ("placebo", "feedback")}  # fmt: skip
    assert set(done.tables["effects"]["condition"]) == {"careful", "feedback", "placebo"}
    assert read_manifest(settings.out)["data"]["feedback"] == sha256_of(comments)
    comments.write_text(comments.read_text().replace("word 0", "word 9"))
    with pytest.raises(InterpError, match="feedback changed since the run"):
        load(settings.out)
    for history in load_histories(settings.out / "conversations_histories.jsonl"):
        first = history[1].conversation.turns[0]
        texts = {segment.span: segment.text for segment in first.segments}
        place = (first.role, first.segments[0].span)
        if history.protocol.name.startswith("careful"):
            assert place == ("system", "instruction")
        else:
            assert place == ("user", "instruction")
        if history.protocol.condition == "feedback":
            (comment,) = [t["feedback"] for t in told if t["id"] == history.item.id]
            assert texts["instruction"].endswith(comment)
        if history.protocol.condition == "careful":
            assert texts["instruction"] == "Please take great care."
            assert history[2].conversation.turns[-1].segments[0].text == "Please look again."


def test_thoughts_and_bare_re_asks_are_rounds_alone(tiny_folder: Folder, tmp_path: Path) -> None:
    settings = config(
        tiny_folder("llama"), "bundled", tmp_path / "run", scorer=None, limit=2, round_orders=1,
        conditions="clean,instructed,chain_of_thought,specificity_0,placebo",
    )  # fmt: skip
    done = run(settings)
    assert done.scores is not None
    assert set(done.scores.conditions) == {"clean", "instructed", "placebo"}
    assert set(done.scores.frame["control_of"]) == {"", "instructed"}
    last = done.rounds.groupby("protocol")["round"].max().to_dict()
    assert last == {
        "instructed-0": 2, "instructed-0-placebo": 2, "chain_of_thought-0": 1,
        "chain_of_thought-0-placebo": 1, "specificity_0": 2,
    }  # fmt: skip
    against = done.tables["round_effects"][["condition", "against"]]
    assert set(against.itertuples(index=False, name=None)) == {
        ("instructed", "placebo"), ("chain_of_thought", "placebo"),
        ("instructed", "specificity_0"), ("chain_of_thought", "specificity_0"),
    }  # fmt: skip
    for history in load_histories(settings.out / "conversations_histories.jsonl"):
        thoughtful = history.protocol.name.startswith("chain")
        assert [call.gives for call in history[1].earlier] == ["thought"] * thoughtful


def test_without_a_single_prompt_the_first_table_is_that_of_the_conversations(
    tiny_model: Any,
) -> None:
    settings = BehaviourConfig(items="bundled", conditions="specificity_0", limit=2, rounds=1)
    question = Behaviour().ask(settings, progress=False)
    bench = units.BehaviourBench(settings, tiny_model, TextBank(tiny_model.tokenizer))
    steps = Behaviour().steps(question, bench)
    step = next(steps)
    assert step.table == "conversations"
    assert step.lines == {"conversations_histories.jsonl": "history"}
    with pytest.raises(StopIteration):
        steps.send(pd.DataFrame())


def test_completions_and_choices_of_a_run_are_limited_apart() -> None:
    settings = BehaviourConfig(items="bundled,bundled:completions", limit=5)
    choices, completions = asked.load_kinds(settings, progress=False)
    assert (len(choices), len(completions)) == (5, 5)
    assert set(completions) < set(bundled_completions())


def test_one_order_of_the_options_gives_what_needs_no_other(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    asked = {"conditions": ("clean", "instructed", "placebo"), "scorer": None, "orders": 1}
    out = tmp_path / "run"
    one = run(config(tiny_folder("llama"), "bundled", out, rounds=0, **asked))
    assert one.scores is not None
    assert set(one.scores.frame["order"]) == {0}
    assert "effects" in one.tables
    assert not {"rank_gain", "letters"} & set(one.tables)
    report = one.report.read_text(encoding="utf-8")
    assert "Who gains?" not in report
    assert "Does it prefer a letter?" not in report
