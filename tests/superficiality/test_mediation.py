"""Rows of mediation on tables whose truth is written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.superficiality.exchanges import (
    DIRECTION,
    IMMEDIATE,
    ORACLE,
    ORTHOGONAL,
    WHOLE,
    Exchange,
)
from interp.superficiality.finding import HealthCheck
from interp.superficiality.mediation import (
    ADDED_UP,
    BEYOND,
    R_IN,
    R_OUT,
    SPANS,
    mediation_findings,
)
from tests.superficiality.test_rows import ITEMS, by_name, runs_of


def table(direction: float, oracle: float, *, noise: float = 0.0, **more: Any) -> pd.DataFrame:
    """Runs of 12 pairs with an effect of 4: what direction and oracle bring, both ways."""
    generator = np.random.default_rng(0)
    wobble = noise * generator.normal(size=len(ITEMS))
    runs = {"placebo": 0.0, "corrected": 4.0, **more}
    for space, part in ((DIRECTION, direction), (ORACLE, oracle)):
        runs[Exchange(space).run] = 4 * part + wobble
        runs[Exchange(space, way="out").run] = 4 * (1 - part) + wobble
        for k in (2, 4):
            runs[Exchange(space, k).run] = 4 * part + 0.05 * k
    runs |= {Exchange(WHOLE, rows=rows).run: 4.0 for rows in ("behind", "all")}
    runs[Exchange(DIRECTION, rows="all").run] = 4 * direction
    runs[Exchange(ORTHOGONAL, rows="all").run] = 4.0
    runs |= {Exchange(name).run: value for name, value in (("tense", 0.4), ("number", -0.8))}
    return runs_of(runs)


def test_r_is_the_ratio_of_shares_and_the_other_rows_are_what_they_say() -> None:
    found: Any = by_name(mediation_findings(table(0.3, 0.6)))
    assert found[R_IN].interval.estimate == pytest.approx(0.5)
    assert found[R_OUT].interval.estimate == pytest.approx(0.5)
    assert found[R_IN].is_read
    assert found[SPANS].interval.estimate == pytest.approx(1.4 / 2.6)  # k = 4
    assert found[ADDED_UP].interval.estimate == pytest.approx(0.3)
    assert found[BEYOND].interval.estimate == pytest.approx(0.3 - 0.2)
    settings = found[R_IN].table.set_index(["space", "k", "way", "rows"])["estimate"]
    assert settings[ORACLE, 1, "out", "behind"] == pytest.approx(0.6)


def test_what_later_layers_make_of_an_exchange_is_stated() -> None:
    total, straight = Exchange(DIRECTION, places="own"), Exchange(IMMEDIATE, places="own")
    runs = table(0.3, 0.6, **{total.run: 1.0, straight.run: 3.0})
    row = mediation_findings(runs)[0]
    checks = {check.name: check for check in row.health}
    assert checks["immediate effect"].value == pytest.approx(0.75)
    assert checks["change of later layers"].value == pytest.approx(
        -0.5
    )  # they take most of it back
    assert row.is_read


def test_a_ratio_is_not_read_where_there_is_no_effect_to_carry() -> None:
    sign = np.array([1.0, -1.0] * (len(ITEMS) // 2))
    rows: Any = by_name(mediation_findings(table(0.3, 0.6, corrected=4 * sign)))
    assert rows[R_IN].interval.estimate == pytest.approx(0.5)  # the oracle moves all the same
    assert not rows[R_IN].is_read
    assert "no effect to carry" in rows[R_IN].why_not


def test_nothing_is_read_without_an_instrument_an_oracle_or_with_cancellation() -> None:
    bad = HealthCheck("instrument", 0.5, False, "instrument not valid")
    assert not any(one.is_read for one in mediation_findings(table(0.3, 0.6), instrument=bad))
    weak: Any = by_name(mediation_findings(table(0.1, 0.2)))
    assert "the oracle carries 20 %" in weak[R_IN].why_not
    assert "no rank" in weak[SPANS].why_not
    over: Any = by_name(mediation_findings(table(1.4, 0.9)))
    assert "cancelled" in over[R_IN].why_not
    broken = table(0.3, 0.6)
    broken.loc[broken["run"] == Exchange(WHOLE, rows="all").run, "value"] = 3.9
    assert "miss the corrected run" in mediation_findings(broken)[0].why_not
