from __future__ import annotations

import math

import pytest

from interp.known.asked import ASKED
from interp.known.asked_truth import BACKFIRES, NO_EFFECT, asked_truth
from interp.superficiality import verdict

EXPECTED = {
    "spam_message": ("superficial (route)", 0.0),
    "bracket_kinds": ("superficial (route)", 0.0),
    "mean_fraction": ("mixed", 0.4),  # a quarter of 1/2 beside three quarters of 1/4
    "trend_read": ("deep (content)", 1.0),
    "range_tag": ("deep (content)", 1.0),
    "range_check": ("superficial (route)", 0.0),
    "pattern_read": ("deep (content)", 1.0),
    "duplicate_gap": (NO_EFFECT, math.nan),
    "late_answer": ("superficial (route)", 0.0),
    "early_answer": ("deep (content)", 1.0),
    "relayed_answer": ("superficial (route)", 1.0),  # a flag that the content carries
    "either_answer": ("mixed", math.nan),
    "unread_answer": (NO_EFFECT, math.nan),
    "share_25": ("mixed", 0.25),
    "share_50": ("mixed", 0.5),
    "share_75": ("mixed", 0.75),
}


@pytest.mark.parametrize("name", ASKED)
def test_the_truth_follows_from_runs_of_the_program(name: str) -> None:
    found, (said, share) = asked_truth(name), EXPECTED[name]
    assert found.verdict == said
    assert found.share == pytest.approx(share, nan_ok=True)
    assert found.backup == (name == "either_answer")
    assert asked_truth(name, reverse=True).verdict == (
        NO_EFFECT if said == NO_EFFECT else BACKFIRES
    )


def test_verdicts_are_called_what_a_card_calls_them() -> None:
    assert (NO_EFFECT, BACKFIRES) == (verdict.NO_EFFECT, verdict.BACKFIRES)
    known = {verdict.SUPERFICIAL_ROUTE, verdict.DEEP_CONTENT, verdict.MIXED, verdict.NO_EFFECT}
    assert {asked_truth(name).verdict for name in ASKED} == known
