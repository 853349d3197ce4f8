from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from interp.stats import Interval, interval_columns
from interp.superficiality.concentration import TOP_TOKEN
from interp.superficiality.exchanges import DIRECTION, ORACLE, Exchange
from interp.superficiality.mediation import BEYOND, R_IN
from interp.superficiality.polarity import POLARITY
from interp.superficiality.rows import CHANGED, CONTENT_IN, onset_finding
from interp.superficiality.scorecard import Scorecard
from interp.viz import scorecard
from tests.superficiality.test_rows import runs_of
from tests.superficiality.test_verdict import EFFECT, HALF, LARGE, row


def test_every_row_is_drawn_and_one_that_is_not_read_is_hollow() -> None:
    card = Scorecard((EFFECT, row(CONTENT_IN, LARGE), row(CHANGED, HALF, healthy=False)), "a & b")
    figure = scorecard(card)
    of = {trace.y[0]: trace for trace in figure.data if trace.y is not None}
    assert of["option margin"].x == (0.5,)
    assert of["content share,<br>into placebo"].marker.symbol == "circle"
    assert of["changed content"].marker.symbol == "circle-open"
    assert of["changed content"].error_x.array == pytest.approx((HALF[2] - HALF[0],))
    assert "verdict: not identified (rule 6)" in figure.layout.title.subtitle.text
    assert figure.layout.title.text == "a &amp; b"


def test_the_depth_curve_is_drawn_where_it_was_measured() -> None:
    curve = {0: 0.0, 1: 3.0, 2: 4.0}
    runs = [runs_of({"placebo": 0.0, "corrected": 4.0})]
    runs += [runs_of({"behind": value}, layer) for layer, value in curve.items()]
    figure = scorecard(Scorecard((EFFECT, onset_finding(pd.concat(runs)))))
    (line,) = [trace for trace in figure.data if trace.name == "D(l)" and trace.mode]
    assert list(line.y) == [0, 0.75, 1]


def test_other_texts_stand_beside_the_effect_and_parts_below_the_routes() -> None:
    sides = pd.DataFrame(
        [
            {"side": side, **interval_columns(Interval(x, x - 0.1, x + 0.1, 12, 6))}
            for side, x in (("instruction", 0.5), ("negated", -0.2), ("difference", 0.7))
        ]
    )
    polarity = replace(row(POLARITY, LARGE), table=sides)
    bare = scorecard(Scorecard((EFFECT, row(CONTENT_IN, LARGE))))
    figure = scorecard(Scorecard((EFFECT, row(CONTENT_IN, LARGE), row(TOP_TOKEN, HALF), polarity)))
    of = {trace.y[0]: trace for trace in figure.data if trace.y is not None}
    assert of["negated, option<br>margin"].x == (-0.2,)
    assert of["top token"].xaxis == of["content share,<br>into placebo"].xaxis
    assert figure.layout.height > bare.layout.height


def test_shares_along_a_direction_stand_with_their_nulls() -> None:
    table = pd.DataFrame(
        [
            {**vars(Exchange(space, k)), **interval_columns(Interval(x, x - 0.1, x + 0.1, 12, 6))}
            for space, k, x in ((DIRECTION, 1, 0.2), (DIRECTION, 2, 0.9), (ORACLE, 1, 0.6))
        ]
    )
    nulls = pd.DataFrame({"direction": [DIRECTION, "a", "b"], "share": [0.2, 0.05, -0.1]})
    rows = (replace(row(R_IN, LARGE), table=table), replace(row(BEYOND, LARGE), table=nulls))
    figure = scorecard(Scorecard((EFFECT, row(CONTENT_IN, LARGE), *rows)))
    of = {
        str(trace.y[0]): trace
        for trace in figure.data
        if trace.y is not None and trace.error_x.array
    }
    assert of["along the<br>direction"].x == (0.2,)
    assert of["along the oracle"].x == (0.6,)
    (ticks,) = [trace for trace in figure.data if trace.marker.symbol == "line-ns-open"]
    assert list(ticks.x) == [0.05, -0.1]
