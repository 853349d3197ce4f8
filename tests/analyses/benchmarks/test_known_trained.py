"""The benchmark of trained models, on some that are, and some that are not, what they should be."""

from __future__ import annotations

import pandas as pd
import pytest

from analyses.benchmarks.known.trained import (
    DIRECTIONS,
    EDGES,
    FIDELITY,
    SHARES,
    direction_rows,
    fidelity_row,
    measure_trained,
    share_rows,
)
from analyses.tables import validity
from interp.known import load_trained, open_truth
from interp.models import untrained_copy


@pytest.mark.parametrize("seed", [0, 1])
def test_fidelity_is_high_for_the_model_and_low_for_its_untrained_copy(seed: int) -> None:
    model, task = load_trained("superficial", seed)
    truth = open_truth("superficial", seed)
    row = fidelity_row(model, task, truth)
    assert row["accuracy"] >= 0.99
    assert row["agreement"] >= 0.95
    untrained = fidelity_row(untrained_copy(model), task, truth)
    assert untrained["accuracy"] < 0.6
    assert untrained["agreement"] < 0.3


def test_fidelity_is_low_for_the_truth_of_another_arm() -> None:
    model, task = load_trained("deep")
    row = fidelity_row(model, task, open_truth("superficial"))
    assert row["agreement"] < 0.9


@pytest.mark.parametrize(
    "arm",
    ["mixture_25", *(pytest.param(a, marks=pytest.mark.slow) for a in ("deep", "superficial"))],
)
def test_exact_patching_gives_the_planted_share(arm: str) -> None:
    model, task = load_trained(arm)
    truth = open_truth(arm)
    rows = {row["method"]: row for row in share_rows(model, task, truth, n_pairs=6)}
    assert truth.shares is not None
    for method in ("exact, denoising", "exact, noising"):
        assert rows[method]["content"] == pytest.approx(truth.shares["content"], abs=0.07)
        assert rows[method]["query"] == pytest.approx(truth.shares["query"], abs=0.07)
        assert rows[method]["auroc"] == 1


@pytest.mark.slow
def test_back_up_hides_both_routes_from_noising() -> None:
    model, task = load_trained("self_repairing")
    rows = share_rows(model, task, open_truth("self_repairing"), n_pairs=6)
    found = {row["method"]: (row["content"], row["query"]) for row in rows}
    assert found["exact, denoising"] == pytest.approx((1, 1), abs=0.1)
    assert found["exact, noising"] == pytest.approx((0, 0), abs=0.1)


@pytest.mark.slow
def test_directions_are_held_against_the_concept_s_own() -> None:
    cosines = {}
    for arm in ("deep", "wrong_direction"):
        rows = direction_rows(*load_trained(arm), open_truth(arm))
        found = {row["method"]: row for row in rows}
        assert found["true direction"]["cosine"] == pytest.approx(1, abs=1e-4)
        assert found["true direction"]["agreement"] == 1
        cosines[arm] = found["mean_difference"]["cosine"]
    assert cosines["wrong_direction"] < 0.6 < cosines["deep"]


@pytest.mark.slow
def test_every_table_has_its_rows() -> None:
    tables = measure_trained(["deep"], seeds=1, n_pairs=4, progress=False)
    assert tuple(tables) == (FIDELITY, SHARES, EDGES, DIRECTIONS)
    for name, rows in tables.items():
        assert {"arm", "seed"} <= set(rows.columns)
        kept = pd.read_parquet(validity.KEPT / name)
        assert set(kept.columns) == set(rows.columns)
