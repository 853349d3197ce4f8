"""Null directions: the covariance they are drawn with, placebos by hand, non-moral contrasts."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from interp.activations import States
from interp.data.bundle import bundled_categories
from interp.directions import (
    FitMethod,
    contrast_directions,
    covariance_nulls,
    fit_direction,
    placebo_nulls,
)
from interp.directions.nulls import contrast_axes, null_aucs
from interp.errors import InterpError
from tests.directions.made_up import labels_of, noise

CONTRASTS = {
    "tense", "number", "topic", "sentiment", "formality", "size", "place", "animacy", "daytime",
    "sense", "voice", "person",
}  # fmt: skip


def test_random_directions_lie_along_the_axes_of_large_variance() -> None:
    """Of unit vectors u = g / |g|, g ~ N(0, C), the mean of u u' has C's axes and its order."""
    spread = torch.tensor([4.0, 2.0, 1.0, 0.5])
    states = noise(3000, 4) * spread + 100.0  # a far mean is no part of the covariance
    drawn = covariance_nulls(states, 4000, seed=1)
    second_moment = (drawn.T @ drawn / len(drawn)).double()
    gaussian = noise(200_000, 4, seed=9) * spread
    expected = (gaussian / gaussian.norm(dim=1, keepdim=True)).double()
    expected = expected.T @ expected / len(expected)
    assert torch.allclose(second_moment, expected, atol=0.03)
    assert drawn.mean(0).abs().max() < 0.05  # neither sign is preferred


def test_before_their_length_is_taken_off_the_drawn_have_the_covariance_of_the_states() -> None:
    """The whitened directions are isotropic if and only if the covariance is that of the states."""
    states = noise(12, 5) @ noise(5, 5, seed=2)
    centred = states - states.mean(0)
    drawn = covariance_nulls(states, 20_000)
    whitened = drawn @ torch.linalg.inv(torch.linalg.cholesky(centred.T @ centred).T)
    unit = torch.nn.functional.normalize(whitened, dim=1)
    assert torch.allclose(unit.T @ unit / len(unit), torch.eye(5) / 5, atol=0.01)


def test_random_directions_stay_in_the_span_of_the_centred_states() -> None:
    states = noise(2, 6, 20)
    drawn = covariance_nulls(states, 30)
    centred = states - states.mean(1, keepdim=True)
    for layer in range(2):
        rank = torch.linalg.matrix_rank(torch.cat([centred[layer], drawn[layer]]), rtol=1e-4)
        assert int(rank) == 5


def test_the_same_combinations_are_drawn_at_every_layer() -> None:
    states = noise(50, 8)
    both = covariance_nulls(torch.stack([states, 3 * states + 7, -states]), 6, seed=2)
    alone = covariance_nulls(states, 6, seed=2)
    assert both.shape == (3, 6, 8)
    for layer, sign in enumerate([1, 1, -1]):
        assert torch.allclose(both[layer], sign * alone, atol=1e-5)
    assert torch.allclose(both.norm(dim=-1), torch.ones(3, 6), atol=1e-6)
    assert not torch.allclose(alone, covariance_nulls(states, 6, seed=3))
    with pytest.raises(InterpError, match="1 states have no covariance"):
        covariance_nulls(states[:1], 2)


def test_placebo_differences_by_hand() -> None:
    # means over prompts: (1, 0), (1, 3), (5, 3)
    texts = torch.tensor([
        [[0.0, 0.0], [2.0, 0.0]],
        [[1.0, 2.0], [1.0, 4.0]],
        [[4.0, 3.0], [6.0, 3.0]],
    ])  # fmt: skip
    expected = torch.tensor([[0.0, -1.0], [-0.8, -0.6], [-1.0, 0.0]])
    assert torch.allclose(placebo_nulls(texts), expected)
    assert torch.allclose(placebo_nulls(texts[None].expand(2, -1, -1, -1))[1], expected)
    assert placebo_nulls(noise(4, 5, 7, 3)).shape == (4, len(list(combinations(range(5), 2))), 3)
    with pytest.raises(InterpError, match="1 placebo text makes no difference"):
        placebo_nulls(texts[:1])


@pytest.mark.slow
def test_there_are_twelve_contrasts_and_each_is_the_fit_of_its_own_texts(tiny_model: Any) -> None:
    from interp.data import load_texts

    found = contrast_directions(tiny_model, progress=False)
    assert set(found) == CONTRASTS == set(bundled_categories("contrasts"))
    for stack in found.values():
        assert (stack.site, stack.facts.method, stack.facts.n_texts) == (
            "resid_post", "mean_difference", 48,
        )  # fmt: skip
        assert stack.shuffled.n_shuffles == 0
    tense = fit_direction(
        tiny_model, load_texts("bundled:contrasts:tense"), n_shuffles=0, progress=False
    )
    assert torch.equal(found["tense"].vectors, tense.vectors)
    assert torch.equal(found["tense"].scales, tense.scales)
    assert np.array_equal(np.asarray(found["tense"].auc.low), np.asarray(tense.auc.low))


@pytest.mark.slow
def test_the_axes_of_contrasts_are_the_directions_of_contrasts(tiny_model: Any) -> None:
    methods: list[FitMethod] = ["mean_difference", "pca"]
    found = contrast_axes(
        tiny_model, sites=["attn_out", "resid_post"], methods=methods, progress=False
    )
    assert len(found) == 12 * 2 * 2
    directions = contrast_directions(tiny_model, site="attn_out", method="pca", progress=False)
    for name, stack in directions.items():
        cosines = (found[name, "pca", "attn_out"] * stack.vectors).sum(-1)
        assert torch.allclose(cosines, torch.ones(4), atol=1e-4)


def test_aucs_of_nulls_have_a_row_each_and_the_labels_own_direction_its_own_auc() -> None:
    values, labels = noise(2, 20, 6), labels_of(10)
    states = States(values, (1, 3), "mlp_out")
    own = torch.nn.functional.normalize(values[:, labels].mean(1) - values[:, ~labels].mean(1))
    contrasts: Any = {
        ("labels", "mean_difference", "mlp_out"): own,
        ("opposite", "lda", "mlp_out"): -own,
        ("elsewhere", "lda", "resid_post"): own,
    }
    frame = null_aucs(states, labels, contrasts, n_random=5, seed=3)
    assert list(frame.columns) == ["site", "layer", "null", "method", "name", "auc"]
    assert len(frame) == 2 * (5 + 2)
    assert set(frame["site"]) == {"mlp_out"}
    assert "elsewhere" not in set(frame["name"])
    for row, layer in enumerate((1, 3)):
        auc = roc_auc_score(labels, values[row] @ own[row])
        at_layer = frame[frame["layer"] == layer].set_index("name")
        assert at_layer.loc["labels", "auc"] == pytest.approx(auc)
        assert at_layer.loc["opposite", "auc"] == pytest.approx(1 - auc)
        assert at_layer.loc["opposite", "method"] == "lda"
        random = covariance_nulls(values, 5, seed=3)[row, 2]
        assert at_layer.loc["2", "auc"] == pytest.approx(
            roc_auc_score(labels, values[row] @ random)
        )
        assert at_layer.loc["2", ["null", "method"]].tolist() == ["covariance", ""]
