from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.errors import InterpError
from interp.superficiality.coupling import coupling_finding
from interp.superficiality.representation import SHIFTS
from interp.superficiality.rows import READINGS
from tests.superficiality.test_rows import ITEMS


def tables(slope: float, *, noise: float = 0.01) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six wordings: behaviour follows states with a slope within items; items differ by far more."""
    generator = np.random.default_rng(0)
    states, behaviour = [], []
    for k, item in enumerate(ITEMS):
        level = 10 * generator.normal()
        for slot in range(6):
            x = generator.normal()
            unit = (item, f"c{k // 2}", str(slot), "before", "content", "resid_post", 3, True)
            states.append((*unit, level + x))
            y = -level + slope * x + noise * generator.normal()
            for side, value in (("corrected", y), ("placebo", 0.0)):
                behaviour.append((item, f"c{k // 2}", "", side, slot, "margin", value))
    return pd.DataFrame(states, columns=list(SHIFTS)), pd.DataFrame(
        behaviour, columns=list(READINGS)
    )


def test_the_slope_is_that_within_items() -> None:
    found = coupling_finding(*tables(0.5))
    assert found.interval.estimate == pytest.approx(0.5, abs=0.02)
    assert found.interval.low > 0.4
    assert found.p_value < 0.01
    assert found.table["r"].iloc[0] > 0.99
    assert found.n == len(ITEMS)
    assert "class unit" in found.reading


def test_no_slope_is_none() -> None:
    found = coupling_finding(*tables(0.0, noise=1.0))
    assert not found.interval.excludes(0)


def test_items_without_two_wordings_are_refused() -> None:
    states, behaviour = tables(0.5)
    with pytest.raises(InterpError, match="no item has two wordings"):
        coupling_finding(states[states["slot"] == "0"], behaviour)


def test_columns_of_tables_that_are_no_tables_of_a_card_are_named() -> None:
    states, behaviour = tables(0.5)
    with pytest.raises(InterpError, match="no column 'own'"):
        coupling_finding(states.drop(columns="own"), behaviour)
