from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from interp.patching import ALL, SweepResult
from interp.viz import attention_to_span, heatmap

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


def test_heatmap_marks_exactly_the_cells_with_small_family_wise_p():
    result = make_sweep()
    marks = heatmap(result).data[1]
    significant = np.argwhere(result.max_t().p_corrected < 0.05)
    assert len(significant) > 4
    assert sorted(zip(marks.y, marks.x, strict=True)) == sorted(map(tuple, significant))
    assert len(heatmap(result, significance=False).data) == 1


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
    name, facts = figure.data[0].customdata[2][1]
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
