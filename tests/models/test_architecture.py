from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory

from interp.errors import InterpError
from interp.models import load_model
from interp.models.architecture import adapted_architecture
from tests.matrix.configs import causal_classes, tiny_config


def config_of(name: str, kind: Callable[..., Any] = hf.LlamaConfig, **fields: Any) -> Any:
    return kind(architectures=[name], **fields)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (config_of("T5ForConditionalGeneration", hf.T5Config), "is an encoder-decoder"),
        (config_of("BartForConditionalGeneration", hf.BartConfig), "is an encoder-decoder"),
        (config_of("MarianMTModel", hf.MarianConfig), "is an encoder-decoder"),
        (config_of("BertForMaskedLM", hf.BertConfig), "an encoder trained on masked tokens"),
        (config_of("ElectraForMaskedLM", hf.ElectraConfig), "an encoder trained on masked tokens"),
        (config_of("ViTForImageClassification", hf.ViTConfig), "a model of images"),
        (config_of("Wav2Vec2ForCTC", hf.Wav2Vec2Config), "a model of sound"),
        (config_of("LlamaForSequenceClassification"), "predicts labels and no tokens"),
        (config_of("CTRLLMHeadModel", hf.CTRLConfig), "has no adapter for the class CTRLLMHead"),
        (config_of("ZambaForCausalLM", hf.ZambaConfig), "has no adapter for the class ZambaFor"),
    ],
)
def test_what_is_no_causal_decoder_with_an_adapter_is_refused(config: Any, reason: str) -> None:
    with pytest.raises(InterpError, match=reason) as caught:
        adapted_architecture("owner/model", config)
    message = str(caught.value)
    assert message.startswith("owner/model: ")
    assert "\n" not in message
    assert len(message) < 300


def test_every_causal_class_that_both_libraries_know_is_adapted() -> None:
    for name in causal_classes():
        assert adapted_architecture("here", tiny_config(name, 300))


def test_an_adapter_that_the_user_registered_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(ArchitectureAdapterFactory._adapters)
    monkeypatch.setattr(ArchitectureAdapterFactory, "_adapters", known)
    ArchitectureAdapterFactory.register_adapter("OwnForCausalLM", known["LlamaForCausalLM"])
    assert adapted_architecture("here", config_of("OwnForCausalLM")) == "OwnForCausalLM"


def test_the_class_is_named_before_weights_are_looked_for(tmp_path: Path) -> None:
    hf.T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path)
    with pytest.raises(InterpError, match="T5ForConditionalGeneration is an encoder-decoder"):
        load_model(tmp_path)


def test_a_kind_that_transformers_does_not_know_is_not_called_truncated(tmp_path: Path) -> None:
    config = {"model_type": "nothing", "architectures": ["NothingForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InterpError, match="does not know its kind") as caught:
        load_model(tmp_path)
    assert "truncated" not in str(caught.value)


def test_code_in_a_repository_is_not_run_and_the_remedy_is_named(tmp_path: Path) -> None:
    config = {
        "model_type": "nothing",
        "architectures": ["NothingForCausalLM"],
        "auto_map": {"AutoConfig": "code.NothingConfig", "AutoModelForCausalLM": "code.Nothing"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('was run')")
    with pytest.raises(InterpError, match=r"trust_remote_code=True\) and give the bridge"):
        load_model(tmp_path)


def test_a_package_that_a_class_needs_is_named(
    tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: Any, **__: Any) -> Any:
        raise ImportError("\nTimmWrapperModel requires the timm library\nYou can install it")

    monkeypatch.setattr(hf.AutoModelForCausalLM, "from_pretrained", lacking)
    with pytest.raises(InterpError, match=r"a package that is not installed .*the timm library"):
        load_model(tiny_folder("llama"))


def test_a_tokenizer_that_fails_after_the_weights_is_not_called_truncated(
    tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(hf.AutoTokenizer, "from_pretrained", broken)
    with pytest.raises(InterpError, match=r"its weights are read, but .*no such thing") as caught:
        load_model(tiny_folder("llama"))
    assert "truncated" not in str(caught.value)


def test_a_model_whose_later_tokens_change_earlier_predictions_is_no_decoder(
    tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama import modeling_llama

    def all_seen(*_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros(1, 1, 1, 1)

    monkeypatch.setattr(modeling_llama, "create_causal_mask", all_seen)
    with pytest.raises(InterpError, match="later tokens change earlier predictions"):
        load_model(tiny_folder("llama"))
