"""Verdicts over a family of layers, and over chance."""

from __future__ import annotations

import pytest

from analyses.report.verdicts import above_chance, read_no_finding, untested
from interp.stats import Interval

NAN = float("nan")


@pytest.mark.parametrize(
    ("bounds", "n_clusters", "p", "found"),
    [
        ((0.8, 0.6, 0.9), 10, NAN, True),
        ((0.8, 0.6, 0.9), 10, 0.01, True),
        ((0.8, 0.6, 0.9), 10, 0.2, False),
        ((0.8, 0.6, 0.9), 5, NAN, False),
        ((0.8, 0.4, 0.9), 10, NAN, False),
        ((0.2, 0.1, 0.4), 10, NAN, False),
        ((0.8, NAN, NAN), 10, NAN, False),
    ],
)
def test_an_auc_is_above_chance_by_the_rule_of_every_finding(
    bounds: tuple[float, float, float], n_clusters: int, p: float, found: bool
) -> None:
    assert above_chance(Interval(*bounds, 40, n_clusters), p) is found


def test_families_are_told_with_their_size_or_with_why_they_cannot_be_tested() -> None:
    assert untested(Interval(1.0, 0.5, 1.5, 9, 4)) == (
        "4 clusters of items are too few for a claim, 6 are needed"
    )
    assert untested(Interval(1.0, 0.5, 1.5, 9, 6)) == ""
    assert untested(Interval(1.0, 0.5, 1.5, 9, 6, texts=(1, 1))) == (
        "1 wording a side is too few for a claim, 6 are needed"
    )
    assert read_no_finding("The instruction", 4, "layer") == (
        "The instruction: undetermined. It differs from zero at none of 4 layers, with all layers "
        "corrected for."
    )
