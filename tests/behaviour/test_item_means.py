"""Means over items, subsets and flips by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from interp.behaviour.item_means import (
    ARM,
    INTERVAL,
    by_subset,
    context_of,
    context_subsets,
    flip_columns,
    item_means,
    undefined,
)

NAN = float("nan")


def test_means_can_skip_what_is_missing_within_an_item():
    frame = pd.DataFrame({"item": ["a", "a", "b", "c"], "cluster": ["a", "a", "b", "c"],
                          "arm": ["x"] * 4, "v": [1.0, NAN, 3.0, NAN]})  # fmt: skip
    strict = item_means(frame, ("arm",), {"v": "v"}).iloc[0]
    lenient = item_means(frame, ("arm",), {"v": "v"}, skip_missing=True).iloc[0]
    assert (strict["estimate"], strict["n"]) == (3.0, 1)
    assert (lenient["estimate"], lenient["n"]) == (2.0, 2)
    absent = item_means(frame, ("arm",), {"w": "not there"}).iloc[0]
    assert np.isnan(absent["estimate"])
    assert absent["reason"] == "no defined item"
    assert item_means(frame.iloc[:0], ("arm",), {"v": "v"}).empty


def test_items_weigh_the_same_however_many_rows_they_have():
    frame = pd.DataFrame({"item": ["a", "a", "a", "b"], "cluster": list("xxxy"),
                          "condition": "c", "control_of": "", "v": [1.0, 2.0, 3.0, 6.0]})  # fmt: skip
    row = item_means(frame, ARM, {"level": "v"}).iloc[0]
    assert list(row.index) == [*ARM, "measure", *INTERVAL]
    assert (row["measure"], row["estimate"], row["n"], row["n_clusters"]) == ("level", 4.0, 2, 2)
    half = 2.0 * t.ppf(0.975, 1)  # two clusters: se 2, one degree of freedom
    assert (row["low"], row["high"]) == pytest.approx((4.0 - half, 4.0 + half))


def test_subsets_are_all_and_the_contexts_that_are_there():
    frame = pd.DataFrame({"context_condition": ["disambiguated", "disambiguated"], "v": [1, 2]})
    assert {name: len(rows) for name, rows in context_subsets(frame).items()} == {
        "all": 2, "disambiguated": 2,
    }  # fmt: skip


def test_several_data_sets_are_never_pooled():
    frame = pd.DataFrame({"benchmark": ["bbq", "bbq", "own"],
                          "context_condition": ["ambiguous", "disambiguated", "ambiguous"]})  # fmt: skip
    subsets = context_subsets(frame)
    assert {name: len(rows) for name, rows in subsets.items()} == {
        "bbq, ambiguous": 1, "bbq, disambiguated": 1, "own, ambiguous": 1,
    }  # fmt: skip
    assert [context_of(name) for name in subsets] == ["ambiguous", "disambiguated", "ambiguous"]
    assert context_of("all") == "all"


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
    net = undefined("here the caller's")
    row = flip_columns(before, after, net)
    assert [row[k] for k in ("right_right", "right_wrong", "wrong_right", "wrong_wrong")] == [1] * 4
    assert row["net_reason"] == "here the caller's"
    nothing = flip_columns(before[4:], after[4:], net)
    assert (nothing["right_right"], nothing["net_n"]) == (0, 0)
    assert np.isnan(nothing["net"])
    assert nothing["net_reason"] == "no item was answered both before and after"
