"""Every rule, on rows whose intervals are written down."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from interp.stats import Interval, interval_columns
from interp.superficiality import rows as names
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.verdict import route_verdict

Bounds = tuple[float, float, float]


def interval(
    estimate: float, low: float, high: float, *, texts: Any = None, n: int = 30
) -> Interval:
    half = (high - low) / 2
    p = 0.001 if low > 0 or high < 0 else 0.5
    return Interval(estimate, low, high, n, n, 0.95, "", "cgm_t", texts, half / 2, 20.0, p)


def behaviour(b: Bounds, *others: Bounds, delta: float = float("nan"), **more: Any) -> Finding:
    """B in the option margin, then in the other metrics."""
    found = [
        interval(*one, texts=more.get("texts", (6, 6)), n=more.get("n", 30)) for one in (b, *others)
    ]
    metrics = ["option_margin", "margin", "p_gold"][: len(found)]
    table = pd.DataFrame(
        [{"metric": m, **interval_columns(one)} for m, one in zip(metrics, found, strict=True)]
    ).assign(delta=delta)
    return Finding(names.BEHAVIOUR, "B", found[0], float(found[0].p), "", 30, "", table)


def row(name: str, bounds: Bounds, *, healthy: bool = True) -> Finding:
    one = interval(*bounds)
    health = () if healthy else (HealthCheck("ceiling", 1.0, False, "the ceiling is broken"),)
    return Finding(name, "share", one, float(one.p), "", 30, "", pd.DataFrame(), health)


def verdict(b: Finding, *rows: Finding) -> Any:
    card = {one.name: one for one in (b, *rows)}
    return route_verdict(card, {name: one.p_value for name, one in card.items()})


EFFECT = behaviour((0.5, 0.3, 0.7), (0.4, 0.2, 0.6))
SMALL, HALF, LARGE = (0.05, -0.05, 0.15), (0.45, 0.35, 0.55), (0.9, 0.8, 1.0)


def content(into: Bounds, out: Bounds | None = None, **more: Any) -> list[Finding]:
    return [row(names.CONTENT_IN, into, **more), row(names.CONTENT_OUT, out or into, **more)]


READ_OFF = [row(names.CONTENT_EDGES, SMALL), row(names.OTHER_EDGES, LARGE)]


@pytest.mark.parametrize(
    ("b", "rows", "name", "rule"),
    [
        (behaviour((0.5, 0.3, 0.7), (-0.1, -0.2, 0.1)), [], "metric-dependent", 1),
        (behaviour((0.0, -0.1, 0.1), (-0.3, -0.5, -0.1)), [], "metric-dependent", 1),
        (behaviour((0.0, -0.02, 0.02), delta=0.1), [], "no effect to explain", 2),
        (behaviour((0.1, -0.2, 0.4), delta=0.1), [], "undetermined", 2),
        (behaviour((0.1, -0.2, 0.4)), [], "undetermined", 2),
        (behaviour((0.5, 0.3, 0.7), texts=(2, 2)), [], "undetermined", 2),
        (behaviour((0.5, 0.3, 0.7), n=4), [], "undetermined", 2),
        (behaviour((-0.5, -0.7, -0.3), (-0.1, -0.2, 0.1)), content(SMALL), "backfires", 3),
        (EFFECT, content(SMALL) + READ_OFF, "superficial (route)", 4),
        (EFFECT, [*content(SMALL), row(names.ONSET, (0.7, 0.6, 0.8))], "superficial (route)", 4),
        (EFFECT, [*content(SMALL), row(names.ONSET, (0.5, 0.3, 0.8))], "mixed", 6),
        (EFFECT, content(SMALL), "mixed", 6),
        (EFFECT, [*content(LARGE), row(names.CHANGED, LARGE)], "deep (content)", 4),
        (EFFECT, [*content(LARGE), row(names.CHANGED, SMALL)], "superficial (route)", 4),
        (EFFECT, [*content(LARGE), row(names.CHANGED, HALF)], "mixed", 6),
        (EFFECT, content(LARGE), "mixed", 6),
        (EFFECT, content(HALF), "mixed", 6),
        (EFFECT, [*content(LARGE, SMALL), row(names.INTERACTION, LARGE)], "mixed", 6),
        (EFFECT, content((0.4, 0.1, 0.7)), "not identified", 6),
        (EFFECT, content(LARGE, healthy=False), "not identified", 6),
        (EFFECT, [], "not identified", 6),
    ],
)
def test_the_first_rule_that_applies_fires(b: Finding, rows: Any, name: str, rule: int) -> None:
    found = verdict(b, *rows)
    assert (found.name, found.rule) == (name, rule)
    assert found.because
    assert found.otherwise
    assert f"{name} (rule {rule})" in str(found)


def test_a_relayed_flag_and_backed_up_routes_are_named() -> None:
    assert "relayed flag" in verdict(EFFECT, *content(LARGE), row(names.CHANGED, SMALL)).because
    backed = verdict(EFFECT, *content(LARGE, SMALL), row(names.INTERACTION, LARGE))
    assert "back each other up" in backed.because


def test_an_effect_that_does_not_outlive_the_correction_is_undetermined() -> None:
    card = {names.BEHAVIOUR: behaviour((0.5, 0.3, 0.7))}
    found = route_verdict(card, {names.BEHAVIOUR: 0.2})
    assert found.name == "undetermined"
    assert "0.200" in found.because
