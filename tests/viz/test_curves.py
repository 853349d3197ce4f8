from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.data import load_items, load_texts
from interp.directions import DirectionFacts, DirectionStack, fit_direction, project
from interp.directions.scores import ShuffledNull
from interp.errors import InterpError
from interp.prompts import make_pair
from interp.stats import Interval
from interp.viz import direction_auc, projection_shift


def make_stack() -> DirectionStack:
    auc = Interval(np.array([0.5, 0.7, 0.8]), np.full(3, 0.4), np.full(3, 0.9), 10, 5)
    return DirectionStack(
        vectors=torch.eye(3),
        scales=torch.ones(3),
        offsets=torch.zeros(3),
        layers=(2, 3, 4),
        site="resid_post",
        facts=DirectionFacts("mean_difference", "some <texts>", "h", 10, "f", "raw"),
        auc=auc,
        shuffled=ShuffledNull(*(np.full(3, x) for x in (0.5, 0.4, 0.6, 0.01)), n_shuffles=200),
    )


def by_name(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_projection_shift_draws_nulls_in_grey_beneath_the_direction():
    rows = [
        (name, layer, value, value - 0.1, value + 0.1, is_null)
        for name, value, is_null in (("morality", 0.5, False), ("tense", 0.1, True), ("n", 0, True))
        for layer in (1, 0)
    ]
    columns = ["direction", "layer", "estimate", "low", "high", "is_null"]
    figure = projection_shift(pd.DataFrame(rows, columns=columns))
    names = [trace.name for trace in figure.data]
    assert names == ["null directions (2)"] * 2 + ["morality, 95 %", "morality"]
    assert [t.showlegend for t in figure.data] == [True, False, False, True]
    assert list(by_name(figure, "morality").x) == [0, 1]


def test_projection_shift_of_projections_is_source_minus_destination(tiny_model):
    pairs = [make_pair(tiny_model, item, "instructed") for item in load_items("bundled", limit=4)]
    stack = fit_direction(
        tiny_model, load_texts("bundled:contrasts:tense"), n_shuffles=0, progress=False
    )
    projections = project(tiny_model, pairs, stack, progress=False)
    curve = by_name(projection_shift(projections), "bundled:contrasts")
    expected = projections.shift().groupby("layer")["shift"].mean()
    np.testing.assert_allclose(curve.y, expected, atol=1e-12)


def test_projection_shift_names_a_missing_column():
    with pytest.raises(InterpError, match="'low'"):
        projection_shift(pd.DataFrame({"direction": ["a"], "layer": [0], "estimate": [0.0]}))


def test_direction_auc_draws_layers_baselines_and_chance():
    baselines = {"bag of words": 0.71, "length": Interval(0.55, 0.5, 0.6, 10, 5)}
    figure = direction_auc(make_stack(), baselines)
    curve = by_name(figure, "direction")
    assert list(curve.x) == [2, 3, 4]
    np.testing.assert_allclose(curve.y, [0.5, 0.7, 0.8])
    assert list(by_name(figure, "bag of words (0.71)").y) == [0.71, 0.71]
    assert set(by_name(figure, "length, 95 %").y) == {0.5, 0.6}
    assert figure.layout.shapes[0].y0 == 0.5
