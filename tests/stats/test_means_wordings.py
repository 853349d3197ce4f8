"""Means of observations whose wordings are random as well."""

from __future__ import annotations

import numpy as np
import pytest

from interp import stats


def crossed(seed: int = 0) -> tuple[np.ndarray, list[str], list[int]]:
    """Six wordings on ten items in five clusters, ``[wording, item]``."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(6, 1)) + draw.normal(size=10) + 0.1 * draw.normal(size=(6, 10))
    return values, [f"c{k // 2}" for k in range(10)], list(range(6))


def test_crossed_wordings_give_the_effect_of_that_arm_against_nothing() -> None:
    values, clusters, wordings = crossed()
    mean = stats.cluster_mean(
        values.reshape(-1), clusters * 6, wordings=np.repeat(wordings, 10).tolist()
    )
    arm = stats.effect(values, np.zeros((1, 10)), clusters)
    for name in ("estimate", "low", "high", "se", "df", "p"):
        assert getattr(mean, name) == pytest.approx(getattr(arm, name))
    assert mean.method == "cgm_t"


def test_one_wording_adds_no_variance_and_a_cell_with_gaps_is_what_it_would_be_alone() -> None:
    values, clusters, wordings = crossed(1)
    alone = stats.cluster_mean(values[0], clusters)
    same = stats.cluster_mean(values[0], clusters, wordings=["w"] * 10)
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high))
    flat, of = values.reshape(-1), np.repeat(wordings, 10)
    gaps = flat.copy()
    gaps[:7] = np.nan
    both = stats.cluster_mean(np.stack([flat, gaps]), clusters * 6, wordings=of.tolist())
    kept = stats.cluster_mean(flat[7:], (clusters * 6)[7:], wordings=of[7:].tolist())
    assert both.at(1).low == pytest.approx(kept.low)
    assert both.at(1).n == 53


def test_a_single_cluster_has_a_mean_and_no_interval() -> None:
    found = stats.cluster_mean([1.0, 3.0], ["a", "a"], wordings=[0, 1])
    assert found.estimate == 2.0
    assert found.reason == "a single cluster: no interval"
