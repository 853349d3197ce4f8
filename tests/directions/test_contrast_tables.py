"""Tables of made-up readings of known truth: contrasts beside nulls, parts that add up, reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.directions.contrast_tables import (
    contrast_table,
    contributor_table,
    level_table,
    null_table,
)
from interp.stats import interval_of
from tests.directions.made_up import contrast_sample


def instructed(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["condition"] == "instructed"].set_index("layer")


def test_a_planted_shift_is_estimated_at_its_layer_and_few_nulls_reach_it() -> None:
    rows = instructed(contrast_table(contrast_sample()))
    assert rows.loc[1, "estimate"] == pytest.approx(2.0, abs=0.5)
    assert rows.loc[1, "p_corrected"] < 0.05 < rows.loc[0, "p_corrected"]
    assert rows.loc[1, "p_null"] == pytest.approx(1 / 31)
    interval = interval_of(rows.loc[1])
    assert (interval.n, interval.n_clusters, interval.texts) == (8, 8, (6, 6))


def test_nulls_that_show_the_same_shift_reach_it() -> None:
    here = contrast_sample(null_shift=5.0)
    assert instructed(contrast_table(here)).loc[1, "p_null"] == 1.0
    np.testing.assert_allclose(null_table(here)["estimate"], 5.0)


def test_the_parts_add_up_to_the_contrast_of_the_best_layer() -> None:
    here = contrast_sample()
    parts = contributor_table(here)
    for condition in ("instructed", "revealing"):
        rows = contrast_table(here)
        whole = rows[(rows["condition"] == condition) & (rows["layer"] == 1)].iloc[0]
        own = parts[parts["condition"] == condition]
        assert own["estimate"].sum() == pytest.approx(whole["estimate"], rel=1e-5)


def test_levels_are_means_over_texts_and_items_the_controls_placebos_by_their_own_name() -> None:
    here = contrast_sample()
    table = level_table(here)
    names = ["clean", "instructed", "placebo", "revealing", "placebo (revealing)"]
    assert list(dict.fromkeys(table["condition"])) == names
    treated, _ = here.arrays.arms("instructed")
    expected = here.arrays.measured[0, treated].astype(float).mean(axis=(0, 1))[:, 0]
    np.testing.assert_allclose(instructed(table)["dot"], expected)
    np.testing.assert_allclose(instructed(table)["class_units"], expected)  # scale 1, offset 0


def test_where_nothing_can_change_or_vary_the_reason_is_told() -> None:
    here = contrast_sample()
    here.arrays.fixed[0] = True
    table: Any = contrast_table(here)
    assert set(table["reason"]) == {"nothing can change here"}
    assert table[["low", "high", "p_raw", "p_corrected", "p_null"]].isna().all(axis=None)
    assert contributor_table(here).empty
    assert null_table(here).empty
    here = contrast_sample()
    here.arrays.measured[:, :, :, 0] = 1.0
    rows = instructed(contrast_table(here))
    assert rows.loc[0, "reason"] == "the placebo prompts do not vary"
    assert np.isnan(rows.loc[0, "estimate"])
    assert rows.loc[1, "p_corrected"] < 0.05
