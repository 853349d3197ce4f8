from __future__ import annotations

from interp.patching import identities
from interp.superficiality import thresholds


def test_bounds_are_ordered() -> None:
    assert 0 < thresholds.SUPERFICIAL_SHARE < thresholds.SPAN_SHARE < thresholds.DEEP_SHARE < 1
    assert thresholds.RANKS[-1] == thresholds.MAX_RANK
    assert 0.5 < thresholds.INSTRUMENT_AUC_LOW < thresholds.INSTRUMENT_AUC < 1
    assert thresholds.ORACLE_SHARE < thresholds.FULL_STATE_SHARE
    assert 0 < thresholds.MOVED_AGAINST < 0.5


def test_a_rounding_error_is_one_in_both_rooms() -> None:
    assert thresholds.IDENTITY_TOLERANCE == identities.TOLERANCE
