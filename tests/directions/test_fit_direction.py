"""Fitting: the arithmetic on constructed states, the held-out score, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold
from torch import Tensor

from interp.activations import States, read_states
from interp.data import load_texts
from interp.data.items import LabelledText
from interp.directions import DirectionStack, fit_direction, sentence_ids
from interp.errors import InterpError
from tests.directions.made_up import paired_texts, planted

N_GROUPS = 40


def states_of(
    texts: list[LabelledText], *, strength: float, seed: int = 0
) -> tuple[States, Tensor]:
    """Planted states at layers 1 and 3 for texts whose labels alternate, and the axes."""
    values, truth = planted(len(texts) // 2, strength=strength, seed=seed)
    return States(values, (1, 3), "resid_post"), truth


@pytest.fixture
def fit_states(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DirectionStack]:
    """``fit_states(states, texts)``: fit on constructed states in place of the model's."""

    def fit(states: States, texts: list[LabelledText], **options: Any) -> DirectionStack:
        monkeypatch.setattr(
            "interp.directions.fitting.read_sites", lambda *_, **__: {states.site: states}
        )
        options = {"n_shuffles": 0, "progress": False, **options}
        return fit_direction(tiny_model, texts, **options)

    return fit


def test_a_planted_direction_is_found_with_its_sign(fit_states: Callable[..., Any]) -> None:
    texts = paired_texts(N_GROUPS)
    states, axes = states_of(texts, strength=3.0)
    stack = fit_states(states, texts)
    cosines = (stack.vectors * axes).sum(dim=1)
    assert torch.allclose(stack.vectors.norm(dim=1), torch.ones(2), atol=1e-6)
    assert bool((cosines > 0.95).all())
    assert bool((stack.scales > 0).all())
    assert (stack.layers, stack.site, stack.facts.n_texts) == ((1, 3), "resid_post", len(texts))
    assert bool((np.asarray(stack.auc.estimate) > 0.99).all())


def test_the_class_means_lie_at_plus_and_minus_one(fit_states: Callable[..., Any]) -> None:
    texts = paired_texts(N_GROUPS)
    states, _ = states_of(texts, strength=1.0)
    projections = fit_states(states, texts).project(states)
    positive = torch.tensor([text.label == 1 for text in texts])
    assert torch.allclose(projections[:, positive].mean(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(projections[:, ~positive].mean(dim=1), -torch.ones(2), atol=1e-5)


def test_a_difference_of_means_by_hand(fit_states: Callable[..., Any]) -> None:
    # positives at (3, 0) and (5, 0), negatives at (0, 0) and (-2, 2): means (4, 0) and (-1, 1)
    values = torch.tensor([[[3.0, 0.0], [0.0, 0.0], [5.0, 0.0], [-2.0, 2.0]]])
    texts = paired_texts(2)
    direction = fit_states(States(values, (0,), "mlp_out"), texts, n_folds=2, site="mlp_out")[0]
    norm = 26**0.5
    assert torch.allclose(direction.vector, torch.tensor([5.0, -1.0]) / norm)
    assert direction.scale == pytest.approx(norm / 2)
    assert direction.offset == pytest.approx((1.5 * 5 - 0.5) / norm)
    assert float(direction.project(torch.tensor([4.0, 0.0]))) == pytest.approx(1.0)
    assert direction.project(values[0]).mean().item() == pytest.approx(0.0, abs=1e-6)


def test_flipped_labels_flip_the_vector_and_keep_scale_and_score(
    fit_states: Callable[..., Any],
) -> None:
    texts = paired_texts(N_GROUPS)
    flipped = [LabelledText(t.text, 1 - t.label, t.group, t.source) for t in texts]
    states, _ = states_of(texts, strength=0.5)
    one, other = fit_states(states, texts), fit_states(states, flipped)
    assert torch.equal(other.vectors, -one.vectors)
    assert torch.equal(other.offsets, -one.offsets)
    assert torch.equal(other.scales, one.scales)
    assert np.allclose(other.auc.estimate, one.auc.estimate)
    assert other.facts.data_hash != one.facts.data_hash


def test_the_held_out_auc_of_noise_is_near_one_half(fit_states: Callable[..., Any]) -> None:
    texts = paired_texts(60)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(16, len(texts), 24, generator=generator)
    stack = fit_states(States(values, tuple(range(16)), "resid_post"), texts)
    # told apart by directions scored on their own training data, but not when held out
    own = stack.project(States(values, tuple(range(16)), "resid_post"))
    positive = torch.tensor([text.label == 1 for text in texts])
    assert bool((own[:, positive].mean(1) > own[:, ~positive].mean(1)).all())
    assert float(np.mean(stack.auc.estimate)) == pytest.approx(0.5, abs=0.04)
    intervals = [stack.auc.at(layer) for layer in range(16)]
    assert sum(not auc.excludes(0.5) for auc in intervals) >= 12
    assert {(auc.n, auc.n_clusters) for auc in intervals} == {(120, 60)}


class SpyFolds(GroupKFold):
    """GroupKFold that remembers its splits."""

    seen: list[tuple[set[str], set[str]]] = []  # noqa: RUF012

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        names = np.asarray(groups)
        for train, test in super().split(X, y, groups):
            self.seen.append((set(names[train]), set(names[test])))
            yield train, test


def test_a_group_never_stands_on_both_sides_of_a_fold(
    fit_states: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.directions.scores.GroupKFold", SpyFolds)
    monkeypatch.setattr(SpyFolds, "seen", [])
    texts = [t for k, t in enumerate(paired_texts(N_GROUPS)) if k % 5]  # groups of uneven size
    states, _ = states_of(texts, strength=1.0)
    fit_states(states, texts, n_folds=4)
    assert len(SpyFolds.seen) >= 4
    assert all(not train & test for train, test in SpyFolds.seen)
    assert set.union(*(test for _, test in SpyFolds.seen)) == {t.group for t in texts}


def test_the_held_out_score_knows_nothing_of_the_fold_it_scores(
    fit_states: Callable[..., Any],
) -> None:
    """More dimensions than texts: in-sample scores are perfect, held-out ones are chance."""
    texts = paired_texts(60)
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(1, len(texts), 2000, generator=generator)
    states = States(values, (0,), "resid_post")
    stack = fit_states(states, texts)
    positive = torch.tensor([text.label == 1 for text in texts])
    own = stack.project(states)[0]
    assert float(own[positive].min()) > float(own[~positive].max())
    assert 0.3 < float(stack.auc.at(0).estimate) < 0.7


def test_same_seed_same_bytes_in_the_file(tiny_model: Any, tmp_path: Path) -> None:
    texts = load_texts("bundled:morality")[:40]
    files = [
        fit_direction(tiny_model, texts, seed=3, progress=False).save(tmp_path / name).read_bytes()
        for name in ("one", "two")
    ]
    assert files[0] == files[1]


@pytest.mark.slow
def test_a_fit_on_a_model_uses_the_last_token_of_every_sentence(tiny_model: Any) -> None:
    texts = load_texts("bundled:morality")[:40]
    stack = fit_direction(tiny_model, texts, site="resid_mid", progress=False)
    ids = [
        torch.tensor([0, *tiny_model.tokenizer(t.text, add_special_tokens=False)["input_ids"]])
        for t in texts
    ]
    caches = [tiny_model.run_with_cache(sequence[None])[1] for sequence in ids]
    labels = torch.tensor([t.label for t in texts]) == 1
    for layer in range(4):
        name = f"blocks.{layer}.hook_resid_mid"
        rows = torch.stack([cache[name][0, -1].detach() for cache in caches])
        difference = rows[labels].mean(0) - rows[~labels].mean(0)
        assert torch.allclose(stack.vectors[layer], difference / difference.norm(), atol=1e-4)
        assert float(stack.scales[layer]) == pytest.approx(float(difference.norm()) / 2, rel=1e-4)


def test_projections_refuse_states_of_another_site_or_other_layers(
    fit_states: Callable[..., Any],
) -> None:
    texts = paired_texts(N_GROUPS)
    states, _ = states_of(texts, strength=1.0)
    stack = fit_states(states, texts)
    with pytest.raises(InterpError, match="states of mlp_out at 2 layers do not fit a direction"):
        stack.project(States(states.values, (1, 3), "mlp_out"))
    with pytest.raises(InterpError, match="do not fit a direction"):
        stack.project(States(states.values[:1], (1,), "resid_post"))


def test_the_best_layer_has_the_highest_held_out_score(fit_states: Callable[..., Any]) -> None:
    texts = paired_texts(N_GROUPS)
    weak, _ = states_of(texts, strength=0.3)
    strong, _ = states_of(texts, strength=3.0)
    both = States(torch.cat([weak.values[:1], strong.values[:1]]), (1, 3), "resid_post")
    stack = fit_states(both, texts)
    assert stack.best_layer == 3
    assert [direction.layer for direction in stack] == [1, 3]
    assert len(stack) == 2
    frame = stack.to_dataframe()
    assert frame["layer"].tolist() == [1, 3]
    assert bool((frame["auc_low"] <= frame["auc"]).all())
    with pytest.raises(InterpError, match=r"no direction at layer 0; fitted at \[1, 3\]"):
        stack[0]


def test_one_label_only_is_refused(tiny_model: Any) -> None:
    texts = [LabelledText(f"text {k}", 1, f"g{k}", "s") for k in range(8)]
    with pytest.raises(InterpError, match="8 texts with one label only: both labels are needed"):
        fit_direction(tiny_model, texts, progress=False)
    with pytest.raises(InterpError, match="0 texts with one label only"):
        fit_direction(tiny_model, [], progress=False)


@pytest.mark.parametrize("n_folds", [1, 5])
def test_folds_need_as_many_groups(tiny_model: Any, n_folds: int) -> None:
    with pytest.raises(InterpError, match=f"n_folds is {n_folds}: .* number of groups, 4"):
        fit_direction(tiny_model, paired_texts(4), n_folds=n_folds, progress=False)


def test_a_fold_that_would_train_on_one_label_is_refused(fit_states: Callable[..., Any]) -> None:
    texts = [LabelledText(f"text {k}", int(k == 0), f"g{k}", "s") for k in range(10)]
    states, _ = states_of(texts, strength=1.0)
    with pytest.raises(InterpError, match="one of 5 folds leaves texts of one label only"):
        fit_states(states, texts)


def test_equal_class_means_are_refused_with_the_layer(fit_states: Callable[..., Any]) -> None:
    texts = paired_texts(5)
    states = States(torch.ones(2, len(texts), 3), (0, 1), "resid_post")
    states.values[0, 0] = 2.0
    with pytest.raises(InterpError, match="layer row 1: both classes have the same mean"):
        fit_states(states, texts)


def test_an_unknown_method_is_refused(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the check a user meets
    with pytest.raises(InterpError, match="no method 'probe'; known: mean_difference"):
        fit_direction(tiny_model, paired_texts(N_GROUPS), method="probe", progress=False)  # type: ignore[arg-type]


def test_sources_of_mixed_texts_are_all_named(tiny_model: Any) -> None:
    moral, tense = load_texts("bundled:morality")[:16], load_texts("bundled:contrasts:tense")[:16]
    stack = fit_direction(tiny_model, [*moral, *tense], n_folds=2, progress=False)
    assert stack.facts.source == f"{moral[0].source}, {tense[0].source}"


def test_fitted_projections_agree_with_states_read_again(tiny_model: Any) -> None:
    texts = load_texts("bundled:morality")[:40]
    stack = fit_direction(tiny_model, texts, progress=False)
    states = read_states(tiny_model, sentence_ids(tiny_model, texts), progress=False)
    labels = torch.tensor([text.label == 1 for text in texts])
    projections = stack.project(states)
    assert torch.allclose(projections[:, labels].mean(1), torch.ones(4), atol=1e-4)
    assert torch.allclose(projections[:, ~labels].mean(1), -torch.ones(4), atol=1e-4)
