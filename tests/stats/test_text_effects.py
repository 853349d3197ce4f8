"""The effect over texts and clusters: its rows per context, and when a permutation stands beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.stats import (
    interval_column_names,
    interval_of,
    permute_texts,
    text_effects,
    two_way_bootstrap,
)

CLUSTERS = [f"c{k // 2}" for k in range(16)]
CONTEXTS = ["ambiguous"] * 8 + ["disambiguated"] * 8


def arms(n_treated: int, n_control: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(1.0, 0.1, size=(n_treated, 16)), random.normal(size=(n_control, 16))


def test_there_is_a_row_for_all_items_and_one_per_context() -> None:
    treated, control = arms(4, 4)
    table = pd.DataFrame(
        text_effects(treated, control, CLUSTERS, CONTEXTS, seed=0, labels=("mine",))
    )
    assert table["context"].tolist() == ["all", "ambiguous", "disambiguated"]
    assert list(table.columns) == ["context", *interval_column_names(), "p_texts"]
    for row, here in zip(
        table.to_dict("records"), (slice(None), slice(8), slice(8, None)), strict=True
    ):
        above, below = treated[:, here], control[:, here]
        expected = two_way_bootstrap(above, below, CLUSTERS[here], seed=0, labels=("mine",))
        assert interval_of(row) == expected
        assert row["p_texts"] == permute_texts(above.mean(1), below.mean(1), seed=0).p
    assert table["texts"].eq("4 x 4").all()


def test_one_context_has_one_row_of_its_own_name() -> None:
    (row,) = text_effects(*arms(4, 4), CLUSTERS, ["ambiguous"] * 16, seed=0, labels=())
    assert row["context"] == "ambiguous"


@pytest.mark.parametrize(
    ("n_treated", "n_control", "tested"),
    [(1, 1, False), (3, 3, False), (4, 4, True), (6, 6, True), (60, 1, False), (6, 1, False)],
)
def test_a_test_is_made_where_both_sides_have_texts_enough_to_fall_below_5_percent(
    n_treated: int, n_control: int, tested: bool
) -> None:
    rows = text_effects(*arms(n_treated, n_control), CLUSTERS, CONTEXTS, seed=0, labels=())
    assert [not np.isnan(row["p_texts"]) for row in rows] == [tested] * 3
