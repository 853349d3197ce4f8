from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.errors import InterpError
from interp.viz import dose_response, effect_against_cost

MARGIN = {("margin", "ambiguous"): "margin, <ambiguous>"}


def make_effects():
    """Learned: effect = strength / 10; nulls: 0.01 at both ends; cost = strength squared / 100."""
    rows = []
    for kind, name, strengths, slope in (
        ("learned", "learned", (-2.0, -1.0, 1.0, 2.0), 0.1),
        ("contrast", "tense", (-2.0, 2.0), 0.01),
        ("covariance", "covariance 1", (-2.0, 2.0), -0.02),
    ):
        for s in strengths:
            cells = (("margin", "ambiguous", slope * s), ("nll", "all", s * s / 100))
            rows += [
                (*cell[:2], kind, name, s, cell[2], cell[2] - 0.05, cell[2] + 0.05)
                for cell in cells
            ]
    columns = ["outcome", "subset", "kind", "direction", "strength", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def test_dose_response_runs_through_zero_with_nulls_beneath():
    figure = dose_response(make_effects(), MARGIN)
    names = [trace.name for trace in figure.data]
    assert names == ["null directions (2)"] * 2 + ["learned direction, 95 %", "learned direction"]
    learned = figure.data[-1]
    assert list(learned.x) == [-2, -1, 0, 1, 2]
    np.testing.assert_allclose(learned.y, [-0.2, -0.1, 0, 0.1, 0.2])
    assert list(figure.data[0].x) == [-2, 0, 2]
    assert [trace.showlegend for trace in figure.data] == [True, False, False, True]
    assert figure.layout.annotations[0].text == "margin, &lt;ambiguous&gt;"


def test_effect_against_cost_has_a_point_for_every_step():
    figure = effect_against_cost(make_effects(), MARGIN)
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name) == ["null: contrast", "null: covariance", "learned direction"]
    learned = by_name["learned direction"]
    np.testing.assert_allclose(learned.x, [0.04, 0.01, 0.01, 0.04])
    np.testing.assert_allclose(learned.y, [-0.2, -0.1, 0.1, 0.2])
    assert list(learned.text) == ["-2", "", "", "+2"]
    assert len(by_name["null: contrast"].x) == 2


def test_without_intervals_there_is_no_band():
    figure = dose_response(make_effects().assign(low=np.nan, high=np.nan), MARGIN)
    assert all("95" not in trace.name for trace in figure.data)


def test_missing_columns_and_panels_are_named():
    with pytest.raises(InterpError, match="no column 'strength'"):
        dose_response(make_effects().drop(columns="strength"), MARGIN)
    with pytest.raises(InterpError, match="learned direction on margin, all"):
        dose_response(make_effects(), {("margin", "all"): "x"})
    only = make_effects().query("outcome == 'margin'")
    with pytest.raises(InterpError, match="learned direction on nll, all"):
        effect_against_cost(only, MARGIN)
