"""Means over items, subsets and flips by hand."""

import numpy as np
import pandas as pd
import pytest

from interp.behaviour.item_means import (
    ARM,
    INTERVAL,
    by_subset,
    context_subsets,
    flip_columns,
    item_means,
)

NAN = float("nan")


def test_means_can_skip_what_is_missing_within_an_item():
    frame = pd.DataFrame({"item": ["a", "a", "b", "c"], "cluster": ["a", "a", "b", "c"],
                          "arm": ["x"] * 4, "v": [1.0, NAN, 3.0, NAN]})  # fmt: skip
    strict = item_means(frame, ("arm",), {"v": "v"}, seed=0).iloc[0]
    lenient = item_means(frame, ("arm",), {"v": "v"}, seed=0, skip_missing=True).iloc[0]
    assert (strict["estimate"], strict["n"]) == (3.0, 1)
    assert (lenient["estimate"], lenient["n"]) == (2.0, 2)
    absent = item_means(frame, ("arm",), {"w": "not there"}, seed=0).iloc[0]
    assert np.isnan(absent["estimate"])
    assert absent["reason"] == "no defined item"
    assert item_means(frame.iloc[:0], ("arm",), {"v": "v"}, seed=0).empty


def test_items_weigh_the_same_however_many_rows_they_have():
    frame = pd.DataFrame({"item": ["a", "a", "a", "b"], "cluster": list("xxxy"),
                          "condition": "c", "control_of": "", "v": [1.0, 2.0, 3.0, 6.0]})  # fmt: skip
    row = item_means(frame, ARM, {"level": "v"}, seed=0).iloc[0]
    assert list(row.index) == [*ARM, "measure", *INTERVAL]
    assert (row["measure"], row["estimate"], row["n"], row["n_clusters"]) == ("level", 4.0, 2, 2)
    assert (row["low"], row["high"]) == (2.0, 6.0)


def test_subsets_are_all_and_the_contexts_that_are_there():
    frame = pd.DataFrame({"context_condition": ["disambiguated", "disambiguated"], "v": [1, 2]})
    assert {name: len(rows) for name, rows in context_subsets(frame).items()} == {
        "all": 2, "disambiguated": 2,
    }  # fmt: skip


def test_a_table_by_subset_has_its_columns_also_without_rows():
    frame = pd.DataFrame({"context_condition": ["ambiguous", "disambiguated"], "v": [1, 2]})
    table = by_subset(frame, ("sum",), lambda _, rows: [{"sum": rows["v"].sum()}])
    assert table.to_dict("list") == {
        "items": ["all", "ambiguous", "disambiguated"],
        "sum": [3, 1, 2],
    }
    assert list(by_subset(frame.iloc[:0], ("sum",), lambda *_: [])) == ["items", "sum"]


def test_flips_leave_out_pairs_that_were_not_read_on_both_sides():
    before = np.array([1.0, 1.0, 0.0, 0.0, NAN, 1.0])
    after = np.array([1.0, 0.0, 1.0, 0.0, 1.0, NAN])
    row = flip_columns(before, after, "aabbcc", seed=0)
    assert [row[k] for k in ("right_right", "right_wrong", "wrong_right", "wrong_wrong")] == [1] * 4
    assert (row["net"], row["net_n"], row["net_n_clusters"]) == (pytest.approx(0.0), 4, 2)
    nothing = flip_columns(before[4:], after[4:], "cc", seed=0)
    assert (nothing["right_right"], nothing["net_n"]) == (0, 0)
    assert np.isnan(nothing["net"])
    assert nothing["net_reason"] == "no item was answered both before and after"
