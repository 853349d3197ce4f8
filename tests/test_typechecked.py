"""The checks of annotations are shared between equal functions and miss nothing for it."""

from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from tests import typechecked
from tests.typechecked import check_once


def defined(hint: Any, default: Any = 0, given: Any = None) -> Any:
    """A function that is defined anew at every call, as those inside other functions are."""

    @jaxtyped(typechecker=check_once)
    def inner(x: hint, y: int = default) -> hint:
        return x if given is None else given

    return inner


def test_equal_functions_are_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typechecked, "_prepared", {})
    first, second = defined(int), defined(int)
    assert len(typechecked._prepared) == 2  # parameters alone, and with what is returned
    assert first is not second
    assert first(1) == second(1) == 1
    defined(str)
    assert len(typechecked._prepared) == 4


def test_every_one_of_them_is_checked_by_its_own_annotations() -> None:
    for _ in range(2):
        for hint, right, wrong in (
            (int, 1, "a"),
            (str, "a", 1),
            (Float[Tensor, "n 2"], torch.zeros(3, 2), torch.zeros(2, 3)),
            (Float[Tensor, "n 3"], torch.zeros(2, 3), torch.zeros(3, 2)),
        ):
            assert defined(hint)(right) is right
            with pytest.raises(TypeCheckError):
                defined(hint)(wrong)
            with pytest.raises(TypeCheckError):
                defined(hint, given=wrong)(right)
            with pytest.raises(TypeCheckError):
                defined(hint)(right, y="b")


def test_an_annotation_or_a_default_without_a_hash_is_prepared_alone() -> None:
    @jaxtyped(typechecker=check_once)
    def listed(x: list[int] = []) -> int:  # noqa: B006
        return len(x)

    assert listed([1]) == 1
    with pytest.raises(TypeCheckError):
        listed("a")
