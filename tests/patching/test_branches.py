"""Options of any length as branches: the shared run is that of two full forwards, or is not used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InterpError
from interp.models import load_model
from interp.models.verdicts import forget
from interp.patching import Patch, PatchedRuns, attribute, knockout, patched, recorded, sweep
from interp.patching.branches import Reading, over_all_keys, patches_in
from interp.patching.metrics import METRICS, reading_of
from interp.patching.recorded import record_reading
from interp.prompts import PromptPair, make_pair
from tests.conftest import make_tokenizer
from tests.patching.by_hand import TARGET, random_ids, rough_model, rough_pair
from tests.patching.options_by_hand import option_pair, own_option_margin

N = 8
IDS = torch.arange(10, 10 + N)


def reading(a: int, b: int) -> Reading:
    branches = (torch.arange(50, 50 + a), torch.arange(70, 70 + b))
    return Reading(IDS, torch.arange(N - 2, N + a + b), branches)


def test_the_rows_are_the_prompts_then_those_of_each_branch() -> None:
    both = reading(3, 2)
    assert len(both) == N + 5
    first, second = both.forwards
    assert first.ids.tolist() == [*IDS.tolist(), 50, 51, 52]
    assert first.rows.tolist() == list(range(N + 3))
    assert second.ids.tolist() == [*IDS.tolist(), 70, 71]
    assert second.rows.tolist() == [*range(N), N + 3, N + 4]
    # the prompt's rows are read once
    assert [read.tolist() for read in both.reads()] == [[6, 7, 8, 9, 10], [8, 9]]


@pytest.mark.parametrize(("a", "b", "n"), [(0, 0, N), (3, 0, N + 3), (0, 2, N + 2)])
def test_a_branch_without_tokens_is_no_forward(a: int, b: int, n: int) -> None:
    (forward,) = reading(a, b).forwards
    assert len(forward.ids) == n == len(reading(a, b))
    assert forward.rows.tolist() == list(range(n))


def test_a_patch_in_a_forward_has_its_positions_and_its_keys() -> None:
    both = reading(3, 2)
    values = torch.arange(2.0 * 1 * 13).view(2, 1, 13)
    patch = Patch(0, "edges", torch.tensor([N - 1, N + 4]), values, (0,))
    first, second = both.forwards
    (in_first,) = patches_in([patch], first.rows)
    assert in_first.positions.tolist() == [N - 1]
    assert torch.equal(in_first.values, values[:1, :, : N + 3])
    (in_second,) = patches_in([patch], second.rows)
    assert in_second.positions.tolist() == [N - 1, N + 1]  # the second token of its branch
    assert torch.equal(in_second.values, values[..., [*range(N), N + 3, N + 4]])
    only = Patch(0, "resid_pre", torch.tensor([N + 4]), torch.zeros(1, 3))
    assert patches_in([only], first.rows) == []


def test_patterns_over_the_prompts_keys_are_zero_behind_it() -> None:
    given = Patch(1, "pattern", torch.tensor([3]), torch.ones(1, 2, N), (0, 1))
    plain = Patch(1, "z", torch.tensor([3]), torch.ones(1, 1, 4), (0,))
    patch, same = over_all_keys([given, plain], N + 5)
    assert patch.values.shape == (1, 2, N + 5)
    assert bool((patch.values[..., N:] == 0).all())
    assert same is plain


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "gemma3", "neox", "opt"])
def test_the_shared_run_holds_what_the_two_full_runs_hold(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    """States, keys and masks of either branch: its own of prompt + branch, and none of the other."""
    model = rough_model(load_tiny, (architecture, False))
    a, b = torch.tensor([50, 51, 52]), torch.tensor([70, 71])
    prompt = random_ids(18, 0)
    both = Reading(prompt, torch.arange(16, 18 + 5), (a, b))
    run = record_reading(model, both)
    assert run.branched
    assert run.n_positions == 21
    lowest = torch.finfo(torch.float32).min
    for forward, other in zip(both.forwards, ([21, 22], [18, 19, 20]), strict=True):
        own = record_reading(model, Reading(forward.ids, torch.tensor([0])))
        rows = forward.rows
        assert float((run.resid[:, rows] - own.resid).abs().max()) <= 2e-5
        for layer in range(4):
            assert float((run.keys[layer][:, rows] - own.keys[layer]).abs().max()) <= 2e-5
            assert torch.equal(run.masks[layer][rows][:, rows], own.masks[layer])
            assert bool((run.masks[layer][rows[18:]][:, other] == lowest).all())


def shifted(lengths: tuple[int, int], first: int) -> tuple[list[int], list[int]]:
    """Two options of some lengths that differ from token ``first`` on."""
    a = [100 + k for k in range(lengths[0])]
    b = [100 + k if k < first else 200 + k for k in range(lengths[1])]
    return a, b


@pytest.mark.slow
@settings(max_examples=25)
@given(
    lengths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    first=st.integers(0, 6),
    site=st.sampled_from(["resid_pre", "mlp_out", "z", "v"]),
    architecture=st.sampled_from(["gpt2", "gemma3", "qwen2"]),
    seed=st.integers(0, 50),
)
def test_options_of_any_lengths_equal_one_forward_per_branch(
    load_tiny: Callable[..., Any],
    lengths: tuple[int, int],
    first: int,
    site: Any,
    architecture: str,
    seed: int,
) -> None:
    """Leading tokens in common, none, or all of the shorter one: then there is no margin."""
    model = rough_model(load_tiny, (architecture, False))
    pair = option_pair(model, shifted(lengths, first), seed=seed)
    prefix = first >= min(lengths)
    assert (pair.target is None) == prefix
    assert pair.options is not None
    assert pair.options.n_shared == (0 if prefix else first)
    options: dict[str, Any] = {"site": site, "metric": "option_margin", "progress": False}
    fast = sweep(model, pair, **options)
    slow = sweep(model, pair, method="hooked", **options)
    assert not fast.notes
    assert float((fast.values - slow.values).abs().max()) <= 2e-5
    own = own_option_margin(model, pair, pair.destination.ids)
    assert float(fast.baseline) == pytest.approx(own, abs=1e-5)


# What the exact engine may rest on


@pytest.mark.slow
def test_a_verdict_on_plain_prompts_permits_nothing_about_branches(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branches that see each other are noticed, though the same layers were compared without any."""
    model = rough_model(load_tiny, ("llama", False))
    pair = option_pair(model, n=18)
    wanted = sweep(model, pair, metric="option_margin", method="hooked", progress=False)
    assert not sweep(model, pair, progress=False).notes
    right = recorded._mask

    def wrong(masks: Any, n: int) -> Tensor:
        mask = right(masks, n)
        mask[-1, n] = 0.0  # the second branch's last row sees the first one's first
        return mask

    monkeypatch.setattr(recorded, "_mask", wrong)
    result = sweep(model, pair, metric="option_margin", progress=False)
    (note,) = result.notes
    assert "one forward per cell" in note
    assert float((result.values - wanted.values).abs().max()) <= 1e-5
    monkeypatch.undo()
    assert not sweep(model, pair, progress=False).notes  # the margin needs no branch


@pytest.mark.slow
def test_positions_of_a_branch_that_are_off_by_one_are_noticed(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = rough_model(load_tiny, ("qwen2", False))
    pair = option_pair(model, n=18)
    forget(model)
    right = recorded._calls

    def wrong(calls: Any, merge: Any) -> Any:
        found = []
        for args, kwargs in right(calls, merge):
            cos, sin = kwargs["position_embeddings"]
            moved = tuple(torch.cat([e[:, :-1], e[:, -2:-1]], dim=1) for e in (cos, sin))
            found.append((args, {**kwargs, "position_embeddings": moved}))
        return tuple(found)

    monkeypatch.setattr(recorded, "_calls", wrong)
    (note,) = sweep(model, pair, metric="option_margin", progress=False).notes
    assert "one forward per cell" in note
    forget(model)


@pytest.mark.slow
@pytest.mark.parametrize("n_tokens", [(3, 5), (1, 4)])
def test_rotary_frequencies_that_depend_on_the_length_are_refused(
    n_tokens: tuple[int, int], tmp_path: Path
) -> None:
    """Beyond its first length the model turns the prompt otherwise for each option."""
    tokenizer = make_tokenizer()
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16,
        rope_scaling={"rope_type": "dynamic", "factor": 4.0}, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip
    config.initializer_range = 0.3
    torch.manual_seed(0)
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    model.cfg.n_ctx = 64
    options = [[60 + k for k in range(n)] for n in n_tokens]
    options[1] = [90, *options[1][1:]]  # they differ from the first token on
    pair = option_pair(model, options, n=20)
    for read in (sweep, attribute):
        with pytest.raises(InterpError, match="depends on the text behind it") as refused:
            read(model, pair, metric="option_margin", layers=[1], progress=False)
        assert "metric='margin'" in str(refused.value)
    with pytest.raises(InterpError, match="depends on the text behind it"):
        sweep(model, pair, metric="option_margin", layers=[1], method="hooked", progress=False)
    assert sweep(model, pair, layers=[1], progress=False).values.isfinite().all()
    alike = option_pair(model, [options[0], [90, *options[0][1:]]], n=20)
    result = sweep(model, alike, metric="option_margin", layers=[1], progress=False)
    wanted = own_option_margin(model, alike, alike.destination.ids)
    assert abs(float(result.baseline) - wanted) <= 1e-5


def steer(activation: Tensor, hook: Any) -> Tensor:
    return activation + 0.5 * torch.linspace(-1, 1, activation.shape[-1])


def steer_last(activation: Tensor, hook: Any) -> Tensor:
    activation = activation.clone()
    activation[:, -1] += 0.5
    return activation


@pytest.mark.slow
@pytest.mark.parametrize(("hook", "fast"), [(steer, True), (steer_last, False)])
def test_hooks_on_the_model_reach_the_options_rows(
    load_tiny: Callable[..., Any], hook: Callable[..., Tensor], fast: bool
) -> None:
    model = rough_model(load_tiny, ("llama", False))
    pair = option_pair(model, n=18)
    options: dict[str, Any] = {"metric": "option_margin", "progress": False}
    plain = sweep(model, pair, **options).values
    with model.hooks(fwd_hooks=[("blocks.1.hook_mlp_out", hook)]):
        result = sweep(model, pair, **options)
        wanted = sweep(model, pair, method="hooked", **options)
    assert (not result.notes) == fast
    assert float((result.values - wanted.values).abs().max()) <= 1e-5
    assert float((result.values - plain).abs().max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_exact_to_its_rounding(
    tiny_folder: Callable[..., Path], dtype: str
) -> None:
    model = load_model(tiny_folder("llama", random_vectors=True), dtype=dtype)
    pair = option_pair(model, n=18)
    options: dict[str, Any] = {"metric": "option_margin", "progress": False}
    fast, slow = sweep(model, pair, **options), sweep(model, pair, method="hooked", **options)
    assert not fast.notes
    assert float((fast.values - slow.values).abs().max()) <= 0.1


# Memory


@pytest.mark.slow
def test_a_budget_that_is_halved_changes_no_number(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = rough_model(load_tiny, ("llama", False))
    pair = option_pair(model, n=18)
    options: dict[str, Any] = {
        "site": "z", "cells": "layer_head_pos", "positions": "all", "metric": "option_margin",
        "progress": False,
    }  # fmt: skip
    wanted = sweep(model, pair, **options)
    real, failed = patched.run_cells, []

    def run_out_once(*args: Any, **kwargs: Any) -> None:
        if len(args[2]) > 1 and not failed:
            failed.append(kwargs["max_bytes"])
            raise MemoryError
        real(*args, **kwargs)

    monkeypatch.setattr(patched, "run_cells", run_out_once)
    result = sweep(model, pair, **options)
    assert failed
    (note,) = result.notes
    assert "memory ran out" in note
    assert float((result.values - wanted.values).abs().max()) <= 1e-5
    monkeypatch.undo()
    with pytest.raises(InterpError, match="too small for one patched run"):
        sweep(model, pair, max_bytes=10_000, **options)
    small = sweep(model, pair, max_bytes=500_000, **options)
    assert float((small.values - wanted.values).abs().max()) <= 1e-5


# What is refused


def test_what_has_no_option_margin_is_refused(tiny_model: Any) -> None:
    plain = rough_pair(tiny_model)
    for call in (sweep, knockout_of_p3):
        with pytest.raises(InterpError, match="no options, so no option margin"):
            call(tiny_model, plain, metric="option_margin", progress=False)
    a, b = random_ids(6, 0), random_ids(6, 1)
    with pytest.raises(InterpError, match="give one of answers, target, options"):
        make_pair(tiny_model, a, b, target=TARGET, options=([1], [2]))
    with pytest.raises(InterpError, match="an option has no tokens"):
        make_pair(tiny_model, a, b, options=([], [2]))
    with pytest.raises(InterpError, match="outside the model's vocabulary"):
        make_pair(tiny_model, a, b, options=([1], [99_999]))


def knockout_of_p3(model: Any, pair: PromptPair, **options: Any) -> Any:
    return knockout(model, pair, to="p3", **options)


def test_options_beyond_the_context_are_refused_where_they_are_read(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = option_pair(tiny_model)
    monkeypatch.setattr(tiny_model.cfg, "n_ctx", len(pair.destination) + 2)
    sweep(tiny_model, pair, layers=[0], progress=False)
    with pytest.raises(InterpError, match="with its options: 13 tokens"):
        sweep(tiny_model, pair, metric="option_margin", progress=False)


def test_patched_runs_take_branches_of_their_own(tiny_model: Any) -> None:
    """Without a pair: the logits of all rows read, prompt and branches."""
    pair = option_pair(tiny_model)
    wanted = reading_of(pair.destination.ids, pair, METRICS)
    runs = PatchedRuns(tiny_model, [wanted.prompt], [wanted.read], branches=[wanted.branches])
    assert not runs.notes
    with torch.no_grad():
        expected = [
            tiny_model(forward.ids[None])[0, read]
            for forward, read in zip(wanted.forwards, wanted.reads(), strict=True)
        ]
    assert float((runs.logits[0] - torch.cat(expected)).abs().max()) <= 1e-5
