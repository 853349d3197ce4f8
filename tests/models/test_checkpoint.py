from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from interp.errors import InterpError
from interp.models import load_model, model_card
from tests.conftest import ARCHITECTURES

Weights = dict[str, torch.Tensor]
Edit = Callable[[Weights], Weights]

ONE = "model.layers.2.mlp.up_proj.weight"
IDS = torch.tensor([[0, 17, 300, 4, 99]])
Store = Callable[[Path, Weights], None]


def store_safetensors(folder: Path, weights: Weights) -> None:
    whole = {name: weight.clone() for name, weight in weights.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})


def store_bin(folder: Path, weights: Weights) -> None:
    torch.save(weights, folder / "pytorch_model.bin")


def store_shards(folder: Path, weights: Weights) -> None:
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        shard = {name: weights[name].clone() for name in part}
        save_file(shard, folder / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(part, file))
    whole = {"metadata": {"total_size": 1}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(whole))


@pytest.fixture
def damage(tiny_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """``damage(edit)``: a copy of a tiny folder with its weights, or fields of config, changed."""

    def make(
        edit: Edit = dict, *, store: Store = store_safetensors, of: str = "llama", **fields: Any
    ) -> Path:
        folder = Path(shutil.copytree(tiny_folder(of), tmp_path / "damaged"))
        weights = edit(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").unlink()
        store(folder, weights)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return folder

    return make


def without(*names: str) -> Edit:
    return lambda weights: {name: w for name, w in weights.items() if name not in names}


def with_extra(**extra: torch.Tensor) -> Edit:
    return lambda weights: {**weights, **extra}


def refusal(source: Path | str) -> str:
    with pytest.raises(InterpError) as caught:
        load_model(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Missing weights


@pytest.mark.parametrize("store", [store_safetensors, store_bin, store_shards])
@pytest.mark.parametrize("extra", [{}, {"v_head.summary.weight": torch.zeros(64, 64)}])
def test_a_missing_weight_is_named_in_every_format_and_beside_a_value_head(
    store: Store, extra: Weights, damage: Callable[..., Path]
) -> None:
    message = refusal(damage(lambda weights: {**without(ONE)(weights), **extra}, store=store))
    assert (
        f"1 weight is missing from the weight files and would be random numbers: {ONE}" in message
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_missing_weight_is_noticed_on_every_architecture(
    architecture: str, damage: Callable[..., Path], tiny_folder: Callable[..., Path]
) -> None:
    names = sorted(load_file(tiny_folder(architecture) / "model.safetensors"))
    last = [name for name in names if ".3." in name][-1]
    assert f"random numbers: {last}" in refusal(damage(without(last), of=architecture))


def test_a_weight_under_another_name_is_named_with_the_name_that_was_stored(
    damage: Callable[..., Path],
) -> None:
    stored = ONE.replace("up_proj", "w2")
    message = refusal(damage(lambda w: {n.replace(ONE, stored): t for n, t in w.items()}))
    assert f"random numbers: {ONE}; stored but of no use: {stored};" in message


@pytest.mark.parametrize(
    ("inserted", "named"),
    [
        ("_orig_mod.", "_orig_mod."),
        ("module.", "module."),
        ("module._orig_mod.", "module._orig_mod."),
        ("policy.", "policy."),
    ],
)
def test_a_prefix_left_on_the_names_is_the_cause_that_is_named(
    inserted: str, named: str, damage: Callable[..., Path]
) -> None:
    message = refusal(damage(lambda w: {inserted + name: t for name, t in w.items()}))
    assert f"contain {named!r}" in message
    assert f"take {named!r} out of the names" in message


def test_a_wrapper_inside_the_names_is_the_cause_too(damage: Callable[..., Path]) -> None:
    message = refusal(
        damage(lambda w: {n.replace("model.", "model._orig_mod."): t for n, t in w.items()})
    )
    assert "take '_orig_mod.' out of the names" in message


def test_an_unembedding_may_be_missing_only_when_it_is_tied(damage: Callable[..., Path]) -> None:
    assert "random numbers: lm_head.weight" in refusal(damage(without("lm_head.weight")))


def test_a_tied_unembedding_is_no_missing_weight(damage: Callable[..., Path]) -> None:
    folder = damage(without("lm_head.weight"), tie_word_embeddings=True)
    published = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        assert torch.allclose(load_model(folder)(IDS), published(IDS).logits, atol=1e-4)


def test_names_of_the_bare_decoder_are_no_fault(
    damage: Callable[..., Path], tiny_model: Any
) -> None:
    model = load_model(damage(lambda w: {n.removeprefix("model."): t for n, t in w.items()}))
    with torch.no_grad():
        assert torch.equal(model(IDS), tiny_model(IDS))


def test_weights_of_another_shape_are_named_with_both_shapes(damage: Callable[..., Path]) -> None:
    message = refusal(damage(intermediate_size=60))
    assert "mlp.down_proj.weight has shape [32, 64] in the files and [32, 60]" in message
    assert "12 weights are of another shape" in message


def test_a_hub_id_is_checked_as_a_folder_is(
    damage: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    commit = "0" * 40
    repository = cache / "models--somebody--damaged"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(damage(without(ONE)), repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    message = refusal("somebody/damaged")
    assert message.startswith("somebody/damaged: 1 weight is missing")


# Weights without a place


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_proj.lora_A.default.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.mlp.up_proj.weight_scale",
        "lm_head.bias",
    ],
)
def test_a_stored_weight_that_the_decoder_would_drop_is_refused(
    name: str, damage: Callable[..., Path]
) -> None:
    message = refusal(damage(with_extra(**{name: torch.ones(32)})))
    assert f"without a place in LlamaForCausalLM as config.json describes it: {name};" in message


def test_layers_beyond_the_config_are_refused(damage: Callable[..., Path]) -> None:
    assert "9 weights are stored inside the decoder" in refusal(damage(num_hidden_layers=3))


def test_a_value_head_and_old_buffers_beside_the_whole_model_load_with_a_warning(
    damage: Callable[..., Path], tiny_model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    extra = {
        "v_head.summary.weight": torch.zeros(1, 32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
        "model.layers.0.self_attn.masked_bias": torch.zeros(1),
    }
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_warning()
    transformers_logging.enable_propagation()
    try:
        with caplog.at_level(logging.WARNING):
            model = load_model(damage(with_extra(**extra)))
    finally:
        transformers_logging.disable_propagation()
        transformers_logging.set_verbosity(verbosity)
    assert "v_head.summary.weight" in caplog.text
    assert model_card(model).fingerprint == model_card(tiny_model).fingerprint
