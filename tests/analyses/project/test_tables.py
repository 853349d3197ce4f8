"""Tables of a projection run on made-up readings of known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.project.tables import Sample, contrast_table, contributor_table, null_table
from interp.directions import DirectionFacts, DirectionStack
from interp.directions.contrast_arrays import ContrastArrays
from interp.directions.scores import ShuffledNull
from interp.stats import Interval, interval_of

N_LAYERS, N_TEXTS = 2, 6


def stack() -> DirectionStack:
    auc = np.array([0.6, 0.9])
    counts = np.full(2, 40)
    none = np.full(2, np.nan)
    return DirectionStack(
        vectors=torch.eye(2),
        scales=torch.ones(2),
        offsets=torch.zeros(2),
        layers=(0, 1),
        site="resid_post",
        facts=DirectionFacts("mean_difference", "s", "h", 40, "f", "raw"),
        auc=Interval(auc, auc - 0.1, auc + 0.05, counts, counts),
        shuffled=ShuffledNull(none, none, none, none, 0),
    )


def sample(*, n_clusters: int = 8, shift: float = 2.0, null_shift: float = 0.0) -> Sample:
    """Noise of SD 1; at layer 1 the instruction adds ``shift``, along nulls ``null_shift``."""
    rng = np.random.default_rng(0)
    kinds = ["covariance"] * 30 + ["contrast"] * 2
    arrays = ContrastArrays.empty(
        [f"c{k}" for k in range(n_clusters)],
        ["last"],
        {"instructed": N_TEXTS, "revealing": 1},
        n_cells=N_LAYERS,
        n_parts=2,
        n_nulls=[N_LAYERS * len(kinds)],
    )
    arrays.fixed[0] = False
    arrays.measured[:] = rng.normal(size=arrays.measured.shape)
    treated, _ = arrays.arms("instructed")
    arrays.measured[0, treated, :, 1] += shift
    arrays.parts[:] = arrays.measured[..., 1, :1] * [1.0, 0.0]
    n = n_clusters * N_TEXTS
    arrays.null_sums[0] += np.array([null_shift * n, 0.0, n])[:, None]
    cells = {"component": "resid_post", "layer": [0, 1], "head": -1, "scale": 1.0, "offset": 0.0}
    parts = {"label": ["L1 MLP", "L1H0"], "component": ["mlp_out", "head"], "layer": 1, "head": -1}
    names = [f"null {k}" for k in range(len(kinds))]
    nulls = pd.DataFrame({"position": "last", "kind": kinds, "name": names})
    return Sample(arrays, pd.DataFrame(cells), pd.DataFrame(parts), nulls, stack(), 0)


def instructed(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["condition"] == "instructed"].set_index("layer")


def test_a_planted_shift_is_found_at_its_layer_and_lies_beyond_the_nulls() -> None:
    rows = instructed(contrast_table(sample()))
    assert rows["sure"].tolist() == rows["beyond"].tolist() == [False, True]
    assert rows.loc[1, "estimate"] == pytest.approx(2.0, abs=0.5)
    assert rows.loc[1, "p_null"] == pytest.approx(1 / 31)
    interval = interval_of(rows.loc[1])
    assert (interval.n, interval.n_clusters, interval.texts) == (8, 8, (6, 6))


def test_a_shift_that_null_directions_show_as_well_is_sure_and_not_beyond() -> None:
    rows = instructed(contrast_table(sample(null_shift=5.0)))
    assert rows["sure"].tolist() == [False, True]
    assert not rows["beyond"].any()
    assert rows.loc[1, "p_null"] == 1.0
    np.testing.assert_allclose(null_table(sample(null_shift=5.0))["estimate"], 5.0)


@pytest.mark.parametrize("n_clusters", [2, 5])
def test_with_few_clusters_nothing_is_a_finding_however_large(n_clusters: int) -> None:
    few = sample(n_clusters=n_clusters, shift=50.0)
    for table in (contrast_table(few), contributor_table(few)):
        assert not table["sure"].any()
    assert instructed(contrast_table(few)).loc[1, "low"] > 10


def test_the_parts_add_up_to_the_contrast_of_the_best_layer() -> None:
    here = sample()
    parts = contributor_table(here)
    for condition in ("instructed", "revealing"):
        rows = contrast_table(here)
        whole = rows[(rows["condition"] == condition) & (rows["layer"] == 1)].iloc[0]
        own = parts[parts["condition"] == condition]
        assert own["estimate"].sum() == pytest.approx(whole["estimate"], rel=1e-5)
    assert instructed(parts)["sure"].tolist() == [True, False]


def test_where_nothing_can_change_or_vary_the_reason_is_told() -> None:
    here = sample()
    here.arrays.fixed[0] = True
    table: Any = contrast_table(here)
    assert set(table["reason"]) == {"nothing can change here"}
    assert table[["low", "high", "p", "p_texts", "p_null"]].isna().all(axis=None)
    assert contributor_table(here).empty
    assert null_table(here).empty
    here = sample()
    here.arrays.measured[:, :, :, 0] = 1.0
    rows = instructed(contrast_table(here))
    assert rows.loc[0, "reason"] == "the placebo prompts do not vary"
    assert np.isnan(rows.loc[0, "estimate"])
    assert rows.loc[1, "sure"]
