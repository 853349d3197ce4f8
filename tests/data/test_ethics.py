import csv
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from interp.data.ethics import read_ethics
from interp.data.items import LabelledText
from interp.errors import InterpError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "ethics"
HEADER = ("label", "input", "is_short", "edited")
WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6).map(" ".join)


def write_rows(
    folder: Path,
    rows: Sequence[Sequence[str]],
    *,
    name: str = "cm_test.csv",
    header: Sequence[str] = HEADER,
) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def groups_of(folder: Path, *texts: str) -> list[str]:
    path = write_rows(folder, [("0", text, "True", "False") for text in texts])
    return [text.group for text in read_ethics(path)]


def test_the_label_is_turned_because_the_file_marks_what_is_wrong(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path,
        [("0", "I fed the  cat.", "True", "False"), ("1", "I teased the cat.", "True", "False")],
    )
    assert read_ethics(path) == (
        LabelledText("I fed the cat.", 1, "line 2", "ethics", "commonsense"),
        LabelledText("I teased the cat.", 0, "line 2", "ethics", "commonsense"),
    )


def test_long_rows_come_on_request_each_in_a_group_of_its_own(tmp_path: Path) -> None:
    rows = [
        ("0", "We met.\n\nWe talked.", "False", "False"),
        ("1", "We met. We talked.", "False", "False"),
        ("1", "We met and talked.", "True", "False"),
    ]
    path = write_rows(tmp_path, rows)
    assert [text.label for text in read_ethics(path)] == [0]
    texts = read_ethics(path, short_only=False)
    assert [text.text for text in texts[:2]] == ["We met. We talked."] * 2
    assert [text.group for text in texts] == ["line 2", "line 5", "line 6"]


def test_a_file_without_the_column_is_short_goes_by_length(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [("0", "a" * 200), ("0", "b" * 201)], header=HEADER[:2])
    assert [len(text.text) for text in read_ethics(path)] == [200]
    assert len(read_ethics(path, short_only=False)) == 2


def test_neighbours_that_share_half_of_their_words_are_one_scenario(tmp_path: Path) -> None:
    # Four of eight words, case and punctuation aside: 2 * 4 / 16 = 1/2; three of them are too few.
    first, half = "One two three four a b c d.", "one, Two three four e f g h"
    assert groups_of(tmp_path, first, half) == ["line 2", "line 2"]
    assert groups_of(tmp_path, first, "One two three e f g h i") == ["line 2", "line 3"]


def test_far_texts_need_two_thirds_of_their_words(tmp_path: Path) -> None:
    first, other = "one two three four a b", "x y z"
    assert groups_of(tmp_path, first, other, "one two three four c d") == [
        "line 2",
        "line 3",
        "line 2",
    ]
    assert groups_of(tmp_path, first, other, "one two three c d e") == [
        "line 2",
        "line 3",
        "line 4",
    ]


def test_scenarios_go_on_from_text_to_text_under_the_first_line(tmp_path: Path) -> None:
    assert groups_of(tmp_path, "a b c", "x y z", "b c d", "c d e") == [
        "line 2",
        "line 3",
        "line 2",
        "line 2",
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=12))
def test_groups_are_the_connected_parts_of_the_graph_of_shares(texts: list[str]) -> None:
    linked = np.zeros((len(texts), len(texts)))
    for i, j in itertools.combinations(range(len(texts)), 2):
        one, other = set(texts[i].split()), set(texts[j].split())
        share = 2 * len(one & other) / (len(one) + len(other))
        linked[i, j] = share >= 2 / 3 or (j == i + 1 and share >= 1 / 2)
    parts = connected_components(linked, directed=False)[1].tolist()
    expected = [f"line {parts.index(part) + 2}" for part in parts]
    with TemporaryDirectory() as folder:
        assert groups_of(Path(folder), *texts) == expected


@pytest.mark.parametrize("name", ["commonsense/cm_test.csv", "data/commonsense/test.csv"])
def test_a_folder_is_searched_for_the_test_file(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path, [("0", "I swept.", "True", "False")], name=name)
    write_rows(tmp_path, [], name="data/justice/test.csv")
    assert len(read_ethics(tmp_path)) == 1


def test_a_folder_without_it_says_what_was_searched_for(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match=r"no file called cm_test\.csv or commonsense/test\.csv"):
        read_ethics(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("2", "I swept.", "True", ""), "field 'label': expected one of 0, 1, got '2'"),
        (("", "I swept.", "True", ""), "field 'label': expected one of 0, 1, got ''"),
        (("0", " ", "True", ""), "field 'input': expected a text"),
        (("0", "I swept.", "yes", ""), "field 'is_short': expected one of True, False, got 'yes'"),
    ],
)
def test_a_malformed_row_names_line_and_field(
    tmp_path: Path, row: Sequence[str], message: str
) -> None:
    path = write_rows(tmp_path, [("0", "I ran.", "True", "False"), row])
    with pytest.raises(InterpError, match=rf"cm_test\.csv, line 3, {re.escape(message)}"):
        read_ethics(path)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published file is not beside the project")
def test_the_published_file_gives_the_groups_that_the_docstring_says() -> None:
    texts = read_ethics(SHARED)
    assert Counter(text.label for text in texts) == {1: 1126, 0: 983}
    sizes = Counter(Counter(text.group for text in texts).values())
    assert sizes == {1: 162, 2: 880, 3: 9, 4: 26, 5: 3, 6: 2, 8: 2, 13: 1}
    labels = {(text.group, text.label) for text in texts}
    assert sum(count == 2 for count in Counter(group for group, _ in labels).values()) == 887
    assert len(read_ethics(SHARED, short_only=False)) == 3885
