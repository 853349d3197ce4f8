"""Runs side by side: what is drawn is what was read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import interp
from interp.data import Choice, ChoiceItem, LabelledText
from interp.errors import InterpError
from interp.lens import lens_prompt
from interp.patching import read_options
from interp.prompts import make_pair
from interp.viz import cell_effects, lens_runs, option_probabilities, projection_runs
from interp.viz.runs import leave_out_far

CHOICES = (Choice("Not <b>known</b>", "unknown"), Choice("The farmer", "stereotyped"))
ITEM = ChoiceItem("q", "own", "own", "They met.", "Who was late?", CHOICES, 0, "ambiguous", "c")


def test_bars_are_the_options_probabilities(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    readings = {
        "instructed": read_options(tiny_model, pair, run="source"),
        "placebo": read_options(tiny_model, pair),
        "patched": read_options(tiny_model, pair),
    }
    figure = option_probabilities(readings)
    for trace, frame in zip(figure.data, readings.values(), strict=True):
        assert list(trace.x) == frame["probability"].tolist()
    assert len({trace.marker.color for trace in figure.data}) == 3
    assert figure.layout.yaxis.ticktext[0] == "Not &lt;b&gt;known&lt;/b&gt; ✓"


def test_lines_are_the_lens_of_each_run(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    assert pair.target is not None
    readings = {
        "instructed": lens_prompt(tiny_model, pair.source, pair.target),
        "placebo": lens_prompt(tiny_model, pair.destination, pair.target),
    }
    figure = lens_runs(readings)
    for trace, frame in zip(figure.data, readings.values(), strict=True):
        assert list(trace.y) == frame["margin"].tolist()


@pytest.mark.parametrize("single", [False, True])
def test_projections_are_drawn_in_class_units_where_there_are_some(
    tiny_model: Any, single: bool
) -> None:
    texts = [
        LabelledText(f"It {verb} kind {k}.", label, f"g{k}", "own")
        for k in range(4)
        for verb, label in (("was", 1), ("was not", 0))
    ]
    stack = interp.fit_direction(tiny_model, texts, n_folds=2, n_shuffles=3, progress=False)
    pair = make_pair(tiny_model, ITEM, "instructed")
    read = interp.project(tiny_model, pair, stack[1] if single else stack, progress=False)
    figure = projection_runs(read)
    frame = read.to_dataframe().query("run == 'source'")
    assert list(figure.data[0].y) == frame["dot" if single else "projection"].tolist()
    assert ("dot" if single else "class units") in figure.layout.yaxis.title.text
    several = interp.project(tiny_model, pair, stack, positions="all", progress=False)
    with pytest.raises(InterpError, match="several positions"):
        projection_runs(several)


def test_the_axis_ends_where_one_layer_is_far_off_and_says_so() -> None:
    figure = go.Figure(go.Scatter(x=[0, 1, 2, 3, 4], y=[-900.0, 1.0, 3.0, -2.0, 2.0]))
    layers, values = np.arange(5), np.array([-900.0, 1.0, 3.0, -2.0, 2.0])
    assert leave_out_far(figure, layers, values) == "beyond the axis: layer 0"
    low, high = figure.layout.yaxis.range
    assert -3 < low < -2
    assert 3 < high < 4
    assert leave_out_far(go.Figure(), layers, values.clip(-2)) == ""


def test_a_cells_bars_are_its_effects_by_pair(tiny_model: Any) -> None:
    pairs = [make_pair(tiny_model, ITEM, "instructed", slot=slot) for slot in range(3)]
    result = interp.sweep(tiny_model, pairs, spans=["instruction"], progress=False)
    figure = cell_effects(result, 2)
    effect = (result.values[2, 0] - result.baseline).tolist()
    assert list(figure.data[0].y) == pytest.approx(sorted(effect))
    with pytest.raises(InterpError, match="no cell 4"):
        cell_effects(result, 4)
    with pytest.raises(InterpError, match="no cell True"):
        cell_effects(result, True)


def test_refusals() -> None:
    with pytest.raises(InterpError, match="give a mapping"):
        option_probabilities({})
    one = pd.DataFrame({"option": ["a"], "gold": [True], "probability": [1.0]})
    with pytest.raises(InterpError, match="other options"):
        option_probabilities({"one": one, "two": one.assign(option="b")})
    with pytest.raises(InterpError, match="layer"):
        lens_runs({"one": one})
