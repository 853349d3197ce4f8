"""The exact engine: where cells enter, what is computed, and that order and chunks do not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.patching import Cell, Patch, PatchedRuns, PatchSite, wavefront
from interp.patching.blocks import record
from interp.patching.hooked import run_cell
from interp.patching.rows import UnpatchedRun
from interp.patching.wavefront import least_bytes, run_cells
from tests.patching.by_hand import N_LAYERS, activations, random_ids, rough_model

N, LAST = 9, N_LAYERS - 1
CLOSE = 1e-5
"""Of the largest logit: float32 and another order of sums."""

PLENTY = 1 << 30
SITES: list[PatchSite] = [
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "z",
    "k",
    "v",
]


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    """Grouped queries; a window, soft caps and norms behind attention and MLP."""
    return rough_model(load_tiny, (request.param, False))


@pytest.fixture(scope="module")
def runs(model: Any) -> list[UnpatchedRun]:
    """Two prompts of different length; of each the logits at three positions are read."""
    return [
        record(model, random_ids(n, seed), torch.tensor([2, n - 3, n - 1]))
        for n, seed in ((N, 0), (N - 2, 1))
    ]


@pytest.fixture(scope="module")
def other(model: Any) -> dict[str, list[Tensor]]:
    """Activations of another prompt, to patch with."""
    return {site: activations(model, random_ids(N, 7), site) for site in (*SITES, "q")}


def patch_of(
    other: dict[str, list[Tensor]], site: PatchSite, layer: int, positions: Sequence[int]
) -> Patch:
    values = other[site][layer][list(positions)]
    heads = tuple(range(values.shape[1])) if values.ndim == 3 else ()
    return Patch(layer, site, torch.tensor(positions), values, heads)


def some_cells(other: dict[str, list[Tensor]]) -> list[Cell]:
    """Many kinds at once: both prompts, all sites, several positions, windows of layers."""
    cells = [
        Cell(run, (patch_of(other, site, layer, positions),))
        for run, positions in ((0, [4]), (1, [3]), (0, [2, 6]))
        for site in SITES
        for layer in (1, LAST)
    ]
    for first, second in (("z", "mlp_out"), ("resid_pre", "v"), ("resid_post", "z")):
        # the patch of the later layer begins before that of the first one, and after it
        for early, late in ((5, 3), (3, 5)):
            one, two = patch_of(other, first, 1, [early]), patch_of(other, second, 2, [late])
            cells.append(Cell(0, (one, two)))
    return cells


def run_all(
    model: Any, runs: Sequence[UnpatchedRun], cells: Sequence[Cell], max_bytes: int = PLENTY
) -> list[Tensor]:
    """Logits ``[read, d_vocab]`` of every cell; each is handed over exactly once."""
    found: dict[int, Tensor] = {}

    def consume(indices: list[int], logits: Tensor) -> None:
        assert len({cells[index].run for index in indices}) == 1
        assert not found.keys() & set(indices)
        found.update(zip(indices, logits.clone(), strict=True))

    run_cells(model, runs, cells, consume, max_bytes=max_bytes)
    assert sorted(found) == list(range(len(cells)))
    return [found[index] for index in range(len(cells))]


def by_hooks(model: Any, runs: Sequence[UnpatchedRun], cell: Cell) -> Tensor:
    """One full forward with TransformerLens's hooks."""
    return run_cell(model, runs[cell.run].ids, cell.patches, runs[cell.run].read)


def require_equal(
    found: Sequence[Tensor], expected: Sequence[Tensor], close: float = CLOSE
) -> None:
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) <= close * float(other.abs().max())


@pytest.fixture(scope="module")
def cells(other: dict[str, list[Tensor]]) -> list[Cell]:
    return some_cells(other)


@pytest.fixture(scope="module")
def expected(model: Any, runs: list[UnpatchedRun], cells: list[Cell]) -> list[Tensor]:
    return [by_hooks(model, runs, cell) for cell in cells]


@contextmanager
def rows_of_every_block(model: Any) -> Iterator[list[int]]:
    """Rows that go through the MLP of each layer."""
    counts = [0] * N_LAYERS

    def counter(layer: int) -> Callable[..., None]:
        def count(module: Any, args: tuple[Tensor, ...], out: Any) -> None:
            counts[layer] += args[0].shape[1]

        return count

    handles = [
        block.mlp.register_forward_hook(counter(layer)) for layer, block in enumerate(model.blocks)
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.slow
def test_many_cells_at_once_are_one_full_forward_each(
    model: Any, runs: list[UnpatchedRun], cells: list[Cell], expected: list[Tensor]
) -> None:
    """At all positions that are read: before the patch, at it and behind it."""
    require_equal(run_all(model, runs, cells), expected)
    own = [runs[cell.run].logits for cell in cells]
    changed = [float((a - b).abs().max()) for a, b in zip(expected, own, strict=True)]
    assert sum(change > 1e-2 for change in changed) > len(cells) / 2


@pytest.mark.slow
@pytest.mark.parametrize("site", ["resid_pre", "resid_post", "z", "v"])
def test_entering_anywhere_with_its_own_activations_is_the_unpatched_run(
    model: Any, runs: list[UnpatchedRun], site: PatchSite
) -> None:
    own = {site: activations(model, runs[0].ids, site)}
    cells = [
        Cell(0, (patch_of(own, site, layer, [position]),))
        for layer in range(N_LAYERS)
        for position in range(N)
    ]
    require_equal(run_all(model, runs, cells), [runs[0].logits] * len(cells))


def test_entering_a_layer_later_gives_the_same_rows(
    model: Any, runs: list[UnpatchedRun], other: dict[str, list[Tensor]]
) -> None:
    """What is set after layer l - 1 is set before layer l: one enters narrow, the other spreads."""
    for layer in range(1, N_LAYERS):
        values = other["resid_pre"][layer]
        after, before = (
            Cell(0, (Patch(at, site, torch.tensor([3, 5]), values[[3, 5]]),))
            for at, site in ((layer - 1, "resid_post"), (layer, "resid_pre"))
        )
        both = run_all(model, runs, [after, before])
        require_equal(both[:1], both[1:])


def test_the_order_of_the_cells_does_not_matter(
    model: Any, runs: list[UnpatchedRun], cells: list[Cell]
) -> None:
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0)).tolist()
    straight = run_all(model, runs, cells)
    shuffled = run_all(model, runs, [cells[index] for index in order])
    require_equal(shuffled, [straight[index] for index in order], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("chunk_rows", [1, 13])
def test_the_size_of_the_chunks_does_not_matter(
    model: Any,
    runs: list[UnpatchedRun],
    cells: list[Cell],
    chunk_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Smaller than one cell, so that each runs alone; enough for two or three."""
    whole = run_all(model, runs, cells)
    monkeypatch.setitem(wavefront.CHUNK_ROWS, "cpu", chunk_rows)
    require_equal(run_all(model, runs, cells), whole)


@pytest.mark.slow
def test_the_least_budget_runs_the_cells_in_batches(
    model: Any, runs: list[UnpatchedRun], cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_all(model, runs, cells)
    batches: list[int] = []
    real = wavefront._Engine.run

    def counted(engine: Any, batch: Sequence[int], consume: Any) -> None:
        batches.append(len(batch))
        real(engine, batch, consume)

    monkeypatch.setattr(wavefront._Engine, "run", counted)
    require_equal(run_all(model, runs, cells, least_bytes(model, runs, cells)), whole)
    assert len(batches) > 1
    assert sum(batches) == len(cells)


def test_equal_calls_give_equal_bytes(
    model: Any, runs: list[UnpatchedRun], cells: list[Cell]
) -> None:
    for one, again in zip(run_all(model, runs, cells), run_all(model, runs, cells), strict=True):
        assert torch.equal(one, again)


def test_no_cells_are_no_work(model: Any, runs: list[UnpatchedRun]) -> None:
    with rows_of_every_block(model) as counts:
        assert run_all(model, runs, []) == []
    assert counts == [0] * N_LAYERS
    patched = PatchedRuns(model, [runs[0].ids], [runs[0].read])
    patched.run([], lambda indices, logits: pytest.fail("nothing was asked for"))


@pytest.mark.parametrize("site", SITES)
def test_one_cell_at_the_last_layer_and_the_last_position(
    model: Any, runs: list[UnpatchedRun], other: dict[str, list[Tensor]], site: PatchSite
) -> None:
    """One row of one layer, whose logits are the only ones that change."""
    cell = Cell(0, (patch_of(other, site, LAST, [N - 1]),))
    with rows_of_every_block(model) as counts:
        (found,) = run_all(model, runs, [cell])
    assert counts == [0, 0, 0, 1]
    require_equal([found], [by_hooks(model, runs, cell)])
    assert torch.equal(found[:-1], runs[0].logits[:-1])
    assert not torch.equal(found[-1], runs[0].logits[-1])


def test_positions_before_the_start_keep_the_destinations_logits(
    model: Any, runs: list[UnpatchedRun], other: dict[str, list[Tensor]]
) -> None:
    """Reads at 2, 6 and 8, and cells that start before, at and behind each of them."""
    starts = [0, 2, 3, 6, 7, 8]
    cells = [Cell(0, (patch_of(other, "resid_pre", 1, [start]),)) for start in starts]
    for start, logits in zip(starts, run_all(model, runs, cells), strict=True):
        same = [bool(torch.equal(a, b)) for a, b in zip(logits, runs[0].logits, strict=True)]
        assert same == [position < start for position in (2, 6, 8)]


@pytest.mark.parametrize("site", ["resid_pre", "z"])
def test_only_rows_that_can_change_and_are_needed_are_computed(
    model: Any, other: dict[str, list[Tensor]], site: PatchSite
) -> None:
    """Every layer and each of the last T positions: T(T + 1)/2 rows for each layer above, one row
    of the last layer. Where a patch stays in its row, its own layer is one row as well."""
    run = record(model, random_ids(N, 0), torch.tensor([N - 1]))
    tail = 4
    cells = [
        Cell(0, (patch_of(other, site, layer, [position]),))
        for layer in range(N_LAYERS)
        for position in range(N - tail, N)
    ]
    told: list[int] = []
    with rows_of_every_block(model) as counts:
        run_cells(model, [run], cells, lambda *_: None, max_bytes=PLENTY, advance=told.append)
    triangle = tail * (tail + 1) // 2
    if site == "resid_pre":
        wanted = [triangle, 2 * triangle, 3 * triangle, 4 * tail]
        assert sum(wanted[:LAST]) == N_LAYERS * (N_LAYERS - 1) // 2 * triangle
    else:
        wanted = [tail, tail + triangle, tail + 2 * triangle, tail + 3 * tail]
    assert counts == wanted
    # the progress bar counts all rows behind a cell's start, computed or not
    assert sum(told) == sum(layer + 1 for layer in range(N_LAYERS)) * triangle
