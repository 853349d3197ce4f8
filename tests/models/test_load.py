from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM

from interp.errors import InterpError
from interp.models import load_model, load_tokenizer, model_card
from tests.conftest import ARCHITECTURES

load = importlib.import_module("interp.models.load")

IDS = torch.tensor([[0, 17, 300, 4, 99]])


@pytest.fixture
def folder(tiny_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of the tiny Llama's folder, to be damaged."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "damaged"))


def boot(folder: Path) -> Any:
    return TransformerBridge.boot_transformers(str(folder), device="cpu")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(InterpError) as caught:
        load_model(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# What loads


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folder_loads_in_evaluation_mode_with_the_published_numbers(
    architecture: str, tiny_folder: Callable[..., Path], load_tiny: Callable[..., Any]
) -> None:
    published = AutoModelForCausalLM.from_pretrained(tiny_folder(architecture)).eval()
    model = load_tiny(architecture)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        expected = published(IDS).logits
        assert (model(IDS) - expected).abs().max() < 1e-5 * expected.abs().max()
    card = model_card(model)
    assert card.name == tiny_folder(architecture).name
    assert card.n_params == sum(parameter.numel() for parameter in published.parameters())
    assert all(check.passed for check in card.checks)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compatibility_mode_keeps_the_distribution_and_is_recorded(
    architecture: str, load_tiny: Callable[..., Any]
) -> None:
    raw, processed = (load_tiny(architecture, compatibility_mode=mode) for mode in (False, True))
    with torch.no_grad():
        expected, got = (torch.log_softmax(model(IDS), -1) for model in (raw, processed))
    assert (got - expected).abs().max() < 1e-4
    first, second = model_card(raw), model_card(processed)
    assert (first.mode, second.mode) == ("raw", "compatibility")
    assert first.fingerprint == second.fingerprint
    assert first.n_params == second.n_params


def test_bfloat16_is_loaded_as_such(tiny_folder: Callable[..., Path], tiny_model: Any) -> None:
    model = load_model(tiny_folder("llama"), dtype="bfloat16")
    assert {parameter.dtype for parameter in model.original_model.parameters()} == {torch.bfloat16}
    assert model_card(model).dtype == "bfloat16"
    with torch.no_grad():
        expected = tiny_model(IDS)
        assert (model(IDS).float() - expected).abs().max() < 3e-2 * expected.abs().max()


@pytest.mark.parametrize(
    ("dtype", "device", "limit", "expected"),
    [
        ("auto", "cpu", 0, torch.float32),
        ("auto", "cuda", 1e9, torch.float32),
        ("auto", "cuda:1", 0, torch.bfloat16),
        ("float16", "cuda", 1e9, torch.float16),
    ],
)
def test_automatic_dtype_is_bfloat16_only_for_large_models_on_a_gpu(
    dtype: Any,
    device: str,
    limit: float,
    expected: torch.dtype,
    tiny_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "_LARGE", limit)
    assert load._pick_dtype(dtype, str(tiny_folder("llama")), device, None) == expected


def test_bridge_booted_by_the_user_is_adopted_as_it_is(tiny_folder: Callable[..., Path]) -> None:
    bridge = boot(tiny_folder("llama")).train()
    model = load_model(bridge)
    assert model is bridge
    assert not model.training
    card = model_card(model)
    assert card.source == "a bridge booted by the user"
    assert card.mode == "raw"


@pytest.mark.slow
def test_adopting_into_compatibility_mode_keeps_the_provenance_and_the_raw_fingerprint(
    tiny_folder: Callable[..., Path],
) -> None:
    model = load_model(tiny_folder("llama"))
    before = model_card(model)
    after = model_card(load_model(model, compatibility_mode=True))
    assert model.compatibility_mode
    assert (before.mode, after.mode) == ("raw", "compatibility")
    assert (after.provenance, after.fingerprint) == (before.provenance, before.fingerprint)
    bridge = load_model(boot(tiny_folder("llama")), compatibility_mode=True)
    assert model_card(bridge).fingerprint == before.fingerprint


def test_tokenizer_alone_is_the_one_of_the_model(
    tiny_folder: Callable[..., Path], tiny_model: Any
) -> None:
    tokenizer = load_tokenizer(tiny_folder("llama"))
    text = "Please ensure that (a) is unbiased.\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.get_vocab() == tiny_model.tokenizer.get_vocab()
    assert tokenizer.chat_template == tiny_model.tokenizer.chat_template


# What is refused, in one line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm2", "no model in the catalogue is called 'smollm2'; did you mean 'smollm2-135m"),
        ("smolm2-135m-instruct", "did you mean 'smollm2-135m-instruct'?"),
        ("something-else", "known: smollm2-135m-instruct, "),
        ("./no/such/folder", "no/such/folder: no such folder"),
        ("/no/such", "/no/such: no such folder"),
        ("a/b/c", "a/b/c: no such folder"),
    ],
)
def test_unknown_name_says_which_are_close(name: str, message: str) -> None:
    assert message in refusal(name)


def test_hub_id_without_network_names_the_id_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refusal("somebody/some-model")
    assert message.startswith("somebody/some-model: cannot be loaded from the Hugging Face hub")
    assert "give a local folder" in message
    with pytest.raises(InterpError, match="somebody/some-model: no readable tokenizer") as caught:
        load_tokenizer("somebody/some-model")
    assert "\n" not in str(caught.value)


def test_device_and_dtype_are_checked_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the checks a user meets
    missing = "cuda" if not torch.cuda.is_available() else "cuda:99"
    assert f"device '{missing}' is not available here" in refusal(device=missing)
    assert "device 'gpu' is not available here" in refusal(device="gpu")
    assert (
        refusal(dtype="float8") == "dtype 'float8' is not one of auto, float32, bfloat16, float16"
    )


def test_folder_or_file_of_another_kind_is_named(tmp_path: Path) -> None:
    assert "no config.json there" in refusal(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"")
    assert "weights.bin: neither a .gguf file nor a folder" in refusal(tmp_path / "weights.bin")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ not json", "config.json: not valid JSON"),
        ("[]", "config.json: field 'architectures' is missing"),
        ("[" * 99_999, "config.json: not valid JSON (nested too deeply)"),
        ('{"model_type": "llama"}', "config.json: field 'architectures' is missing"),
        ('{"model_type": "nothing", "architectures": ["NothingForCausalLM"]}', "cannot load"),
    ],
)
def test_config_that_is_no_config_is_named(text: str, message: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    assert message in refusal(folder)


def test_a_config_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'{"model_type": "\xe9"}')
    assert "config.json, line 1: not UTF-8" in refusal(folder)


def test_a_config_with_infinity_in_it_is_one(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "limit": [0.0, float("inf")]}))
    assert load_model(folder).cfg.n_layers == 4


def test_a_tilde_without_a_home_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert "there is no home directory here that ~ could stand for" in refusal("~/model")


@pytest.mark.parametrize("name", ["a" * 5000, "owner/" + "a" * 5000, "a\0b", "/a\0b"])
def test_names_that_no_file_can_have_are_refused(name: str) -> None:
    assert refusal(name)


@pytest.mark.parametrize("keep", [0, 4, 1000, -8])
def test_truncated_weights_are_refused(keep: int, folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    message = refusal(folder)
    assert message.startswith(f"{folder}: cannot load the model, files truncated or missing")


def test_a_folder_without_weight_files_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "cannot load the model" in refusal(folder)


@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(
    value: float, compatibility_mode: bool, folder: Path
) -> None:
    edit_weights(
        folder, lambda weights: weights["model.layers.1.mlp.up_proj.weight"].__setitem__(0, value)
    )
    message = refusal(folder, compatibility_mode=compatibility_mode)
    assert "layers.1" in message
    assert "not finite" in message


def test_damaged_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model":')
    with pytest.raises(InterpError, match="no readable tokenizer there") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)
    assert "cannot load the model" in refusal(folder)


# The default model


@pytest.mark.model
def test_default_model_loads_with_its_quantisation_and_passes_its_checks(
    default_model: Any,
) -> None:
    card = model_card(default_model)
    assert (card.name, card.quantisation, card.licence) == (
        "smollm2-135m-instruct",
        "Q4_1",
        "Apache-2.0",
    )
    assert "de-quantised from Q4_1" in card.one_line
    assert card.chat_template
    assert (card.n_layers, card.d_model, card.n_params) == (30, 576, 134_515_008)
    assert all(check.passed for check in card.checks)
    assert len(load_tokenizer()) == card.d_vocab


@pytest.mark.model
def test_default_model_continues_a_sentence_sensibly(default_model: Any) -> None:
    ids = torch.tensor([default_model.tokenizer.encode("The capital of France is")])
    with torch.no_grad():
        best = int(default_model(ids)[0, -1].argmax())
    assert default_model.tokenizer.decode([best]).strip() == "Paris"
