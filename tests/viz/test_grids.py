from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

from interp.errors import InterpError
from interp.patching import ALL, SweepResult
from interp.viz import attention_to_span, common_limit, heatmap

NAN = float("nan")

SPANS = ["context", "instruction", "instruction", "<b>odd & span</b>", ALL]


def make_sweep(n_pairs: int = 12, n_clusters: int = 12, n_layers: int = 4) -> SweepResult:
    """1 nat, the whole effect, in all cells of ALL; layer/10 in the instruction; else noise."""
    generator = np.random.default_rng(0)
    effect = generator.normal(scale=0.01, size=(n_layers, len(SPANS), n_pairs))
    effect[:, 1] += np.arange(n_layers)[:, None] / 10
    effect[:, -1] = 1.0 + effect[0, -1]
    base = generator.normal(size=n_pairs)
    return SweepResult(
        values=torch.tensor(effect + base).float(),
        axis_names=["layer", "span"],
        index_df=pd.DataFrame(),
        metric_names=["margin"],
        reduced=False,
        baseline=torch.tensor(base).float(),
        source_baseline=torch.tensor(base + effect[0, -1]).float(),
        axis_labels={"layer": [str(k) for k in range(n_layers)], "span": SPANS},
        pair_labels=[f"pair {k}" for k in range(n_pairs)],
        clusters=[f"c{k % n_clusters}" for k in range(n_pairs)],
        title="instructed -> placebo, resid_pre",
        notes=("2 of 12 pairs are not aligned by index",),
    )


def test_heatmap_cells_are_the_mean_effects_of_the_result_with_midpoint_zero():
    result = make_sweep()
    grid = heatmap(result).data[0]
    np.testing.assert_allclose(grid.z, result.effect().mean(-1).numpy(), atol=1e-6)
    assert grid.zmid == 0
    assert grid.zmin == -grid.zmax
    assert grid.zmax == pytest.approx(float(np.abs(grid.z).max()))


def test_heatmap_says_red_is_negative_and_blue_is_positive():
    (_, low), *_, (_, high) = heatmap(make_sweep()).data[0].colorscale
    red = [int(v) for v in low[4:-1].split(",")]
    blue = [int(v) for v in high[4:-1].split(",")]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_heatmap_keeps_equal_span_names_apart_and_escapes_them():
    axis = heatmap(make_sweep()).layout.xaxis
    assert list(axis.tickvals) == [0, 1, 2, 3, 4]
    assert axis.ticktext[1] == axis.ticktext[2] == "instruction"
    assert "<b>" not in axis.ticktext[3]
    assert "&lt;b&gt;" in axis.ticktext[3]
    assert axis.ticktext[4].endswith("(ceiling)")


def test_heatmap_layers_ascend_upwards():
    low, high = heatmap(make_sweep()).layout.yaxis.range
    assert low < high


def inside(line: go.Scatter, row: int, column: int) -> bool:
    """Whether a cell lies inside the borders: a ray to the left crosses them an odd number of times."""
    xs, ys = np.array(line.x, dtype=float), np.array(line.y, dtype=float)
    upright = (xs[::3] == xs[1::3]) & (ys[::3] < row) & (row < ys[1::3])
    return bool((upright & (xs[::3] < column)).sum() % 2)


@pytest.mark.parametrize("n_maps", [1, 3])
def test_heatmap_outlines_exactly_the_cells_with_small_family_wise_p_but_the_ceiling(n_maps):
    result = make_sweep()
    figure = heatmap(result, n_maps=n_maps)
    rim, line = figure.data[1:]
    assert (line.name, rim.line.width > line.line.width) == ("family-wise p < .05", True)
    significant = result.max_t().p_corrected * n_maps < 0.05
    significant[:, -1] = False
    assert significant.sum() >= 2
    outlined = [inside(line, *cell) for cell in np.ndindex(significant.shape)]
    np.testing.assert_array_equal(outlined, significant.reshape(-1))
    said = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert ("over 3 maps" in said) == (n_maps == 3)
    assert len(heatmap(result, significance=False).data) == 1


def test_a_map_whose_whole_effect_is_not_clear_is_pale_and_says_so():
    result = make_sweep()
    assert heatmap(result).data[0].opacity == 1
    signs = torch.tensor([1.0, -1.0]).repeat(6)
    unclear = replace(result, source_baseline=result.baseline + signs)
    figure = heatmap(unclear)
    assert figure.data[0].opacity < 0.5
    assert "pale: the interval of the whole effect contains 0" in figure.layout.title.subtitle.text


def test_two_maps_share_a_scale_where_it_is_given():
    small, large = make_sweep(), make_sweep()
    large = replace(large, values=large.values * 3 - 2 * large.baseline)
    limit = common_limit(small, large)
    assert limit == pytest.approx(heatmap(large).data[0].zmax)
    assert limit > 2 * heatmap(small).data[0].zmax
    assert heatmap(small, limit=limit).data[0].zmin == -limit
    for wrong in ({"limit": 0.0}, {"limit": NAN}, {"n_maps": 0}):
        with pytest.raises(InterpError, match=r"give a number above 0|count at least this map"):
            heatmap(small, **wrong)
    with pytest.raises(InterpError, match="give at least one"):
        common_limit()


def test_large_cells_without_an_outline_are_explained_beside_small_ones_with_one():
    result = make_sweep()
    assert "not certain" not in heatmap(result).layout.title.subtitle.text
    effects = result.values.clone()
    generator = torch.Generator().manual_seed(0)
    effects[0, 0] = result.baseline + 5 + 20 * torch.randn(12, generator=generator)
    said = heatmap(replace(result, values=effects)).layout.title.subtitle.text
    assert "larger cells without an outline vary more between the 12 clusters" in said


def test_heatmap_share_divides_by_the_difference_of_the_runs():
    result = make_sweep()
    grid = heatmap(result, value="share").data[0]
    np.testing.assert_allclose(grid.z, result.share().estimate)
    np.testing.assert_allclose(np.asarray(grid.z)[:, -1], 1.0, atol=0.02)
    assert grid.colorbar.title.text == "share"


def test_heatmap_of_a_single_pair_says_it_has_no_interval_and_marks_nothing():
    figure = heatmap(make_sweep(n_pairs=1))
    assert len(figure.data) == 1
    assert "1 pair, 1 cluster: no interval" in figure.layout.title.subtitle.text
    assert np.isfinite(figure.data[0].z).all()


def test_heatmap_of_an_undefined_share_gives_the_reason_instead_of_a_map():
    figure = heatmap(make_sweep(n_pairs=1), value="share")
    assert np.isnan(figure.data[0].z).all()
    assert figure.layout.annotations[0].text.startswith("share undefined: ")


def test_heatmap_hover_shows_interval_and_p_and_the_subtitle_sample_and_notes():
    result = make_sweep()
    figure = heatmap(result)
    name, facts, layer = figure.data[0].customdata[2][1]
    assert layer == "2"
    interval, p = result.effect_interval().at(2, 1), result.max_t().p_corrected[2, 1]
    assert name == "instruction"
    assert facts == f" [{interval.low:.3f}, {interval.high:.3f}]<br>family-wise p = {p:.3f}"
    assert "12 pairs, 12 clusters" in figure.layout.title.subtitle.text
    assert "not aligned by index" in figure.layout.title.subtitle.text


def test_attention_to_span_draws_both_runs_on_one_scale_and_their_difference():
    source, destination = torch.rand(3, 4), torch.rand(3, 4) / 2
    figure = attention_to_span(source, destination, layers=[5, 6, 7])
    first, second, difference = figure.data
    np.testing.assert_allclose(first.z, source)
    np.testing.assert_allclose(difference.z, source - destination, atol=1e-6)
    assert (first.zmin, first.zmax) == (second.zmin, second.zmax)
    assert first.zmin == 0
    assert difference.zmid == 0
    assert list(figure.layout.yaxis.ticktext) == ["5", "6", "7"]
