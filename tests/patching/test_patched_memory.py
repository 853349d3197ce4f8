"""Memory: running out of it, too little of it, and that it never changes a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from interp.errors import InterpError
from interp.models.verdicts import forget
from interp.patching import ALL, PatchSite, SweepResult, patched, sweep, wavefront
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import N_LAYERS, TARGET, random_ids, rough_model, rough_pair

pytestmark = pytest.mark.slow

OUT_OF_MEMORY = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError,
}
SMALL = 400_000
OPTIONS: dict[str, Any] = {"site": "z", "cells": "layer_head_pos", "positions": "all"}


@pytest.fixture(scope="module")
def model(load_tiny: Callable[..., Any]) -> Any:
    return rough_model(load_tiny, ("llama", False))


@pytest.fixture
def pair(model: Any) -> PromptPair:
    return rough_pair(model)


@pytest.fixture(scope="module")
def long_pair(model: Any) -> PromptPair:
    source = random_ids(18, 0)
    destination = source.clone()
    destination[3] += 1
    return make_pair(model, source, destination, target=TARGET)


@pytest.fixture(scope="module")
def expected(model: Any, long_pair: PromptPair) -> SweepResult:
    return sweep(model, long_pair, **OPTIONS, progress=False)


@pytest.fixture(scope="module")
def tight(model: Any, long_pair: PromptPair) -> int:
    """A budget for two batches of the cells of :data:`OPTIONS`, that can be halved once."""
    seen: list[tuple[int, int]] = []
    real = patched.run_cells

    def run_cells(model: Any, runs: Any, cells: Any, *args: Any, **kwargs: Any) -> None:
        seen.append((kwargs["max_bytes"], wavefront.least_bytes(model, runs, cells)))
        real(model, runs, cells, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patched, "run_cells", run_cells)
        sweep(model, long_pair, **OPTIONS, max_bytes=1 << 30, progress=False)
    left, least = seen[-1]
    fixed = (1 << 30) - left - patched._RESERVE
    return int((fixed + 2.2 * least) / 0.75)  # a quarter is the reserve of a budget this small


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """``failing(error, at=3)``: the engine's ``run_block`` raises at its third call (and later)."""

    def install(error: Callable[[], Exception], *, at: int, times: int = 1) -> list[int]:
        calls: list[int] = []
        real = wavefront.run_block

        def run_block(*args: Any, **kwargs: Any) -> Any:
            calls.append(len(calls) + 1)
            if at <= calls[-1] < at + times:
                raise error()
            return real(*args, **kwargs)

        monkeypatch.setattr(wavefront, "run_block", run_block)
        return calls

    return install


def run(model: Any, pair: PromptPair, **options: Any) -> SweepResult:
    return sweep(model, pair, positions="all", progress=False, **options)


@pytest.mark.parametrize("at", [1, 40])
@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_running_out_of_memory_in_the_middle_ends_in_the_same_numbers(
    model: Any,
    long_pair: PromptPair,
    expected: SweepResult,
    tight: int,
    failing: Callable[..., list[int]],
    kind: str,
    at: int,
) -> None:
    calls = failing(OUT_OF_MEMORY[kind], at=at)
    result = sweep(model, long_pair, **OPTIONS, max_bytes=tight, progress=False)
    assert len(calls) > at
    assert float((result.values - expected.values).abs().max()) <= 1e-5
    assert float(result.effect().abs().max()) > 1e-2
    (note,) = result.notes
    assert note.startswith("memory ran out: went on with")
    assert not expected.notes


def test_cells_that_were_finished_before_are_not_run_again(
    model: Any, long_pair: PromptPair, tight: int, failing: Callable[..., list[int]]
) -> None:
    def run_tight() -> SweepResult:
        return sweep(model, long_pair, **OPTIONS, max_bytes=tight, progress=False)

    with pytest.MonkeyPatch.context() as patch:
        batches = _count_batches(patch)
        calls = failing(MemoryError, at=10**9)
        run_tight()
    assert len(batches) >= 2
    undisturbed = len(calls)
    again = failing(MemoryError, at=undisturbed)  # in the last batch
    assert run_tight().notes
    # half the rows at a time: twice the calls, but for a part of the cells
    assert undisturbed < len(again) < 2 * undisturbed


def _count_batches(patch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    real = wavefront._Engine.run

    def run(self: Any, batch: list[int], consume: Any) -> None:
        sizes.append(len(batch))
        real(self, batch, consume)

    patch.setattr(wavefront._Engine, "run", run)
    return sizes


def test_running_out_of_memory_twice_halves_the_budget_twice(
    model: Any, pair: PromptPair, failing: Callable[..., list[int]]
) -> None:
    expected = run(model, pair)
    failing(OUT_OF_MEMORY["cuda"], at=2, times=2)
    result = run(model, pair, max_bytes=64 << 20)
    assert [int(note.split()[-2]) for note in result.notes] == [23, 11]
    assert float((result.values - expected.values).abs().max()) <= 1e-5


def test_memory_that_never_suffices_ends_in_one_line(
    model: Any, pair: PromptPair, failing: Callable[..., list[int]]
) -> None:
    run(model, pair)
    calls = failing(OUT_OF_MEMORY["cpu"], at=1, times=10**9)
    with pytest.raises(InterpError, match="too small for one patched run of these prompts"):
        run(model, pair, max_bytes=8 << 20)
    assert 1 < len(calls) < 20


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError("no"), KeyError("position_ids")]
)
def test_another_error_is_not_swallowed(
    model: Any, pair: PromptPair, failing: Callable[..., list[int]], error: Exception
) -> None:
    run(model, pair)
    calls = failing(lambda: error, at=3)
    with pytest.raises(type(error)) as caught:
        run(model, pair)
    assert caught.value is error
    assert len(calls) == 3


@pytest.fixture
def unchecked(model: Any) -> Iterator[Any]:
    forget(model)
    yield model
    forget(model)


def test_running_out_of_memory_during_the_self_check_is_survived_as_well(
    unchecked: Any, pair: PromptPair, failing: Callable[..., list[int]]
) -> None:
    expected = run(unchecked, pair, method="hooked")
    failing(OUT_OF_MEMORY["cuda"], at=1)
    result = run(unchecked, pair)
    assert float((result.values - expected.values).abs().max()) <= 1e-4


@pytest.mark.parametrize("max_bytes", [0, 1000, 20_000])
def test_a_budget_too_small_for_one_run_is_one_clear_line(
    model: Any, pair: PromptPair, max_bytes: int
) -> None:
    with pytest.raises(InterpError) as caught:
        run(model, pair, max_bytes=max_bytes)
    (line,) = str(caught.value).splitlines()
    assert line == (
        "a budget of 0 MiB is too small for one patched run of these prompts: give max_bytes of at "
        "least 1 MiB"
    )
    assert not run(model, pair, max_bytes=1 << 20).notes  # what the line says is enough


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "z", "k", "pattern"])
def test_values_do_not_depend_on_the_budget_and_equal_calls_give_equal_bytes(
    model: Any, pair: PromptPair, site: PatchSite
) -> None:
    cells = "layer_head_pos" if site in ("z", "k", "pattern") else "layer_pos"
    plenty = run(model, pair, site=site, cells=cells)
    for max_bytes in (SMALL, 1 << 20):
        one, other = (run(model, pair, site=site, cells=cells, max_bytes=max_bytes) for _ in "ab")
        assert torch.equal(one.values, other.values)
        assert float((one.values - plenty.values).abs().max()) <= 1e-5
        assert not one.notes


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_values_do_not_depend_on_the_rows_that_a_block_sees_at_once(
    model: Any, pair: PromptPair, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(model, pair)
    with monkeypatch.context() as patch:
        patch.setitem(wavefront.CHUNK_ROWS, "cpu", rows)
        result = run(model, pair)
    assert float((result.values - expected.values).abs().max()) <= 1e-5


def test_pairs_are_taken_in_batches_that_fit(model: Any) -> None:
    """Six pairs at a budget that holds one or two at a time, against plenty."""
    pairs = [rough_pair(model)]
    pairs += [pairs[0].swap(), *pairs, pairs[0].swap(), *pairs, pairs[0].swap()]
    pairs = [replace(pair, target=pairs[0].target) for pair in pairs]
    plenty = sweep(model, pairs, spans=["p3", "p6", ALL], progress=False)
    little = sweep(model, pairs, spans=["p3", "p6", ALL], max_bytes=SMALL, progress=False)
    assert plenty.values.shape == (N_LAYERS, 3, 6)
    assert float((little.values - plenty.values).abs().max()) <= 1e-5
    assert torch.equal(plenty.values[..., 0], plenty.values[..., 2])
    assert torch.allclose(plenty.source_baseline[0], plenty.baseline[1], atol=1e-5)
