"""Lens figures draw the numbers they were given, and mark what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp.errors import InterpError
from interp.lens import LensConditions, LensTrajectory, layer_effects, parting_layer
from interp.stats import Interval
from interp.viz import (
    CONDITION_COLOURS,
    lens_divergences,
    lens_effects,
    lens_levels,
    lens_margin,
    lens_options,
)

LAYERS = 4
SHIFT = {"clean": 0.0, "instructed": 0.5, "placebo": 0.0, "revealing": 3.0}
ARMS = [("", "clean"), *((c, name) for c in ("instructed", "revealing") for name in (c, "placebo"))]


def make_trajectory(n_pairs: int) -> LensTrajectory:
    """Margin = layer + pair; the source is higher by a tenth of the layer."""
    rows = [
        (k, f"i{k}", f"c{k}", run, condition, layer, layer + k + gain * layer / 10)
        for k in range(n_pairs)
        for run, condition, gain in (("source", "instructed", 1), ("destination", "placebo", 0))
        for layer in range(LAYERS)
    ]
    columns = ["pair", "item", "cluster", "run", "condition", "layer", "margin"]
    return LensTrajectory(pd.DataFrame(rows, columns=columns))


def make_lens(n_items: int = 8, n_texts: int = 2) -> LensConditions:
    """Margin = item + layer x (1 + SHIFT); divergences grow with the layer, 0 at the embedding."""
    rows = []
    for contrast, condition in ARMS:
        for slot in range(1 if condition == "clean" else n_texts):
            for item in range(n_items):
                for layer in range(LAYERS):
                    margin = item + layer * (1 + SHIFT[condition]) - 100 * (layer == 0)
                    clean = condition == "clean"
                    near = np.nan if clean or (condition == "placebo" and not slot) else 0.1 * layer
                    far = np.nan if clean else 0.2 * layer
                    rows.append(
                        {
                            "contrast": contrast, "condition": condition, "slot": slot,
                            "item": f"i{item}", "cluster": f"c{item}", "layer": layer,
                            "margin": margin, "log_prob_a": margin - 20, "log_prob_b": -20.0,
                            "rank_a": 10 ** (LAYERS - layer), "rank_b": 1000,
                            "kl": near, "js": near, "overlap": 1 - near,
                            "kl_clean": far, "js_clean": far, "overlap_clean": 1 - far,
                        }
                    )  # fmt: skip
    return LensConditions(pd.DataFrame(rows))


def by_name(figure, name, axis="x"):
    return next(t for t in figure.data if t.name == name and (t.xaxis or "x") == axis)


def test_lens_margin_draws_the_mean_of_each_run_and_their_difference():
    figure = lens_margin(make_trajectory(6))
    source, destination = (
        by_name(figure, n) for n in ("instructed (source)", "placebo (destination)")
    )
    np.testing.assert_allclose(destination.y, np.arange(LAYERS) + 2.5)
    np.testing.assert_allclose(source.y, 1.1 * np.arange(LAYERS) + 2.5)
    np.testing.assert_allclose(
        by_name(figure, "source − destination", "x2").y, np.arange(LAYERS) / 10, atol=1e-12
    )
    assert source.line.color == CONDITION_COLOURS["instructed"]


def test_lens_margin_band_holds_the_mean():
    figure = lens_margin(make_trajectory(6))
    band = by_name(figure, "placebo (destination), 95 %")
    high, low = np.array(band.y[:LAYERS]), np.array(band.y[LAYERS:])[::-1]
    mean = np.arange(LAYERS) + 2.5
    assert (low < mean).all()
    assert (mean < high).all()


def test_lens_margin_of_one_pair_has_lines_without_bands_and_says_so():
    figure = lens_margin(make_trajectory(1))
    assert len(figure.data) == 3
    assert "no interval" in figure.layout.title.subtitle.text


def test_levels_draw_every_condition_with_its_colour_and_a_band():
    figure = lens_levels(make_lens())
    names = [trace.name for trace in figure.data if not trace.name.endswith("95 %")]
    assert names == ["clean", "instructed", "placebo", "revealing", "placebo of revealing"]
    revealing = by_name(figure, "revealing")
    np.testing.assert_allclose(revealing.y[1:], 3.5 + 4 * np.arange(1, LAYERS))
    assert revealing.line.color == CONDITION_COLOURS["revealing"]
    assert by_name(figure, "placebo").line.dash == "solid"
    assert by_name(figure, "placebo of revealing").line.dash == "dash"
    assert len(by_name(figure, "clean, 95 %").y) == 2 * LAYERS
    low, high = figure.layout.yaxis.range
    assert -10 < low < 0 < 15.5 < high < 25  # the embedding's reading does not set the scale


def test_levels_of_a_single_item_have_no_bands_and_say_so():
    figure = lens_levels(make_lens(n_items=1))
    assert len(figure.data) == len(ARMS)
    assert "no interval" in figure.layout.title.subtitle.text


def test_effects_have_a_panel_each_with_clear_layers_filled_and_the_parting_marked():
    lens = make_lens()
    names = ("instructed", "revealing")
    effects = pd.concat([layer_effects(lens, name, seed=0) for name in names])
    parting = {name: parting_layer(lens.arms(name), seed=0) for name in names}
    figure = lens_effects(effects, parting)
    np.testing.assert_allclose(by_name(figure, "instructed").y, 0.5 * np.arange(LAYERS))
    revealing = by_name(figure, "revealing", "x2")
    np.testing.assert_allclose(revealing.y, 3.0 * np.arange(LAYERS))
    colour = CONDITION_COLOURS["revealing"]
    assert list(revealing.marker.color) == ["#ffffff", colour, colour, colour]
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == [f"{name} − its placebo: parts at 2 [2, 2]" for name in names]
    lines = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert [(line.x0, line.xref) for line in lines] == [(2, "x"), (2, "x2")]


def test_effects_without_a_parting_have_no_mark_and_say_so():
    effects = layer_effects(make_lens(), "instructed", seed=0)
    nowhere = Interval(np.nan, np.nan, np.nan, 8, 8, reason="contains 0")
    figure = lens_effects(effects, {"instructed": nowhere})
    assert not figure.layout.shapes
    assert figure.layout.annotations[0].text.endswith("does not part")
    assert lens_effects(effects).layout.annotations[0].text == "instructed − its placebo"


def test_effects_name_a_missing_column():
    effects = layer_effects(make_lens(), "instructed", seed=0)
    with pytest.raises(InterpError, match="'clear'"):
        lens_effects(effects.drop(columns="clear"))


def test_options_draw_log_probabilities_and_geometric_mean_ranks():
    figure = lens_options(make_lens())
    better, worse = (by_name(figure, "instructed", axis) for axis in ("x", "x3"))
    np.testing.assert_allclose(better.y[1:], 3.5 - 20 + 1.5 * np.arange(1, LAYERS))
    np.testing.assert_allclose(worse.y, -20)
    np.testing.assert_allclose(by_name(figure, "instructed", "x2").y, [1e4, 1e3, 1e2, 1e1])
    np.testing.assert_allclose(by_name(figure, "instructed", "x4").y, 1000)
    assert figure.layout.yaxis2.type == "log"
    assert figure.layout.yaxis2.autorange == "reversed"
    legend = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert len(legend) == len(set(legend)) == len(ARMS)


def test_divergences_draw_what_was_compared_and_leave_zeros_off_the_log_axes():
    figure = lens_divergences(make_lens())
    names = {trace.name for trace in figure.data if not trace.name.endswith("95 %")}
    assert names == {
        "instructed, placebo", "two placebos", "revealing, placebo", "instructed, clean",
        "placebo, clean",
    }  # fmt: skip
    own = by_name(figure, "instructed, placebo")
    assert list(own.x) == [1, 2, 3]
    np.testing.assert_allclose(own.y, [0.1, 0.2, 0.3])
    assert by_name(figure, "two placebos").line.dash == "dot"
    overlap = by_name(figure, "placebo, clean", "x3")
    np.testing.assert_allclose(overlap.y, 1 - 0.2 * np.arange(LAYERS))
    assert figure.layout.annotations[2].text == "share of the top 5 in common"


def test_divergences_of_a_single_condition_are_refused():
    frame = make_lens().frame
    with pytest.raises(InterpError, match="no two prompts were compared"):
        lens_divergences(LensConditions(frame[frame["condition"] == "clean"]))
