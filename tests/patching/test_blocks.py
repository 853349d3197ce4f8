"""One block on flat rows: the block on the whole prompt, and which rows may be left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.patching import blocks
from interp.patching.blocks import (
    NotFastError,
    final_logits,
    record,
    run_block,
    run_last_block,
)
from interp.patching.cells import Patch
from interp.patching.rows import Group, RowWrite, UnpatchedRun
from tests.patching.by_hand import activations, hook_counts, random_ids, rough_model

pytestmark = pytest.mark.slow  # left out of the everyday tests

ARCHITECTURES = ["gpt2", "llama", "gemma2", "gemma3", "neox"]
N = 12
CLOSE = 2e-5
"""Of the largest value: float32 and another order of sums."""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    """Sequential and parallel blocks, with a window, soft caps and head norms in some."""
    return rough_model(load_tiny, (request.param, False))


@pytest.fixture(scope="module")
def llama(load_tiny: Callable[..., Any]) -> Any:
    return rough_model(load_tiny, ("llama", False))


def recorded(model: Any, n: int = N, seed: int = 0, read: list[int] | None = None) -> UnpatchedRun:
    return record(model, random_ids(n, seed), torch.tensor(read or [n - 1]))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, of the largest value."""
    assert one.shape == other.shape
    return float((one - other).abs().max() / other.abs().max())


@torch.no_grad()
def whole_block(model: Any, run: UnpatchedRun, layer: int, start: int, rows: Tensor) -> Tensor:
    """The block's output on the whole prompt, with its input's rows from ``start`` on replaced."""
    found: list[Tensor] = []

    def replaced(activation: Tensor, hook: Any) -> Tensor:
        activation = activation.clone()
        activation[0, start:] = rows
        return activation

    def keep(activation: Tensor, hook: Any) -> None:
        found.append(activation[0, start:].clone())

    name = f"blocks.{layer}.hook_resid_"
    model.run_with_hooks(run.ids[None], fwd_hooks=[(f"{name}pre", replaced), (f"{name}post", keep)])
    return found[0]


@torch.no_grad()
def test_a_recorded_run_is_the_models_own(model: Any) -> None:
    run = recorded(model, read=[0, 4, N - 1])
    stream = [*activations(model, run.ids, "resid_pre")]
    stream.append(activations(model, run.ids, "resid_post")[-1])
    assert difference(run.resid, torch.stack(stream)) <= CLOSE
    assert difference(run.logits, model(run.ids[None])[0, run.read].float()) <= CLOSE
    for values, expected in zip(run.values, activations(model, run.ids, "v"), strict=True):
        assert difference(values.transpose(0, 1), expected) <= CLOSE


@torch.no_grad()
@pytest.mark.parametrize("start", [0, 5, N - 1])
def test_a_block_on_rows_from_a_start_is_the_block_on_the_whole_prompt(
    model: Any, start: int
) -> None:
    """Rows unlike the run's own, so that nothing of the run but its keys and values can help."""
    run = recorded(model)
    for layer in range(model.cfg.n_layers):
        rows = run.resid[layer, start:] + noise(N - start, model.cfg.d_model, seed=layer)
        out = run_block(model, layer, rows, [Group(run, start, N, (0,))])
        assert difference(out, whole_block(model, run, layer, start, rows)) <= CLOSE


@torch.no_grad()
def test_rows_of_several_prompts_and_cells_pass_through_a_block_together(model: Any) -> None:
    """The flat list is group after group, cell after cell, position after position: each with the
    positions, the mask and the shared keys of its own prompt."""
    long, short = recorded(model), recorded(model, 7, seed=3)
    groups = [Group(long, 8, N, (0, 1)), Group(short, 2, 7, (2,)), Group(long, 3, 5, (3, 4))]
    starts = [(long, 8, N), (long, 8, N), (short, 2, 7), (long, 3, 5), (long, 3, 5)]
    cells = [
        run.resid[2, start:stop] + noise(stop - start, model.cfg.d_model, seed=k)
        for k, (run, start, stop) in enumerate(starts)
    ]
    out = run_block(model, 2, torch.cat(cells), groups).split([len(cell) for cell in cells])
    for (run, start, stop), rows, found in zip(starts, cells, out, strict=True):
        behind = torch.cat([rows, run.resid[2, stop:]])
        expected = whole_block(model, run, 2, start, behind)[: stop - start]
        assert difference(found, expected) <= CLOSE


@torch.no_grad()
@pytest.mark.parametrize("site", ["attn_out", "mlp_out", "resid_post", "z", "v"])
def test_a_patch_changes_the_rows_it_names_and_those_that_see_them(model: Any, site: Any) -> None:
    """Patched in the middle of the second of two cells: the first cell stays as it was."""
    run = recorded(model)
    group, at, n = Group(run, 4, N, (0, 1)), 6, N - 4
    rows = run.resid[1, 4:].repeat(2, 1)
    plain = run_block(model, 1, rows, [group])
    values = activations(model, random_ids(N, 9), site)[1][[at]]
    heads = tuple(range(values.shape[1])) if values.ndim == 3 else ()
    write = RowWrite(Patch(1, site, torch.tensor([at]), values, heads), 0, 1, n)
    out = run_block(model, 1, rows, [group], [write])
    found = ((out - plain).abs().amax(-1) > CLOSE).nonzero()[:, 0].tolist()
    last = N if site == "v" else at + 1  # a value is read by every later row
    assert found == [n + position - 4 for position in range(at, last)]
    if site == "resid_post":
        assert torch.equal(out[n + at - 4], values[0])


@torch.no_grad()
@pytest.mark.parametrize(
    "reads",
    [([0], [0]), ([7], [4]), ([1, 5, 7], [0, 4]), (list(range(8)), list(range(5)))],
    ids=str,
)
def test_the_rows_that_are_read_of_a_last_block_are_those_of_the_whole_one(
    model: Any, reads: tuple[list[int], list[int]]
) -> None:
    """Counted from each cell's start; two cells of one prompt, one of a shorter one."""
    long, short = recorded(model), recorded(model, 7, seed=3)
    groups, layer = [Group(long, 4, N, (0, 1)), Group(short, 2, 7, (2,))], model.cfg.n_layers - 1
    rows = torch.cat([long.resid[layer, 4:], long.resid[layer, 4:], short.resid[layer, 2:]])
    rows = rows + noise(*rows.shape)
    whole = run_block(model, layer, rows, groups)
    out = run_last_block(model, layer, rows, groups, [torch.tensor(read) for read in reads])
    at = [*reads[0], *(8 + k for k in reads[0]), *(16 + k for k in reads[1])]
    assert difference(out, whole[at]) <= CLOSE


@torch.no_grad()
def test_of_a_row_that_is_not_read_only_key_and_value_are_computed(llama: Any) -> None:
    """Its query, attention output and MLP are dropped, and nothing else: earlier rows that are not
    read still count, later ones cannot."""
    run, layer = recorded(llama), llama.cfg.n_layers - 1
    seen: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        return lambda module, args, out: seen.update({name: args[0].shape[1]})

    block = llama.blocks[layer]
    modules = {"k": block.attn.k, "v": block.attn.v, "q": block.attn.q, "o": block.attn.o}
    handles = [
        module.register_forward_hook(count(name))
        for name, module in {**modules, "mlp": block.mlp}.items()
    ]
    rows, group, read = run.resid[layer, 2:], [Group(run, 2, N, (0,))], [torch.tensor([4, 6])]
    try:
        plain = run_last_block(llama, layer, rows, group, read)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == {"k": N - 2, "v": N - 2, "q": 2, "o": 2, "mlp": 2}
    for changed, reached in ((0, [0, 1]), (4, [0, 1]), (5, [1]), (7, [])):
        moved = rows.clone()
        moved[changed] += noise(llama.cfg.d_model)
        out = run_last_block(llama, layer, moved, group, read)
        assert (out != plain).any(-1).nonzero()[:, 0].tolist() == reached


@torch.no_grad()
def test_final_logits_are_the_models_own(model: Any) -> None:
    """Also where the model caps them."""
    run = recorded(model)
    assert difference(final_logits(model, run.resid[-1]), model(run.ids[None])[0].float()) <= CLOSE


def test_a_block_leaves_nothing_behind_also_after_an_exception(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(llama)
    before = hook_counts(llama), [vars(block.attn).get("forward") for block in llama.blocks]
    values = run.resid[1, [5]]
    write = RowWrite(Patch(1, "attn_out", torch.tensor([5]), values), 0, 0, 0)
    arguments = (llama, 1, run.resid[1, 5:], [Group(run, 5, N, (0,))], [write])
    with torch.no_grad():
        run_block(*arguments)

    def fail(*_: Any) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(blocks, "attend", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_block(*arguments)
    after = hook_counts(llama), [vars(block.attn).get("forward") for block in llama.blocks]
    assert after == before


def test_a_mask_is_causal_whatever_the_model_hands_over(llama: Any) -> None:
    """None (the fused kernel's own), true and false, 0 and the lowest number; keys padded."""
    lowest = torch.finfo(torch.float32).min
    causal = torch.full((4, 4), lowest).triu(1)
    seen = torch.ones(4, 4, dtype=torch.bool).tril()
    padded = torch.cat([causal, torch.full((4, 3), lowest)], dim=1)
    for mask in (None, seen[None, None], causal[None, None], padded[None, None]):
        assert torch.equal(blocks._additive(mask, 4, llama), causal)
    hidden = seen.clone()
    hidden[3, 0] = False
    expected = causal.clone()
    expected[3, 0] = lowest
    assert torch.equal(blocks._additive(hidden[None, None], 4, llama), expected)


def test_attention_of_another_kind_is_refused(llama: Any) -> None:
    """A bias on the scores, as of ALiBi, and blocks that run twice."""
    bias = torch.full((4, 4), -0.5).tril()[None, None]
    with pytest.raises(NotFastError, match="adds a bias to the scores"):
        blocks._additive(bias, 4, llama)
    inner = llama.original_model
    real = inner.forward

    def forward(**options: Any) -> Any:
        real(**options)
        return real(**options)

    object.__setattr__(inner, "forward", forward)
    try:
        with pytest.raises(NotFastError, match="more or less than once"):
            recorded(llama)
    finally:
        object.__delattr__(inner, "forward")


def test_a_run_counts_shared_masks_once(llama: Any) -> None:
    run = recorded(llama)
    assert len({id(mask) for mask in run.masks}) == 1
    held = [run.resid, *run.keys, *run.values, run.masks[0], run.logits]
    assert run.n_bytes == sum(tensor.nbytes for tensor in held)
    apart = replace(run, masks=tuple(mask.clone() for mask in run.masks))
    assert apart.n_bytes - run.n_bytes == (len(run.masks) - 1) * run.masks[0].nbytes
