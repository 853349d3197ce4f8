from __future__ import annotations

from pathlib import Path

import pytest

from interp.errors import InterpError
from interp.parsing import parse_json, read_text, require_unicode


def test_json_is_read_as_python_reads_it() -> None:
    text = '{"a": [1, 2.5, "x", null, true], "b": {"c": "\\ud83d\\ude00"}}'
    expected = {"a": [1, 2.5, "x", None, True], "b": {"c": "\U0001f600"}}
    assert parse_json(text, "here") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "here: not valid JSON"),
        ("{\n]", "here, line 2: not valid JSON"),
        ("[" * 99_999 + "]" * 99_999, r"here: not valid JSON \(nested too deeply\)"),
        ('{"a": %s}' % ("1" * 5000), "here: not valid JSON .*too many digits"),
        ('{"a": NaN}', "here, field 'a': nan is no number"),
        ('{"a": [1, -Infinity]}', "here, field 'a': -inf is no number"),
        ('{"a": 1e999}', "here, field 'a': inf is no number"),
        ("NaN", "here: nan is no number"),
        (
            '{"a": "x \\ud83d y"}',
            r"here, field 'a': the text has half a surrogate pair \(\\ud83d\)",
        ),
        ('{"a\\udc00": 1}', "here: the text has half a surrogate pair"),
        ('["\\udc00"]', "here: the text has half a surrogate pair"),
        ('{"a": 1, "a": 2}', "here, field 'a': comes twice"),
        ('{"b": {"a": 1, "a": 2}}', "here, field 'a': comes twice"),
    ],
)
def test_json_that_would_mislead_a_reader_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InterpError, match=message) as caught:
        parse_json(text, "here")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_nan_that_python_wrote_is_read_where_it_is_meant() -> None:
    assert parse_json('{"a": NaN}', "here", allow_nan=True)["a"] != 0


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"one\ntwo \xe9\n")
    with pytest.raises(InterpError, match=r"latin\.txt, line 2: not UTF-8"):
        read_text(tmp_path / "latin.txt")
    with pytest.raises(InterpError, match="cannot be read"):
        read_text(tmp_path)
    with pytest.raises(InterpError, match="cannot be read"):
        read_text("a\0b")
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbfone")
    assert read_text(tmp_path / "mark.txt") == "one"


def test_whole_characters_beyond_the_basic_plane_are_texts() -> None:
    require_unicode("\U0001f600", "the text")
    with pytest.raises(InterpError, match="the text has half a surrogate pair"):
        require_unicode("\ud83d", "the text")
