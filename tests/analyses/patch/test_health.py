"""The checks of a map's largest cells: columns, and the sentences of those that fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.patch.health import health_table, read_health
from interp.patching import SweepResult
from tests.patching.test_health import result_of

LAYERS = 12


def stable(n: int = 120, noise: float = 0.01) -> SweepResult:
    """Effects 12, 11, .. 1 of the layers, the same for every pair but for a little noise."""
    generator = np.random.default_rng(0)
    means = np.arange(LAYERS, 0, -1.0)[:, None]
    return result_of(means + generator.normal(scale=noise, size=(LAYERS, n)))


def reverse_of(result: SweepResult, effects: np.ndarray) -> SweepResult:
    """The noising sweep whose effects are given."""
    values = result.source_baseline + torch.as_tensor(effects, dtype=torch.float32)
    return replace(
        result,
        values=values,
        baseline=result.source_baseline,
        source_baseline=result.baseline,
    )


def test_a_map_that_is_the_same_in_every_sample_passes() -> None:
    table = health_table(stable(), None, None)
    assert table["cell"].tolist() == [f"L{k}" for k in range(10)]
    assert list(table.columns) == ["cell", "effect", "moved_against", "overlap", "pairs"]
    assert (table["moved_against"] == 0).all()
    assert read_health(table) == ["The checks of the largest cells all hold (table below)."]


def test_few_pairs_do_not_pass_however_clear_they_are() -> None:
    (said,) = read_health(health_table(stable(30), None, None))
    assert "overlap by 1.00" in said
    assert "30 pairs; the bar is 0.8 with 100 pairs" in said


def test_a_ranking_of_noise_is_called_one_of_this_sample() -> None:
    noise = np.random.default_rng(1).standard_normal((60, 120))
    said = " ".join(read_health(health_table(result_of(noise), None, None)))
    assert "is a fact about this sample" in said
    assert "more than a third of the pairs against their own mean: L" in said


def test_too_few_cells_are_no_ranking() -> None:
    result = result_of(np.ones((4, 120)))
    table = health_table(result, None, None)
    assert table["overlap"].isna().all()
    assert "cannot be asked" in read_health(table)[0]


@pytest.mark.parametrize(
    ("lost", "said"),
    [(0.2, "as cells do that are backed up: L3"), (1.9, "as cells do that need others to act: L3")],
)
def test_what_a_cell_brings_and_costs_is_compared(lost: float, said: str) -> None:
    result = stable(noise=0.1)
    effects = result.values.numpy() - result.baseline.numpy()
    back = -effects + np.random.default_rng(2).normal(scale=0.1, size=effects.shape)
    back[3] = -lost * effects[3]
    table = health_table(result, reverse_of(result, back), None)
    row = table.set_index("cell").loc["L3"]
    assert row["interaction"] == pytest.approx(9 * (1 - lost), abs=0.05)
    assert row["p_interaction"] < 1e-4
    assert (table.drop(3)["p_interaction"] > 0.05).all()
    assert said in " ".join(read_health(table))


def test_doses_are_means_over_pairs_of_the_same_cell() -> None:
    doses = pd.DataFrame({"layer": ["0", "1", "0", "1"], "dose": [0.1, 0.5, 0.3, 0.7]})
    table = health_table(stable(), None, doses).set_index("cell")
    assert table.loc["L0", "dose"] == pytest.approx(0.2)
    assert table.loc["L1", "dose"] == pytest.approx(0.6)
    assert np.isnan(table.loc["L2", "dose"])


def test_other_cells_the_other_way_round_are_told_of() -> None:
    result = stable()
    other = replace(result, axis_labels={"layer": [f"{k}'" for k in range(LAYERS)]})
    table = health_table(result, other, None)
    assert table["interaction"].isna().all()
    assert "cannot be compared with what it costs" in " ".join(read_health(table))
