"""Checks of the content's rows on tables whose truth is written down, and on a tiny model."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from interp.errors import InterpError
from interp.prompts import TextBank
from interp.superficiality.finding import Finding
from interp.superficiality.health import DOSE, add_health, measure_health
from interp.superficiality.routes import measure_routes
from interp.superficiality.rows import (
    CONTENT_EDGES,
    CONTENT_IN,
    CONTENT_OUT,
    OTHER_EDGES,
    content_findings,
    edge_findings,
)
from interp.superficiality.states import placebo_prompts
from tests.superficiality.test_rows import runs_of
from tests.superficiality.toy import item_pairs

EDGES = {
    "placebo": 0.0, "corrected": 4.0, "content": 2.0, "instruction": 2.0,
    "corrected_no_content_edges": 3.0, "placebo_no_content_edges": 0.0,
    "corrected_no_other_edges": 1.0, "placebo_no_other_edges": 0.0,
}  # fmt: skip


def checked(more: dict[str, float]) -> dict[str, Finding]:
    runs = runs_of(EDGES)
    doses = runs_of({"dose content": 0.2, "dose instruction": 0.9}).assign(metric=DOSE)
    health = pd.concat([runs_of(EDGES | more), doses])
    found = add_health([*content_findings(runs), *edge_findings(runs)], health)
    return {row.name: row for row in found}


def test_ablation_values_that_agree_pass_and_others_do_not() -> None:
    more = {"mean content": 3.1, "resample content": 2.9, "mean other": 3.0, "resample other": 1.0,
            "span context": 1.0, "span question": 1.0}  # fmt: skip
    found = checked(more)
    table = found[CONTENT_EDGES].table.set_index("ablation")["lost"]
    assert table.to_dict() == pytest.approx({"remove": 0.25, "mean": 0.225, "resample": 0.275})
    assert found[CONTENT_EDGES].is_read
    assert not found[OTHER_EDGES].is_read
    assert "depends on the ablation value" in found[OTHER_EDGES].why_not
    assert found[CONTENT_IN].is_read
    assert "dose / norm, content 0.2" in found[CONTENT_IN].checks
    assert "dose / norm, instruction 0.9" in found[CONTENT_OUT].checks


def test_spans_that_back_each_other_up_are_stated() -> None:
    more = {"mean content": 3.0, "resample content": 3.0, "mean other": 1.0, "resample other": 1.0,
            "span context": 4.0, "span question": 4.0}  # fmt: skip
    found = checked(more)[CONTENT_IN]
    assert "sum of spans - joint 1.5" in found.checks
    assert found.is_read


def test_resampling_with_the_pairs_own_placebo_is_the_route_itself(tiny_model: Any) -> None:
    pair, _ = item_pairs(tiny_model)
    bank = TextBank(tiny_model.tokenizer, require_match=0)
    others = placebo_prompts(tiny_model, bank, pair, "instructed", 2)
    assert all(len(prompt) == len(others[0]) for prompt in others)
    own = pair.destination
    found = measure_health(tiny_model, [pair], [[own, own]])
    values = found[found["metric"] == "margin"].set_index("run")["value"]
    routes = measure_routes(tiny_model, [pair], onset=False)
    of_route = routes[routes["metric"] == "margin"].set_index("run")["value"]
    for kind in ("mean", "resample"):
        assert values[f"{kind} content"] == pytest.approx(of_route["instruction"], abs=1e-4)
        assert values[f"{kind} other"] == pytest.approx(of_route["content"], abs=1e-4)
    dose = found[found["metric"] == DOSE].set_index("run")["value"]
    assert (dose > 0).all()
    with pytest.raises(InterpError, match="no other placebos"):
        measure_health(tiny_model, [pair], [[]])
