"""Scorecards of models of known truth: a tenth of the suite, and no truth where cards are made."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from analyses.benchmarks.known import card_directions, cards
from analyses.benchmarks.known.cards import compiled_cards, trained_cards
from analyses.benchmarks.known.scorecards import (
    cards_of,
    scored,
    share_errors,
    suite_names,
)
from analyses.benchmarks.known.suite import confusion, write_rows
from interp.known import Program, TrainedTruth, Truth, trained_truth
from interp.superficiality.rows import CHANGED, CONTENT_IN, CONTENT_OUT, INTERACTION

SEED = 1
"""Of ten; a compiled model is rotated among noise then, a trained one has RMSNorm."""

ROOT = Path(__file__).resolve().parents[3]


@cache
def rows_of(name: str) -> pd.DataFrame:
    return scored(name, cards_of(name, [SEED]))


def asked(name: str) -> pd.Series:
    rows = rows_of(name)
    return rows[rows["question"] == "asked"].iloc[0]


@pytest.mark.parametrize("name", ["deep", "superficial", "trend_read", "late_answer"])
def test_content_that_is_rewritten_is_deep_and_an_answer_that_is_shifted_superficial(
    name: str,
) -> None:
    found = asked(name)
    assert found["verdict"] == found["truth"], found["because"]
    for way in (CONTENT_IN, CONTENT_OUT):
        assert found[way] == pytest.approx(found["alpha"], abs=0.1)


def test_an_instruction_that_moves_nothing_and_one_that_backfires_are_called_so() -> None:
    rows = rows_of("superficial").set_index("question")
    assert rows.loc["judged", "verdict"] == rows.loc["judged", "truth"] == "no effect to explain"
    assert rows.loc["negated", "verdict"] == rows.loc["negated", "truth"] == "backfires"
    assert asked("duplicate_gap")["verdict"] == "no effect to explain"
    rows = rows_of("late_answer").set_index("question")
    assert rows.loc["reversed", "verdict"] == rows.loc["reversed", "truth"] == "backfires"


def test_routes_that_back_each_other_up_are_flagged() -> None:
    found = asked("either_answer")
    assert found["verdict"] == "mixed"
    assert "back each other up" in found["because"]
    assert found[INTERACTION] == pytest.approx(1, abs=0.1)
    assert found["backup"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in suite_names() if name not in ("mixture_75", "share_75", "rank_4")]
)
def test_a_tenth_of_the_suite_is_right(name: str) -> None:
    """``_75``: more than half is deep by the rule; ``rank_4``: see docs/validity.md."""
    for row in rows_of(name).to_dict("records"):
        if row["localised"] and row["truth"]:
            assert row["verdict"] == row["truth"], (row["question"], row["because"])
    if pd.notna(asked(name)["alpha"]) and asked(name)["localised"]:
        for way in (CONTENT_IN, CONTENT_OUT):
            assert asked(name)[way] == pytest.approx(asked(name)["alpha"], abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixture_75", "share_75"])
def test_a_planted_share_above_a_half_is_found(name: str) -> None:
    table = share_errors(rows_of(name))
    for way in (CONTENT_IN, CONTENT_OUT):
        assert table[f"error, {way}"].iloc[0] <= 0.1
    assert asked(name)[CHANGED] == pytest.approx(0.75, abs=0.1)


def test_cards_are_made_without_asking_a_program_or_opening_a_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(*args: object, **kwargs: object) -> None:
        raise AssertionError("a truth was asked")

    for owner, name in (
        (Program, "run"),
        (Truth, "run"),
        (Truth, "inputs"),
        (TrainedTruth, "place_of"),
        (trained_truth, "open_truth"),
        (trained_truth, "_file"),
    ):
        monkeypatch.setattr(owner, name, opened)
    assert trained_cards("deep", SEED, n_items=16)["asked"].verdict.name == "deep (content)"
    assert compiled_cards("early_answer", SEED)["asked"].verdict.name == "deep (content)"


def test_what_makes_a_card_imports_no_truth() -> None:
    truths = {"arms", "asked_truth", "trained_truth", "truth", "registry", "causal"}
    names = {"open_truth", "TrainedTruth", "Truth", "Program", "ARMS", "PROGRAMS"}
    own = [Path(str(module.__file__)) for module in (cards, card_directions)]
    for path in [*own, *(ROOT / "interp" / "superficiality").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("interp.known"):
                assert str(node.module).rpartition(".")[2] not in truths, path
                assert not names & {alias.name for alias in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).endswith("scorecards"), path


def test_the_confusion_matrix_counts_cards_with_a_truth() -> None:
    rows = pd.DataFrame({"truth": ["a", "a", ""], "verdict": ["a", "b", "a"]})
    found = confusion(rows)
    assert found.loc["a"].to_dict() == {"a": 1, "b": 1}
    assert found.to_numpy().sum() == 2


def test_rows_of_an_arm_take_the_place_of_its_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for name, value in (("b", 1), ("a", 2), ("b", 3)):
        write_rows(path, pd.DataFrame({"arm": [name] * 2, "value": [value] * 2}), ["a", "b"])
    found = pd.read_parquet(path)
    assert found["arm"].tolist() == ["a", "a", "b", "b"]
    assert found["value"].tolist() == [2, 2, 3, 3]
