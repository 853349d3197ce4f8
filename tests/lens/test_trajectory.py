"""Logit lens: the last layer is the model's output, the others are TransformerLens's readings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformer_lens.tools.analysis import logit_lens

from interp.data import load_items
from interp.errors import InterpError
from interp.lens import LensTrajectory, lens_logits, lens_prompt, lens_trajectory
from interp.models import load_model
from interp.prompts import MarginTarget, PromptPair, make_pair
from tests.matrix.measure import build_folder

MODELS = [
    ("gpt2", False),
    ("llama", False),
    ("gemma2", False),
    ("gemma3", False),
    ("neox", False),
    ("opt", False),
    ("gpt2", True),
    ("qwen2", True),
    ("gemma2", True),
    ("phi", True),
]
TARGET = (20, 90)


@pytest.fixture(params=MODELS, ids=lambda p: f"{p[0]}-{'compatibility' if p[1] else 'raw'}")
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    architecture, compatibility_mode = request.param
    return load_tiny(architecture, compatibility_mode=compatibility_mode)


def random_ids(seed: int, n: int = 11) -> Tensor:
    return torch.randint(2, 400, (n,), generator=torch.Generator().manual_seed(seed))


def pair_of(model: Any, seed: int = 0) -> PromptPair:
    return make_pair(model, random_ids(seed), random_ids(seed + 1), target=TARGET)


@torch.no_grad()
def own_logits(model: Any, ids: Tensor) -> Tensor:
    return model(ids[None])[0, -1].double()


@pytest.mark.slow
def test_the_last_layer_is_the_models_own_margin(model: Any) -> None:
    pair = pair_of(model)
    frame = lens_trajectory(model, pair, progress=False).to_dataframe()
    last = frame[frame["layer"] == model.cfg.n_layers].set_index("run")
    for run in ("source", "destination"):
        logits = own_logits(model, getattr(pair, run).ids)
        margin = float(logits[TARGET[0]] - logits[TARGET[1]])
        assert last["margin"][run] == pytest.approx(margin, abs=1e-4)
        log_probs = logits.log_softmax(-1)
        assert last["log_prob_a"][run] == pytest.approx(float(log_probs[TARGET[0]]), abs=1e-4)
        assert last["log_prob_b"][run] == pytest.approx(float(log_probs[TARGET[1]]), abs=1e-4)
        assert last["rank_a"][run] == 1 + int((logits > logits[TARGET[0]]).sum())
        assert last["rank_b"][run] == 1 + int((logits > logits[TARGET[1]]).sum())


def test_there_is_one_reading_per_layer_and_one_of_the_embedding(model: Any) -> None:
    frame = lens_trajectory(model, pair_of(model), progress=False).to_dataframe()
    assert len(frame) == 2 * (model.cfg.n_layers + 1)
    for _, run in frame.groupby("run"):
        assert run["layer"].tolist() == list(range(model.cfg.n_layers + 1))


def test_readings_equal_transformer_lens_called_directly(model: Any) -> None:
    pair = pair_of(model)
    frame = lens_trajectory(model, pair, progress=False).to_dataframe()
    for run in ("source", "destination"):
        ids = getattr(pair, run).ids[None]
        result = logit_lens(model, ids, positions=-1, return_type="log_probs")
        values = result.values.reshape(len(result.labels), -1).detach().numpy()
        mine = frame[frame["run"] == run]
        np.testing.assert_allclose(mine["log_prob_a"], values[:, TARGET[0]], atol=1e-5)
        np.testing.assert_allclose(mine["log_prob_b"], values[:, TARGET[1]], atol=1e-5)
        margin = values[:, TARGET[0]] - values[:, TARGET[1]]
        np.testing.assert_allclose(mine["margin"], margin, atol=1e-5)


@torch.no_grad()
def by_hand(model: Any, ids: Tensor) -> Tensor:
    """Logits ``[n_layers + 1, d_vocab]`` from cached states, the final norm and the unembedding."""
    _, cache = model.run_with_cache(ids[None])
    n = model.cfg.n_layers
    names = [f"blocks.{k}.hook_resid_pre" for k in range(n)] + [f"blocks.{n - 1}.hook_resid_post"]
    states = torch.stack([cache[name][0, -1] for name in names])
    logits = (model.ln_final(states[None])[0] @ model.W_U + model.b_U).double()
    cap = getattr(model.original_model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def test_every_reading_equals_norm_and_unembedding_by_hand(model: Any) -> None:
    pair = pair_of(model)
    logits = by_hand(model, pair.source.ids)
    mine = lens_prompt(model, pair.source, MarginTarget(*TARGET, "a", "b"))
    log_probs = logits.log_softmax(-1)
    margin = logits[:, TARGET[0]] - logits[:, TARGET[1]]
    np.testing.assert_allclose(mine["margin"], margin, atol=1e-4)
    for option, token in zip("ab", TARGET, strict=True):
        np.testing.assert_allclose(mine[f"log_prob_{option}"], log_probs[:, token], atol=1e-4)
        ahead = (logits > logits[:, [token]]).sum(-1).numpy()
        np.testing.assert_allclose(mine[f"rank_{option}"], 1 + ahead, atol=1)  # ties of rounding
    whole = lens_logits(model, pair.source).double().log_softmax(-1)
    np.testing.assert_allclose(whole, log_probs, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_middle_layers_equal_the_readout_by_hand_with_the_soft_cap(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    """A soft cap bends logits, so the margin is the difference after it, as in the output."""
    model = load_tiny(architecture)
    pair = pair_of(model)
    frame = lens_trajectory(model, pair, progress=False).to_dataframe()
    mine = frame[frame["run"] == "source"]["margin"].tolist()
    _, cache = model.run_with_cache(pair.source.ids[None])
    uncapped = []
    for layer in range(model.cfg.n_layers):
        state = cache[f"blocks.{layer}.hook_resid_pre"]
        logits = model.unembed(model.ln_final(state))[0, -1]
        uncapped.append(float(logits[TARGET[0]] - logits[TARGET[1]]))
        cap = getattr(model.original_model.config, "final_logit_softcapping", None)
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        expected = float(logits[TARGET[0]] - logits[TARGET[1]])
        assert mine[layer] == pytest.approx(expected, abs=1e-4)
    if architecture == "gemma2":
        assert max(abs(a - b) for a, b in zip(uncapped, mine, strict=False)) > 1e-3


def test_equal_prompts_differ_by_exactly_zero_at_every_layer(model: Any) -> None:
    ids = random_ids(0)
    pair = make_pair(model, ids, ids, target=TARGET)
    difference = lens_trajectory(model, pair, progress=False).difference()
    assert difference["difference"].tolist() == [0.0] * (model.cfg.n_layers + 1)


def test_the_difference_is_source_minus_destination_and_exchanges_sign(tiny_model: Any) -> None:
    pair = pair_of(tiny_model)
    one = lens_trajectory(tiny_model, pair, progress=False)
    other = lens_trajectory(tiny_model, pair.swap(), progress=False).difference()
    frame = one.to_dataframe().set_index(["run", "layer"])["margin"]
    expected = (frame["source"] - frame["destination"]).to_numpy()
    np.testing.assert_allclose(one.difference()["difference"], expected)
    np.testing.assert_allclose(other["difference"], -expected)


def test_several_pairs_of_items_keep_their_items_conditions_and_clusters(tiny_model: Any) -> None:
    items = load_items("bundled:choices", limit=2, seed=0)
    pairs = [
        make_pair(tiny_model, items[0], "instructed"),
        make_pair(tiny_model, items[1], "negated", against="clean"),
    ]
    trajectory = lens_trajectory(tiny_model, pairs, progress=False)
    frame = trajectory.to_dataframe()
    assert len(frame) == 2 * 2 * 5
    first = frame.groupby(["pair", "run"])[["item", "cluster", "condition"]].first()
    for k, names in enumerate((("instructed", "placebo"), ("negated", "clean"))):
        for run, name in zip(("source", "destination"), names, strict=True):
            assert tuple(first.loc[(k, run)]) == (items[k].id, items[k].cluster, name)
    difference = trajectory.difference()
    assert difference["pair"].tolist() == [0] * 5 + [1] * 5
    assert difference["layer"].tolist() == [*range(5), *range(5)]
    assert "lens margin, nats" in trajectory._repr_html_()


def test_a_pair_without_a_margin_and_no_pairs_are_refused(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, random_ids(0), random_ids(1))
    with pytest.raises(InterpError, match="source -> destination: no margin target"):
        lens_trajectory(tiny_model, pair, progress=False)
    with pytest.raises(InterpError, match="no pairs to follow"):
        lens_trajectory(tiny_model, [], progress=False)


def test_a_target_outside_the_vocabulary_is_refused(tiny_model: Any) -> None:
    pair = pair_of(tiny_model)
    with pytest.raises(InterpError, match=r"\[3, 9999\] are outside the vocabulary"):
        lens_prompt(tiny_model, pair.source, MarginTarget(3, 9999, "a", "b"))


def test_reading_leaves_no_gradient_and_no_hook(tiny_model: Any) -> None:
    pair = pair_of(tiny_model)
    before = own_logits(tiny_model, pair.source.ids)
    assert not lens_logits(tiny_model, pair.source).requires_grad
    assert torch.equal(own_logits(tiny_model, pair.source.ids), before)
    assert not any(point.fwd_hooks for point in tiny_model.hook_dict.values())


def test_results_hold_numbers_per_layer_alone(tiny_model: Any) -> None:
    trajectory = lens_trajectory(tiny_model, [pair_of(tiny_model)] * 3, progress=False)
    assert isinstance(trajectory, LensTrajectory)
    assert vars(trajectory).keys() == {"frame", "metric"}
    assert trajectory.frame.size == 3 * 2 * (tiny_model.cfg.n_layers + 1) * 11
    assert not trajectory.frame.map(lambda cell: isinstance(cell, Tensor | np.ndarray)).any(
        axis=None
    )


@pytest.mark.model
def test_the_last_layer_is_the_default_models_own_margin(default_model: Any) -> None:
    item = load_items("bundled:choices", limit=1, seed=0)[0]
    pair = make_pair(default_model, item, "instructed")
    assert pair.target is not None
    frame = lens_trajectory(default_model, pair, progress=False).to_dataframe()
    last = frame[frame["layer"] == default_model.cfg.n_layers].set_index("run")["margin"]
    for run in ("source", "destination"):
        logits = own_logits(default_model, getattr(pair, run).ids)
        margin = float(logits[pair.target.a] - logits[pair.target.b])
        assert last[run] == pytest.approx(margin, abs=1e-4)


def test_an_output_that_is_no_unembedding_of_the_last_norm_has_no_lens(tmp_path: Path) -> None:
    model = load_model(build_folder("ModernBertDecoderForCausalLM", tmp_path))
    ids = random_ids(0)
    pair = make_pair(model, ids, ids + 1, target=TARGET)
    with pytest.raises(
        InterpError, match="no logit lens on ModernBertDecoderForCausalLM"
    ) as caught:
        lens_trajectory(model, pair, progress=False)
    assert "\n" not in str(caught.value)
