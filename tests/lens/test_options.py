"""The option margin at every layer: by hand on both full texts, and equal to the sweep's at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.data import load_items
from interp.errors import InterpError
from interp.lens import (
    layer_effects,
    lens_conditions,
    lens_option_margin,
    lens_trajectory,
    parting_layer,
    settled_layer,
)
from interp.lens.trajectory import require_lens_metric
from interp.patching import sweep
from interp.prompts import make_pair
from tests.patching.options_by_hand import OPTIONS, full_texts, mean_log_prob, option_pair

MODELS = [("gpt2", False), ("llama", False), ("gemma2", False), ("neox", False), ("gemma2", True)]


@pytest.fixture(params=MODELS, ids=lambda p: f"{p[0]}-{'compatibility' if p[1] else 'raw'}")
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    architecture, compatibility_mode = request.param
    return load_tiny(architecture, compatibility_mode=compatibility_mode)


@torch.no_grad()
def logits_by_hand(model: Any, ids: Tensor) -> Tensor:
    """``[n_layers + 1, pos, d_vocab]`` from cached states, the final norm and the unembedding."""
    _, cache = model.run_with_cache(ids[None])
    n = model.cfg.n_layers
    names = [f"blocks.{k}.hook_resid_pre" for k in range(n)] + [f"blocks.{n - 1}.hook_resid_post"]
    states = torch.stack([cache[name][0] for name in names])
    logits = (model.ln_final(states) @ model.W_U + model.b_U).double()
    cap = getattr(model.original_model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS, ([20, 7], [20, 7, 9]), ([20], [90, 4, 6])])
def test_every_layer_equals_norm_and_unembedding_of_both_full_texts(
    model: Any, options: Any
) -> None:
    pair = option_pair(model, options)
    assert pair.options is not None
    found = lens_option_margin(model, pair.source, pair.options)
    for layer in range(model.cfg.n_layers + 1):
        a, b = (
            float(mean_log_prob(logits_by_hand(model, fed)[layer], ids))
            for fed, ids in full_texts(pair, pair.source.ids)
        )
        assert float(found[layer]) == pytest.approx(a - b, abs=1e-5)


def test_the_last_layer_is_what_a_sweep_starts_from(model: Any) -> None:
    pair = option_pair(model)
    trajectory = lens_trajectory(model, pair, metric="option_margin", progress=False)
    result = sweep(model, pair, layers=[0], metric="option_margin", progress=False)
    frame = trajectory.to_dataframe()
    last = frame[frame["layer"] == model.cfg.n_layers].set_index("run")["option_margin"]
    assert last["destination"] == pytest.approx(float(result.baseline), abs=1e-5)
    assert last["source"] == pytest.approx(float(result.source_baseline), abs=1e-5)
    difference = trajectory.difference().set_index("layer")["difference"]
    assert difference.iloc[-1] == pytest.approx(last["source"] - last["destination"])
    assert "option margin" in trajectory._repr_html_()
    plain = lens_trajectory(model, pair, progress=False).to_dataframe()
    assert "option_margin" not in plain
    assert (frame.drop(columns="option_margin")[plain.columns] == plain).all(axis=None)


def test_on_options_of_one_token_it_is_the_margin(model: Any) -> None:
    pair = option_pair(model, ([20], [90]))
    frame = lens_trajectory(model, pair, metric="option_margin", progress=False).frame
    assert (frame["option_margin"] == frame["margin"]).all()
    assert pair.options is not None
    by_lens = lens_option_margin(model, pair.destination, pair.options).numpy()
    own = frame.loc[frame["run"] == "destination", "margin"]
    np.testing.assert_allclose(by_lens, own, atol=1e-5)


def test_conditions_carry_it_through_effects_partings_and_settling(tiny_model: Any) -> None:
    items = load_items("bundled", limit=3)
    options: dict[str, Any] = {
        "conditions": ("clean", "instructed", "placebo"), "n_texts": 2, "progress": False,
    }  # fmt: skip
    lens = lens_conditions(tiny_model, items, metric="option_margin", **options)
    plain = lens_conditions(tiny_model, items, **options)
    assert (lens.frame[plain.frame.columns].fillna(0) == plain.frame.fillna(0)).all(axis=None)
    arms = lens.arms("instructed")
    rows = lens.frame[(lens.frame["condition"] == "instructed") & (lens.frame["slot"] == 1)]
    expected = rows.pivot(index="layer", columns="item", values="option_margin")[arms.items]
    np.testing.assert_array_equal(arms.treated[:, 1], expected.to_numpy())
    assert not np.allclose(arms.treated, plain.arms("instructed").treated)
    assert len(layer_effects(lens, "instructed", seed=0)) == tiny_model.cfg.n_layers + 1
    parting_layer(arms, seed=0)
    settled = settled_layer(lens.frame, metric="option_margin")
    assert set(settled["condition"]) == {"clean", "instructed", "placebo"}


def test_what_has_no_option_margin_is_refused(tiny_model: Any) -> None:
    a, b = torch.arange(3, 9), torch.arange(4, 10)
    pair = make_pair(tiny_model, a, b, target=(5, 9))
    with pytest.raises(InterpError, match="no options, so no option margin"):
        lens_trajectory(tiny_model, pair, metric="option_margin", progress=False)
    with pytest.raises(InterpError, match="no lens metric 'accuracy'; known: margin"):
        require_lens_metric("accuracy")


def test_options_beyond_the_context_are_refused(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = option_pair(tiny_model)
    assert pair.options is not None
    monkeypatch.setattr(tiny_model.cfg, "n_ctx", len(pair.source) + 2)
    with pytest.raises(InterpError, match="with its options"):
        lens_option_margin(tiny_model, pair.source, pair.options)
