"""Attention of flat rows: Hugging Face's own attention, the edges of the mask, and edits by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.patching.attend import apply_head_norm, apply_rotary, attend, project_heads
from interp.patching.blocks import record
from interp.patching.cells import Patch
from interp.patching.rows import Group, RowWrite, UnpatchedRun
from tests.patching.by_hand import random_ids, rough_model, rough_options

ARCHITECTURES = {
    "gpt2": "positions in the embedding",
    "llama": "grouped queries, rotary",
    "gemma2": "soft cap, a window in every other layer",
    "gemma3": "head norms, a window, two rotary bases",
    "neox": "partial rotary",
}
N, WINDOW = 14, 6
CLOSE = 2e-5
"""Of the largest value: float32 and another order of sums."""

Qkv = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(architecture: str, load_tiny: Callable[..., Any]) -> Any:
    return rough_model(load_tiny, (architecture, False))


@pytest.fixture(scope="module")
def run(model: Any) -> UnpatchedRun:
    return recorded(model, N, seed=0)


@pytest.fixture(scope="module")
def gemma2(load_tiny: Callable[..., Any]) -> Any:
    return rough_model(load_tiny, ("gemma2", False))


def recorded(model: Any, n: int, seed: int) -> UnpatchedRun:
    return record(model, random_ids(n, seed), torch.tensor([n - 1]))


@torch.no_grad()
def qkv_of(model: Any, run: UnpatchedRun, layer: int) -> Qkv:
    """Queries, keys and values of a whole prompt, as a block makes them."""
    block = model.blocks[layer]
    x = block.ln1(run.resid[layer][None])
    q, k, v = (project_heads(block.attn, name, x) for name in ("q", "k", "v"))
    embeddings = run.calls[layer][1].get("position_embeddings")
    q = apply_rotary(apply_head_norm(block.attn, "q_norm", q), embeddings)
    k = apply_rotary(apply_head_norm(block.attn, "k_norm", k), embeddings)
    return q, k, v


@torch.no_grad()
def z_from(
    model: Any,
    run: UnpatchedRun,
    layer: int,
    start: int,
    qkv: Qkv | None = None,
    writes: tuple[RowWrite, ...] = (),
    read: list[Tensor] | None = None,
) -> Tensor:
    """``z [row, head, d_head]`` of the rows from ``start`` on, in one group of one cell."""
    q, k, v = qkv_of(model, run, layer) if qkv is None else qkv
    rows = slice(start, None) if read is None else start + read[0]
    group = Group(run, start, len(run.ids), (0,))
    attn = model.blocks[layer].attn
    return attend(attn, layer, (q[rows], k[start:], v[start:]), [group], writes, read)


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, of the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def changed_rows(one: Tensor, other: Tensor) -> list[int]:
    return (one != other).flatten(1).any(1).nonzero()[:, 0].tolist()


@torch.no_grad()
def by_hugging_face(folder: Path, ids: Tensor) -> list[Tensor]:
    """What the attention of every layer adds, from a model that TransformerLens has not touched."""
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    found: list[Tensor] = []
    for name, module in plain.named_modules():
        if name.split(".")[-1] in ("attn", "self_attn", "attention"):
            module.register_forward_hook(lambda module, args, out: found.append(out[0][0]))
    plain(input_ids=ids[None], use_cache=False)
    return found


@torch.no_grad()
def test_attention_is_that_of_the_wrapped_model(
    model: Any, architecture: str, run: UnpatchedRun, tiny_folder: Callable[..., Path]
) -> None:
    expected = by_hugging_face(tiny_folder(architecture, **rough_options(architecture)), run.ids)
    assert len(expected) == model.cfg.n_layers
    for layer, one in enumerate(expected):
        z = z_from(model, run, layer, 0)
        assert difference(model.blocks[layer].attn.o(z.flatten(1)[None])[0], one) <= CLOSE


@pytest.mark.parametrize("start", [0, 1, 7, N - 1])
def test_rows_from_a_start_on_are_those_of_the_whole_prompt(
    model: Any, run: UnpatchedRun, start: int
) -> None:
    """The rows before it are the run's keys and values; none of them is computed again."""
    for layer in range(model.cfg.n_layers):
        whole = z_from(model, run, layer, 0)
        assert difference(z_from(model, run, layer, start), whole[start:]) <= CLOSE


def test_rows_that_are_read_are_those_of_all_rows(model: Any, run: UnpatchedRun) -> None:
    whole = z_from(model, run, 1, 4)
    for rows in ([0], [N - 5], [0, 3, 4, N - 5], list(range(N - 4))):
        part = z_from(model, run, 1, 4, read=[torch.tensor(rows)])
        assert difference(part, whole[rows]) <= CLOSE


@torch.no_grad()
def test_cells_and_groups_do_not_see_each_other(model: Any, run: UnpatchedRun) -> None:
    """Two runs of different length; one group of three cells with values of their own."""
    other, layer = recorded(model, 9, seed=3), 2
    ours, others = qkv_of(model, run, layer), qkv_of(model, other, layer)
    scales = (1.0, 0.5, -2.0)
    groups = [Group(run, 5, N, (0, 1, 2)), Group(other, 0, 9, (3,))]
    flat = tuple(
        torch.cat([*(scale * mine[5:] for scale in scales), theirs])
        for mine, theirs in zip(ours, others, strict=True)
    )
    z = attend(model.blocks[layer].attn, layer, flat, groups, ())
    alone = []
    for scale in scales:
        scaled = tuple(torch.cat([x[:5], scale * x[5:]]) for x in ours)
        alone.append(z_from(model, run, layer, 5, scaled))
    alone.append(z_from(model, other, layer, 0))
    assert difference(z, torch.cat(alone)) <= CLOSE


def test_the_first_row_sees_itself_only(model: Any, run: UnpatchedRun) -> None:
    q, k, v = qkv_of(model, run, 0)
    z = z_from(model, run, 0, 0, (q, k, v))
    assert torch.equal(z[0], v[0].repeat_interleave(q.shape[1] // v.shape[1], dim=0))


@pytest.mark.parametrize("position", [0, 5, N - 1])
def test_a_key_is_seen_from_its_own_row_on_and_by_no_earlier_one(
    load_tiny: Callable[..., Any], position: int
) -> None:
    model = rough_model(load_tiny, ("llama", False))
    run = recorded(model, N, seed=0)
    q, k, v = qkv_of(model, run, 1)
    plain = z_from(model, run, 1, 0)
    for which in (1, 2):
        moved = [q, k.clone(), v.clone()]
        moved[which][position] += 1
        found = changed_rows(z_from(model, run, 1, 0, (moved[0], moved[1], moved[2])), plain)
        # its own row sees one key only at position 0, and then no other to weigh it against
        own = which == 2 or position > 0
        assert found == list(range(position if own else position + 1, N))


def test_a_window_ends_where_it_says(gemma2: Any) -> None:
    """Row i of a layer with a window of 6 sees keys i - 5 to i; a layer without sees all."""
    run = recorded(gemma2, N, seed=0)
    for layer, last in ((0, 2 + WINDOW - 1), (1, N - 1)):
        q, k, v = qkv_of(gemma2, run, layer)
        changed = v.clone()
        changed[2] += 1
        found = z_from(gemma2, run, layer, 0, (q, k, changed))
        assert changed_rows(found, z_from(gemma2, run, layer, 0)) == list(range(2, last + 1))


def test_a_window_reaches_over_the_start_of_a_cell(gemma2: Any) -> None:
    """The keys before a start are the run's: those outside the window of every row do not count."""
    run, start = recorded(gemma2, N, seed=0), 8
    plain = z_from(gemma2, run, 0, start)
    for position, n_rows in ((2, 0), (3, 1), (5, 3), (7, 5)):
        values = run.values[0].clone()
        values[:, position] += 1
        found = z_from(gemma2, replace(run, values=(values, *run.values[1:])), 0, start)
        assert changed_rows(found, plain) == list(range(n_rows))


def test_a_soft_cap_counts(gemma2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded(gemma2, N, seed=0)
    capped = z_from(gemma2, run, 1, 0)
    attn = gemma2.blocks[1].attn
    monkeypatch.setattr(attn.original_component, "attn_logit_softcapping", None)
    assert difference(z_from(gemma2, run, 1, 0), capped) > 1e-2


@torch.no_grad()
def test_a_pattern_row_that_is_set_weighs_the_values_with_it(model: Any, run: UnpatchedRun) -> None:
    """Head 3 of position 9 looks at key 2 (before the start) and key 8, half each."""
    start, at = 6, 9
    _, _, v = qkv_of(model, run, 1)
    row = torch.zeros(1, 1, N)
    row[0, 0, [2, 8]] = 0.5
    patch = Patch(1, "pattern", torch.tensor([at]), row, (3,))
    plain = z_from(model, run, 1, start)
    found = z_from(model, run, 1, start, writes=(RowWrite(patch, 0, 0, 0),))
    expected = plain.clone()
    grouped = 3 * v.shape[1] // plain.shape[1]
    expected[at - start, 3] = (v[2, grouped] + v[8, grouped]) / 2
    assert difference(found, expected) <= CLOSE
    assert changed_rows(found, plain) == [at - start]


@torch.no_grad()
def test_an_edge_that_is_removed_leaves_the_rest_renormalised(
    load_tiny: Callable[..., Any],
) -> None:
    """Row 9 without all keys but 3 reads the value of 3; without none it is as it was."""
    model = rough_model(load_tiny, ("llama", False))
    run, start, at = recorded(model, N, seed=0), 6, 9
    _, _, v = qkv_of(model, run, 1)
    plain = z_from(model, run, 1, start)
    gone = torch.ones(1, 2, N, dtype=torch.bool)
    gone[..., 3] = False
    for edges, expected in ((gone, v[3, [0, 1]]), (torch.zeros_like(gone), plain[at - start, 1:3])):
        patch = Patch(1, "edges", torch.tensor([at]), edges, (1, 2))
        found = z_from(model, run, 1, start, writes=(RowWrite(patch, 0, 0, 0),))
        assert difference(found[at - start, 1:3], expected) <= CLOSE
        assert changed_rows(found, plain) in ([], [at - start])
        assert torch.equal(found[:, [0, 3]], plain[:, [0, 3]])


def test_rotation_turns_the_covered_dimensions_only() -> None:
    """By hand: dimension j turns with j + 2 by the angle of the row; the last two stay."""
    x = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor([[0.0, 0.0], [0.3, 1.1], [0.6, 2.2]])
    cos, sin = (f(torch.cat([angles, angles], dim=-1))[None] for f in (torch.cos, torch.sin))
    found = apply_rotary(x, (cos, sin))
    assert torch.equal(found[0], x[0])
    assert torch.equal(found[..., 4:], x[..., 4:])
    for j in range(2):
        turn = torch.complex(x[..., j], x[..., j + 2]) * torch.exp(1j * angles[:, None, j])
        assert torch.allclose(found[..., j], turn.real, atol=1e-6)
        assert torch.allclose(found[..., j + 2], turn.imag, atol=1e-6)
    assert apply_rotary(x, None) is x
