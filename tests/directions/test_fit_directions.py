"""Several methods at several sites: each as if fitted alone, with the controls beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interp.activations import Site
from interp.data import load_texts
from interp.data.items import LabelledText
from interp.directions import (
    METHODS,
    DirectionFits,
    FitMethod,
    fit_direction,
    fit_directions,
    word_baselines,
)
from interp.errors import InterpError
from tests.directions.made_up import paired_texts

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

TEXTS = load_texts("bundled:morality")[:40]
MADE: tuple[FitMethod, ...] = ("mean_difference", "pca", "statements_last")
AT: tuple[Site, ...] = ("resid_post", "attn_out")


@pytest.fixture(scope="module")
def fits(tiny_model: Any) -> DirectionFits:
    return fit_directions(
        tiny_model, TEXTS, methods=MADE, sites=AT, n_shuffles=9, seed=2, progress=False
    )


def test_each_is_the_direction_that_is_fitted_alone(fits: DirectionFits, tiny_model: Any) -> None:
    assert list(fits.stacks) == [(method, site) for method in MADE for site in AT]
    for (method, site), stack in fits.stacks.items():
        alone = fit_direction(
            tiny_model, TEXTS, method=method, site=site, n_shuffles=9, seed=2, progress=False
        )
        assert torch.allclose(stack.vectors, alone.vectors, atol=1e-5)
        assert np.allclose(np.asarray(stack.auc.estimate), np.asarray(alone.auc.estimate))
        assert stack.facts == alone.facts
        if stack.shuffled.n_shuffles:
            assert np.allclose(stack.shuffled.p, alone.shuffled.p, equal_nan=True)


def test_the_methods_without_a_closed_form_are_shuffled_at_their_best_place(
    fits: DirectionFits,
) -> None:
    for method in MADE:
        best = fits.best_site(method)
        top = {site: np.max(np.asarray(fits[method, site].auc.estimate)) for site in AT}
        assert top[best] == max(top.values())
        for site in AT:
            shuffled = ~np.isnan(fits[method, site].shuffled.p)
            if method == "mean_difference":
                assert shuffled.all()
            elif site == best:
                assert np.flatnonzero(shuffled).tolist() == [fits[method, site].best_layer]
            else:
                assert not shuffled.any()


def test_the_controls_are_those_of_the_same_texts(fits: DirectionFits) -> None:
    assert fits.baselines == word_baselines(TEXTS, seed=2)
    counts = fits.nulls.groupby(["site", "null"]).size()
    assert counts.to_dict() == {
        (site, null): n
        for site in AT
        for null, n in (("covariance", 4 * 100), ("contrast", 4 * 12 * len(MADE)))
    }
    assert fits.nulls["auc"].between(0, 1).all()


def test_tables_name_every_cell_and_the_best_of_each(fits: DirectionFits) -> None:
    frame = fits.to_dataframe()
    assert len(frame) == len(MADE) * len(AT) * 4
    best = fits.best
    assert len(best) == len(MADE) * len(AT)
    assert best["auc"].is_monotonic_decreasing
    for row in best.itertuples():
        assert row.layer == fits[row.method, row.site].best_layer
    assert len(list(fits)) == len(fits.stacks)
    html = fits._repr_html_()
    assert "bag of words" in html
    assert html.count("<tr") == 1 + len(best)


def test_what_was_not_fitted_is_named(fits: DirectionFits) -> None:
    with pytest.raises(InterpError, match=r"no lda at mlp_out; fitted: mean_difference at resid_"):
        fits["lda", "mlp_out"]


def test_nothing_to_fit_is_refused(tiny_model: Any) -> None:
    with pytest.raises(InterpError, match="no methods or sites to fit"):
        fit_directions(tiny_model, TEXTS, methods=[], progress=False)
    with pytest.raises(InterpError, match="no methods or sites to fit"):
        fit_directions(tiny_model, TEXTS, sites=[], progress=False)


def test_texts_without_pairs_are_refused_by_pca_alone(tiny_model: Any) -> None:
    texts = [
        LabelledText(t.text, t.label, f"own {k}", t.source) for k, t in enumerate(paired_texts(10))
    ]
    with pytest.raises(InterpError, match="pca needs groups with both labels"):
        fit_directions(tiny_model, texts, sites=["attn_out"], n_shuffles=2, progress=False)
    others = [method for method in METHODS if method != "pca"]
    fits = fit_directions(
        tiny_model, texts, methods=others, sites=["attn_out"], n_shuffles=2, progress=False
    )
    assert len(list(fits)) == len(others)
