"""The sentences of the reports of directions: what is said to lie above chance."""

from __future__ import annotations

import pandas as pd
import pytest

from analyses.direction.story import read_transfer
from analyses.direction.tables import transfer_matrix_table
from interp.directions import Transfer
from interp.stats import Interval, interval_columns


def transfer(*, n_groups: int = 20) -> Transfer:
    aucs = {
        ("fair", "kind"): (0.8, 0.7, 0.9),
        ("kind", "fair"): (0.3, 0.2, 0.4),
        ("fair", "fair"): (0.9, 0.8, 1.0),
        ("kind", "kind"): (0.9, 0.8, 1.0),
    }
    rows = [
        {"trained_on": one, "tested_on": other, "reader": reader, "layer": 1}
        | interval_columns(Interval(*auc, 40, n_groups), "auc")
        for (one, other), auc in aucs.items()
        for reader in ("direction", "bag of words")
    ]
    return Transfer(pd.DataFrame(rows), "mean_difference", "resid_post")


def test_only_tests_off_the_diagonal_are_counted_above_and_below_chance() -> None:
    said = read_transfer(transfer())
    assert "there are 2 tests" in said
    assert "1 of 2 lie above chance: fair -> kind 0.80 [0.70, 0.90]" in said
    assert "1 lie below it, the wrong way round" in said


def test_few_groups_do_not_bear_out_a_transfer() -> None:
    assert "None of them lies above chance" in read_transfer(transfer(n_groups=5))


def test_the_matrix_names_its_rows_in_a_column() -> None:
    table = transfer_matrix_table(transfer())
    assert list(table.columns) == ["trained on \\ tested on", "fair", "kind"]
    assert table["trained on \\ tested on"].tolist() == ["fair", "kind"]
    assert table.loc[0, "kind"] == pytest.approx(0.8)
