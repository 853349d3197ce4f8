"""The one rule for what a report may say: six verdicts, tried in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analyses.config import EQUIVALENCE_SHARE, MIN_CLUSTERS, MIN_WORDINGS
from analyses.report.claims import Claim, delta_of
from interp.stats import Interval

NAN = float("nan")
DF = 20.0


def interval(estimate: float, se: float = 0.1, **changes: Any) -> Interval:
    """A t interval of 12 clusters and 6 wordings a side."""
    half = stats.t.ppf(0.975, DF) * se
    fields: dict[str, Any] = {
        "n": 24, "n_clusters": 12, "texts": (6, 6), "method": "cgm_t", "se": se, "df": DF,
        "p": float(2 * stats.t.sf(abs(estimate) / se, DF)),
    }  # fmt: skip
    return Interval(estimate, estimate - half, estimate + half, **{**fields, **changes})


@pytest.mark.parametrize(
    ("claim", "verdict", "why"),
    [
        (Claim(interval(0.5)), "effect", ""),
        (Claim(interval(-0.5)), "effect", ""),
        (Claim(interval(0.5), p=0.2), "undetermined", "but not once the family of claims is corr"),
        (Claim(interval(0.1)), "undetermined", "the half-width is ±0.21"),
        (Claim(interval(0.1), delta=0.05), "undetermined", "90 % interval inside ±0.05"),
        (Claim(interval(0.01), delta=0.3), "no effect", "90 % interval lies inside ±0.3 (10 %"),
        (Claim(interval(0.5, n_clusters=5)), "too few clusters", "5 of items where 6 are needed"),
        (Claim(interval(0.5, texts=(6, 5))), "too few wordings", "5 wordings a side where 6 are"),
        (Claim(interval(0.5, texts=(1, 1))), "too few wordings", "speaks of this wording alone"),
        (Claim(interval(0.5, texts=(6, 1))), "too few wordings", "1 wording a side"),
        (Claim(interval(0.5, texts=(6, 1)), fixed_control=True), "effect", ""),
        (Claim(interval(0.5, texts=None)), "effect", ""),
        (
            Claim(interval(0.5), others={"margin": interval(-0.1)}),
            "metric-dependent",
            "so it supports no claim (margin -0.10 [-0.31, 0.11])",
        ),
        (Claim(interval(0.5), others={"margin": interval(0.1)}), "effect", ""),
        (Claim(interval(0.5), others={"margin": interval(NAN)}), "effect", ""),
        (Claim(interval(0.1), others={"margin": interval(0.5)}), "metric-dependent", "supports no"),
        (Claim(interval(0.1), others={"margin": interval(-0.1)}), "undetermined", "half-width"),
        (
            Claim(Interval(0.5, NAN, NAN, 9, 9, reason="nothing varies")),
            "undetermined",
            "undetermined, nothing varies",
        ),
    ],
)  # fmt: skip
def test_the_verdict_and_its_reason(claim: Claim, verdict: str, why: str) -> None:
    assert claim.verdict == verdict
    assert claim.is_effect == (verdict == "effect")
    assert why in claim.why
    assert bool(claim.why) != claim.is_effect


def test_an_effect_inside_delta_is_an_effect_and_small() -> None:
    claim = Claim(interval(0.5, se=0.05), delta=1.0)
    assert claim.verdict == "effect"
    assert claim.is_small
    assert not Claim(interval(0.5, se=0.05), delta=0.4).is_small


def test_delta_is_a_share_of_a_control_that_works() -> None:
    assert delta_of(Claim(interval(2.0))) == pytest.approx(EQUIVALENCE_SHARE * 2.0)
    for control in (interval(-2.0), interval(0.1), interval(2.0, texts=(1, 1))):
        assert np.isnan(delta_of(Claim(control)))


@given(
    estimate=st.floats(-1, 1),
    se=st.floats(0.01, 1),
    p=st.one_of(st.just(NAN), st.floats(0, 1)),
    texts=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    clusters=st.integers(1, 20),
    delta=st.one_of(st.just(NAN), st.floats(0.01, 1)),
    other=st.floats(-1, 1),
)
def test_an_effect_is_never_said_below_the_rule(
    estimate: float, se: float, p: float, texts: tuple[int, int], clusters: int, delta: float,
    other: float,
) -> None:  # fmt: skip
    effect = interval(estimate, se, texts=texts, n_clusters=clusters)
    claim = Claim(effect, p, delta, {"margin": interval(other)})
    if claim.is_effect:
        assert min(texts) >= MIN_WORDINGS
        assert clusters >= MIN_CLUSTERS
        assert effect.excludes(0)
        assert not p >= 0.05
        assert other * estimate > 0
    if claim.verdict == "no effect":
        half = stats.t.ppf(0.95, DF) * se
        assert abs(estimate) + half < delta * (1 + 1e-9)
        assert not interval(other).excludes(0)
