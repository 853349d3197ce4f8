"""Greedy continuation: the most likely token of a full run, step by step, and the prompt it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.activations import read_states
from interp.behaviour.generation import complete
from interp.errors import InterpError
from interp.models import load_model
from interp.models.limits import NotFiniteError
from interp.prompts import TokenizedPrompt

ARCHITECTURES = ["gpt2", "llama", "qwen2", "gemma2", "gemma3", "neox", "opt", "phi"]


def prompt_of(n: int, *, seed: int = 0) -> TokenizedPrompt:
    ids = torch.randint(2, 400, (n,), generator=torch.Generator().manual_seed(seed))
    return TokenizedPrompt(ids, {"question": slice(0, n)}, ("t",) * n, "t" * n, "item 3")


@torch.no_grad()
def step_by_step(model: Any, ids: Tensor, n: int) -> list[int]:
    """One full run per token, without a cache."""
    sequence = ids
    for _ in range(n):
        logits = model(sequence[None])[0, -1]
        sequence = torch.cat([sequence, logits.argmax().reshape(1)])
    return sequence[len(ids) :].tolist()


@pytest.mark.parametrize("compatibility_mode", [False, True], ids=["raw", "compatibility"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_continuation_is_the_argmax_of_full_runs(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    prompt = prompt_of(9)
    done = complete(model, prompt, max_new_tokens=10, stop_ids=())
    new = done.ids[9:].tolist()
    assert new == step_by_step(model, prompt.ids, 10)
    assert torch.equal(done.ids[:9], prompt.ids)


def test_a_sliding_window_shorter_than_the_sequence_is_kept(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("gemma2", sliding_window=6, random_vectors=True)
    done = complete(model, prompt_of(9), max_new_tokens=10, stop_ids=())
    assert done.ids[9:].tolist() == step_by_step(model, prompt_of(9).ids, 10)


def test_the_continuation_is_a_span_that_reads_see(tiny_model: Any) -> None:
    prompt = prompt_of(9)
    done = complete(tiny_model, prompt, max_new_tokens=5, stop_ids=())
    assert done.spans == {"question": slice(0, 9), "generated": slice(9, 14)}
    assert len(done) == len(done.str_tokens) == 14
    assert done.str_tokens[9:] == tuple(tiny_model.tokenizer.decode([i]) for i in done.ids[9:])
    assert done.text == prompt.text + "".join(done.str_tokens[9:])
    assert (done.label, prompt.spans) == ("item 3", {"question": slice(0, 9)})
    last = read_states(tiny_model, [done], positions="generated:last", progress=False)
    again = read_states(tiny_model, [done.ids], progress=False)
    assert torch.equal(last.values, again.values)


def test_a_stop_token_ends_the_continuation_and_is_no_part_of_it(tiny_model: Any) -> None:
    tokens = step_by_step(tiny_model, prompt_of(9).ids, 10)
    stop = tokens[4]
    first = tokens.index(stop)
    done = complete(tiny_model, prompt_of(9), max_new_tokens=10, stop_ids=[stop, 399])
    assert done.ids[9:].tolist() == tokens[:first]
    at_once = complete(tiny_model, prompt_of(9), max_new_tokens=10, stop_ids={tokens[0]})
    assert torch.equal(at_once.ids, prompt_of(9).ids)
    assert "generated" not in at_once.spans
    assert at_once.text == prompt_of(9).text


def test_by_default_the_end_tokens_of_tokenizer_and_model_stop(
    tiny_folder: Callable[..., Path],
) -> None:
    model, prompt = load_model(tiny_folder("llama")), prompt_of(9)
    tokens = step_by_step(model, prompt.ids, 6)
    model.original_model.generation_config.eos_token_id = [399, tokens[3]]
    done = complete(model, prompt, max_new_tokens=6)
    assert done.ids[9:].tolist() == tokens[: tokens.index(tokens[3])]
    model.original_model.generation_config.eos_token_id = None
    model.tokenizer.eos_token = model.tokenizer.convert_ids_to_tokens(tokens[2])
    done = complete(model, prompt, max_new_tokens=6)
    assert done.ids[9:].tolist() == tokens[: tokens.index(tokens[2])]
    # no stop token at all, whatever the model's own configuration says
    model.original_model.generation_config.eos_token_id = tokens[0]
    assert len(complete(model, prompt, max_new_tokens=6, stop_ids=())) == 15


def test_penalties_of_the_models_generation_config_play_no_part(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = step_by_step(tiny_model, prompt_of(9).ids, 8)
    config = tiny_model.original_model.generation_config
    for name, value in [
        ("repetition_penalty", 5.0),
        ("suppress_tokens", tokens[:2]),
        ("do_sample", True),
        ("max_length", 3),
    ]:
        monkeypatch.setattr(config, name, value, raising=False)
    done = complete(tiny_model, prompt_of(9), max_new_tokens=8, stop_ids=())
    assert done.ids[9:].tolist() == tokens


def test_what_cannot_be_continued_is_refused(tiny_model: Any) -> None:
    prompt = prompt_of(9)
    with pytest.raises(InterpError, match="max_new_tokens is 0: generate at least one"):
        complete(tiny_model, prompt, max_new_tokens=0)
    done = complete(tiny_model, prompt, max_new_tokens=2, stop_ids=())
    with pytest.raises(InterpError, match="item 3: was continued already"):
        complete(tiny_model, done)
    message = "item 3: 1020 tokens and 5 new ones exceed the context of 1024"
    with pytest.raises(InterpError, match=message):
        complete(tiny_model, prompt_of(1020), max_new_tokens=5)
    assert len(complete(tiny_model, prompt_of(1020), max_new_tokens=4, stop_ids=())) == 1024


def test_logits_that_are_not_finite_name_the_prompt(tiny_folder: Callable[..., Path]) -> None:
    fragile = load_model(tiny_folder("llama"))
    prompt = prompt_of(5)
    (embedding,) = [
        value for name, value in fragile.original_model.named_parameters() if "embed_tok" in name
    ]
    with torch.no_grad():
        embedding[prompt.ids[2]] = float("inf")
    with pytest.raises(NotFiniteError, match="the logits of item 3 are not finite"):
        complete(fragile, prompt, max_new_tokens=2)
    assert len(complete(fragile, replace(prompt, ids=prompt.ids[:2]), max_new_tokens=1)) >= 2
