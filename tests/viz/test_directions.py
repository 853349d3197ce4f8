"""Figures of directions: they draw the numbers they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp import viz
from interp.data import load_texts
from interp.directions import DirectionFits, Transfer, fit_directions

pytestmark = pytest.mark.slow  # left out of the everyday tests


@pytest.fixture(scope="module")
def fits(tiny_model: Any) -> DirectionFits:
    return fit_directions(
        tiny_model,
        load_texts("bundled:morality", limit=40),
        methods=["mean_difference", "lda"],
        sites=["resid_post", "mlp_out"],
        n_shuffles=9,
        progress=False,
    )


def named(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def test_scores_have_one_line_per_method_and_site_on_the_shuffled_band(fits: DirectionFits) -> None:
    figure = viz.direction_scores(fits)
    lines = named(figure, "LDA")
    assert [len(line.x) for line in lines] == [4, 4]
    assert [line.showlegend for line in lines] == [True, False]
    np.testing.assert_array_equal(lines[0].y, fits["lda", "resid_post"].auc.estimate)
    assert len([t for t in figure.data if t.fill == "toself"]) == 2


def test_nulls_turn_every_contrast_to_its_better_side(fits: DirectionFits) -> None:
    figure = viz.direction_nulls(fits, "lda", "mlp_out")
    contrasts = named(figure, "non-moral contrasts")
    assert len(contrasts) == 12
    assert all(np.min(line.y) >= 0.5 for line in contrasts)
    assert figure.layout.title.text == "LDA at mlp_out, against null directions"
    np.testing.assert_array_equal(named(figure, "LDA")[0].y, fits["lda", "mlp_out"].auc.estimate)


def test_cosines_show_the_methods_at_a_layer_and_neighbouring_layers(fits: DirectionFits) -> None:
    figure = viz.direction_cosines(fits, "resid_post", 2)
    matrix = next(trace for trace in figure.data if trace.type == "heatmap")
    a, b = (fits[m, "resid_post"].vectors for m in ("mean_difference", "lda"))
    assert matrix.z[0][1] == pytest.approx(float(a[2] @ b[2]), abs=1e-6)
    np.testing.assert_allclose(np.diag(matrix.z), 1, atol=1e-5)
    (line,) = named(figure, "LDA")
    assert list(line.x) == [1, 2, 3]
    assert line.y[0] == pytest.approx(float(b[1] @ b[0]), abs=1e-6)


def test_the_transfer_heatmap_holds_both_readers() -> None:
    frame = pd.DataFrame(
        [
            {
                "trained_on": a,
                "tested_on": b,
                "reader": r,
                "layer": 3,
                "auc": v,
                "auc_low": v,
                "auc_high": v,
            }
            for r, table in (
                ("direction", [[0.7, 0.2], [0.6, 0.8]]),
                ("bag of words", [[0.5] * 2] * 2),
            )
            for a, row in zip("xy", table, strict=True)
            for b, v in zip("xy", row, strict=True)
        ]
    )
    figure = viz.transfer_heatmap(Transfer(frame, "lda", "mlp_out"))
    left, right = figure.data
    np.testing.assert_array_equal(left.z, [[0.7, 0.2], [0.6, 0.8]])
    np.testing.assert_array_equal(right.z, [[0.5, 0.5], [0.5, 0.5]])
    assert (left.zmin, left.zmax) == (0, 1)
