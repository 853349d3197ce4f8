"""Verdicts on packed prompts and caches: lengths that matter, and hooks that know positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from interp.behaviour import Decoding, generate
from interp.models import forward, load_model, supports_packing
from interp.models.by_row import OneByOneWarning
from interp.models.packed import ignores_later_tokens
from interp.models.verdicts import model_state
from interp.prompts import TokenizedPrompt
from tests.conftest import make_tokenizer
from tests.models.forward_cases import prompts

ROPES: dict[str, dict[str, Any]] = {
    "longrope": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4, "original_max_position_embeddings": 40, "factor": 12.8,
    },
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
}  # fmt: skip


def rope_folder(path: Path, kind: str) -> Path:
    tokenizer = make_tokenizer()
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "rope_parameters": ROPES[kind],
    }  # fmt: skip
    if kind == "longrope":
        config: Any = hf.Phi3Config(
            max_position_embeddings=512, original_max_position_embeddings=40, **common
        )
    else:
        config = hf.LlamaConfig(max_position_embeddings=40, **common)
    config.initializer_range = 0.3
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def published(path: Path, ids: Tensor) -> Tensor:
    """The last logits of a model that has run nothing else."""
    model = hf.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(ids[None], use_cache=False).logits[0, -1].float()


@pytest.mark.slow
@pytest.mark.parametrize("max_nodes", [512, 20])
@pytest.mark.parametrize("first", [0, 1])
def test_prompts_on_both_sides_of_longropes_switch_do_not_spoil_each_other(
    tmp_path: Path, max_nodes: int, first: int
) -> None:
    path = rope_folder(tmp_path, "longrope")
    model = load_model(path)
    sequences = prompts(4, 60, 70, 5, stem=30)[:: -1 if first else 1]
    places = [(k, len(ids) - 1) for k, ids in enumerate(sequences)]
    out = forward(model, sequences, logits_at=places, max_nodes=max_nodes).logits
    for row, ids in zip(out, sequences, strict=True):
        torch.testing.assert_close(row, published(path, ids), atol=1e-3, rtol=1e-4)
    assert not ignores_later_tokens(model, 90)


@pytest.mark.slow
def test_generation_across_longropes_switch_equals_whole_forwards(tmp_path: Path) -> None:
    path = rope_folder(tmp_path, "longrope")
    ids = prompts(4, stem=30)[0]
    prompt = TokenizedPrompt(ids, {"q": slice(0, 34)}, ("t",) * 34, "t" * 34)
    made = generate(load_model(path), [prompt], decoding=Decoding(max_new_tokens=12), stop_ids=())[
        0
    ].ids.tolist()
    for k, token in enumerate(made):
        so_far = torch.cat([ids, torch.tensor(made[:k], dtype=ids.dtype)])
        assert int(published(path, so_far).argmax()) == token


@pytest.mark.slow
@pytest.mark.parametrize("place", [-1, 0, 3, slice(0, 2)])
def test_under_a_hook_that_knows_positions_prompts_run_alone(
    tiny_folder: Callable[..., Path], place: Any
) -> None:
    model = load_model(tiny_folder("llama"))
    sequences = prompts(5, 9, 2)
    places = [(k, len(ids) - 1) for k, ids in enumerate(sequences)]
    name = "blocks.2.hook_resid_post"
    assert supports_packing(model, 16)
    before = model_state(model)

    def add(activation: Tensor, hook: Any) -> Tensor:
        activation = activation.clone()
        activation[:, place] += 1.0
        return activation

    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", add)]):
        assert model_state(model) != before
        with pytest.warns(OneByOneWarning, match="one forward per prompt: a hook on the model"):
            out = forward(model, sequences, logits_at=places, read={name: places})
        for k, ids in enumerate(sequences):
            with torch.no_grad():
                logits, cache = model.run_with_cache(ids[None], names_filter=[name])
            torch.testing.assert_close(out.logits[k], logits[0, -1].float(), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(
                out.states[name][k], cache[name][0, -1], atol=1e-4, rtol=1e-4
            )
    assert "a hook on the model" in out.notes[0]
    assert model_state(model) == before
    assert forward(model, sequences, logits_at=places).notes == ()


def test_a_hook_that_treats_every_row_alike_leaves_prompts_packed(tiny_model: Any) -> None:
    sequences = prompts(5, 9)
    with tiny_model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", lambda a, hook: a + 1.0)]):
        assert forward(tiny_model, sequences, logits_at=[(1, 5)]).notes == ()
        shared = forward(tiny_model, sequences, logits_at=[(0, 10)]).logits
        with torch.no_grad():
            alone = tiny_model(sequences[0][None])[0, 10].float()
    torch.testing.assert_close(shared[0], alone, atol=1e-4, rtol=1e-4)


def test_dynamic_rotary_frequencies_do_not_remember_longer_prompts(tmp_path: Path) -> None:
    path = rope_folder(tmp_path, "dynamic")
    model = load_model(path)
    model.cfg.n_ctx = 256
    sequences = prompts(60, 20, 5, stem=30)
    places = [(k, len(ids) - 1) for k, ids in enumerate(sequences)]
    out = forward(model, sequences, logits_at=places).logits
    for row, ids in zip(out, sequences, strict=True):
        torch.testing.assert_close(row, published(path, ids), atol=1e-3, rtol=1e-4)
