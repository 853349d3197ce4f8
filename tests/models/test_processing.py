from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models import load_model, model_card
from interp.models.processing import PROCESSING_CHECK, process_weights
from tests.conftest import ARCHITECTURES, build_folder, make_tokenizer

pytestmark = pytest.mark.slow  # left out of the everyday tests

IDS = torch.randint(2, 300, (1, 40), generator=torch.Generator().manual_seed(5))
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def processing(model: Any) -> Any:
    return model_card(model).checks[-1]


def log_probabilities(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.log_softmax(model(IDS).float(), -1)


@pytest.fixture(scope="module")
def trained_like(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders whose norms and biases are random: with gains of 1 nothing would be folded."""

    def build(architecture: str) -> Path:
        folder = tmp_path_factory.mktemp(architecture)
        return build_folder(architecture, folder, random_vectors=True)

    return build


def moe_folder(folder: Path, config: Any) -> Path:
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config.initializer_range = 0.3
    model = hf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sizes(n_vocab: int) -> dict[str, Any]:
    return {
        "vocab_size": n_vocab,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_processing_that_is_right_stays_far_within_its_tolerance(
    architecture: str, trained_like: Callable[[str], Path]
) -> None:
    folder = trained_like(architecture)
    raw, processed = load_model(folder), load_model(folder, compatibility_mode=True)
    check = processing(processed)
    assert check.name == PROCESSING_CHECK
    assert check.required
    assert 0 < check.deviation < check.tolerance / 3
    assert check.tolerance < 2e-3
    assert (log_probabilities(raw) - log_probabilities(processed)).abs().max() < check.tolerance
    assert len(model_card(raw).checks) == len(model_card(processed).checks) - 1


def test_an_architecture_whose_predictions_processing_changes_is_refused_with_the_remedy(
    tmp_path: Path,
) -> None:
    config = hf.Qwen2MoeConfig(**sizes(480), shared_expert_intermediate_size=32, **MOE)
    folder = moe_folder(tmp_path, config)
    for dtype in ("float32", "bfloat16", "float16"):
        with pytest.raises(InterpError, match="changes the predictions of Qwen2Moe") as caught:
            load_model(folder, dtype=dtype, compatibility_mode=True)
        assert "compatibility_mode=False (raw weights)" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InterpError, match="changes the predictions"):
        load_model(load_model(folder), compatibility_mode=True)
    assert model_card(load_model(folder)).mode == "raw"


def test_a_mixture_of_experts_that_processing_leaves_alone_loads(tmp_path: Path) -> None:
    folder = moe_folder(tmp_path, hf.Qwen3MoeConfig(**sizes(480), head_dim=8, **MOE))
    check = processing(load_model(folder, compatibility_mode=True))
    assert check.passed
    assert check.tolerance < 1e-3


@pytest.mark.parametrize("scale", [1.001, float("nan")])
def test_a_processing_that_is_off_by_little_is_noticed(
    scale: float, tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    enable = TransformerBridge.enable_compatibility_mode

    def careless(model: Any, **options: Any) -> None:
        enable(model, **options)
        with torch.no_grad():
            model.blocks[2].mlp.out.weight[:, :4] *= scale

    monkeypatch.setattr(TransformerBridge, "enable_compatibility_mode", careless)
    with pytest.raises(InterpError, match="compatibility mode changes the predictions of Llama"):
        load_model(tiny_folder("llama"), compatibility_mode=True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_16_bits_are_processed_in_float32_and_stay_in_16_bits(
    dtype: Any, tiny_folder: Callable[..., Path]
) -> None:
    folder = tiny_folder("llama")
    model = load_model(folder, dtype=dtype, compatibility_mode=True)
    assert {weight.dtype for weight in model.original_model.parameters()} == {getattr(torch, dtype)}
    assert model.original_model.model.rotary_emb.inv_freq.dtype == torch.float32
    card = model_card(model)
    assert card.dtype == dtype
    assert card.checks[-1].tolerance < 1e-3  # that of float32
    assert card.fingerprint == model_card(load_model(folder, dtype=dtype)).fingerprint


def test_a_model_that_has_no_compatibility_mode_is_refused_in_one_line(
    tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_folder("llama"))
    monkeypatch.setattr(model.adapter, "supports_compatibility_mode", False, raising=False)
    with pytest.raises(InterpError, match=r"compatibility mode fails on Llama.*mode=False"):
        process_weights(model)
