from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.directions import project
from interp.errors import InterpError
from interp.stats import cluster_mean
from interp.superficiality.finding import HealthCheck
from interp.superficiality.representation import (
    NEGATED,
    REPRESENTATION,
    SHIFTS,
    measure_representation,
    representation_findings,
)
from tests.superficiality.test_rows import ITEMS, by_name
from tests.superficiality.toy import item_pairs, tiny_direction


def test_a_shift_is_that_of_plain_projections(tiny_model: Any) -> None:
    """In class units at the direction's own site, over the content and at the last position."""
    (pair,) = item_pairs(tiny_model, 1)
    v = tiny_direction(tiny_model)
    found = measure_representation(tiny_model, [pair], v)
    assert tuple(found.columns) == SHIFTS
    of = found[found["component"] == "resid_post"].set_index(["position", "layer"])["value"]
    last = project(tiny_model, pair, v, progress=False).shift().set_index("layer")["shift"]
    by_position = project(tiny_model, pair, v, positions="all", progress=False).to_dataframe()
    spans = [pair.source.span(name) for name in ("context", "question")]
    rows = [p for span in spans for p in range(span.start, span.stop)]
    inside = by_position[by_position["position"].isin(rows)]
    means = inside.groupby(["run", "layer"])["projection"].mean()
    for layer in v.layers:
        assert of["last", layer] == pytest.approx(last[layer], abs=1e-4)
        expected = means["source", layer] - means["destination", layer]
        assert of["content", layer] == pytest.approx(expected, abs=1e-4)
    assert set(found["component"]) == {"resid_post", "attn_out", "mlp_out"}
    own = found[found["own"]]
    assert set(own["layer"]) == {v.best_layer}
    assert set(own["component"]) == {"resid_post"}


def test_content_before_the_instruction_is_not_read(tiny_model: Any) -> None:
    pairs = item_pairs(tiny_model, 1, placement="after")
    found = measure_representation(tiny_model, pairs, tiny_direction(tiny_model))
    assert set(found["position"]) == {"last"}
    assert set(found["placement"]) == {"after"}
    with pytest.raises(InterpError, match="instruction first"):
        representation_findings(found)
    with pytest.raises(InterpError, match="no pairs"):
        measure_representation(tiny_model, [], tiny_direction(tiny_model))


def shifts(value: float, *, seed: int = 0) -> pd.DataFrame:
    """Twelve items with a wording each: layer 1 of two moves by ``value``, nothing else moves."""
    generator = np.random.default_rng(seed)
    rows = [
        (item, f"c{k // 2}", str(k % 6), "before", "content", component, layer,
         component == "resid_post" and layer == 1,
         value * (layer == 1) * (component == "resid_post") + 0.1 * generator.normal())
        for k, item in enumerate(ITEMS)
        for component in ("resid_post", "mlp_out")
        for layer in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(SHIFTS))


def test_the_row_is_the_cell_chosen_before_beside_the_family() -> None:
    table = shifts(1.0)
    found: Any = by_name(representation_findings(table, negated=shifts(-1.0)))
    own = table[table["own"]]
    expected = cluster_mean(own["value"].to_numpy(), own["cluster"], wordings=own["slot"])
    assert found[REPRESENTATION].interval.estimate == pytest.approx(expected.estimate)
    assert found[REPRESENTATION].interval.low == pytest.approx(expected.low)
    assert found[NEGATED].interval.estimate < 0
    cells = found[REPRESENTATION].table.set_index(["component", "layer"])["p_corrected"]
    assert cells["resid_post", 1] < 0.05
    assert cells.drop(("resid_post", 1)).gt(0.05).all()
    bad = HealthCheck("instrument", 0.5, False, "instrument not valid")
    assert not representation_findings(table, instrument=bad)[0].is_read
