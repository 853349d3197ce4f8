"""The two kinds of placebo: the committed rows of the default model, and how they are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.benchmarks.placebos import (
    CONTRASTS,
    METRICS,
    N_ITEMS,
    N_TEXTS,
    ROWS,
    ambiguous_items,
    drawn_texts,
    placebo_effect,
    placebo_effects,
    placebo_rows,
)
from interp.data import load_items
from interp.data.bundle import bundled_instructions
from interp.prompts import TextBank


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.read_parquet(ROWS)


def test_the_committed_rows_are_a_full_table_of_ambiguous_items_and_wordings_of_the_bank(
    rows: pd.DataFrame,
) -> None:
    texts = rows.groupby("condition")["text_id"].nunique().to_dict()
    assert texts == {"instructed": 12, "placebo": 12, "statement": 12, "reported": 5}
    assert rows["item"].nunique() == rows["cluster"].nunique() == N_ITEMS == 24
    assert len(rows) == N_ITEMS * (3 * N_TEXTS + 5)
    assert not rows[list(METRICS)].isna().to_numpy().any()
    known = {i.id: i for i in bundled_instructions()}
    for condition, text_id, source in rows[["condition", "text_id", "source"]].to_numpy():
        assert text_id in known
        assert source == known[text_id].source or condition in ("placebo", "statement")


def test_both_kinds_of_placebo_are_measured_on_the_default_model_and_their_difference_printed(
    rows: pd.DataFrame,
) -> None:
    """Recomputed by hand for the estimates; the numbers themselves are the model's business."""
    table = placebo_effects(rows)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    assert len(table) == len(METRICS) * len(CONTRASTS)
    assert (table["low"] < table["estimate"]).all()
    assert (table["estimate"] < table["high"]).all()
    by_hand = rows.groupby("condition")["option_margin"].mean()
    found = placebo_effect(rows, "placebo", "statement")
    assert found.estimate == pytest.approx(by_hand["placebo"] - by_hand["statement"])
    assert (found.n, found.n_clusters, found.texts) == (24, 24, (12, 12))
    estimates = table[table["metric"] == "option_margin"].set_index("contrast")["estimate"]
    assert estimates["instructed - statement"] == pytest.approx(
        estimates["instructed - placebo"] + estimates["placebo - statement"]
    )
    assert table["token_mismatch"].abs().max() < 2


def test_rows_of_a_small_model_have_one_number_per_item_and_wording(tiny_model: Any) -> None:
    items = load_items("bundled", limit=3, seed=0)
    found = placebo_rows(tiny_model, items, n_texts=2)
    assert len(found) == 3 * (3 * 2 + 5)
    assert found.groupby(["item", "condition"]).size().to_dict() == {
        (item.id, condition): n
        for item in items
        for condition, n in (("instructed", 2), ("placebo", 2), ("statement", 2), ("reported", 5))
    }
    assert np.isfinite(found["option_margin"]).all()


@pytest.mark.model
@pytest.mark.dataset
def test_the_default_model_gives_the_committed_rows_again(rows: pd.DataFrame) -> None:
    from interp.models import load_model

    model = load_model()
    items = ambiguous_items(N_ITEMS)
    assert [item.id for item in items] == rows["item"].drop_duplicates().tolist()
    few = items[:2]
    bank = TextBank(model.tokenizer)
    drawn = [text.text_id for text in drawn_texts(bank, few[0], N_TEXTS)]
    assert drawn == rows.loc[rows["item"] == few[0].id, "text_id"].tolist()
    again = placebo_rows(model, few, n_texts=N_TEXTS)
    committed = rows[rows["item"].isin([item.id for item in few])]
    np.testing.assert_allclose(
        again[list(METRICS)].to_numpy(), committed[list(METRICS)].to_numpy(), atol=2e-4
    )
