"""Swings along directions: planted effects are exact, p counts the direction itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.directions.swings import effect_table, place_among, swing_table


def test_place_among_counts_the_direction_itself() -> None:
    assert place_among(3.0, [1.0, 2.0]) == pytest.approx(1 / 3)
    assert place_among(1.5, [1.0, 2.0]) == pytest.approx(2 / 3)
    assert place_among(2.0, [2.0]) == 1.0


def make_rows(effects: dict[str, dict[float, float]], n: int = 8) -> pd.DataFrame:
    """Margins and costs: item k is 10 k without a step; every step adds its effect to all."""
    rows = [("unsteered", "unsteered", 0.0, o, "all", f"i{k}", f"c{k}", 10.0 * k)
            for o in ("margin", "nll") for k in range(n)]  # fmt: skip
    for direction, at in effects.items():
        kind = "learned" if direction == "learned" else "contrast"
        for strength, effect in at.items():
            for k in range(n):
                item = ("all", f"i{k}", f"c{k}")
                rows.append((kind, direction, strength, "margin", *item, 10.0 * k + effect))
                rows.append((kind, direction, strength, "nll", *item, 10.0 * k + 0.5))
    columns = ["kind", "direction", "strength", "outcome", "subset", "item", "cluster", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_swings_of_planted_effects_are_exact() -> None:
    planted = {
        "learned": {-2.0: -1.0, 2.0: 3.0},
        "a": {-2.0: 5.0, 2.0: 5.0},
        "b": {-2.0: 3.0, 2.0: -3.0},
    }
    rows = make_rows(planted)
    swings = swing_table(rows).set_index(["outcome", "direction"])
    assert swings.loc["margin", "estimate"].to_dict() == {"learned": 2.0, "a": 0.0, "b": -3.0}
    assert swings.loc[("margin", "learned"), "p_null"] == pytest.approx(2 / 3)
    assert swings.loc[("margin", "learned"), "beyond"] == pytest.approx(
        2.0 - 3.0
    )  # the largest null
    assert np.isnan(swings.loc[("margin", "a"), "beyond"])
    assert swings.loc[("margin", "learned"), "per_cost"] == pytest.approx(4.0)
    assert swings.loc[("nll", "a"), "estimate"] == pytest.approx(0.5)
    effects = effect_table(rows).set_index(["outcome", "direction", "strength"])["estimate"]
    assert effects.loc[("margin", "a", -2.0)] == 5.0


def test_there_is_no_effect_per_cost_where_no_cost_is_shown() -> None:
    rows = make_rows({"learned": {-2.0: -1.0, 2.0: 3.0}, "a": {-2.0: 5.0, 2.0: 5.0}})
    steered = (rows["outcome"] == "nll") & (rows["kind"] == "learned")
    rows.loc[steered & (rows["item"] < "i4"), "value"] -= 0.8  # costs of -.3 and .5
    swings = swing_table(rows).set_index(["outcome", "direction"])
    assert swings.loc[("margin", "learned"), "cost"] == pytest.approx(0.1)
    assert np.isnan(swings.loc[("margin", "learned"), "per_cost"])
    assert np.isnan(swings.loc[("margin", "learned"), "p_per_cost"])
    assert swings.loc[("margin", "a"), "per_cost"] == 0.0
