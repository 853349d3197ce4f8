from __future__ import annotations

import errno
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM

from interp.errors import InterpError
from interp.fetch import sha256_of
from interp.models import load_model, load_tokenizer, model_card
from interp.models.convert import convert_local_gguf

convert = importlib.import_module("interp.models.convert")

_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def interleaved(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """GGUF's order of rotary rows: the pair (i, i + d/2) of a head stands side by side."""
    rows = weight.shape[0] // n_heads
    return weight.view(n_heads, 2, rows // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    folder: Path, path: Path, *, scale: float = 1.0, file_type: int = 0, lacking: str = ""
) -> Path:
    """The Llama of ``folder``, its unembedding scaled, as a float32 GGUF file."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(file_type)
    inner = json.loads((folder / "tokenizer.json").read_text())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(inner["vocab"], key=inner["vocab"].get))
    writer.add_token_types([3, 3] + [1] * (len(inner["vocab"]) - 2))  # two control tokens
    writer.add_token_merges([" ".join(pair) for pair in inner["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"].numpy())
    writer.add_tensor("output.weight", (scale * weights["lm_head.weight"]).numpy())
    for layer in range(config.num_hidden_layers):
        for there, here in _BLOCK.items():
            weight = weights[f"model.layers.{layer}.{here}.weight"]
            if there in ("attn_q", "attn_k"):
                weight = interleaved(weight, weight.shape[0] // config.head_dim)
            name = f"blk.{layer}.{there}.weight"
            if name != lacking:
                writer.add_tensor(name, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny_gguf(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tiny_folder("llama"), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
def test_gguf_file_gives_the_model_and_tokenizer_it_was_written_from(
    tiny_gguf: Path, tiny_folder: Callable[..., Path], tiny_model: Any
) -> None:
    model = load_model(tiny_gguf)
    ids = torch.tensor([[0, 17, 300, 4, 99]])
    expected = tiny_model(ids)
    assert (model(ids) - expected).abs().max() < 1e-5 * expected.abs().max()
    card = model_card(model)
    assert (card.name, card.source, card.quantisation) == ("tiny", str(tiny_gguf), "none")
    assert card.weights_sha256 == sha256_of(tiny_gguf)
    assert card.architecture == "LlamaForCausalLM"
    text = "The quick brown fox, (a) or (b)?\n"
    expected_ids = load_tokenizer(tiny_folder("llama")).encode(text)
    assert load_tokenizer(tiny_gguf).encode(text) == expected_ids


@pytest.mark.slow
def test_a_conversion_shows_no_bars(
    tiny_gguf: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    convert_local_gguf(tiny_gguf)
    out, err = capfd.readouterr()
    assert "%|" not in out + err


def test_second_load_reads_the_converted_folder_and_not_the_gguf(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = model_card(load_model(tiny_gguf))

    def refuse(*_: Any) -> None:
        raise AssertionError("converted twice")

    monkeypatch.setattr(convert, "_save_converted", refuse)
    monkeypatch.setattr(convert, "_quantisation", refuse)
    assert model_card(load_model(tiny_gguf)).to_dict() == first.to_dict()
    (folder,) = (cache / "models").iterdir()
    assert folder.name == f"tiny-{sha256_of(tiny_gguf)[:12]}"
    kept = load_model(folder)  # the folder alone still knows where it came from
    assert model_card(kept).identity() == first.identity()


@pytest.mark.slow
def test_same_file_name_with_other_weights_is_another_model(
    tiny_gguf: Path, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    other = write_gguf(tiny_folder("llama"), tmp_path / "tiny.gguf", scale=1.1, file_type=3)
    first, second = model_card(load_model(tiny_gguf)), model_card(load_model(other))
    assert (first.name, first.quantisation) == ("tiny", "none")
    assert (second.name, second.quantisation) == ("tiny", "Q4_1")
    assert first.fingerprint != second.fingerprint
    assert "de-quantised from Q4_1" in second.one_line


@pytest.mark.parametrize(
    ("file_type", "quantisation"), [(None, "unknown"), (1, "none"), (32, "none"), (15, "Q4_K_M")]
)
def test_quantisation_is_the_one_named_in_the_header(
    file_type: int | None, quantisation: str, tmp_path: Path
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "header.gguf", "llama")
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert convert._quantisation(tmp_path / "header.gguf") == quantisation


@pytest.mark.parametrize("keep", [0, 3, 100, 5_000, 100_000, -10])
def test_truncated_file_gives_one_line_and_leaves_nothing_in_the_cache(
    tiny_gguf: Path, tmp_path: Path, cache: Path, keep: int
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_gguf.read_bytes()[:keep])
    with pytest.raises(InterpError, match=r"broken\.gguf: not a readable GGUF model") as caught:
        load_model(broken)
    assert "\n" not in str(caught.value)
    assert not (cache / "models").exists()
    assert not list((cache / "work").glob("*"))


def test_a_file_that_lacks_a_weight_is_refused_and_leaves_nothing_in_the_cache(
    tiny_folder: Callable[..., Path], tmp_path: Path, cache: Path
) -> None:
    lacking = write_gguf(
        tiny_folder("llama"), tmp_path / "lacking.gguf", lacking="blk.2.ffn_up.weight"
    )
    with pytest.raises(InterpError) as caught:
        load_model(lacking)
    assert "1 weight is missing" in str(caught.value)
    assert "random numbers: model.layers.2.mlp.up_proj.weight" in str(caught.value)
    assert not (cache / "models").exists()


def test_interrupted_conversion_leaves_nothing_and_is_done_again(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(gguf_file: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(convert, "_save_converted", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_model(tiny_gguf)
    assert not (cache / "models").exists()
    assert load_model(tiny_gguf).cfg.n_layers == 4


def test_full_disk_is_one_line(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "_save_converted", full)
    with pytest.raises(InterpError, match="no space left for the cache"):
        load_model(tiny_gguf)


def test_missing_gguf_file_is_named() -> None:
    with pytest.raises(InterpError, match=r"nowhere\.gguf: no such GGUF file"):
        load_model("nowhere.gguf")


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}', '{"nothing": 1}', "\xff"])
def test_a_provenance_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / convert.PROVENANCE_FILE
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InterpError, match=r"provenance\.json.*: not") as caught:
        convert.read_provenance(tmp_path)
    assert "\n" not in str(caught.value)
