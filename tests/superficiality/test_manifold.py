"""Off the manifold: states whose place among others is known."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from interp.errors import InterpError
from interp.superficiality.manifold import (
    MANIFOLD,
    manifold_check,
    measure_manifold,
    spread,
)
from tests.superficiality.toy import item_pairs


def test_an_exchange_is_compared_with_placebo_states_and_with_another_items_value(
    tiny_model: Any,
) -> None:
    """Along a vector by which the runs hardly differ the states stay placebo states."""
    pairs = item_pairs(tiny_model, 4)
    assert [p.item.cluster for p in spread(pairs, 2)] != [pairs[0].item.cluster] * 2  # type: ignore[union-attr]
    clusters = ["a", "b", "a", "b"]
    vector = torch.nn.functional.normalize(torch.ones(int(tiny_model.cfg.d_model)), dim=0)
    found = measure_manifold(tiny_model, pairs, 2, vector=vector, clusters=clusters)
    assert tuple(found.columns) == MANIFOLD
    assert len(found) == 4 * 3
    of = found.set_index("state")
    placebo, patched = (of.loc[name] for name in ("placebo", "patched"))
    assert (placebo["far"] * placebo["rows"]).sum() <= 0.02 * placebo["rows"].sum()
    assert (patched["next_norm"].to_numpy() != placebo["next_norm"].to_numpy()).all()
    check = manifold_check(found)
    assert check.passed
    assert "with another item's value" in check.says
    whole = measure_manifold(tiny_model, pairs, 4, clusters=clusters)  # the final stream
    assert (whole["next_norm"] > 0).all()
    for place, names, said in ((9, clusters, "place 9"), (2, ["a"] * 4, "one cluster")):
        with pytest.raises(InterpError, match=said):
            measure_manifold(tiny_model, pairs, place, clusters=names)


def test_states_that_hardly_ever_occur_forbid_a_reading() -> None:
    rows = [
        ("i", "c", "0", state, 10, 1.0, 1.0, far, large)
        for state, far, large in (
            ("placebo", 0.0, 0.1),
            ("patched", 0.7, 0.2),
            ("matched", 0.1, 0.0),
        )
    ]
    check = manifold_check(pd.DataFrame(rows, columns=list(MANIFOLD)))
    assert not check.passed
    assert check.value == pytest.approx(0.7)
    assert "70 % of the patched states" in check.says
    assert "than 99 % of placebo" in check.says
