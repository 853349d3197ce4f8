from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.directions.direction import DirectionStack
from interp.directions.project import Projections
from interp.errors import InterpError
from interp.lens import LensTrajectory
from interp.stats import Interval
from interp.viz import CONDITION_COLOURS, direction_auc, lens_margin, projection_shift

LAYERS = 4


def make_frame(n_pairs: int, value: str) -> pd.DataFrame:
    """Value = layer + pair; the source is higher by a tenth of the layer."""
    rows = [
        (k, f"i{k}", f"c{k}", run, condition, layer, layer + k + gain * layer / 10)
        for k in range(n_pairs)
        for run, condition, gain in (("source", "instructed", 1), ("destination", "placebo", 0))
        for layer in range(LAYERS)
    ]
    columns = ["pair", "item", "cluster", "run", "condition", "layer", value]
    return pd.DataFrame(rows, columns=columns)


def make_stack() -> DirectionStack:
    auc = Interval(np.array([0.5, 0.7, 0.8]), np.full(3, 0.4), np.full(3, 0.9), 10, 5)
    return DirectionStack(
        vectors=torch.eye(3),
        scales=torch.ones(3),
        offsets=torch.zeros(3),
        layers=(2, 3, 4),
        site="resid_post",
        method="mean_difference",
        source="some <texts>",
        data_hash="h",
        n_texts=10,
        fingerprint="f",
        mode="raw",
        auc=auc,
    )


def by_name(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_lens_margin_draws_the_mean_of_each_run_and_their_difference():
    figure = lens_margin(LensTrajectory(make_frame(6, "margin")))
    source, destination = (
        by_name(figure, n) for n in ("instructed (source)", "placebo (destination)")
    )
    np.testing.assert_allclose(destination.y, np.arange(LAYERS) + 2.5)
    np.testing.assert_allclose(source.y, 1.1 * np.arange(LAYERS) + 2.5)
    np.testing.assert_allclose(
        by_name(figure, "source − destination").y, np.arange(LAYERS) / 10, atol=1e-12
    )
    assert source.line.color == CONDITION_COLOURS["instructed"]


def test_lens_margin_band_holds_the_mean():
    figure = lens_margin(LensTrajectory(make_frame(6, "margin")))
    band = by_name(figure, "placebo (destination), 95 %")
    high, low = np.array(band.y[:LAYERS]), np.array(band.y[LAYERS:])[::-1]
    mean = np.arange(LAYERS) + 2.5
    assert (low < mean).all()
    assert (mean < high).all()


def test_lens_margin_of_one_pair_has_lines_without_bands_and_says_so():
    figure = lens_margin(LensTrajectory(make_frame(1, "margin")))
    assert len(figure.data) == 3
    assert "no interval" in figure.layout.title.subtitle.text


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


def test_projection_shift_of_projections_is_source_minus_destination():
    figure = projection_shift(Projections(make_frame(5, "projection"), make_stack()))
    curve = by_name(figure, "some &lt;texts&gt;")
    np.testing.assert_allclose(curve.y, np.arange(LAYERS) / 10, atol=1e-12)


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
