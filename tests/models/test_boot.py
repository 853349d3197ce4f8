from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import transformers as hf
from transformer_lens.model_bridge.sources.transformers import helpers

from interp.models import load_model, model_card
from tests.conftest import make_tokenizer


@pytest.fixture
def no_commands(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to run a command fails loudly, and is listed."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        tried.append(arguments)
        raise AssertionError(f"loading ran a command: {arguments}")

    for name in ("run", "call", "check_call", "check_output", "Popen"):
        monkeypatch.setattr(subprocess, name, refuse)
    monkeypatch.setattr(os, "system", refuse)
    return tried


def image_folder(folder: Path, kind: str) -> Path:
    """A tiny random model that reads images as well; its image processor is not there."""
    tokenizer = make_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    models: dict[str, Callable[[], Any]] = {
        "gemma3": lambda: hf.Gemma3ForConditionalGeneration(
            hf.Gemma3Config(
                text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=2
            )
        ),
        "llava": lambda: hf.LlavaForConditionalGeneration(
            hf.LlavaConfig(
                text_config=hf.LlamaConfig(**text),
                vision_config=hf.CLIPVisionConfig(**vision, projection_dim=16),
                image_token_index=2,
            )
        ),
    }
    torch.manual_seed(0)
    model = models[kind]()
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="nothing to install"
)
@pytest.mark.parametrize("kind", ["gemma3", "llava"])
def test_a_model_with_an_image_processor_loads_and_nothing_is_installed(
    kind: str, tmp_path: Path, no_commands: list[Any]
) -> None:
    install = helpers._ensure_torchvision
    model = load_model(image_folder(tmp_path, kind))
    assert no_commands == []
    assert model_card(model).n_layers == 3
    assert helpers._ensure_torchvision is install


def test_loading_a_text_model_runs_no_command(
    tiny_folder: Callable[..., Path], no_commands: list[Any]
) -> None:
    load_model(tiny_folder("llama"))
    assert no_commands == []
