from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from interp.errors import InterpError
from interp.stats import (
    corrected_cv,
)


def test_corrected_variance_by_hand_and_students_where_nothing_is_shared() -> None:
    scores = np.array([0.6, 0.7, 0.8, 0.65, 0.75, 0.7, 0.6, 0.8, 0.7, 0.7])
    found = corrected_cv(scores, test_share=0.2)
    se = np.sqrt(scores.var(ddof=1) * (1 / 10 + 1 / 4))
    half = student.ppf(0.975, 8) * se  # two repeats of five folds, 4 each
    assert (found.low, found.high) == pytest.approx((0.7 - half, 0.7 + half))
    assert found.p == pytest.approx(2 * student.sf(0.2 / se, 8))
    nearly = corrected_cv(scores, test_share=1e-9)  # tested on next to nothing: one split each
    public = ttest_1samp(scores, 0.5)
    assert nearly.p == pytest.approx(public.pvalue)


def test_folds_that_are_undefined_are_left_out_per_cell() -> None:
    scores = np.array([[0.6, 0.7, np.nan], [0.6, 0.7, 0.8], [0.9, np.nan, np.nan], [np.nan] * 3])
    found = corrected_cv(scores, test_share=0.5, n_items=80, n_clusters=20)
    assert found.at(0).low == pytest.approx(corrected_cv(scores[0, :2], test_share=0.5).low)
    assert found.reason.tolist() == ["", "", "a single fold: no interval", "no defined fold"]
    assert (found.at(1).n, found.at(1).n_clusters) == (80, 20)
    with pytest.raises(InterpError, match="test_share is 1"):
        corrected_cv(scores, test_share=1.0)
