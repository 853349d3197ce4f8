"""What is said of two levels, and what an effect is called."""

from __future__ import annotations

from analyses.report import verdicts
from analyses.report.claims import Claim
from interp.stats import Interval

NAN = float("nan")


def test_levels_stand_beside_each_other_without_a_claim() -> None:
    low, high = Interval(0.1, 0.0, 0.2, 9, 9), Interval(0.5, 0.4, 0.6, 9, 9)
    assert verdicts.compare_levels(low, high) == (
        "the intervals lie apart (these wordings, no test)"
    )
    assert verdicts.compare_levels(low, low) == "the intervals overlap"
    few = Interval(0.5, 0.4, 0.6, 9, 5)
    assert verdicts.compare_levels(few, low) == "not compared: too few clusters"
    bare = Interval(0.5, NAN, NAN, 9, 1, reason="a single cluster: no interval")
    assert "an interval is missing" in verdicts.compare_levels(low, bare)


def test_an_effect_is_called_by_its_sign_and_anything_else_by_its_reason() -> None:
    found = Interval(-0.3, -0.5, -0.1, 9, 9)
    said = {"above": "more", "below": "less"}
    assert verdicts.judge(Claim(found), **said) == "less"
    assert verdicts.judge(Claim(found, 0.2), **said).startswith("undetermined")
    assert verdicts.judge(Claim(Interval(0.3, -0.1, 0.7, 9, 9)), **said).startswith("undetermined")
