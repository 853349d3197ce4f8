"""Figures of projections: what is drawn where, which layers are marked, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from interp import viz
from interp.errors import InterpError
from interp.viz.theme import CONDITION_COLOURS

LAYERS = [0, 1, 2, 3]


def contrasts() -> pd.DataFrame:
    rows = []
    for condition, sign in (("instructed", 1.0), ("revealing", -1.0)):
        for layer in LAYERS:
            estimate = sign * layer
            rows.append((condition, "resid_post", layer, -1, estimate, estimate - 0.5,
                         estimate + 0.5, 0.01 if layer > 1 else 0.9, layer > 1,
                         layer == 3 and condition == "instructed"))  # fmt: skip
    names = [
        "condition", "component", "layer", "head", "estimate", "low", "high", "p_corrected", "sure",
        "beyond",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def nulls() -> pd.DataFrame:
    rows = [
        (kind, f"{kind} {k}", layer, k - 2.0)
        for kind in ("covariance", "contrast", "placebo")
        for k in range(5)
        for layer in LAYERS
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "layer", "estimate"])


def test_the_contrast_stands_on_the_null_band_and_only_layers_beyond_it_are_ringed() -> None:
    figure = viz.projection_contrast(contrasts(), nulls(), title="t", subtitle="s")
    traces = {trace.name: trace for trace in figure.data}
    curve = traces["instructed − placebo"]
    assert list(curve.y) == [0.0, 1.0, 2.0, 3.0]
    assert curve.line.color == CONDITION_COLOURS["instructed"]
    assert traces["revealing − placebo"].line.color == CONDITION_COLOURS["revealing"]
    grey = traces["nulls with the states' covariance, 95 %"]
    assert max(grey.y) == pytest.approx(1.9)  # 97.5 % of -2 .. 2
    assert min(grey.y) == pytest.approx(-1.9)
    assert traces["beyond zero and nulls"].x == (3,)  # sure at 2 as well, but not beyond
    edges = [trace for trace in figure.data if trace.name == "range of 5 non-moral contrasts"]
    assert [set(edge.y) for edge in edges] == [{-2.0}, {2.0}]
    assert figure.data.index(grey) < figure.data.index(curve)


def test_without_nulls_or_findings_nothing_is_shaded_or_ringed() -> None:
    figure = viz.projection_contrast(contrasts().assign(beyond=False), nulls().iloc[:0], title="t")
    names = [trace.name for trace in figure.data]
    assert not any("null" in name for name in names)
    assert "rings" not in figure.layout.title.subtitle.text


def test_the_map_has_a_row_per_component_and_head_and_outlines_where_sure() -> None:
    rows = contrasts()
    one = rows[rows["condition"] == "instructed"]
    heads = pd.concat(
        [one, *(one.assign(component="head", head=h, estimate=-one["estimate"]) for h in (1, 0))]
    )
    figure = viz.projection_map(heads, title="t")
    grid, _, line = figure.data
    assert list(figure.layout.yaxis.ticktext) == ["resid_post", "head 0", "head 1"]
    np.testing.assert_array_equal(grid.z[0], [0, 1, 2, 3])
    np.testing.assert_array_equal(grid.z[1], [0, -1, -2, -3])
    assert (grid.zmin, grid.zmid, grid.zmax) == (-3, 0, 3)
    ends = {(x, y) for x, y in zip(line.x, line.y, strict=True) if x is not None}
    assert ends == {(x, y) for x in (1.5, 3.5) for y in (-0.5, 0.5, 1.5, 2.5)} | {
        (2.5, -0.5),
        (2.5, 2.5),
    }


def test_layers_at_chance_are_greyed_and_nothing_is_marked_there() -> None:
    rows = contrasts()
    figure = viz.projection_map(
        rows[rows["condition"] == "instructed"], title="t", at_chance=[3, 9]
    )
    (grey,) = figure.layout.shapes
    assert (grey.x0, grey.x1, grey.layer) == (2.5, 3.5, "above")
    assert max(x for x in figure.data[-1].x if x is not None) == 2.5
    assert "does not separate held-out sentences" in figure.layout.title.subtitle.text
    curves = viz.projection_contrast(rows, nulls(), title="t", at_chance=[2, 3])
    assert [(s.x0, s.layer) for s in curves.layout.shapes] == [(1.5, "below"), (2.5, "below")]
    rings = [trace for trace in curves.data if trace.name == "beyond zero and nulls"]
    assert not any(set(trace.x) & {2, 3} for trace in rings)


def test_an_all_zero_map_without_findings_is_white_and_without_outlines() -> None:
    rows = contrasts().iloc[:4].assign(estimate=0.0, sure=False)
    figure = viz.projection_map(rows, title="t")
    assert len(figure.data) == 1
    assert figure.data[0].zmax == 1.0


def test_contributors_are_ranked_by_size_and_filled_where_sure() -> None:
    parts = pd.DataFrame(
        {
            "label": ["embedding", "L0H1", "L0 MLP", "<b>"],
            "component": ["embedding", "head", "mlp_out", "attn_bias"],
            "estimate": [0.1, -3.0, 2.0, 0.0],
            "low": [0.0, -4.0, 1.5, np.nan],
            "high": [0.2, -2.0, 2.5, np.nan],
            "p_corrected": [0.5, 0.01, 0.01, np.nan],
            "sure": [False, True, True, False],
        }
    )
    figure = viz.top_contributors(parts, title="t", n=3)
    bars = figure.data[0]
    assert list(figure.layout.yaxis.ticktext) == ["L0H1", "L0 MLP", "embedding"]
    assert list(bars.x) == [-3.0, 2.0, 0.1]
    assert list(bars.error_x.array) == pytest.approx([1.0, 0.5, 0.1])
    assert bars.marker.color[2] == "#ffffff"
    assert bars.marker.color[0] != bars.marker.color[1]
    assert "3 of 4 parts" in figure.layout.title.subtitle.text
    assert "&lt;b&gt;" in viz.top_contributors(parts, title="t").layout.yaxis.ticktext


@pytest.mark.parametrize("column", ["estimate", "beyond"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(InterpError, match=f"no column '{column}'"):
        viz.projection_contrast(contrasts().drop(columns=column), nulls(), title="t")
    with pytest.raises(InterpError, match="no column 'sure'"):
        viz.projection_map(contrasts().drop(columns="sure"), title="t")
