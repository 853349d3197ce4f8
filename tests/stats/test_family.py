from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from interp.errors import InterpError
from interp.stats import (
    Family,
    holm,
)
from interp.stats.means import cluster_mean


def test_a_family_corrects_all_its_claims_at_once_and_knows_no_others() -> None:
    claims = {"a": 0.01, ("b", 1): 0.04, "c": float("nan"), "d": 0.03}
    family = Family.of("effects", claims)
    expected = multipletests([0.01, 0.04, 0.03], method="holm")[1]
    assert [family.p_holm[k] for k in ("a", ("b", 1), "d")] == pytest.approx(list(expected))
    assert np.isnan(family.p_holm["c"])
    assert len(family) == 3
    assert family.claimed("a")
    assert not family.claimed("d")
    assert not family.claimed("c")
    with pytest.raises(InterpError, match="'z' is not in the family 'effects' of 4 claims"):
        family.claimed("z")
    with pytest.raises(InterpError, match="several cells"):
        Family.of("maps", {"a": cluster_mean(np.zeros((2, 3)), range(3))})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_holm_keeps_the_shape_and_the_holes() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(holm(p), [[0.03, np.nan], [0.06, 0.06]])
    assert np.isnan(holm([np.nan, np.nan])).all()
    with pytest.raises(InterpError, match=r"outside 0\.\.1"):
        holm([1.5])
