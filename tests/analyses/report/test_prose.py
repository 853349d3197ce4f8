"""Pieces of prose: what a label becomes as a file's name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyses.report.prose import file_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("rank_winogender, ambiguous", "rank_winogender-ambiguous"),
        ("contrast-span:instruction", "contrast-span-instruction"),
        ("map-last", "map-last"),
    ],
)
def test_a_label_is_a_file_name(label: str, name: str) -> None:
    assert file_name(label) == name


@given(st.text())
def test_any_label_is_of_letters_digits_and_three_marks(label: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.-]*", file_name(label))
