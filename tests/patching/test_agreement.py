"""What a verdict on the exact engine covers: every layer, the hooks at the call, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from interp.models import load_model
from interp.models.verdicts import forget
from interp.patching import PatchSite, sweep
from interp.patching import blocks as engine
from tests.conftest import make_tokenizer
from tests.patching.by_hand import rough_model, rough_pair

SITES: tuple[PatchSite, ...] = ("resid_pre", "attn_out", "mlp_out", "z", "q", "k")


def mixed_folder(path: Path, *, seed: int = 0) -> Path:
    """A tiny SmolLM3 whose second layer has no rotary positions."""
    tokenizer = make_tokenizer()
    config = hf.SmolLM3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        no_rope_layers=[1, 0, 1], bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    config.initializer_range = 0.3
    torch.manual_seed(seed)
    model = hf.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sweep_of_the_last_layer_permits_nothing_about_the_others(
    tmp_path: Path, site: PatchSite, seed: int
) -> None:
    model = load_model(mixed_folder(tmp_path, seed=seed))
    pair = rough_pair(model)
    wanted = sweep(model, pair, site=site, method="hooked", progress=False).values
    last = sweep(model, pair, site=site, layers=[2], progress=False)
    assert not last.notes
    result = sweep(model, pair, site=site, progress=False)
    assert float((result.values - wanted).abs().max()) <= 1e-4
    (note,) = result.notes
    assert "layer 1" in note


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_error_in_one_layer_is_seen_in_either_precision(
    tiny_folder: Callable[..., Path], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale of the attention that is off by 2 % in the third layer of four."""
    model = load_model(tiny_folder("llama", random_vectors=True), dtype=dtype)
    pair = rough_pair(model)
    assert not sweep(model, pair, progress=False).notes
    forget(model)
    right = engine.attend

    def wrong(attn: Any, layer: int, qkv: Any, *args: Any) -> Tensor:
        q, k, v = qkv
        return right(attn, layer, (q * 1.02 if layer == 2 else q, k, v), *args)

    monkeypatch.setattr(engine, "attend", wrong)
    (note,) = sweep(model, pair, progress=False).notes
    assert "layer 2" in note


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
@pytest.mark.parametrize("site", ["resid_pre", "z", "k"])
def test_layers_of_mixed_windows_stay_exact_and_fast(
    load_tiny: Callable[..., Any], architecture: str, site: PatchSite
) -> None:
    model = rough_model(load_tiny, (architecture, False))
    pair = rough_pair(model)
    wanted = sweep(model, pair, site=site, method="hooked", progress=False).values
    sweep(model, pair, site=site, layers=[3], progress=False)
    result = sweep(model, pair, site=site, progress=False)
    assert not result.notes
    scale = float(wanted.max() - wanted.min())
    assert float((result.values - wanted).abs().max()) <= 1e-4 * scale


STEP = 2.0


def at(place: Any) -> Callable[..., Tensor]:
    def add(activation: Tensor, hook: Any) -> Tensor:
        activation = activation.clone()
        activation[:, place] += STEP * torch.linspace(-1, 1, activation.shape[-1])
        return activation

    return add


def only_long(activation: Tensor, hook: Any) -> Tensor:
    return activation * 1.5 if activation.shape[1] > 30 else activation


def centred(activation: Tensor, hook: Any) -> Tensor:
    return activation - activation.mean(dim=1, keepdim=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hook", [at(-1), at(0), at(4), at(slice(2)), only_long, centred],
    ids=["last", "first", "fifth", "beginning", "long", "centred"],
)  # fmt: skip
def test_under_a_hook_that_knows_positions_a_sweep_is_that_of_one_forward_per_cell(
    load_tiny: Callable[..., Any], hook: Callable[..., Tensor]
) -> None:
    model = load_tiny("llama", random_vectors=True)
    pair = rough_pair(model)
    assert not sweep(model, pair, progress=False).notes
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", hook)]):
        wanted = sweep(model, pair, method="hooked", progress=False).values
        result = sweep(model, pair, progress=False)
    assert torch.equal(result.values, wanted)
    (note,) = result.notes
    assert "a hook on the model" in note


def test_under_a_hook_that_treats_every_row_alike_a_sweep_stays_fast(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("llama", random_vectors=True)
    pair = rough_pair(model)
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", at(slice(None)))]):
        wanted = sweep(model, pair, method="hooked", progress=False).values
        result = sweep(model, pair, progress=False)
    assert not result.notes
    assert float((result.values - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
