"""Residues whose truth is written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.data import load_items
from interp.superficiality.residue import (
    distinguish_finding,
    measure_probes,
    measure_reinjection,
    probe_directions,
    probe_finding,
    reinjection_finding,
    ridge,
)
from tests.superficiality.test_rows import ITEMS, runs_of
from tests.superficiality.toy import item_pairs


def probes_of(left: float, behaviour: float) -> pd.DataFrame:
    """Probes that read the answer exactly, of which a share is left."""
    level = np.linspace(-1, 1, len(ITEMS))
    rows = [
        (item, f"c{k // 2}", str(k % 6), layer, x, 0.5 + behaviour * x, x, 3 + left * x)
        for k, (item, x) in enumerate(zip(ITEMS, level, strict=True))
        for layer in range(2)
    ]
    columns = ["item", "cluster", "slot", "layer", "before", "after", "placebo", "corrected"]
    return pd.DataFrame(rows, columns=columns)


def test_what_is_left_is_a_ratio_of_slopes() -> None:
    found = probe_finding(probes_of(0.75, 0.25))
    assert found.interval.estimate == pytest.approx(0.75)
    assert found.table.set_index("of").loc["behaviour", "estimate"] == pytest.approx(0.25)
    assert found.is_read
    unread = probes_of(0.75, 0.25)
    unread["placebo"] = -unread["placebo"]
    assert not probe_finding(unread).is_read


def test_a_probe_is_a_ridge_fitted_on_other_clusters() -> None:
    generator = np.random.default_rng(0)
    states = generator.normal(size=(9, 4))
    weights, offset = ridge(states, states @ [1.0, 2.0, 0.0, 0.0] + 3, penalty=1e-9)
    assert weights == pytest.approx([1, 2, 0, 0], abs=1e-5)
    assert offset == pytest.approx(3, abs=1e-5)
    items = load_items("bundled", limit=4, seed=0)
    answers = torch.from_numpy(generator.normal(size=(4, 2, 3, 5)))
    before = [0.0, 1.0, 2.0, 3.0]
    found = measure_probes(answers, before, before, items, ["0"] * 4)
    train = [k for k, item in enumerate(items) if item.cluster != items[0].cluster]
    own, at = ridge(answers[train, 1, 2].numpy(), np.array(before)[train])
    row = found[(found["item"] == items[0].id) & (found["layer"] == 2)].iloc[0]
    assert row["placebo"] == pytest.approx(answers[0, 1, 2].numpy() @ own + at)
    assert row["corrected"] == pytest.approx(answers[0, 0, 2].numpy() @ own + at)


def test_both_signs_of_a_coordinate_that_carries_half() -> None:
    runs = runs_of(
        {"placebo": 0.0, "corrected": 4.0, "plus": 2.0, "minus": 6.0, "null plus": 4.0,
         "null minus": 4.4}
    )  # fmt: skip
    found = reinjection_finding(runs)
    assert found.interval.estimate == pytest.approx(0.5)
    assert found.table.set_index("sign")["share"].tolist() == pytest.approx([0.5, 0.5, 0.05])
    assert found.is_read
    assert not reinjection_finding(runs.replace({"value": {6.0: 3.0}})).is_read


def test_a_direction_without_a_difference_changes_nothing(tiny_model: Any) -> None:
    (pair, _) = item_pairs(tiny_model)
    answers = torch.randn(5, 2, int(tiny_model.cfg.n_layers) + 1, int(tiny_model.cfg.d_model))
    directions = probe_directions(answers, [0.0, 1.0, 0.5, 2.0, 1.0])
    assert directions.norm(dim=-1) == pytest.approx(1, abs=1e-5)
    found = measure_reinjection(tiny_model, [pair], [directions])
    values = found[found["metric"] == "margin"].set_index("run")["value"]
    still = measure_reinjection(tiny_model, [pair], [torch.zeros_like(directions)])
    same = still[still["metric"] == "margin"].set_index("run")["value"]
    assert same["plus"] == pytest.approx(same["corrected"], abs=1e-5)
    assert values["plus"] != pytest.approx(values["minus"], abs=1e-4)


def test_knowing_a_stereotype_is_compared_within_questions() -> None:
    rows = [
        (f"i{k}#follows", f"c{k}", "", side, k % 2, "option_margin", value)
        for k in range(6)
        for side, value in (("placebo", 0.5 + k), ("corrected", 0.25 + k))
    ]
    columns = ["item", "cluster", "context", "side", "slot", "metric", "value"]
    found = distinguish_finding(pd.DataFrame(rows, columns=columns))
    assert found.interval.estimate == pytest.approx(-0.25)
    assert found.table.set_index("side").loc["placebo", "accuracy"] == 1
    assert found.n == 6
