from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.circuits import MIB_SHARES, cmd, cpr
from interp.circuits.areas import area_weights
from interp.errors import InterpError


def test_a_case_computed_by_hand() -> None:
    # from .001 to .1: mean of .2 and .6; from .1 to .5: mean of .6 and 1.2; from .5 to 1: of 1.2 and 1
    shares, f = [0.001, 0.1, 0.5, 1.0], [0.2, 0.6, 1.2, 1.0]
    assert cpr(shares, f) == pytest.approx(0.099 * 0.4 + 0.4 * 0.9 + 0.5 * 1.1)  # .9496
    assert cmd(shares, f) == pytest.approx(0.099 * 0.6 + 0.4 * 0.3 + 0.5 * 0.1)  # .2294


def test_on_mibs_own_shares_it_is_mibs_sum() -> None:
    f = np.random.default_rng(0).normal(0.5, 0.6, len(MIB_SHARES))
    under = distance = 0.0
    for k in range(len(f) - 1):
        width = MIB_SHARES[k + 1] - MIB_SHARES[k]
        under += width * (f[k] + f[k + 1]) / 2
        distance += width * (abs(1 - f[k]) + abs(1 - f[k + 1])) / 2
    assert cpr(MIB_SHARES, f) == pytest.approx(under)
    assert cmd(MIB_SHARES, f) == pytest.approx(distance)


def test_a_perfect_circuit_has_cpr_999_and_cmd_0_and_a_useless_one_the_reverse() -> None:
    assert cpr(MIB_SHARES, [1] * 10) == pytest.approx(0.999)
    assert cmd(MIB_SHARES, [1] * 10) == 0
    assert cpr(MIB_SHARES, [0] * 10) == 0
    assert cmd(MIB_SHARES, [0] * 10) == pytest.approx(0.999)


def test_between_points_the_curve_is_straight_also_at_the_lower_end() -> None:
    # f(.001) = .002 on the line from (0, 0) to (.5, 1)
    assert cpr([0, 0.5, 1], [0, 1, 1]) == pytest.approx(0.499 * 1.002 / 2 + 0.5)
    assert cmd([0, 0.5, 1], [0, 1, 1]) == pytest.approx(0.499 * 0.998 / 2)


@given(st.lists(st.floats(-2, 3), min_size=4, max_size=4))
def test_weights_give_the_area(f: list[float]) -> None:
    shares = [0, 0.25, 0.5, 1]
    assert area_weights(shares) @ f == pytest.approx(cpr(shares, f), abs=1e-9)
    assert cmd(shares, f) >= 0.999 - cpr(shares, f) - 1e-9


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0, 0.5], "shares run from 0 to 0.5"),
        ([0.2, 1], "shares run from 0.2 to 1"),
        ([0, 0, 1], "do not ascend"),
        ([], "do not ascend"),
    ],
)
def test_shares_that_have_no_area_are_refused(shares: list[float], message: str) -> None:
    with pytest.raises(InterpError, match=message):
        cpr(shares, np.zeros(len(shares)))
    with pytest.raises(InterpError, match="one of each per point"):
        cmd([0, 1], [0])
