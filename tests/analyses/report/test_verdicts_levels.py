"""What counts as a finding, and what is said of two levels."""

from __future__ import annotations

import pytest

from analyses.report import verdicts
from interp.stats import Interval

NAN = float("nan")


@pytest.mark.parametrize(
    ("interval", "p", "said"),
    [
        (Interval(0.3, 0.1, 0.5, 9, 9), 0.01, ""),
        (Interval(0.3, 0.1, 0.5, 9, 9), NAN, ""),
        (Interval(0.3, 0.1, 0.5, 9, 9), 0.2, "the test does not bear it out"),
        (Interval(0.3, -0.1, 0.7, 9, 9), 0.01, "contains 0"),
        (Interval(0.3, 0.1, 0.5, 9, 5), 0.01, "5 clusters of items are too few"),
        (Interval(0.3, NAN, NAN, 9, 1, reason="one cluster"), 0.01, "one cluster"),
    ],
)
def test_a_finding_needs_an_interval_without_zero_enough_clusters_and_the_test(interval, p, said):
    doubt = verdicts.doubt(interval, p)
    assert said in doubt
    assert bool(doubt) is bool(said)


def test_overlapping_intervals_show_no_difference():
    low, high = Interval(0.1, 0.0, 0.2, 9, 9), Interval(0.5, 0.4, 0.6, 9, 9)
    assert verdicts.compare_levels(low, high) == "lower than the placebo"
    assert verdicts.compare_levels(high, low) == "higher than the placebo"
    assert "no difference is shown" in verdicts.compare_levels(low, low)
    few = Interval(0.5, 0.4, 0.6, 9, 5)
    assert verdicts.compare_levels(few, low) == "not compared: 5 clusters of items are too few"
    bare = Interval(0.5, NAN, NAN, 9, 1, reason="a single cluster: no interval")
    assert "an interval is missing" in verdicts.compare_levels(low, bare)


def test_a_finding_is_called_by_its_sign_and_anything_else_by_its_reason():
    found = Interval(-0.3, -0.5, -0.1, 9, 9)
    said = {"above": "more", "below": "less", "null": "nothing is shown"}
    assert verdicts.judge(found, **said) == "less"
    assert verdicts.judge(found, 0.2, **said).endswith("so nothing is shown")
    assert verdicts.judge(Interval(0.3, -0.1, 0.7, 9, 9), **said).endswith("nothing is shown")
