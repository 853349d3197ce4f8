"""A sample's arrays: what is added stands in its place, and spreads and nulls equal those by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.directions.contrast_arrays import ContrastArrays
from interp.directions.contrast_reader import MEASURES

N_ITEMS, N_CELLS, N_PARTS, N_LAYERS, N_NULLS = 3, 4, 2, 2, 5
VARIANTS = [
    ("clean", "clean", 0),
    *[("careful", name, k) for name in ("careful", "placebo") for k in range(2)],
    ("revealing", "revealing", 0),
    ("revealing", "placebo", 0),
]


def rows_of(item: int, rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        {
            "contrast": contrast, "condition": condition, "slot": slot, "position": "last",
            "fixed": item == 0,
            **{name: rng.normal(size=N_CELLS).astype("f4") for name in MEASURES},
            "parts": rng.normal(size=N_PARTS).astype("f4"),
            "nulls": rng.normal(size=N_LAYERS * N_NULLS if contrast == "careful" else 0).astype("f4"),
        }
        for contrast, condition, slot in VARIANTS
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def frames() -> list[pd.DataFrame]:
    rng = np.random.default_rng(0)
    return [rows_of(item, rng) for item in range(N_ITEMS)]


@pytest.fixture
def arrays(frames: list[pd.DataFrame]) -> ContrastArrays:
    arrays = ContrastArrays.empty(
        ["a", "a", "b"], ["last"], {"careful": 2, "revealing": 1},
        n_cells=N_CELLS, n_parts=N_PARTS, n_nulls=[N_LAYERS * N_NULLS],
    )  # fmt: skip
    for item in (2, 0, 1):  # in any order
        arrays.add(item, frames[item])
    return arrays


def test_every_number_stands_in_its_place(
    arrays: ContrastArrays, frames: list[pd.DataFrame]
) -> None:
    assert list(arrays.variants) == VARIANTS
    assert not np.isnan(arrays.measured).any()
    for item, frame in enumerate(frames):
        for v, row in enumerate(frame.to_dict("records")):
            for m, name in enumerate(MEASURES):
                np.testing.assert_array_equal(arrays.measured[0, v, item, :, m], row[name])
            np.testing.assert_array_equal(arrays.parts[0, v, item], row["parts"])


def test_arms_are_a_conditions_texts_and_its_own_placebos(arrays: ContrastArrays) -> None:
    assert arrays.conditions == ("careful", "revealing")
    assert arrays.arms("careful") == ([1, 2], [3, 4])
    assert arrays.arms("revealing") == ([5], [6])
    assert list(arrays.groups()) == [
        ("clean", "clean"), ("careful", "careful"), ("careful", "placebo"),
        ("revealing", "revealing"), ("revealing", "placebo"),
    ]  # fmt: skip


def test_a_position_is_fixed_if_it_is_of_every_item(
    arrays: ContrastArrays, frames: list[pd.DataFrame]
) -> None:
    assert not arrays.fixed[0]  # of the first item alone
    only = ContrastArrays.empty(
        ["a"], ["last"], {"careful": 2, "revealing": 1},
        n_cells=N_CELLS, n_parts=N_PARTS, n_nulls=[N_LAYERS * N_NULLS],
    )  # fmt: skip
    only.add(0, frames[0])
    assert only.fixed[0]


def test_spread_is_that_of_the_first_conditions_placebos_and_nan_where_there_is_none(
    arrays: ContrastArrays,
) -> None:
    placebos = arrays.measured[0, 3:5, :, :, 0].reshape(-1, N_CELLS)
    np.testing.assert_allclose(arrays.spread(0), placebos.std(axis=0), rtol=1e-6)
    arrays.measured[0, 3:5, :, 1, 0] = 7.0
    assert np.isnan(arrays.spread(0)[1])


def test_contrasts_along_nulls_are_in_each_nulls_own_placebo_sds(
    arrays: ContrastArrays, frames: list[pd.DataFrame]
) -> None:
    together = pd.concat(frames)
    own = together[together["contrast"] == "careful"]
    treated, placebo = (
        np.stack(own.loc[own["condition"] == name, "nulls"].tolist()).astype(float)
        for name in ("careful", "placebo")
    )
    expected = (treated.mean(0) - placebo.mean(0)) / placebo.std(0)
    found = arrays.null_contrasts(0, N_LAYERS)
    assert found.shape == (N_LAYERS, N_NULLS)
    np.testing.assert_allclose(found.reshape(-1), expected)
