from __future__ import annotations

from functools import cache

import pandas as pd
import pytest

from analyses.benchmarks.known.scorecards import cards_of, confusion, scored, share_errors
from interp.superficiality.rows import CHANGED, CONTENT_IN, CONTENT_OUT, INTERACTION


@cache
def rows_of(arm: str, seed: int = 1) -> pd.DataFrame:
    return scored(cards_of([arm], seeds=[seed], progress=False))


def asked(arm: str) -> pd.Series:
    rows = rows_of(arm)
    return rows[rows["question"] == "asked"].iloc[0]


def test_content_that_is_rewritten_is_deep_and_an_answer_that_is_shifted_superficial() -> None:
    for arm in ("deep", "superficial"):
        found = asked(arm)
        assert found["verdict"] == found["truth"], found["because"]
        for way in (CONTENT_IN, CONTENT_OUT):
            assert found[way] == pytest.approx(found["alpha"], abs=0.1)


def test_an_instruction_that_moves_nothing_and_one_that_backfires_are_called_so() -> None:
    rows = rows_of("superficial").set_index("question")
    assert rows.loc["judged", "verdict"] == rows.loc["judged", "truth"] == "no effect to explain"
    assert rows.loc["negated", "verdict"] == rows.loc["negated", "truth"] == "backfires"


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["mixture_25", "mixture_50", "mixture_75"])
def test_a_planted_share_is_found_both_ways(arm: str) -> None:
    table = share_errors(rows_of(arm))
    for way in (CONTENT_IN, CONTENT_OUT):
        assert table[f"error, {way}"].iloc[0] <= 0.1
    assert asked(arm)[CHANGED] == pytest.approx(table.index[0], abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["dormant_path", "correlated_valence", "copying_instruction"])
def test_what_is_stored_and_not_used_is_never_called_deep(arm: str) -> None:
    assert asked(arm)["verdict"] == "superficial (route)"


@pytest.mark.slow
def test_routes_that_back_each_other_up_are_flagged() -> None:
    found = asked("self_repairing")
    assert found["verdict"] == "mixed"
    assert "back each other up" in found["because"]
    assert found[INTERACTION] == pytest.approx(1, abs=0.1)


def test_the_confusion_matrix_counts_cards_with_a_truth() -> None:
    rows = pd.DataFrame({"truth": ["a", "a", ""], "verdict": ["a", "b", "a"]})
    found = confusion(rows)
    assert found.loc["a"].to_dict() == {"a": 1, "b": 1}
    assert found.to_numpy().sum() == 2
