"""Axes: each method against arithmetic by hand, scikit-learn, and a direction that was planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from interp.directions import METHODS, FitMethod, fit_direction
from interp.directions.methods import axes, class_units, lda_metric, pair_differences
from interp.errors import InterpError
from interp.models import load_model
from tests.directions.made_up import labels_of, noise, paired_groups, plant, planted, word_texts


@pytest.fixture(scope="session")
def planted_model(
    tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Any, Tensor]]:
    """``planted_model("gpt2")``: a tiny model with a planted axis (see ``plant``), and the axis."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    built: dict[str, tuple[Any, Tensor]] = {}

    def get(architecture: str) -> tuple[Any, Tensor]:
        if architecture not in built:
            model = AutoModelForCausalLM.from_pretrained(tiny_folder(architecture))
            tokenizer = AutoTokenizer.from_pretrained(tiny_folder(architecture))
            truth = plant(model, tokenizer, strength=0.8)
            folder = tmp_path_factory.mktemp(f"planted-{architecture}")
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            built[architecture] = load_model(folder), truth
        return built[architecture]

    return get


def by_hand(method: FitMethod) -> Tensor:
    """Positives (3, 0), (5, 0); negatives (0, 4), (-2, 2); two pairs."""
    values = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [5.0, 0.0], [-2.0, 2.0]]])
    return axes(method, values, labels_of(2), ["a", "a", "b", "b"])[0]


def test_the_mean_difference_by_hand() -> None:
    # means (4, 0) and (-1, 3)
    assert torch.allclose(by_hand("mean_difference"), torch.tensor([5.0, -3.0]) / 34**0.5)


def test_the_sum_of_unit_statements_by_hand() -> None:
    # unit negatives (0, 1) and (-1, 1)/sqrt 2: minus their sum
    expected = -torch.tensor([-(0.5**0.5), 1 + 0.5**0.5])
    assert torch.allclose(by_hand("statements"), expected / expected.norm())


@pytest.mark.parametrize("method", ["statements", "statements_last"])
def test_a_cosine_with_the_statements_axis_is_minus_the_mean_immorality(method: FitMethod) -> None:
    values, labels = noise(3, 24, 10) + 0.3, labels_of(12)
    vectors = axes(method, values, labels, [str(k) for k in range(24)])
    states = noise(3, 7, 10, seed=1)
    negatives = values[-1:].expand(3, -1, -1) if method == "statements_last" else values
    immorality = cosine_similarity(states[:, :, None], negatives[:, None, ~labels], dim=-1).mean(-1)
    ratio = cosine_similarity(states, vectors[:, None], dim=-1) / -immorality
    assert bool((ratio > 0).all())
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3)


def test_the_statements_of_the_last_layer_are_read_at_every_layer() -> None:
    values, labels = noise(4, 20, 6), labels_of(10)
    groups = [str(k) for k in range(20)]
    last = axes("statements_last", values, labels, groups)
    assert torch.equal(last, axes("statements", values, labels, groups)[-1:].expand(4, -1))


@pytest.mark.parametrize(("n_pairs", "d_model"), [(10, 40), (40, 12)], ids=["n < d", "n > d"])
class TestLda:
    def states(self, n_pairs: int, d_model: int) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Correlated states, labels, Ledoit and Wolf's shrinkage and the ridge it comes to."""
        values, _ = planted(n_pairs, strength=0.7, d_model=d_model, layers=1)
        mixing = noise(d_model, d_model, seed=3) / d_model**0.5 + torch.eye(d_model)
        states = (values[0] @ mixing).double().numpy()
        centred = states - states.mean(0)
        shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
        ridge = shrinkage * np.trace(centred.T @ centred) / len(states) / d_model
        return states, labels_of(n_pairs).numpy(), float(shrinkage), ridge

    def axis(self, states: np.ndarray, labels: np.ndarray) -> np.ndarray:
        values = torch.tensor(states, dtype=torch.float32)[None]
        groups = [str(k) for k in range(len(states))]
        return axes("lda", values, torch.from_numpy(labels), groups)[0].double().numpy()

    def test_it_solves_the_shrunk_total_covariance(self, n_pairs: int, d_model: int) -> None:
        states, labels, s, ridge = self.states(n_pairs, d_model)
        centred = states - states.mean(0)
        shrunk = (1 - s) * centred.T @ centred / len(states) + ridge * np.eye(d_model)
        solved = np.linalg.solve(shrunk, states[labels].mean(0) - states[~labels].mean(0))
        assert 0.01 < s < 0.99
        assert np.allclose(self.axis(states, labels), solved / np.linalg.norm(solved), atol=1e-4)

    def test_it_is_scikit_learns_discriminant_with_the_same_ridge(
        self, n_pairs: int, d_model: int
    ) -> None:
        states, labels, s, ridge = self.states(n_pairs, d_model)

        class SameRidge:
            """Covariance within a class, shrunk as the total one was."""

            def fit(self, X: np.ndarray) -> SameRidge:
                # LDA standardises a class before it asks for its covariance: only its mean is off
                self.covariance_ = (1 - s) * np.cov(X.T, bias=True) + ridge * np.eye(d_model)
                return self

        lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=SameRidge())
        found = lda.fit(states, labels).coef_[0]
        assert np.allclose(self.axis(states, labels), found / np.linalg.norm(found), atol=1e-4)

    def test_the_metric_is_the_inverse_in_the_space_of_the_states(
        self, n_pairs: int, d_model: int
    ) -> None:
        states, _, s, ridge = self.states(n_pairs, d_model)
        centred = states - states.mean(0)
        shrunk = (1 - s) * centred.T @ centred / len(states) + ridge * np.eye(d_model)
        metric = lda_metric(torch.tensor(centred, dtype=torch.float32)[None])[0].double().numpy()
        contrasts = np.random.default_rng(0).normal(size=(len(states), 3))
        primal = np.linalg.solve(shrunk, centred.T @ contrasts)
        dual = centred.T @ (metric @ contrasts)
        assert np.allclose(dual, primal, atol=1e-4 * np.abs(primal).max())


def test_logistic_regression_is_scikit_learns_with_the_standardisation_undone() -> None:
    values, _ = planted(20, strength=0.5, d_model=8)
    values = values * torch.logspace(-2, 2, 8)  # dimensions of very different spread
    labels = labels_of(20)
    found = axes("logistic_regression", values, labels, [str(k) for k in range(40)])
    for vector, states in zip(found, values.double().numpy(), strict=True):
        spread = states.std(0)
        model = LogisticRegression(C=0.01, max_iter=5000).fit(
            StandardScaler().fit_transform(states), labels.numpy()
        )
        expected = torch.tensor(model.coef_[0] / spread)
        assert float(cosine_similarity(vector.double(), expected, dim=0)) > 1 - 1e-6
        # the same ranking of the states as the classifier's own
        own = model.decision_function((states - states.mean(0)) / spread)
        assert np.corrcoef(own, states @ vector.double().numpy())[0, 1] > 1 - 1e-6


def test_pca_is_scikit_learns_on_pair_differences_of_both_signs() -> None:
    values, _ = planted(15, strength=1.0, d_model=6)
    labels, groups = labels_of(15), paired_groups(15)
    found = axes("pca", values, labels, groups)
    for vector, states in zip(found, values, strict=True):
        differences = (states[0::2] - states[1::2]).double().numpy()
        pca = PCA(n_components=1).fit(np.concatenate([differences, -differences]))
        cosine = float(vector.double() @ torch.tensor(pca.components_[0]))
        assert abs(cosine) > 1 - 1e-6
        assert float(vector @ (states[labels].mean(0) - states[~labels].mean(0))) > 0


def test_pca_takes_its_sign_from_the_labels() -> None:
    values, _ = planted(15, strength=2.0, d_model=6)
    labels, groups = labels_of(15), paired_groups(15)
    one, other = (axes("pca", values, chosen, groups) for chosen in (labels, ~labels))
    assert torch.allclose(one, -other, atol=1e-6)


def test_the_difference_of_a_group_of_four_is_that_of_its_means() -> None:
    values = torch.tensor([[[1.0], [5.0], [2.0], [7.0], [9.0], [4.0], [100.0]]])
    labels = torch.tensor([True, True, False, False, True, False, True])
    groups = ["quad"] * 4 + ["pair"] * 2 + ["alone"]
    assert pair_differences(values, labels, groups).tolist() == [[[3 - 4.5], [9.0 - 4]]]


def test_pca_refuses_texts_that_are_not_paired() -> None:
    with pytest.raises(InterpError, match=r"pca needs groups with both labels .* found 0"):
        axes("pca", noise(1, 8, 4), labels_of(4), [str(k) for k in range(8)])
    with pytest.raises(InterpError, match="found 1"):
        axes("pca", noise(1, 8, 4), labels_of(4), ["a", "a", *"bcdefg"])


@pytest.mark.parametrize("method", METHODS)
def test_equal_states_are_refused_with_the_layer_whatever_rounding_does(method: FitMethod) -> None:
    values = noise(2, 20, 5)
    values[1] = torch.tensor([0.1, 0.7, -3.3, 1e4, 1e-3])  # means over 7 and 13 differ by rounding
    labels = torch.arange(20) % 3 == 0
    groups = [str(k // 4) for k in range(20)]
    with pytest.raises(InterpError, match=rf"{method} finds no direction at layer row 1: both"):
        axes(method, values, labels, groups)


@pytest.mark.parametrize("method", ["pca", "mean_difference", "lda"])
def test_pairs_of_equal_states_have_no_direction(method: FitMethod) -> None:
    values = noise(1, 6, 5).repeat_interleave(2, dim=1)
    with pytest.raises(InterpError, match=r"layer row 0: both classes have the same mean"):
        axes(method, values, labels_of(6), paired_groups(6))


def test_an_unknown_method_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the check a user meets
    with pytest.raises(InterpError, match="no method 'probe'; known: mean_difference, logistic"):
        axes("probe", noise(1, 4, 2), labels_of(2), list("aabb"))  # type: ignore[arg-type]


def test_class_units_put_the_means_at_plus_and_minus_one() -> None:
    values, labels = noise(3, 20, 6) + 4, labels_of(10)
    vectors = normalize(noise(3, 6, seed=2), dim=-1)
    scale, offset = class_units(values, labels, vectors)
    units = (torch.einsum("lpd,ld->lp", values, vectors) - offset[:, None]) / scale[:, None]
    means = torch.stack([units[:, labels].mean(1), units[:, ~labels].mean(1)])
    assert bool((scale > 0).all())
    assert torch.allclose(means.abs(), torch.ones(2, 3), atol=1e-3)
    assert torch.allclose(means[0], -means[1], atol=1e-3)


def test_an_axis_on_which_the_negatives_lie_higher_is_not_turned() -> None:
    values = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    scale, offset = class_units(values, labels_of(1), torch.tensor([[1.0, 0.0]]))
    assert (scale.tolist(), offset.tolist()) == ([1.0], [2.0])  # the positive class is at -1


def test_an_axis_that_does_not_tell_the_classes_apart_has_no_units() -> None:
    values = torch.tensor([[[1.0, 0.0], [1.0, 5.0]]])
    with pytest.raises(InterpError, match="same mean along the axis at layer row 0"):
        class_units(values, labels_of(1), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("method", METHODS)
def test_a_direction_planted_in_states_is_found_by_every_method(method: FitMethod) -> None:
    """Statements point along their mean: they need states whose mean is the midpoint."""
    mean = 0.0 if method.startswith("statements") else 5.0
    values, truth = planted(300, strength=2.0, mean=mean)
    if method == "statements_last":
        truth = truth[-1:].expand(2, -1)
    found = axes(method, values, labels_of(300), paired_groups(300))
    assert float(cosine_similarity(found, truth).min()) > 0.95
    assert torch.allclose(found.norm(dim=-1), torch.ones(2), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("method", ["mean_difference", "logistic_regression", "lda", "pca"])
def test_a_direction_planted_in_a_model_is_found_at_layer_0(
    planted_model: Any, architecture: str, method: FitMethod
) -> None:
    """Two groups of words get + or - of one axis in their embeddings; attention carries it on."""
    model, truth = planted_model(architecture)
    texts = word_texts(model.tokenizer, n_pairs=300)
    for site in ("attn_out", "resid_post"):
        stack = fit_direction(model, texts, method=method, site=site, n_shuffles=0, progress=False)
        assert float(stack[0].vector @ truth) > 0.95, site
        assert float(np.asarray(stack.auc.estimate)[0]) > 0.95
