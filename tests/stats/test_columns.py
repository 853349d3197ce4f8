from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import stats
from interp.errors import InterpError
from interp.runs.parquet import encode, read_table, to_arrow

NAN = float("nan")
NAMES = ["estimate", "low", "high", "n", "n_clusters", "se", "df", "p_raw"]
NAMES += ["texts", "interval", "reason"]
number = st.floats() | st.just(NAN)
count = st.integers(0, 2**53)
word = st.text(st.characters(blacklist_categories=["C"]), max_size=12)


@st.composite
def intervals(draw: st.DrawFn, shape: tuple[int, ...] = ()) -> stats.Interval:
    """Any interval of this shape, NaN and infinities included."""

    def field(values: st.SearchStrategy[Any]) -> Any:
        size = math.prod(shape)
        found = draw(st.lists(values, min_size=size, max_size=size))
        return np.array(found).reshape(shape) if shape else found[0]

    return stats.Interval(
        field(number),
        field(number),
        field(number),
        field(count),
        field(count),
        draw(st.floats(0.001, 0.999)),
        field(word),
        draw(st.sampled_from(["cgm_t", "clopper_pearson"])),
        draw(st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99))),
        field(number),
        field(number),
        field(number),
    )


def stored(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The frame through a parquet file."""
    encode(folder / "table.parquet", to_arrow(frame, "a test's table"))
    return read_table(folder, "table")


def assert_same(found: stats.Interval, expected: stats.Interval) -> None:
    """Equal fields of equal kinds; NaN equals NaN."""
    for field in dataclasses.fields(stats.Interval):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert type(a) is type(b), field.name
        assert a == b or (a != a and b != b), field.name


@given(one=intervals(), other=intervals(), name=st.sampled_from(["", "share", "bias score"]))
@settings(max_examples=60, deadline=None)
def test_scalar_intervals_come_back_from_a_parquet_file_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, one: stats.Interval, other: stats.Interval, name: str
) -> None:
    rows = [stats.interval_columns(interval, name) for interval in (one, other)]
    frame = stored(pd.DataFrame(rows), tmp_path_factory.mktemp("columns"))
    assert list(frame) == stats.interval_column_names(name)
    for found, expected in zip(stats.intervals_of(frame, name), (one, other), strict=True):
        assert_same(found, expected)


@pytest.mark.slow
@given(interval=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple).flatmap(intervals))
@settings(max_examples=60, deadline=None)
def test_every_cell_of_an_interval_over_cells_comes_back_in_c_order(
    tmp_path_factory: pytest.TempPathFactory, interval: stats.Interval
) -> None:
    frame = pd.DataFrame(stats.interval_columns(interval))
    found = stats.intervals_of(stored(frame, tmp_path_factory.mktemp("columns")))
    cells = list(np.ndindex(np.shape(interval.estimate)))
    assert len(found) == len(cells)
    for one, cell in zip(found, cells, strict=True):
        assert_same(one, interval.at(*cell))


def test_computed_intervals_come_back_whatever_kind_of_row_they_are_read_from() -> None:
    effect = stats.effect(np.arange(12.0).reshape(2, 6), np.zeros((3, 6)), "aabbcc", confidence=0.9)
    exact = stats.success_rate([1, 1, 1], "abc")
    columns = stats.interval_columns(effect) | stats.interval_columns(exact, "share")
    assert (columns["texts"], columns["interval"]) == ("2 x 3", "cgm_t 0.9")
    assert (columns["share_texts"], columns["share_interval"]) == ("", "clopper_pearson 0.95")
    frame = pd.DataFrame([columns])
    for row in (columns, frame.iloc[0], next(frame.itertuples())):
        assert_same(stats.interval_of(row), effect)
        assert_same(stats.interval_of(row, "share"), exact)


def test_names_are_those_of_the_documented_table_with_and_without_a_prefix() -> None:
    assert stats.interval_column_names() == NAMES
    assert stats.interval_column_names("share") == [
        "share",
        *(f"share_{name}" for name in NAMES[1:]),
    ]
    nothing = pd.DataFrame(columns=stats.interval_column_names("share"))
    assert stats.intervals_of(nothing, "share") == []


@pytest.mark.parametrize("empty", [None, NAN, pd.NA])
def test_missing_text_is_no_reason_and_counts_made_floats_come_back_whole(empty: object) -> None:
    interval = stats.Interval(1.0, 0.0, 2.0, n=7, n_clusters=3)
    row = stats.interval_columns(interval) | {"reason": empty, "texts": empty, "n": 7.0}
    assert_same(stats.interval_of(row), interval)


def test_bounds_of_a_shared_reason_spread_over_all_cells() -> None:
    interval = stats.Interval(np.zeros(2), np.zeros(2), np.ones(2), 5, 4, reason="alike")
    frame = pd.DataFrame(stats.interval_columns(interval))
    assert frame["n"].tolist() == [5, 5]
    assert frame["reason"].tolist() == ["alike", "alike"]


def test_missing_columns_and_empty_rows_are_refused_in_one_line() -> None:
    row = stats.interval_columns(stats.Interval(1.0, 0.0, 2.0, n=7, n_clusters=3), "share")
    del row["share_n"]
    for refuse in (
        lambda: stats.interval_of(row, "share"),
        lambda: stats.intervals_of(pd.DataFrame([row]).iloc[:0], "share"),
    ):
        with pytest.raises(InterpError, match=r"no column 'share_n': .*interval_columns") as error:
            refuse()
        assert "\n" not in str(error.value)
    with pytest.raises(
        InterpError, match="no interval as interval_columns writes it: estimate nan"
    ):
        stats.interval_of(dict.fromkeys(NAMES, NAN))
