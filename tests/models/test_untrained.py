from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.known import load_trained
from interp.models import load_model, model_card, untrained_copy


@pytest.mark.parametrize(
    "architecture",
    [
        "gpt2",
        "llama",
        *(pytest.param(a, marks=pytest.mark.slow) for a in ("qwen2", "gemma2", "neox")),
    ],
)
def test_an_untrained_copy_has_the_shape_and_other_weights(
    load_tiny: Callable[..., Any], architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_tiny(architecture)
    capsys.readouterr()
    fresh, again, other = (untrained_copy(model, seed) for seed in (1, 1, 2))
    for own, new, same, third in zip(
        *(m.original_model.named_parameters() for m in (model, fresh, again, other)), strict=True
    ):
        assert own[1].shape == new[1].shape, own[0]
        assert torch.equal(new[1], same[1]), own[0]
        if own[1].ndim > 1:  # norms and biases start from the same 0 or 1
            assert not torch.equal(own[1], new[1]), own[0]
            assert not torch.equal(new[1], third[1]), own[0]
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        assert not torch.allclose(model(ids), fresh(ids))
        assert torch.equal(fresh(ids), again(ids))
    assert fresh.tokenizer is model.tokenizer
    assert not capsys.readouterr().out
    card = model_card(fresh)
    assert card.name == f"untrained:{model_card(model).name}"
    assert card.mode == "raw"
    assert card.fingerprint != model_card(model).fingerprint
    assert not fresh.training


def test_the_global_generators_are_left_as_they_were(load_tiny: Callable[..., Any]) -> None:
    """Python's own is not compared: the type checks of the tests draw from it."""
    model = load_tiny("llama")
    before, of_numpy = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    untrained_copy(model)
    assert torch.equal(before, torch.random.get_rng_state())
    assert (np.random.get_state()[1] == of_numpy).all()  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 1])
def test_a_native_model_has_one_too_with_its_tokens_names(seed: int) -> None:
    model, task = load_trained("deep", seed)
    fresh = untrained_copy(model)
    ids = torch.stack([task.ids(("ask1", "content0", "other1", f"query{k}")) for k in (1, 2)])
    yes, no = task.target
    with torch.no_grad():
        trained, fresh_ones = (m(ids)[:, -1, yes] - m(ids)[:, -1, no] for m in (model, fresh))
    assert trained.abs().min() > 2
    assert fresh_ones.abs().max() < 2
    assert fresh.cfg.normalization_type == model.cfg.normalization_type


def test_a_name_asks_for_it(tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder("llama")
    fresh = load_model(f"untrained:{folder}")
    assert model_card(fresh).name == f"untrained:{folder.name}"
    with pytest.raises(InterpError, match="an untrained copy is raw"):
        load_model(f"untrained:{folder}", compatibility_mode=True)
