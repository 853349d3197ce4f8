from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from interp import superficiality
from interp.data import load_items
from interp.errors import InterpError
from interp.prompts import TextBank
from interp.superficiality.measure import causal_pairs
from tests.superficiality.toy import tiny_direction

ITEMS = load_items("bundled", limit=3, seed=0)


def test_pairs_have_the_wordings_in_turn_and_the_instruction_first(tiny_model: Any) -> None:
    bank = TextBank(tiny_model.tokenizer, require_match=0)
    pairs = causal_pairs(tiny_model, bank, ITEMS, "instructed", 2)
    assert [pair.wording for pair in pairs] == ["0", "1", "0"]
    for pair in pairs:
        assert pair.alignment.by_index
        assert pair.source.span("instruction").stop <= pair.source.span("context").start


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"items": []}, "no items"),
        ({"causal_items": 1}, "patch at least"),
        ({"untrained_items": -1}, "0 or more"),
        ({"orders": 0}, "at least 1 order"),
        ({"texts": 99}, "asked for 99"),
        ({"condition": "nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    tiny_model: Any, given: dict[str, Any], message: str
) -> None:
    asked = {"items": ITEMS, "progress": False, **given}
    with pytest.raises(InterpError, match=message) as error:
        superficiality(
            tiny_model, asked.pop("items"), asked.pop("condition", "instructed"), **asked
        )
    assert "\n" not in str(error.value)


def test_a_card_of_few_wordings_is_undetermined_and_every_row_is_there(tiny_model: Any) -> None:
    card = superficiality(
        tiny_model, ITEMS, texts=1, causal_items=3, untrained_items=1, further=(), progress=False
    )
    assert card.verdict.name == "undetermined"
    assert len(card) == 9
    assert all(np.isnan(row.interval.estimate) or row.n >= 1 for row in card)


def test_a_direction_of_another_site_is_refused_before_anything_is_measured(
    tiny_model: Any,
) -> None:
    with pytest.raises(InterpError, match="site='resid_post'"):
        superficiality(tiny_model, ITEMS, direction=tiny_direction(tiny_model, "mlp_out"))
