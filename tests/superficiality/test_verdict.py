"""Every rule, on rows whose intervals are written down."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from interp.stats import Interval, interval_columns
from interp.superficiality import rows as names
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.instrument import INSTRUMENT
from interp.superficiality.mediation import BEYOND, R_IN, R_OUT, SPANS
from interp.superficiality.removed import REMOVED
from interp.superficiality.representation import NEGATED, REPRESENTATION
from interp.superficiality.verdict import direction_verdict, route_verdict

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
        (behaviour((-0.01, -0.02, -0.005), delta=0.1), [], "no effect to explain", 2),
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


UP, DOWN = (0.5, 0.3, 0.7), (-0.5, -0.7, -0.3)


def along(
    into: Bounds, out: Bounds | None = None, spans: Bounds = SMALL, **more: Any
) -> list[Finding]:
    return [
        row(INSTRUMENT, (0.8, 0.7, 0.9), healthy=more.get("valid", True)),
        row(R_IN, into, healthy=more.get("readable", True)),
        row(R_OUT, out or into),
        row(SPANS, spans),
        row(BEYOND, more.get("beyond", HALF)),
        row(REPRESENTATION, UP),
        *([row(REMOVED, more["removed"])] if "removed" in more else []),
        row(NEGATED, more.get("negated", DOWN)),
    ]


@pytest.mark.parametrize(
    ("b", "rows", "name", "rule"),
    [
        (behaviour((0.5, 0.3, 0.7), (-0.1, -0.2, 0.1)), along(SMALL), "metric-dependent", 1),
        (behaviour((0.1, -0.2, 0.4)), along(SMALL), "undetermined", 2),
        (behaviour((-0.5, -0.7, -0.3)), along(SMALL), "backfires", 3),
        (EFFECT, along(SMALL, valid=False), "instrument not valid", 5),
        (EFFECT, along(SMALL), "superficial (direction)", 5),
        (EFFECT, along(SMALL, spans=(0.3, 0.2, 0.4)), "mixed", 6),
        (EFFECT, along(LARGE), "deep (direction)", 5),
        (EFFECT, along(LARGE, beyond=(0.1, -0.1, 0.3)), "mixed", 6),
        (EFFECT, along(LARGE, removed=UP), "deep (direction)", 5),
        (EFFECT, along(LARGE, removed=(0.1, -0.1, 0.3)), "mixed", 6),  # every request does it
        (EFFECT, along(LARGE, negated=UP), "mixed", 6),
        (EFFECT, along(LARGE, negated=(-0.1, -0.3, 0.1)), "mixed", 6),
        (EFFECT, along(LARGE, SMALL), "mixed", 6),
        (EFFECT, along(HALF), "mixed", 6),
        (EFFECT, along((0.4, 0.1, 0.7)), "not identified", 6),
        (EFFECT, along(LARGE, readable=False), "not identified", 6),
        (EFFECT, [row(INSTRUMENT, LARGE)], "not identified", 6),
    ],
)
def test_the_verdict_on_the_direction_follows_its_own_rule(
    b: Finding, rows: Any, name: str, rule: int
) -> None:
    card = {one.name: one for one in (b, *rows)}
    found = direction_verdict(card, {name: one.p_value for name, one in card.items()})
    assert found is not None
    assert (found.name, found.rule) == (name, rule)
    assert found.because
    assert found.otherwise


def test_without_a_direction_there_is_no_verdict_on_it_and_with_one_both_stand() -> None:
    card = {names.BEHAVIOUR: EFFECT}
    assert direction_verdict(card, {names.BEHAVIOUR: 0.001}) is None
    rows = {
        one.name: one for one in (EFFECT, *content(LARGE), row(names.CHANGED, LARGE), *along(SMALL))
    }
    p = dict.fromkeys(rows, 0.001)
    assert route_verdict(rows, p).name == "deep (content)"
    found = direction_verdict(rows, p)
    assert found is not None
    assert found.name == "superficial (direction)"
