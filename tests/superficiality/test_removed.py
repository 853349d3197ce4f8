"""What is left of a shift once what every request does is taken out: vectors written down."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from interp.directions import Direction, DirectionFacts
from interp.errors import InterpError
from interp.prompts import TextBank
from interp.superficiality.finding import HealthCheck
from interp.superficiality.further import measure_states
from interp.superficiality.removed import has_content, measure_removed, removed_finding
from interp.superficiality.representation import measure_representation
from tests.superficiality.toy import item_pairs, tiny_direction

FACTS = DirectionFacts("mean_difference", "own", "0", 2, "0", "raw")


def test_the_shared_shift_is_taken_out_and_what_is_left_is_the_rest(tiny_model: Any) -> None:
    """Requests move along e0 alone, the instruction by 3 e0 + 4 e1, read along (e0 + e1) / sqrt 2."""
    pairs = item_pairs(tiny_model, 4)
    states = torch.zeros(4, 4, 3, 5, 6)
    states[:, 1, 2, :, 0] = 2.0  # the placebo, from its statement
    states[:, 0, 2] = states[:, 1, 2]
    states[:, 0, 2, :, 0] += 3.0
    states[:, 0, 2, :, 1] += torch.tensor([4.0, 4.0, 4.0, 4.1])[:, None]
    vector = torch.tensor([1.0, 1, 0, 0, 0, 0]) / 2**0.5
    direction = Direction(vector, 2.0, 0.0, 1, "resid_post", FACTS)
    found = measure_removed(states, pairs, direction, clusters=list("aabb"))
    assert found["raw"].iloc[0] == pytest.approx(7 / 2**0.5 / 2)
    assert found["removed"].iloc[0] == pytest.approx(4 / 2**0.5 / 2)
    bad = HealthCheck("instrument", 0.5, False, "instrument not valid")
    row = removed_finding(found, instrument=bad)
    assert row.interval.estimate == pytest.approx(4.025 / 2**0.5 / 2)
    assert "shrinks by 43 %" in row.reading
    assert not row.is_read
    with pytest.raises(InterpError, match="at 2 places"):
        measure_removed(states[:, :, :2], pairs, direction, clusters=list("aabb"))
    assert not has_content(states[:, :, :2])
    assert not has_content(None)


def test_before_removal_it_is_the_shift_that_representation_reads(tiny_model: Any) -> None:
    bank = TextBank(tiny_model.tokenizer, require_match=0)
    pairs = item_pairs(tiny_model)
    v = tiny_direction(tiny_model)
    states = measure_states(tiny_model, bank, pairs, "instructed", progress=False)
    found = measure_removed(states, pairs, v, clusters=["a", "b"])
    shifts = measure_representation(tiny_model, pairs, v, components=("resid_post",))
    content = shifts[shifts["position"] == "content"].set_index(["item", "layer"])["value"]
    raw = found.set_index(["item", "layer"])["raw"]
    assert raw.to_dict() == pytest.approx(content.to_dict(), abs=1e-4)
