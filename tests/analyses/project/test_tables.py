"""Which made-up contrasts of known truth are findings, and which lie beyond the nulls."""

from __future__ import annotations

import pandas as pd
import pytest

from analyses.project.tables import findings, with_findings
from interp.directions.contrast_tables import (
    ContrastSample,
    contrast_table,
    contributor_table,
    null_table,
)
from tests.directions.made_up import contrast_sample


def judged(sample: ContrastSample) -> pd.DataFrame:
    table = with_findings(contrast_table(sample), null_table(sample))
    return table[table["condition"] == "instructed"].set_index("layer")


def test_a_planted_shift_is_found_at_its_layer_and_lies_beyond_the_nulls() -> None:
    rows = judged(contrast_sample())
    assert rows["sure"].tolist() == rows["beyond"].tolist() == [False, True]


def test_a_shift_that_null_directions_show_as_well_is_sure_and_not_beyond() -> None:
    rows = judged(contrast_sample(null_shift=5.0))
    assert rows["sure"].tolist() == [False, True]
    assert not rows["beyond"].any()


def test_a_shift_that_one_non_moral_contrast_shows_as_well_is_not_beyond() -> None:
    sample = contrast_sample()
    table, nulls = contrast_table(sample), null_table(sample)
    nulls.loc[(nulls["kind"] == "contrast") & (nulls["layer"] == 1), "estimate"] = [-0.1, -50.0]
    rows = with_findings(table, nulls)
    assert rows["sure"].any()
    assert not rows["beyond"].any()


@pytest.mark.parametrize("n_clusters", [2, 5])
def test_with_few_clusters_nothing_is_a_finding_however_large(n_clusters: int) -> None:
    few = contrast_sample(n_clusters=n_clusters, shift=50.0)
    rows = judged(few)
    assert not rows["sure"].any()
    assert not any(findings(contributor_table(few)))
    assert rows.loc[1, "low"] > 10


def test_the_part_that_writes_the_shift_is_a_finding_and_the_other_none() -> None:
    parts = contributor_table(contrast_sample())
    assert findings(parts[parts["condition"] == "instructed"]) == [True, False]


def test_where_nothing_can_change_there_is_no_finding() -> None:
    sample = contrast_sample()
    sample.arrays.fixed[0] = True
    assert not judged(sample)[["sure", "beyond"]].any(axis=None)
