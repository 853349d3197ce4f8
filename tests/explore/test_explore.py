"""What interp.explore takes, and what it refuses in one line."""

from __future__ import annotations

from typing import Any

import pytest

import interp
from interp.errors import InterpError
from tests.explore.test_explorer import ITEMS


def test_the_function_stands_at_the_top() -> None:
    import interp.explore.explorer  # its module does not take the name

    assert callable(interp.explore)
    assert interp.explore.__module__ == "interp.explore.explore"


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (None, "what to explore is nothing"),
        ([], "what to explore is nothing"),
    ],
)
def test_anything_else_is_refused(tiny_model: Any, what: Any, line: str) -> None:
    given: Any = what
    with pytest.raises(InterpError, match=line):
        interp.explore(tiny_model, given)


def test_items_without_a_model_are_refused() -> None:
    with pytest.raises(InterpError, match="items or a pair need a model"):
        interp.explore("SmolLM2", ITEMS)
    with pytest.raises(InterpError, match="nothing to explore in a str"):
        interp.explore("SmolLM2")
