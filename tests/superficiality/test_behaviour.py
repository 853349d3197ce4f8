from __future__ import annotations

from typing import Any

import pytest

from interp.behaviour import score_variants
from interp.data import load_items
from interp.prompts import TextBank
from interp.superficiality.behaviour import asked_texts, measure_behaviour

ITEMS = load_items("bundled", limit=3, seed=0)


def test_behaviour_is_the_mean_over_orders_of_every_text(tiny_model: Any) -> None:
    bank, item = TextBank(tiny_model.tokenizer), ITEMS[0]
    texts = asked_texts(bank, item, "instructed", 2)
    assert {side: len(own) for side, own in texts.items()} == {
        "corrected": 2, "placebo": 2, "control": 1, "control_placebo": 1,
    }  # fmt: skip
    found = measure_behaviour(tiny_model, item, texts, orders=2)
    own = found[(found["side"] == "placebo") & (found["slot"] == 1)].set_index("metric")["value"]
    scored = score_variants(
        tiny_model, item, [texts["placebo"][1]], placement="before", orders=[0, 1]
    )
    for metric in ("option_margin", "margin", "p_gold"):
        assert own[metric] == pytest.approx(scored[metric].mean(), abs=1e-4)
    assert len(found) == 3 * sum(len(side) for side in texts.values())


def test_the_control_takes_every_wording_in_turn(tiny_model: Any) -> None:
    bank = TextBank(tiny_model.tokenizer)
    sides = [asked_texts(bank, item, "instructed", 2) for item in load_items("bundled", limit=12)]
    assert {own["control"][0].slot for own in sides} == {0, 1}
    assert all(own["control"][0].slot == own["control_placebo"][0].slot for own in sides)
