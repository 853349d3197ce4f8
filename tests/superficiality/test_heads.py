"""Top heads, chosen on other items, on tables whose truth is written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.errors import InterpError
from interp.superficiality.heads import (
    choose_heads,
    draw_heads,
    head_finding,
    measure_heads,
    measure_top_heads,
    split_half_overlap,
)
from tests.superficiality.test_rows import ITEMS, runs_of
from tests.superficiality.toy import item_pairs


def heads_of(estimates: np.ndarray, total: float = 4.0) -> pd.DataFrame:
    """``[layer, head, item]``, clusters of two items."""
    rows = [
        (item, f"c{k // 2}", str(k % 6), layer, head, estimates[layer, head, k], total)
        for k, item in enumerate(ITEMS)
        for layer, head in np.ndindex(estimates.shape[:2])
    ]
    columns = ["item", "cluster", "slot", "layer", "head", "estimate", "total"]
    return pd.DataFrame(rows, columns=columns)


def test_heads_are_chosen_along_the_effect_and_without_the_items_own_cluster() -> None:
    estimates = np.zeros((2, 3, 12))
    estimates[1, 2], estimates[0, 0] = 1.0, -5.0
    estimates[0, 1, :2] = 99.0  # the first cluster's alone
    chosen = choose_heads(heads_of(estimates), k=1)
    assert chosen["i0"] == ((1, 2),)
    assert chosen["i11"] == ((0, 1),)
    assert choose_heads(heads_of(estimates, total=-4.0), k=1)["i0"] == ((0, 0),)
    with pytest.raises(InterpError, match="k is 6"):
        choose_heads(heads_of(estimates), k=6)


def test_heads_together_against_their_sum_and_others_of_their_layers() -> None:
    runs = runs_of(
        {"placebo": 0.0, "corrected": 4.0, "top heads": 2.0, "other heads": 0.4, "head L0H1": 3.0,
         "head L1H0": 3.0}
    )  # fmt: skip
    generator = np.random.default_rng(0)
    found = head_finding(runs, heads_of(generator.normal(size=(2, 8, 12))))
    assert found.interval.estimate == pytest.approx(0.5)
    checks = {check.name: check for check in found.health}
    assert checks["joint against sum"].value == pytest.approx(1.0)
    assert not checks["joint against sum"].passed
    stated = next(check for name, check in checks.items() if name.startswith("top-10"))
    assert stated.passed  # 12 items: too few for the bar
    assert stated.value < 0.8
    assert found.table.set_index("heads").loc["other heads", "share"] == pytest.approx(0.1)


def test_halves_that_name_the_same_cells_overlap_whole() -> None:
    effects = np.repeat(np.arange(20.0)[:, None], 12, axis=1)
    clusters = [f"c{k // 2}" for k in range(12)]
    assert split_half_overlap(effects, clusters) == 1
    noise = np.random.default_rng(0).normal(size=(200, 12))
    assert split_half_overlap(noise, clusters) < 0.2
    assert np.isnan(split_half_overlap(effects, ["one"] * 12))


def test_other_heads_are_of_the_same_layers() -> None:
    drawn = draw_heads([(0, 1), (3, 0), (3, 1)], 3, np.random.default_rng(0))
    assert sorted({layer for layer, _ in drawn}) == [0, 3]
    assert not {(0, 1), (3, 0), (3, 1)} & set(drawn)
    assert len(drawn) == 2  # one of layer 0, and the only one that is left of layer 3


def test_every_head_is_estimated_and_the_chosen_ones_are_run(tiny_model: Any) -> None:
    pair, _ = pairs = item_pairs(tiny_model)
    estimates = measure_heads(tiny_model, pairs)
    n_heads = int(tiny_model.cfg.n_layers) * int(tiny_model.cfg.n_heads)
    assert len(estimates) == 2 * n_heads
    one = measure_top_heads(tiny_model, [pair], [[(0, 1)]])
    values = one[one["metric"] == "option_margin"].set_index("run")["value"]
    assert values["top heads"] == pytest.approx(values["head L0H1"], abs=1e-5)
    assert values["other heads"] != pytest.approx(values["top heads"], abs=1e-4)
