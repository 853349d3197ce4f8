import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.catalogue import fetch_dataset
from interp.data.crows_pairs import read_crows_pairs
from interp.data.items import LabelledText
from interp.errors import InterpError

HEADER = ("", "sent_more", "sent_less", "stereo_antistereo", "bias_type")
ROWS = (
    ("0", "Cat people are quiet.", "Dog people are quiet.", "stereo", "pets"),
    ("1", "Gardeners, all of\nthem, rise late.", "Bakers rise  late. ", "antistereo", "trades"),
)
WORDS = st.text("abc '\",\n", min_size=1).filter(lambda text: text.strip())


def write_pairs(
    folder: Path, rows: Sequence[Sequence[str]] = ROWS, header: Sequence[str] = HEADER
) -> Path:
    path = folder / "crows_pairs_anonymized.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def test_the_more_stereotyping_sentence_is_negative_also_in_antistereo_rows(
    tmp_path: Path,
) -> None:
    assert read_crows_pairs(write_pairs(tmp_path)) == (
        LabelledText("Cat people are quiet.", 0, "0", "crows-pairs", "pets"),
        LabelledText("Dog people are quiet.", 1, "0", "crows-pairs", "pets"),
        LabelledText("Gardeners, all of them, rise late.", 0, "1", "crows-pairs", "trades"),
        LabelledText("Bakers rise late.", 1, "1", "crows-pairs", "trades"),
    )


def test_a_folder_is_searched_and_a_category_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_pairs(tmp_path / "data")
    assert {text.group for text in read_crows_pairs(tmp_path, category="trades")} == {"1"}
    with pytest.raises(InterpError, match="no row has the category 'pet'; did you mean 'pets'"):
        read_crows_pairs(tmp_path, category="pet")


def test_a_pair_that_comes_twice_is_one_group(tmp_path: Path) -> None:
    again = ("7", *ROWS[0][1:])
    texts = read_crows_pairs(write_pairs(tmp_path, [*ROWS, again]))
    assert [text.group for text in texts] == ["0", "0", "1", "1", "0", "0"]


@settings(max_examples=30)
@given(st.lists(st.tuples(WORDS, WORDS, st.sampled_from(["a", "b"])), min_size=1, unique=True))
def test_any_table_gives_two_texts_per_row_in_order(rows: list[tuple[str, str, str]]) -> None:
    with TemporaryDirectory() as folder:
        table = [(str(i), more, less, "stereo", kind) for i, (more, less, kind) in enumerate(rows)]
        texts = read_crows_pairs(write_pairs(Path(folder), table))
    assert [text.text for text in texts] == [" ".join(s.split()) for row in rows for s in row[:2]]
    assert [text.label for text in texts] == [0, 1] * len(rows)
    assert all(a.group == b.group for a, b in zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize("field", [0, 1, 2, 4])
def test_an_empty_cell_names_line_and_field(tmp_path: Path, field: int) -> None:
    broken = [*ROWS[1]]
    broken[field] = " "
    path = write_pairs(tmp_path, [ROWS[0], ROWS[1], broken])
    # The second row holds a line break, so the third starts on line 5.
    with pytest.raises(InterpError, match=rf"\.csv, line 5, field '{HEADER[field]}': expected a"):
        read_crows_pairs(path)


def test_a_missing_column_is_refused(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, [row[:2] for row in ROWS], HEADER[:2])
    with pytest.raises(InterpError, match="line 2, field 'sent_less': expected a text, got None"):
        read_crows_pairs(path)


@pytest.mark.dataset
def test_the_published_file_gives_as_many_texts_as_the_docstring_says() -> None:
    texts = read_crows_pairs(fetch_dataset("crows-pairs"))
    assert Counter(text.label for text in texts) == {0: 1508, 1: 1508}
    assert len({text.group for text in texts}) == 1507
    assert len({text.category for text in texts}) == 9
    assert len(read_crows_pairs(fetch_dataset("crows-pairs"), category="age")) == 174
