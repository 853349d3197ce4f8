"""Figures beside the maps: largest cells and span profiles; and the grids that are not by span."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.data import load_items
from interp.errors import InterpError
from interp.patching import ALL, SweepResult, knockout
from interp.patching.localising import is_ceiling
from interp.prompts import make_pair
from interp.viz import heatmap, layer_profile, top_cells
from interp.viz.grids import cell_name
from interp.viz.places import position_label
from interp.viz.sweeps import largest_cells

NAN = float("nan")


def result_of(
    effects: np.ndarray,
    labels: dict[str, list[str]],
    *,
    metric: str = "margin",
    site: str = "resid_pre",
) -> SweepResult:
    """A sweep over as many clusters as pairs; ``effects [*cells, pair]`` on a baseline of 0."""
    n_pairs = effects.shape[-1]
    index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
    return SweepResult(
        values=torch.tensor(effects).float(),
        axis_names=list(labels),
        index_df=index.to_frame(index=False),
        metric_names=[metric],
        reduced=False,
        baseline=torch.zeros(n_pairs),
        source_baseline=torch.ones(n_pairs),
        axis_labels=labels,
        pair_labels=[f"pair {k}" for k in range(n_pairs)],
        clusters=[f"c{k}" for k in range(n_pairs)],
        site=site,
        title="instructed -> placebo",
    )


def noisy(means: np.ndarray, n_pairs: int = 10, scale: float = 0.01) -> np.ndarray:
    noise = np.random.default_rng(0).normal(scale=scale, size=(*means.shape, n_pairs))
    return means[..., None] + noise


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (" he_41", "·he 41"),
        ("\n_7", "⏎ 7"),
        ("\n\n _7", "⏎⏎· 7"),
        ("a_b_3", "a_b 3"),
        ("\t\x07_0", "⇥\\x07 0"),
        ("an unusually long token_12", "an·unusually·… 12"),
        ("12", "12"),
        ("template_1 +3", "template_1 +3"),
        ("answer_prefix last", "answer_prefix last"),
    ],
)
def test_white_space_in_position_labels_is_made_visible(label: str, shown: str) -> None:
    assert position_label(label) == shown


def test_cells_are_named_by_layer_head_and_place() -> None:
    assert cell_name({"layer": "9", "head": "6", "pos": " he_41"}) == "L9H6 ·he 41"
    assert cell_name({"layer": "0-2", "span": "instruction"}) == "L0-2 instruction"
    assert cell_name({"layer": "3", "head": "1"}) == "L3H1"


@pytest.mark.parametrize("n", [1, 8, 60, 61, 150])
def test_position_ticks_never_crowd_and_always_name_the_last_position(n: int) -> None:
    labels = {"layer": ["0", "1"], "pos": [f"\n_{k}" for k in range(n)]}
    figure = heatmap(result_of(np.zeros((2, n, 3)), labels))
    axis = figure.layout.xaxis
    assert len(axis.tickvals) <= 60
    assert axis.tickvals[-1] == n - 1
    assert axis.ticktext[-1] == f"⏎ {n - 1}"
    assert axis.tickangle == -90
    assert list(axis.range) == [-0.5, n - 0.5]


def test_layer_by_head_grid_is_drawn_with_numbered_heads() -> None:
    labels = {"layer": ["0", "1"], "head": ["0", "1", "2"]}
    means = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -2.0]])
    figure = heatmap(result_of(noisy(means), labels, site="z"))
    np.testing.assert_allclose(figure.data[0].z, means, atol=0.02)
    assert figure.layout.xaxis.title.text == "head"
    assert list(figure.layout.xaxis.ticktext) == ["0", "1", "2"]


def test_three_axes_show_the_position_of_largest_absolute_effect_and_say_so() -> None:
    labels = {"layer": ["0", "1"], "head": ["0", "1"], "pos": [" a_4", "\n_5", "z_6"]}
    means = np.array([[[0.1, -0.8, 0.3], [0.0, 0.0, 0.5]], [[0.2, 0.1, 0.0], [0.9, 0.0, -0.4]]])
    result = result_of(noisy(means), labels, site="z")
    figure = heatmap(result)
    grid = figure.data[0]
    np.testing.assert_allclose(grid.z, [[-0.8, 0.5], [0.2, 0.9]], atol=0.02)
    assert "largest |mean effect|" in figure.layout.title.subtitle.text
    assert grid.customdata[0][0][1].startswith(" at ⏎ 5 [")
    named = {(a.x, a.y): a.text for a in figure.layout.annotations}
    assert named == {(0, 0): "⏎ 5", (1, 0): "z 6", (0, 1): "·a 4", (1, 1): "·a 4"}
    p = result.max_t().p_corrected[0, 0, 1]
    assert f"family-wise p = {p:.3f}" in grid.customdata[0][0][1]


def test_cells_without_a_value_are_grey_and_the_subtitle_says_why() -> None:
    means = np.array([[0.0, NAN, 0.5], [1.0, NAN, -0.2]])
    labels = {"layer": ["0", "1"], "span": ["a", "b", "c"]}
    figure = heatmap(result_of(noisy(means), labels))
    grey = figure.data[1]
    assert np.isfinite(np.asarray(grey.z, dtype=float)).tolist() == [[False, True, False]] * 2
    assert {colour for _, colour in grey.colorscale} == {"#c9c9c9"}
    assert "nothing aligned" in grey.hovertemplate
    assert "grey: nothing aligned" in figure.layout.title.subtitle.text
    whole = heatmap(result_of(noisy(np.nan_to_num(means)), labels))
    assert "grey" not in whole.layout.title.subtitle.text
    assert not any(trace.name == "nothing aligned" for trace in whole.data)


def test_a_cell_that_some_pairs_lack_says_how_many_have_it() -> None:
    effects = noisy(np.array([[0.5, 0.5]]))
    effects[0, 1, :4] = NAN
    figure = heatmap(result_of(effects, {"layer": ["0"], "span": ["a", "b"]}))
    first, second = (facts for _, facts, _ in figure.data[0].customdata[0])
    assert "pairs" not in first
    assert second.endswith("6 of 10 pairs")


@pytest.mark.parametrize(
    ("metric", "unit"), [("margin", "nats"), ("log_prob", "nats"), ("p_unknown", "p_unknown")]
)
def test_nats_are_for_margin_and_log_prob_only(metric: str, unit: str) -> None:
    labels = {"layer": ["0", "1"], "span": ["a", "b"]}
    result = result_of(noisy(np.ones((2, 2))), labels, metric=metric)
    figure = heatmap(result)
    assert figure.data[0].colorbar.title.text == unit
    assert f" {unit}" in figure.layout.title.subtitle.text
    assert ("nats" in figure.layout.title.subtitle.text) == (unit == "nats")
    assert top_cells(result).layout.xaxis.title.text == f"mean effect, {unit}"
    assert layer_profile(result).layout.yaxis.title.text == f"mean effect, {unit}"


def test_several_metrics_are_refused_until_one_is_chosen() -> None:
    one = result_of(noisy(np.ones((1, 2))), {"layer": ["0"], "span": ["a", "b"]})
    several = SweepResult(
        **{
            **one.__dict__,
            "values": torch.stack([one.values] * 2),
            "baseline": torch.stack([one.baseline] * 2),
            "source_baseline": torch.stack([one.source_baseline] * 2),
            "metric_names": ["margin", "log_prob"],
            "has_metric_axis": True,
        }
    )
    for draw in (heatmap, top_cells, layer_profile):
        with pytest.raises(InterpError, match=r"several metrics: choose one, result\['margin'\]"):
            draw(several)
        draw(several["log_prob"])


def test_top_cells_are_the_largest_in_order_and_filled_where_family_wise_significant() -> None:
    means = np.array([[0.9, -0.01, 0.0], [0.3, -0.6, 0.02]])
    effects = noisy(means, scale=0.2)
    labels = {"layer": ["0", "1"], "span": ["a", "b", "c"]}
    result = result_of(effects, labels)
    figure = top_cells(result, k=4)
    top = result.top(4)
    assert list(figure.layout.yaxis.ticktext[:3]) == ["L0 a", "L1 b", "L1 a"]
    assert figure.layout.yaxis.range == (3.5, -0.5)  # largest on top
    drawn = {
        (round(float(x), 6), int(y)): fill
        for trace in figure.data
        for x, y, fill in zip(trace.x, trace.y, trace.marker.color, strict=True)
    }
    expected = {
        (round(e, 6), k): p < 0.05
        for k, (e, p) in enumerate(top[["estimate", "p_corrected"]].values)
    }
    assert {place: fill != "#ffffff" for place, fill in drawn.items()} == expected
    assert set(expected.values()) == {True, False}
    raising = figure.data[0]
    np.testing.assert_allclose(raising.x + np.array(raising.error_x.array), top["high"][[0, 2]])
    assert (np.asarray(figure.data[1].x) < 0).all()


def test_top_cells_of_a_single_cluster_have_neither_bars_nor_fill() -> None:
    result = result_of(np.array([[[0.5], [NAN]]]), {"layer": ["0"], "span": ["a", "b"]})
    figure = top_cells(result)
    assert list(figure.layout.yaxis.ticktext) == ["L0 a"]  # what has no effect is no cell to show
    assert list(figure.data[0].marker.color) == ["#ffffff"]
    assert list(figure.data[0].error_x.array) == [0.0]
    assert "no interval" in figure.layout.title.subtitle.text


@pytest.mark.parametrize(("site", "left_out"), [("resid_pre", True), ("attn_out", False)])
def test_the_ceiling_is_no_cell_at_residual_sites(site: str, left_out: bool) -> None:
    labels = {"layer": ["0", "1"], "span": ["a", ALL]}
    effects = noisy(np.array([[0.1, 1.0], [0.2, 1.0]]))
    result = result_of(effects, labels, site=site)
    result.source_baseline = torch.tensor(effects[0, 1]).float()  # layer 0 restores the source run
    assert is_ceiling(result).tolist() == [False, left_out] * 2
    assert (ALL in set(largest_cells(result, 4)["span"])) != left_out
    assert ("ceiling" in top_cells(result).layout.title.subtitle.text) == left_out


def test_layer_profile_draws_one_line_per_span_with_its_clustered_band() -> None:
    means = np.array([[0.1, 1.0], [0.5, 1.0], [0.9, 1.0]])
    labels = {"layer": ["0-1", "5-6", "9"], "span": ["instruction", ALL]}
    result = result_of(noisy(means), labels)
    figure = layer_profile(result)
    band, line, ceiling = figure.data
    assert list(line.x) == [0, 5, 9]
    np.testing.assert_allclose(line.y, result.effect().mean(-1)[:, 0], atol=1e-6)
    interval = result.effect_interval()
    np.testing.assert_allclose(band.y[:3], interval.high[:, 0])
    np.testing.assert_allclose(band.y[3:], interval.low[::-1, 0])
    assert (line.name, ceiling.name) == ("instruction", ALL)
    assert ceiling.line.dash == "dash"
    assert figure.layout.xaxis.title.text == "first layer of the window"


def test_layer_profile_refuses_other_grids() -> None:
    result = result_of(np.zeros((1, 1, 2)), {"layer": ["0"], "pos": ["a_0"]})
    with pytest.raises(InterpError, match=r"this sweep is \[layer, pos\]"):
        layer_profile(result)


def test_a_knockout_by_layer_is_one_line_and_no_heatmap(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, load_items("bundled:choices", limit=1)[0], "instructed").swap()
    result = knockout(tiny_model, pair, window=2, progress=False)
    line = next(trace for trace in layer_profile(result).data if trace.mode == "lines+markers")
    np.testing.assert_allclose(line.y, result.effect()[:, 0].numpy(), atol=1e-6)
    assert list(line.x) == [0, 1, 2, 3]
    with pytest.raises(InterpError, match="draw its layer_profile"):
        heatmap(result)
