"""Streaming reads against one run per prompt: reductions, averages, budgets, failures."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.activations import places_of, stream
from interp.data import load_items
from interp.errors import InterpError
from interp.models import load_model
from interp.models.limits import NotFiniteError
from interp.prompts import TokenizedPrompt, make_pair

POST, PRE, MLP = "blocks.2.hook_resid_post", "blocks.0.hook_resid_pre", "blocks.1.hook_mlp_out"
AXES = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))


def project(rows: Tensor) -> Tensor:
    return rows.float() @ AXES


def prompts(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 400, (n,), generator=generator) for n in lengths]


MIXED = prompts(5, 90, 1, 33, 7, 7, 250, 12, 64, 3)


def by_hand(model: Any, ids: Tensor, name: str) -> Tensor:
    with torch.no_grad():
        _, cache = model.run_with_cache(ids[None], names_filter=lambda other: other == name)
    return cache[name][0].float()


def close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(
        one, other, atol=2e-5 * float(other.abs().max())
    )


def collect(*args: Any, **options: Any) -> list[dict[str, Tensor]]:
    found = list(stream(*args, progress=False, **options))
    assert [index for index, _ in found] == list(range(len(found)))
    return [values for _, values in found]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox"])
def test_rows_and_reductions_equal_one_run_per_prompt_in_the_order_of_the_prompts(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    hooks = {POST: project, MLP: None, PRE: lambda rows: rows.norm(dim=-1)}
    for where in ("last", "all"):
        found = collect(model, MIXED, hooks, positions=where)
        assert len(found) == len(MIXED)
        for ids, values in zip(MIXED, found, strict=True):
            rows = slice(-1, None) if where == "last" else slice(None)
            assert close(values[POST], by_hand(model, ids, POST)[rows] @ AXES)
            assert close(values[MLP], by_hand(model, ids, MLP)[rows])
            assert close(values[PRE], by_hand(model, ids, PRE)[rows].norm(dim=-1))


def test_averages_are_taken_after_the_reduction(tiny_model: Any) -> None:
    item = load_items("bundled:choices", limit=1, seed=0)[0]
    pair = make_pair(tiny_model, item, "instructed")
    both = [pair.source, pair.destination]
    special = set(tiny_model.tokenizer.all_special_ids)

    def norms(rows: Tensor) -> Tensor:
        return rows.norm(dim=-1, keepdim=True)

    for where in ("mean", "instruction", "instruction:last", "instruction:all", "question"):
        found = collect(tiny_model, both, {POST: norms, MLP: None}, positions=where)
        for prompt, values in zip(both, found, strict=True):
            places = places_of(prompt, where, special)
            picked = list(places.positions)
            for name, reduced in ((POST, norms), (MLP, lambda rows: rows)):
                expected = reduced(by_hand(tiny_model, prompt.ids, name)[picked])
                if places.averaged:
                    expected = expected.mean(0, keepdim=True)
                assert close(values[name], expected), where


def test_one_position_per_prompt_may_count_from_the_end(tiny_model: Any) -> None:
    sequences, positions = prompts(4, 9, 2), [0, -3, 1]
    found = collect(tiny_model, sequences, {POST: None}, positions=positions)
    for ids, position, values in zip(sequences, positions, found, strict=True):
        assert close(values[POST], by_hand(tiny_model, ids, POST)[position][None])


def test_values_are_float32_on_the_cpu_without_gradients(tiny_model: Any) -> None:
    (values,) = collect(tiny_model, prompts(4), {POST: lambda rows: rows.double().argmax(-1)})
    assert (values[POST].dtype, values[POST].device.type) == (torch.float32, "cpu")
    assert not values[POST].requires_grad


@pytest.mark.parametrize("max_bytes", [1, 4 * 32 * 40])
def test_a_tiny_budget_changes_the_batches_and_not_the_values(
    tiny_model: Any, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect(tiny_model, MIXED, {POST: None}, positions="all")
    sizes = batch_sizes(monkeypatch)
    small = collect(tiny_model, MIXED, {POST: None}, positions="all", max_bytes=max_bytes)
    assert sum(sizes) == len(MIXED)
    if max_bytes == 1:
        assert sizes == [1] * len(MIXED)
    else:  # 40 rows: 5 + (90 alone) + 1 + 33 (34) + 7 + 7 (not 250) ...
        assert sizes == [1, 1, 2, 2, 1, 1, 1, 1]
    for one, other in zip(whole, small, strict=True):
        assert close(one[POST], other[POST])


def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each call of ``forward`` gets from now on."""
    module = import_module("interp.activations.stream")
    sizes: list[int] = []
    forward = module.forward

    def spy(model: Any, sequences: Any, **options: Any) -> Any:
        sizes.append(len(sequences))
        return forward(model, sequences, **options)

    monkeypatch.setattr(module, "forward", spy)
    return sizes


def failing_above(
    monkeypatch: pytest.MonkeyPatch, limit: int, error: BaseException
) -> list[tuple[int, int]]:
    """``forward`` runs out of memory with more than ``limit`` prompts; the calls it got."""
    module = import_module("interp.activations.stream")
    calls: list[tuple[int, int]] = []
    forward = module.forward

    def weak(model: Any, sequences: Any, **options: Any) -> Any:
        calls.append((len(sequences), options["max_nodes"]))
        if len(sequences) > limit:
            raise error
        return forward(model, sequences, **options)

    monkeypatch.setattr(module, "forward", weak)
    return calls


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_when_memory_runs_out_the_batch_is_halved_and_the_values_are_the_same(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    whole = collect(tiny_model, MIXED, {POST: project})
    calls = failing_above(monkeypatch, 3, error)
    halved = collect(tiny_model, MIXED, {POST: project})
    assert [n for n, _ in calls[:3]] == [10, 5, 2]
    assert calls[2][1] == calls[0][1] // 4
    assert sum(n for n, _ in calls if n <= 3) == len(MIXED)
    for one, other in zip(whole, halved, strict=True):
        assert close(one[POST], other[POST])


def test_a_single_prompt_too_large_for_memory_and_other_errors_are_raised(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_above(monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        collect(tiny_model, MIXED, {POST: None})
    calls = failing_above(monkeypatch, 0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        collect(tiny_model, MIXED, {POST: None})
    assert len(calls) == 1


@pytest.mark.slow
def test_no_activation_outlives_its_hook_when_it_is_reduced(tiny_model: Any) -> None:
    """300 prompts of mixed lengths: what is alive is of the reduced width, batch by batch."""
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def reduce(rows: Tensor) -> Tensor:
        nonlocal most
        alive.append(weakref.ref(rows))
        most = max(most, sum(ref() is not None for ref in alive))
        return rows @ AXES

    sequences = prompts(*[3 + 7 * k % 60 for k in range(300)])
    kept = 0
    for _, values in stream(tiny_model, sequences, {POST: reduce}, positions="all", progress=False):
        kept += values[POST].numel()
        assert all(ref() is None for ref in alive)
    assert most == 1
    assert len(alive) > 1
    assert kept == 3 * sum(len(ids) for ids in sequences)


def test_batches_are_run_as_they_are_asked_for(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a stream costs half of the forwards: nothing is read ahead of the current batch."""
    sizes = batch_sizes(monkeypatch)
    reading = stream(tiny_model, prompts(*[4] * 200), {POST: project}, progress=False)
    assert sizes == []
    assert next(reading)[0] == 0
    assert len(sizes) == 1
    assert sizes[0] < 200


def test_hooks_are_gone_after_every_step_and_after_an_exception(tiny_model: Any) -> None:
    def hooks() -> int:
        return sum(len(point.fwd_hooks) for point in tiny_model.hook_dict.values())

    def explode(rows: Tensor) -> Tensor:
        raise RuntimeError("boom")

    before = hooks()
    for _ in stream(tiny_model, prompts(3, 4), {POST: None}, progress=False):
        assert hooks() == before
    with pytest.raises(RuntimeError, match="boom"):
        collect(tiny_model, prompts(3, 4), {POST: explode})
    assert hooks() == before


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, 17, 130])
def test_a_nan_names_the_hook_and_the_number_of_the_prompt_in_any_batch(
    tiny_folder: Callable[..., Path], bad: int
) -> None:
    fragile = load_model(tiny_folder("llama"))
    sequences = prompts(*[4] * 140)
    sequences[bad][2] = 401
    (embedding,) = [
        value for name, value in fragile.original_model.named_parameters() if "embed_tokens" in name
    ]
    with torch.no_grad():
        embedding[401] = float("nan")
    with pytest.raises(NotFiniteError, match=rf"^{PRE} of prompt {bad} is not finite") as caught:
        collect(fragile, sequences, {PRE: None}, positions="all")
    assert (caught.value.what, caught.value.prompt) == (PRE, bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": []}, "no prompts to read"),
        ({"prompts": prompts(3, 1025)}, "prompt 1 has 1025 tokens, must be 1 to 1024"),
        ({"positions": "question"}, "bare token ids have no spans"),
        ({"positions": [0]}, "1 positions for 2 prompts"),
        ({"positions": [0, 4]}, r"position 4 is outside prompt 1, 0\.\.3"),
        ({"hooks": {"blocks.9.hook_resid_post": None}}, "no hook 'blocks.9.hook_resid_post'"),
    ],
)
def test_wrong_requests_say_what_was_wrong(
    tiny_model: Any, options: dict[str, Any], message: str
) -> None:
    request = {"prompts": prompts(3, 4), "hooks": {POST: None}, **options}
    with pytest.raises(InterpError, match=message):
        collect(tiny_model, **request)


def test_prompts_and_their_ids_are_read_alike(tiny_model: Any) -> None:
    ids = prompts(6)[0]
    prompt = TokenizedPrompt(ids, {"all": slice(0, 6)}, ("t",) * 6, "t" * 6)
    one, other = (collect(tiny_model, [p], {POST: None})[0][POST] for p in (ids, prompt))
    assert torch.equal(one, other)
