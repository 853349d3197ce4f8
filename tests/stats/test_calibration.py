from __future__ import annotations

import numpy as np
import pytest

from interp.errors import InterpError
from interp.stats import (
    calibration_error,
)
from interp.stats.calibration import binned_error


def test_the_binned_error_by_hand_and_its_null() -> None:
    stated = np.array([0.55, 0.58, 0.95, 0.91])
    outcome = np.array([1.0, 0.0, 1.0, 0.0])
    by_hand = (abs(1 - 1.13) + abs(1 - 1.86)) / 4
    assert binned_error(stated, outcome[None])[0] == pytest.approx(by_hand)
    found = calibration_error(stated, outcome, range(4), seed=0)
    assert found.raw == pytest.approx(by_hand)
    assert found.debiased < found.raw
    assert (found.n, found.n_clusters) == (4, 4)


def test_calibrated_answers_pass_and_overconfident_ones_do_not() -> None:
    generator = np.random.default_rng(3)
    stated = generator.uniform(0.34, 0.9, 300)
    right = calibration_error(stated, generator.random(300) < stated, range(300), seed=0)
    wrong = calibration_error(stated, generator.random(300) < stated - 0.15, range(300), seed=0)
    assert right.p > 0.05
    assert abs(right.debiased) < 0.05
    assert wrong.p < 0.01
    assert wrong.debiased == pytest.approx(0.15, abs=0.06)
    again = calibration_error(stated, generator.random(300) < stated, range(300), seed=0)
    assert again.null_p95 == right.null_p95


def test_outcomes_that_go_together_widen_the_null() -> None:
    generator = np.random.default_rng(4)
    stated = np.full(100, 0.6)
    outcome = np.repeat(generator.random(20) < 0.6, 5)
    apart = calibration_error(stated, outcome, range(100), seed=0)
    together = calibration_error(stated, outcome, np.arange(100) // 5, seed=0)
    assert together.null_p95 > 1.5 * apart.null_p95
    assert np.isnan(calibration_error([np.nan], [1], "a", seed=0).raw)
    with pytest.raises(InterpError, match=r"outside 0\.\.1"):
        calibration_error([1.2], [1], "a", seed=0)
