"""Places: every name by hand, and what has no place."""

from __future__ import annotations

import pytest
import torch

from interp.activations import Places, places_of
from interp.errors import InterpError
from interp.prompts import TokenizedPrompt

IDS = torch.tensor([0, 7, 8, 1, 9, 5, 1])
SPANS = {"header": slice(0, 2), "instruction": slice(2, 5), "template": slice(5, 7)}
PROMPT = TokenizedPrompt(IDS, SPANS, tuple("abcdefg"), "abcdefg")


@pytest.mark.parametrize(
    ("where", "positions", "averaged"),
    [
        ("last", (6,), False),
        ("all", (0, 1, 2, 3, 4, 5, 6), False),
        ("mean", (1, 2, 4, 5), True),
        ("instruction", (2, 3, 4), True),
        ("instruction:last", (4,), False),
        ("instruction:all", (2, 3, 4), False),
        ("header:last", (1,), False),
    ],
)
def test_every_name_by_hand(where: str, positions: tuple[int, ...], averaged: bool) -> None:
    assert places_of(PROMPT, where, {0, 1}) == Places(positions, averaged)
    if "instruction" not in where and "header" not in where:
        assert places_of(IDS, where, {0, 1}) == Places(positions, averaged)


def test_a_mean_leaves_the_first_position_out_also_when_it_is_an_ordinary_token() -> None:
    assert places_of(torch.tensor([7, 8, 9]), "mean") == Places((1, 2), averaged=True)


def test_a_span_of_special_tokens_is_still_a_span() -> None:
    assert places_of(PROMPT, "template", {0, 1, 5}) == Places((5, 6), averaged=True)


def test_what_has_no_place_says_why() -> None:
    with pytest.raises(InterpError, match="no span 'question'; this prompt has header, instruc"):
        places_of(PROMPT, "question")
    with pytest.raises(InterpError, match=r"positions 'header:first': .* ':last' or ':all'"):
        places_of(PROMPT, "header:first")
    with pytest.raises(InterpError, match="positions 'header': bare token ids have no spans"):
        places_of(IDS, "header:last")
    with pytest.raises(InterpError, match="no position is left to average"):
        places_of(torch.tensor([0, 1, 1]), "mean", {1})
    with pytest.raises(InterpError, match="no position is left to average"):
        places_of(torch.tensor([5]), "mean")
