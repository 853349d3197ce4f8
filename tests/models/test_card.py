from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.normalizers import Lowercase
from transformer_lens.model_bridge import TransformerBridge

import interp
from interp.errors import InterpError
from interp.models import (
    Check,
    ModelCard,
    Provenance,
    fingerprint,
    load_model,
    model_card,
    weights_fingerprint,
)
from interp.models.card import attach_card
from interp.models.fingerprint import tokenizer_fingerprint
from interp.prompts import PLAIN_TEMPLATE
from tests.conftest import CHAT_TEMPLATE
from tests.thinking import DATED


def test_fingerprint_ignores_the_dtype_and_changes_with_a_weight(
    tiny_folder: Callable[..., Path], tiny_model: Any
) -> None:
    fingerprint = model_card(tiny_model).fingerprint
    half = load_model(tiny_folder("llama"), dtype="bfloat16")
    assert model_card(half).fingerprint == fingerprint
    changed = load_model(tiny_folder("llama"))
    assert weights_fingerprint(changed) == fingerprint
    with torch.no_grad():
        changed.blocks[3].mlp.out.weight *= 1.01
    assert weights_fingerprint(changed) != fingerprint
    assert model_card(load_model(tiny_folder("qwen2"))).fingerprint != fingerprint


def test_identity_holds_what_must_be_equal_between_two_runs(
    tiny_folder: Callable[..., Path], tiny_model: Any
) -> None:
    identity = model_card(tiny_model).identity()
    assert identity.keys() == {"name", "fingerprint", "mode", "dtype", "device", "quantisation"}
    assert identity == model_card(load_model(tiny_folder("llama"))).identity()
    half = model_card(load_model(tiny_folder("llama"), dtype="bfloat16")).identity()
    assert {key for key in identity if identity[key] != half[key]} == {"dtype"}


def test_card_tells_the_shape_of_the_model(tiny_model: Any) -> None:
    card = model_card(tiny_model)
    assert (card.n_layers, card.n_heads, card.n_key_value_heads) == (4, 4, 2)
    assert (card.d_model, card.d_head, card.d_mlp, card.n_ctx) == (32, 8, 64, 1024)
    assert card.d_vocab == len(tiny_model.tokenizer)
    assert card.architecture == "LlamaForCausalLM"
    assert (card.dtype, card.device, card.quantisation) == ("float32", "cpu", "none")
    assert card.versions.keys() == {"torch", "transformers", "transformer-lens"}


def test_chat_template_is_reported(load_tiny: Callable[..., Any]) -> None:
    assert model_card(load_tiny("llama")).chat_template
    assert not model_card(load_tiny("llama", chat=False)).chat_template


def test_card_is_remembered_and_made_anew_when_the_mode_changes(
    tiny_folder: Callable[..., Path],
) -> None:
    model = load_model(tiny_folder("llama"))
    card = model_card(model)
    assert model_card(model) is card
    model.enable_compatibility_mode(disable_warnings=True)  # behind the library's back
    again = model_card(model)
    assert (card.mode, again.mode) == ("raw", "compatibility")
    assert again.provenance == card.provenance
    # nobody can tell whether the raw weights were written to before they were processed
    assert again.fingerprint == weights_fingerprint(model) != card.fingerprint
    assert again.checks[-1].name == "log-probabilities, processed = raw (nats)"
    assert not again.checks[-1].passed
    assert not again.checks[-1].required
    json.dumps(again.to_dict(), allow_nan=False)


def test_bridge_booted_by_the_user_gets_a_card_with_its_checks(
    tiny_folder: Callable[..., Path], tiny_model: Any
) -> None:
    bridge = TransformerBridge.boot_transformers(str(tiny_folder("llama")), device="cpu")
    card = interp.models.model_card(bridge)
    assert card.source == "a bridge booted by the user"
    assert card.fingerprint == model_card(tiny_model).fingerprint
    assert len(card.checks) == 6
    assert interp.models.model_card(bridge) is card


def test_one_line_says_how_the_weights_were_stored_and_how_they_were_processed(
    load_tiny: Callable[..., Any], tiny_folder: Callable[..., Path]
) -> None:
    card = model_card(load_tiny("llama"))
    assert card.one_line == (
        f"{card.name} (0M parameters, 4 layers, LlamaForCausalLM), loaded unquantised, "
        "float32 on cpu, raw weights"
    )
    processed = model_card(load_tiny("llama", compatibility_mode=True)).one_line
    assert processed.endswith("TransformerLens compatibility mode")
    model = load_model(tiny_folder("llama"))
    stored = Provenance("small", "a file", "Q4_0", weights_sha256="0" * 64, licence="MIT")
    four_bits = attach_card(model, stored, fingerprint="f")
    assert "small (0M" in four_bits.one_line
    assert "de-quantised from Q4_0" in four_bits.one_line
    assert four_bits.provenance == stored


def test_html_and_text_hold_the_sentence_and_every_check_uncut(tiny_model: Any) -> None:
    card = model_card(tiny_model)
    html, text = card._repr_html_(), str(card)
    assert card.one_line in html
    for whole in (card.fingerprint, card.source, "resid_pre + attn_out + mlp_out = resid_post"):
        assert whole in html
        assert whole in text
    assert text.count("passed (") == 6


def test_html_escapes_names(tiny_folder: Callable[..., Path]) -> None:
    model = load_model(tiny_folder("llama"))
    card = attach_card(model, Provenance("<b>x</b>", "<i>", "none"), fingerprint="f")
    assert "<b>x" not in card._repr_html_()
    assert "<i>" not in card._repr_html_()


@pytest.mark.parametrize("deviation", [1e-7, float("inf"), float("nan")])
def test_whole_card_is_strict_json(deviation: float, tiny_model: Any) -> None:
    check = Check("packed prompts = separate prompts", deviation, 1e-4, required=False)
    card = dataclasses.replace(model_card(tiny_model), checks=(check,))
    data = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert data["name"] == card.name
    assert data["checks"] == [
        {
            "name": check.name,
            "deviation": 1e-7 if deviation == 1e-7 else None,
            "tolerance": 1e-4,
            "required": False,
            "passed": deviation == 1e-7,
        }
    ]


@pytest.mark.parametrize("deviation", [1e-6, float("nan")])
def test_a_card_comes_back_from_its_own_data(deviation: float, tiny_model: Any) -> None:
    card = model_card(tiny_model)
    card = dataclasses.replace(
        card,
        checks=(dataclasses.replace(card.checks[0], deviation=deviation), *card.checks[1:]),
    )
    again = ModelCard.from_dict(json.loads(json.dumps(card.to_dict())))
    assert again.to_dict() == card.to_dict()
    assert again.identity() == card.identity()
    assert [check.passed for check in again.checks] == [check.passed for check in card.checks]


RENDERING = ("chat_template_sha256", "tokenizer_sha256", "template_date", "thinking")


def test_card_says_what_renders_prompts(
    load_tiny: Callable[..., Any], tiny_folder: Callable[..., Path]
) -> None:
    card = model_card(load_tiny("llama"))
    assert card.chat_template_sha256 == hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()
    assert (card.template_date, card.thinking) == (None, "none")
    shown = card.to_dataframe().set_index("property")["value"]
    assert shown["tokenizer_sha256"] == card.tokenizer_sha256
    assert len(card.tokenizer_sha256) == 64
    assert "template_date" not in shown  # the template writes none
    plain = model_card(load_tiny("llama", chat=False))
    assert plain.chat_template_sha256 == hashlib.sha256(PLAIN_TEMPLATE.encode()).hexdigest()
    again = model_card(load_model(tiny_folder("llama")))
    assert all(getattr(again, name) == getattr(card, name) for name in RENDERING)


def test_card_follows_a_tokenizer_that_is_changed_in_memory(
    tiny_folder: Callable[..., Path],
) -> None:
    model = load_model(tiny_folder("llama"), template_date="2020-02-29")
    tokenizer, cards = model.tokenizer, [model_card(model)]
    assert model_card(model) is cards[0]
    tokenizer.chat_template = DATED
    cards.append(model_card(model))
    assert (cards[-1].template_date, cards[-1].thinking) == ("2020-02-29", "none")
    assert cards[-1].one_line.endswith("raw weights, prompts dated 2020-02-29")
    load_model(model, template_date="2020-03-01")
    cards.append(model_card(model))
    tokenizer.add_tokens(["<extra>"])
    cards.append(model_card(model))
    tokenizer.backend_tokenizer.normalizer = Lowercase()
    cards.append(model_card(model))
    tokenizer.chat_template = None
    cards.append(model_card(model))
    states = [tuple(getattr(card, name) for name in RENDERING) for card in cards]
    assert len(set(states)) == len(states)
    assert [card.chat_template for card in cards] == [True] * 5 + [False]
    kept = {(card.fingerprint, card.checks) for card in cards}
    assert len(kept) == 1
    assert model_card(model) is cards[-1]


def test_padding_and_truncation_are_no_part_of_a_tokenizer(load_tiny: Callable[..., Any]) -> None:
    tokenizer = load_tiny("llama").tokenizer
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "a longer text"], padding=True, truncation=True, max_length=4)
    fingerprint._hashed.clear()
    assert tokenizer_fingerprint(tokenizer) == before


def test_a_model_without_a_tokenizer_has_a_card(tiny_folder: Callable[..., Path]) -> None:
    model = load_model(tiny_folder("llama"))
    model.tokenizer = None
    card = model_card(model)
    assert (card.chat_template, card.chat_template_sha256, card.tokenizer_sha256) == (False, "", "")
    assert model_card(model) is card


def test_a_vocabulary_is_hashed_once(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tiny("llama").tokenizer
    before = tokenizer_fingerprint(tokenizer)

    def again(_: object) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr(fingerprint, "_serialised", again)
    assert tokenizer_fingerprint(tokenizer) == before


def test_a_card_of_an_older_version_is_read_without_what_it_lacks(tiny_model: Any) -> None:
    saved = model_card(tiny_model).to_dict()
    old = {name: value for name, value in saved.items() if name not in RENDERING}
    card = ModelCard.from_dict(old)
    assert [getattr(card, name) for name in RENDERING] == ["", "", None, ""]
    assert card.one_line == model_card(tiny_model).one_line
    assert not set(RENDERING) & set(card.to_dataframe()["property"])


def test_a_date_that_is_none_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="template_date is 'today': give a date as 2024-07-26"):
        load_model(tmp_path / "nothing", template_date="today")
