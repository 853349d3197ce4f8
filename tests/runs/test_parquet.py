from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.runs import read_table
from interp.runs.parquet import concatenate, encode, read_part, to_arrow, write_part

FRAME = pd.DataFrame(
    {
        "item": [f"item {i}" for i in range(40)],
        "margin": [i * 0.37 for i in range(40)],
        "rank": range(40),
        "correct": [True, None] * 20,
        "by_layer": [[float(i), 0.5] for i in range(40)],
    }
)


def test_a_part_gives_back_the_rows_that_were_written(tmp_path: Path) -> None:
    table = to_arrow(FRAME, "scores")
    write_part(tmp_path / "a.parquet", table, "key")
    assert read_part(tmp_path / "a.parquet", "key") == table


def test_equal_frames_make_equal_bytes_whatever_their_row_index(tmp_path: Path) -> None:
    shifted = FRAME.set_axis(range(100, 140), axis=0)
    for name, frame in (("a", FRAME), ("b", shifted)):
        write_part(tmp_path / name, to_arrow(frame, "scores"), "key")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"pandas" not in (tmp_path / "a").read_bytes()


def test_a_part_of_another_key_or_no_part_at_all_is_none(tmp_path: Path) -> None:
    write_part(tmp_path / "a.parquet", to_arrow(FRAME, "scores"), "key")
    assert read_part(tmp_path / "a.parquet", "other") is None
    assert read_part(tmp_path / "b.parquet", "key") is None


@pytest.mark.slow
def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = to_arrow(FRAME.head(5), "scores")
    write_part(path, table, "key")
    good = path.read_bytes()
    assert read_part(path, "key") == table
    random_bits = random.Random(0)
    for position in range(0, len(good), 3):
        path.write_bytes(good[:position])
        assert read_part(path, "key") is None, f"truncated at {position}"
        damaged = bytearray(good)
        damaged[position] ^= 1 << random_bits.randrange(8)
        path.write_bytes(damaged)
        # A flip may hit a byte that says nothing (a writer's name); it must not change a row.
        assert read_part(path, "key") in (None, table), f"flipped at {position}"


@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": st.text(), "number": st.integers(-(2**62), 2**62), "value": st.floats()}
        ),
        min_size=1,
    )
)
def test_any_rows_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.parquet"
    table = to_arrow(pd.DataFrame(rows), "scores")
    write_part(path, table, "key")
    part = read_part(path, "key")
    assert part is not None
    pd.testing.assert_frame_equal(part.to_pandas(), pd.DataFrame(rows))


def test_a_named_row_index_is_refused_because_it_would_be_lost() -> None:
    with pytest.raises(InterpError, match=r"scores: the row index \['item'\] would be lost"):
        to_arrow(FRAME.set_index("item"), "scores")


@pytest.mark.parametrize("columns", [["a", "a"], [0, 1]])
def test_column_names_must_be_different_texts(columns: list[object]) -> None:
    with pytest.raises(InterpError, match="column names must be different texts"):
        to_arrow(pd.DataFrame([[1, 2]], columns=columns), "scores")


def test_columns_of_mixed_types_and_times_are_refused_by_name() -> None:
    with pytest.raises(InterpError, match=r"scores: cannot be stored as columns: .*mixed"):
        to_arrow(pd.DataFrame({"mixed": [1, "a"]}), "scores")
    with pytest.raises(InterpError, match=r"scores: cannot be stored as columns: .*surrogates"):
        to_arrow(pd.DataFrame({"text": pd.Series(["\ud800"], dtype=object)}), "scores")
    with pytest.raises(InterpError, match="column 'when' has type timestamp"):
        to_arrow(pd.DataFrame({"when": [pd.Timestamp("2020-01-01")]}), "scores")


def test_categoricals_are_stored_as_plain_text() -> None:
    frame = pd.DataFrame({"condition": pd.Categorical(["clean", "placebo"])})
    assert to_arrow(frame, "scores").to_pandas()["condition"].tolist() == ["clean", "placebo"]


def test_parts_join_in_order_and_adapt_their_types() -> None:
    parts = [
        pa.table({"a": pa.array([1]), "b": pa.array([None])}),
        pa.table({}),
        pa.table({"a": pa.array([0.5]), "b": pa.array(["x"])}),
    ]
    assert concatenate(parts, "scores").to_pydict() == {"a": [1.0, 0.5], "b": [None, "x"]}
    assert concatenate([pa.table({})], "scores").num_columns == 0


def test_parts_of_types_that_do_not_meet_are_refused() -> None:
    parts = [pa.table({"a": [1]}), pa.table({"a": ["x"]})]
    with pytest.raises(InterpError, match="scores: the parts do not fit together"):
        concatenate(parts, "scores")


def test_reading_a_merged_table_gives_the_frame_and_names_what_is_missing(tmp_path: Path) -> None:
    encode(tmp_path / "scores.parquet", to_arrow(FRAME[["item", "rank"]], "scores"))
    pd.testing.assert_frame_equal(read_table(tmp_path, "scores"), FRAME[["item", "rank"]])
    with pytest.raises(InterpError, match=r"lens\.parquet: no such table"):
        read_table(tmp_path, "lens")
    (tmp_path / "lens.parquet").write_bytes(b"PAR1")
    with pytest.raises(InterpError, match=r"lens\.parquet: cannot be read"):
        read_table(tmp_path, "lens")
