from pathlib import Path
from typing import Any

import pytest

from interp.data.fields import check_category, file_in, one_of, text_of
from interp.errors import InterpError


def test_a_text_keeps_its_wording_but_not_its_outer_or_repeated_blanks() -> None:
    assert text_of({"a": "  One,\n two  three. "}, "a", "here") == "One, two three."


@pytest.mark.parametrize("value", [None, "", "  \n", 3, ["x"]])
def test_a_cell_that_is_no_text_names_place_field_and_value(value: Any) -> None:
    with pytest.raises(InterpError, match=r"^f\.csv, line 3, field 'a': expected a text, got "):
        text_of({"a": value}, "a", "f.csv, line 3")


def test_a_value_outside_the_allowed_ones_is_refused() -> None:
    assert one_of({"a": "x"}, "a", ("x", "y"), "here") == "x"
    with pytest.raises(InterpError, match="here, field 'a': expected one of x, y, got 'z'"):
        one_of({"a": "z"}, "a", ("x", "y"), "here")


def test_a_file_is_itself_and_a_folder_is_searched_in_the_order_of_the_names(
    tmp_path: Path,
) -> None:
    deep = tmp_path / "data" / "part"
    deep.mkdir(parents=True)
    (deep / "test.csv").write_text("")
    assert file_in(deep / "test.csv", ["other.csv"]) == deep / "test.csv"
    assert file_in(tmp_path, ["named.csv", "part/test.csv"]) == deep / "test.csv"
    (tmp_path / "named.csv").write_text("")
    assert file_in(tmp_path, ["named.csv", "part/test.csv"]) == tmp_path / "named.csv"


def test_no_file_two_files_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match=r"holds no file called a\.csv or b/c\.csv, at any depth"):
        file_in(tmp_path, ["a.csv", "b/c.csv"])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("")
    with pytest.raises(InterpError, match=r"holds both .*one.*a\.csv and .*two.*a\.csv; give one"):
        file_in(tmp_path, ["a.csv"])
    with pytest.raises(InterpError, match="no such file or folder"):
        file_in(tmp_path / "none", ["a.csv"])


def test_an_unknown_category_gets_the_close_match() -> None:
    check_category(None, {"age"}, Path("f.csv"))
    check_category("age", {"age"}, Path("f.csv"))
    with pytest.raises(InterpError, match=r"f\.csv: no row has the category 'aeg'; did you mean"):
        check_category("aeg", {"age"}, Path("f.csv"))
