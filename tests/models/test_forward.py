from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from interp.models import forward, load_model, supports_packing
from tests.conftest import ARCHITECTURES
from tests.models.forward_cases import (
    POST,
    SITES,
    alone,
    assert_close,
    assert_equal_outputs,
    attached_hooks,
    everywhere,
    prompts,
)

packed_forward = importlib.import_module("interp.models.forward")
packed_model = importlib.import_module("interp.models.packed")
steps = importlib.import_module("interp.models.steps")


@pytest.fixture
def count_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How many packed and separate runs the test made."""
    runs = {"packed": 0, "alone": 0}

    def counted(kind: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            runs[kind] += 1
            return run(*arguments, **options)

        return call

    for kind in runs:
        name = f"forward_{kind}"
        monkeypatch.setattr(packed_forward, name, counted(kind, getattr(packed_forward, name)))
    return runs


# Packed equals separate


@pytest.mark.slow
@pytest.mark.parametrize("compatibility_mode", [False, True], ids=["raw", "compatibility"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_logits_and_states_equal_separate_runs(
    architecture: str,
    compatibility_mode: bool,
    load_tiny: Callable[..., Any],
    count_runs: dict[str, int],
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    assert supports_packing(model)
    before = attached_hooks(model)  # the bridge of OPT has some of its own
    count_runs.update(packed=0, alone=0)
    sequences = prompts(5, 1, 9, 3)
    sequences.append(sequences[0][:4])  # ends inside the common beginning
    names = [f"blocks.{layer}.{site}" for layer in range(model.cfg.n_layers) for site in SITES]
    places = everywhere(sequences)
    out = forward(model, sequences, logits_at=places, read=dict.fromkeys(names, places))
    assert count_runs == {"packed": 1, "alone": 0}
    expected = [alone(model, ids, names) for ids in sequences]
    assert_close(out.logits, torch.cat([logits for logits, _ in expected]))
    for name in names:
        assert_close(out.states[name], torch.cat([states[name] for _, states in expected]))
    assert attached_hooks(model) == before


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_logits_equal_those_of_the_model_as_published(
    architecture: str, load_tiny: Callable[..., Any], tiny_folder: Callable[..., Path]
) -> None:
    published = AutoModelForCausalLM.from_pretrained(tiny_folder(architecture)).eval()
    sequences = prompts(5, 2, 9)
    out = forward(load_tiny(architecture), sequences, logits_at=everywhere(sequences))
    with torch.no_grad():
        assert_close(out.logits, torch.cat([published(s[None]).logits[0] for s in sequences]))


token_lists = st.lists(
    st.lists(st.sampled_from([5, 90, 301]), min_size=1, max_size=8), min_size=1, max_size=5
)


@pytest.mark.slow
@given(
    token_lists, st.none() | st.integers(0, 8), st.integers(1, 30), st.sampled_from([1, 4, 1000])
)
@settings(max_examples=40, deadline=None)
def test_random_trees_equal_separate_runs_whatever_is_shared_and_however_grouped(
    tiny_model: Any,
    lists: list[list[int]],
    share_until: int | None,
    max_nodes: int,
    min_saved: int,
) -> None:
    sequences = [torch.tensor(ids) for ids in lists]
    places = everywhere(sequences)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MIN_SAVED", min_saved)
        out = forward(
            tiny_model,
            sequences,
            logits_at=places,
            read={POST: places},
            share_until=share_until,
            max_nodes=max_nodes,
        )
    expected = [alone(tiny_model, ids, [POST]) for ids in sequences]
    assert_close(out.logits, torch.cat([logits for logits, _ in expected]))
    assert_close(out.states[POST], torch.cat([states[POST] for _, states in expected]))


@pytest.mark.slow
@pytest.mark.parametrize("compatibility_mode", [False, True], ids=["raw", "compatibility"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_branches_on_kept_stems_equal_separate_runs(
    architecture: str,
    compatibility_mode: bool,
    load_tiny: Callable[..., Any],
    count_runs: dict[str, int],
) -> None:
    """Two stems deep; every site is read on the stems as well as behind them."""
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    assert packed_model.supports_trees(model, 1) == (True, True)
    before = attached_hooks(model)
    inner = [
        torch.cat([ids, tail]) for ids in prompts(30, 28, stem=40) for tail in prompts(4, 6, 5)
    ]
    sequences = [*inner, inner[0][:40], inner[0][:70]]  # two end where a stem does
    names = [f"blocks.{layer}.{site}" for layer in range(model.cfg.n_layers) for site in SITES]
    places = everywhere(sequences)
    count_runs.update(packed=0, alone=0)
    out = forward(
        model, sequences, logits_at=places, read=dict.fromkeys(names, places), max_nodes=12
    )
    assert count_runs["packed"] >= 7
    assert count_runs["alone"] == 0
    expected = [alone(model, ids, names) for ids in sequences]
    assert_close(out.logits, torch.cat([logits for logits, _ in expected]))
    for name in names:
        assert_close(out.states[name], torch.cat([states[name] for _, states in expected]))
    assert attached_hooks(model) == before


@pytest.mark.parametrize("max_nodes", [1, 12, 20, 24, 1000])
def test_budget_of_nodes_changes_the_number_of_runs_and_no_number(
    max_nodes: int, tiny_model: Any, count_runs: dict[str, int]
) -> None:
    sequences = prompts(5, 2, 9, 4)  # 6 + 20 nodes
    places = everywhere(sequences)
    whole = forward(tiny_model, sequences, logits_at=places, read={POST: places})
    count_runs.update(packed=0, alone=0)
    out = forward(tiny_model, sequences, logits_at=places, read={POST: places}, max_nodes=max_nodes)
    assert_equal_outputs(out, whole)
    expected = {1: (0, 4), 12: (0, 4), 20: (2, 0), 24: (1, 1), 1000: (1, 0)}
    assert (count_runs["packed"], count_runs["alone"]) == expected[max_nodes]


@pytest.mark.slow
def test_a_tree_may_have_more_nodes_than_the_context_has_positions(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("gpt2")
    sequences = prompts(*[400] * 3, stem=500)  # 1700 nodes, 1024 positions
    wanted = [(s, 899) for s in range(3)]
    out = forward(model, sequences, logits_at=wanted, max_nodes=2000)
    expected = torch.stack([alone(model, ids, [])[0][-1] for ids in sequences])
    assert_close(out.logits, expected)


def test_requests_come_back_in_their_order_and_may_repeat(tiny_model: Any) -> None:
    sequences = prompts(3, 4)
    places = [(1, 9), (0, 2), (1, 2), (1, 9)]
    out = forward(tiny_model, sequences, logits_at=places, read={POST: places[::-1]}, max_nodes=8)
    every = forward(tiny_model, sequences, logits_at=everywhere(sequences))
    index = {place: row for row, place in enumerate(everywhere(sequences))}
    assert_close(out.logits, every.logits[[index[place] for place in places]])
    assert torch.equal(out.states[POST][0], out.states[POST][3])
    assert_close(out.states[POST][1], out.states[POST][2])  # one shared position
    nothing = forward(tiny_model, sequences, read={POST: []})
    assert nothing.logits.shape == (0, tiny_model.cfg.d_vocab)
    assert nothing.states == {}


def test_bfloat16_runs_and_agrees_within_its_precision(tiny_folder: Callable[..., Path]) -> None:
    model = load_model(tiny_folder("llama"), dtype="bfloat16")
    sequences = prompts(5, 9)
    places = everywhere(sequences)
    out = forward(model, sequences, logits_at=places, read={POST: places})
    assert out.logits.dtype == out.states[POST].dtype == torch.float32
    expected = torch.cat([alone(model, ids, [])[0] for ids in sequences])
    assert supports_packing(model)
    assert_close(out.logits, expected, tolerance=3e-2)


# Models that cannot be packed


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_prompts_beyond_the_sliding_window_run_alone_and_equal_the_published_model(
    architecture: str,
    load_tiny: Callable[..., Any],
    tiny_folder: Callable[..., Path],
    count_runs: dict[str, int],
) -> None:
    model = load_tiny(architecture, sliding_window=16)
    published = AutoModelForCausalLM.from_pretrained(
        tiny_folder(architecture, sliding_window=16), attn_implementation="eager"
    ).eval()
    assert packed_model.attention_window(model) == 16
    assert supports_packing(model)
    for tails, expected in [((10, 10), (1, 0)), ((10, 30), (0, 2))]:
        count_runs.update(packed=0, alone=0)
        sequences = prompts(*tails)
        out = forward(model, sequences, logits_at=everywhere(sequences))
        assert (count_runs["packed"], count_runs["alone"]) == expected
        with torch.no_grad():
            assert_close(out.logits, torch.cat([published(s[None]).logits[0] for s in sequences]))
    wide = load_tiny(architecture)
    unlimited = forward(wide, sequences, logits_at=[(1, 35)]).logits
    assert (unlimited - out.logits[-1]).abs().max() > 1e-2  # the window does matter here


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.5, float("nan"), float("inf")])
def test_a_model_that_fails_the_self_check_runs_alone_and_gives_the_same_numbers(
    error: float,
    tiny_folder: Callable[..., Path],
    tiny_model: Any,
    count_runs: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sequences = prompts(5, 9)
    places = everywhere(sequences)
    read = {POST: places}
    packed = forward(tiny_model, sequences, logits_at=places, read=read)
    model = load_model(tiny_folder("llama"))
    monkeypatch.setattr(packed_model, "packing_error", lambda model, n_tokens, plain: error)
    count_runs.update(packed=0, alone=0)
    assert not supports_packing(model)
    assert_equal_outputs(forward(model, sequences, logits_at=places, read=read), packed)
    assert count_runs == {"packed": 0, "alone": 2}


def test_a_model_that_ignores_or_refuses_the_mask_is_found_out(
    tiny_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_folder("llama"))
    assert packed_model.packing_error(model) < 1e-5
    call = model.original_model.forward

    def ignores_mask(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    def refuses_mask(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        if attention_mask is not None:
            raise ValueError("mask of the wrong shape")
        return call(*args, **kwargs)

    monkeypatch.setattr(model.original_model, "forward", ignores_mask)
    assert packed_model.packing_error(model) > 1e-2
    monkeypatch.setattr(model.original_model, "forward", refuses_mask)
    assert packed_model.packing_error(model) == float("inf")


@pytest.mark.model
def test_packed_equals_separate_on_the_default_model(default_model: Any) -> None:
    assert supports_packing(default_model)
    stem = default_model.tokenizer.encode(
        "The teacher met the farmer near the river. Who was late?"
    )
    ends = [" It is not known.", " The teacher.", " The farmer was, said the teacher."]
    sequences = [torch.tensor(stem + default_model.tokenizer.encode(end)) for end in ends]
    out = forward(default_model, sequences, logits_at=everywhere(sequences))
    expected = torch.cat([alone(default_model, ids, [])[0] for ids in sequences])
    spread = expected.max() - expected.min()
    assert (out.logits - expected).abs().max() < 1e-4 * spread
