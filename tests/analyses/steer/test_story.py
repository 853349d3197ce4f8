"""What a steering report may say of given numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from analyses.steer.story import read_cost, read_outcome
from interp.stats import Family, Interval, interval_columns, interval_of


def spoken(
    swing: float,
    low: float,
    high: float,
    p: float,
    *,
    outcome: str = "margin",
    clusters: int = 9,
    auc_low: float = 0.6,
    held_out: bool = True,
) -> str:
    """What is said of an outcome with these numbers."""
    row = {"outcome": outcome, "subset": "ambiguous"}
    null = {**row, "kind": "contrast", "direction": "tense"}
    null |= interval_columns(Interval(0.1, 0.0, 0.0, 12, clusters))
    own = {**row, "kind": "learned", "direction": "learned", "p_null": p}
    own |= interval_columns(Interval(swing, low, high, 12, clusters, p=0.001))
    own |= interval_columns(Interval(swing - 0.1, low - 0.1, high - 0.1, 12, clusters), "beyond")
    auc = Interval(*(np.array([v]) for v in (0.7, auc_low, 0.8, 9, 9)), reason=np.array([""]))
    fake = SimpleNamespace(
        family=Family.of("swings", {(outcome, "ambiguous"): interval_of(own)}),
        swings=pd.DataFrame([own, null]),
        sentences=SimpleNamespace(held_out=held_out),
        stack=SimpleNamespace(best_row=0, auc=auc),
    )
    return read_outcome(fake, outcome, "ambiguous")  # type: ignore[arg-type]


def test_only_what_passes_every_gate_is_said_to_move_the_margin() -> None:
    of = "the margin of ambiguous items by"
    null = spoken(0.2, -0.1, 0.5, 0.01)
    assert "in the margin of ambiguous items; undetermined, the half-width is ±0.3" in null
    not_special = spoken(0.2, 0.1, 0.3, 0.4)
    assert "but not once the family of claims is corrected for" in not_special
    assert "0 of 1 null direction swing it at least as far; beyond the largest 0.10" in not_special
    assert "too few clusters, 3 of items" in spoken(0.2, 0.1, 0.3, 0.01, clusters=3)
    assert f"towards the moral class raises {of} 0.20 [0.10, 0.30]" in spoken(0.2, 0.1, 0.3, 0.01)
    assert f"lowers {of}" in spoken(-0.2, -0.3, -0.1, 0.01)


def test_a_direction_that_fails_a_gate_is_shown_but_not_interpreted() -> None:
    chance = spoken(0.2, 0.1, 0.3, 0.01, auc_low=0.45)
    assert "raises" not in chance
    assert "not interpreted, because the direction does not separate held-out" in chance
    seen = spoken(0.2, 0.1, 0.3, 0.01, outcome="preference", held_out=False)
    assert "raises" not in seen
    assert "fitted on these very sentences" in seen
    assert "raises" in spoken(0.2, 0.1, 0.3, 0.01, held_out=False)


def cost_of(estimate: float, low: float, high: float, clusters: int = 9) -> str:
    """What is said of a cost with these numbers."""
    rows = []
    for kind in ("learned", "contrast"):
        for outcome, subset in (("nll", "all"), ("margin", "ambiguous"), ("preference", "all")):
            interval = Interval(estimate, low, high, 12, clusters)
            row = {"outcome": outcome, "subset": subset, "kind": kind, "direction": kind}
            rows.append(row | interval_columns(interval) | {"per_cost": 1.0, "p_per_cost": 0.5})
    return read_cost(SimpleNamespace(swings=pd.DataFrame(rows)))  # type: ignore[arg-type]


def test_a_step_is_said_to_damage_the_model_only_where_a_large_cost_is_found() -> None:
    assert "damages the model" in cost_of(0.2, 0.1, 0.3)
    assert "damages the model" not in cost_of(0.2, -0.1, 0.5)
    assert "damages the model" not in cost_of(0.05, 0.01, 0.09)
    assert "damages the model" not in cost_of(0.2, 0.1, 0.3, clusters=3)
