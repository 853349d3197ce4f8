"""Polarity and shared shifts whose truth is written down."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import InterpError
from interp.superficiality.polarity import (
    POLARITY,
    VOCABULARY,
    measure_shared_shift,
    polarity_findings,
    shared_finding,
)
from tests.superficiality.test_rows import ITEMS, readings


def sides(worth: dict[str, float]) -> pd.DataFrame:
    """Behaviour under other sides: that of placebos and instructions, renamed."""
    parts = []
    for k, (name, nats) in enumerate(worth.items()):
        own = readings(nats, seed=k + 1)
        parts.append(own.replace({"side": {"corrected": name, "placebo": f"{name}_placebo"}}))
    return pd.concat(parts)


def test_the_negated_instruction_is_taken_from_the_instruction() -> None:
    own, other = readings(0.5), sides({"negated": -0.3, "vocabulary": 0.1})
    found = {row.name: row for row in polarity_findings(own, other)}
    assert found[POLARITY].interval.estimate == pytest.approx(0.8, abs=0.02)
    assert "opposite signs" in found[POLARITY].reading
    assert found[VOCABULARY].interval.estimate == pytest.approx(0.1, abs=0.02)
    alike = polarity_findings(own, sides({"negated": 0.4}))
    assert [row.name for row in alike] == [POLARITY]
    assert "one sign" in alike[0].reading
    with pytest.raises(InterpError, match="ask the same items"):
        polarity_findings(own, other.assign(item="another"))


def test_shifts_along_one_vector_are_shared_and_orthogonal_ones_are_not() -> None:
    generator = np.random.default_rng(0)
    states = generator.normal(size=(len(ITEMS), 4, 2, 1, 6))
    states[:, 3] = states[:, 1]  # the placebo does what its statement does, but for what follows
    states[:, 2] = states[:, 0]
    states[:, 0, :, :, 0] += 5.0
    clusters = [f"c{k // 2}" for k in range(len(ITEMS))]
    along = states.copy()
    along[:, 1, :, :, 0] += 3.0
    across = states.copy()
    across[:, 1, :, :, 1] += 3.0
    found = [
        shared_finding(measure_shared_shift(torch.from_numpy(x), clusters, 0))
        for x in (along, across)
    ]
    assert found[0].interval.estimate == pytest.approx(1.0)
    assert found[1].interval.estimate == pytest.approx(0.0, abs=1e-9)
    assert "ceiling of 1.00" in found[0].reading
    assert found[0].n == 6
    assert set(found[0].table["scale"]) == {"raw", "standardised"}
    with pytest.raises(InterpError, match="place 'middle'"):
        shared_finding(measure_shared_shift(torch.from_numpy(along), clusters, 0), place="middle")
