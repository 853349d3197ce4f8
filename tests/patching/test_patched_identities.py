"""Identities that hold for every patched run, and that nothing is left behind in the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.data import load_items
from interp.patching import ALL, Cell, Patch, PatchedRuns, PatchSite, sweep
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import (
    N_LAYERS,
    TARGET,
    activations,
    hook_counts,
    name_of,
    own_margin,
    patched_by_hand,
    random_ids,
    rough_model,
    rough_pair,
    tolerance,
    with_spans,
)

pytestmark = pytest.mark.slow  # every architecture; make test runs it

ARCHITECTURES = [("gpt2", False), ("gemma3", False), ("neox", False), ("gemma2", True)]


@pytest.fixture(params=ARCHITECTURES, ids=name_of)
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    return rough_model(load_tiny, request.param)


def unequal_pair(model: Any) -> PromptPair:
    """The source's instruction is two tokens longer; the tail behind it is aligned."""
    head, tail = random_ids(4, 0), random_ids(6, 1)
    ids = [torch.cat([head, middle, tail]) for middle in (torch.arange(60, 65), torch.arange(3))]
    spans = [
        {"header": slice(0, 4), "instruction": slice(4, 4 + n), "tail": slice(4 + n, 10 + n)}
        for n in (5, 3)
    ]
    return with_spans(make_pair(model, *ids, target=TARGET), *spans)


def run_all(model: Any, pair: PromptPair, cells: list[Cell], **options: Any) -> Tensor:
    """Logits of every cell at the destination's last position."""
    ids = pair.destination.ids
    runs = PatchedRuns(model, [ids], [torch.tensor([len(ids) - 1])], **options)
    found: dict[int, Tensor] = {}
    runs.run(cells, lambda at, logits: found.update(zip(at, logits[:, 0], strict=True)))
    assert not runs.notes
    assert sorted(found) == list(range(len(cells)))
    return torch.stack([found[k] for k in range(len(cells))])


@pytest.mark.parametrize("site", ["resid_pre", "resid_post", "attn_out", "z", "q", "k", "v"])
def test_the_destinations_own_activations_change_no_cell(model: Any, site: PatchSite) -> None:
    """Written as patches, not as a sweep of equal prompts: that one knows it without running."""
    pair = rough_pair(model)
    own = activations(model, pair.destination.ids, site)
    heads = tuple(range(own[0].shape[1])) if own[0].ndim == 3 else ()
    cells = [
        Cell(0, (Patch(layer, site, torch.tensor([p]), own[layer][[p]], heads),))
        for layer in range(N_LAYERS)
        for p in range(len(pair.destination))
    ]
    logits = run_all(model, pair, cells)
    with torch.no_grad():
        expected = model(pair.destination.ids[None])[0, -1]
    assert float((logits - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_everything_from_the_first_difference_on_is_the_source_run_at_every_layer(
    model: Any,
) -> None:
    pair = rough_pair(model)
    source = own_margin(model, pair, pair.source.ids)
    destination = own_margin(model, pair, pair.destination.ids)
    assert abs(source - destination) > 0.01
    for site in ("resid_pre", "resid_post"):
        values = sweep(model, pair, site=site, spans=[ALL], progress=False).values
        allowed = max(tolerance([source, destination]), 1e-5)
        assert values[:, 0, 0].tolist() == pytest.approx([source] * N_LAYERS, abs=allowed)


def test_mid_and_post_and_the_next_layers_pre_are_one_in_every_cell(model: Any) -> None:
    pair = rough_pair(model)
    post, pre = (
        sweep(model, pair, site=site, positions="all", progress=False).values
        for site in ("resid_post", "resid_pre")
    )
    assert float((post[:-1] - pre[1:]).abs().max()) <= tolerance(post)
    if not model.cfg.parallel_attn_mlp:
        mid = sweep(model, pair, site="resid_mid", positions="all", progress=False).values
        assert float((mid - post).abs().max()) <= tolerance(post)


@pytest.mark.parametrize("parameter", [("llama", False), ("gemma3", False), ("neox", True)],
                         ids=name_of)  # fmt: skip
def test_depth_goes_from_nothing_to_everything(
    load_tiny: Callable[..., Any], parameter: tuple[str, bool]
) -> None:
    """Behind the instruction the prompts are equal, so that layer 0 carries nothing of it there,
    and after the last layer those positions carry all of it."""
    model = rough_model(load_tiny, parameter)
    for item in load_items("bundled:choices", limit=2):
        pair = make_pair(model, item, "instructed")
        options: dict[str, Any] = {"spans": ["post_instruction"], "progress": False}
        before = sweep(model, pair, site="resid_pre", **options)
        after = sweep(model, pair, site="resid_post", layers=[N_LAYERS - 1], **options)
        total = float(before.source_baseline[0] - before.effect().new_tensor(own(pair, model))[0])
        assert abs(total) > 1e-2
        share = before.effect()[:, 0, 0] / total
        assert float(share[0]) == pytest.approx(0.0, abs=1e-3)
        assert float(share[1:].abs().max()) > 1e-2
        assert float(after.effect()[0, 0, 0]) / total == pytest.approx(1.0, abs=1e-3)


def own(pair: PromptPair, model: Any) -> list[float]:
    return [own_margin(model, pair, pair.destination.ids)]


@pytest.mark.parametrize("site", ["resid_pre", "resid_post", "attn_out", "mlp_out"])
@pytest.mark.parametrize("first", ["along", "orthogonal"])
def test_the_parts_along_and_orthogonal_give_the_source_one_after_the_other(
    model: Any, site: PatchSite, first: str
) -> None:
    pair = rough_pair(model)
    theirs = activations(model, pair.source.ids, site)
    vector = torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(0))
    vector = vector / vector.norm()
    last = len(pair.destination) - 1
    cells = []
    for layer in range(N_LAYERS):
        where = torch.tensor([3, 5, last])
        rows = theirs[layer][where]
        halves = [
            Patch(layer, site, where, rows, vector=vector, orthogonal=orthogonal)
            for orthogonal in (first == "orthogonal", first == "along")
        ]
        cells += [
            Cell(0, tuple(halves)),
            Cell(0, (Patch(layer, site, where, rows),)),
            Cell(0, (halves[0],)),
        ]
    both, plain, half = run_all(model, pair, cells).unflatten(0, (N_LAYERS, 3)).unbind(1)
    scale = float(plain.abs().max())
    assert float((both - plain).abs().max()) <= 1e-5 * scale
    assert float((half - plain).abs().max()) > 1e-3 * scale


def test_patches_of_several_sites_and_layers_in_one_cell_equal_hooks(model: Any) -> None:
    """The order of the model's computation counts, not that of the patches."""
    pair = rough_pair(model)
    n = len(pair.destination)
    planned: list[tuple[int, PatchSite, Tensor, tuple[int, ...]]] = [
        (3, "mlp_out", torch.tensor([n - 1]), ()),
        (1, "z", torch.tensor([5, n - 2]), tuple(range(4))),
        (0, "attn_out", torch.tensor([5, 6]), ()),
        (1, "resid_post", torch.tensor([4, 8]), ()),
        (2, "resid_pre", torch.tensor([4, 8]), ()),
    ]
    patches = [
        Patch(layer, site, at, activations(model, pair.source.ids, site)[layer][at], heads)
        for layer, site, at, heads in planned
    ]
    cells = [Cell(0, tuple(patches[:k])) for k in range(1, 6)] + [Cell(0, tuple(patches[::-1]))]
    exact = run_all(model, pair, cells)
    hooked = run_all(model, pair, cells, method="hooked")
    scale = float(hooked.abs().max())
    assert float((exact - hooked).abs().max()) <= 1e-5 * scale
    with torch.no_grad():
        unpatched = model(pair.destination.ids[None])[0, -1]
    assert float((hooked - unpatched).abs().amax(-1).min()) > 1e-3 * scale


def test_logits_are_read_at_any_positions_also_before_the_patch(model: Any) -> None:
    pair = rough_pair(model)
    n = len(pair.destination)
    read = torch.tensor([2, 6, n - 2, n - 1])
    theirs = activations(model, pair.source.ids, "resid_pre")
    wheres = [torch.tensor([p]) for p in (4, 6, 7, n - 1)]
    cells = [
        Cell(0, (Patch(layer, "resid_pre", at, theirs[layer][at]),))
        for layer in (0, 2, 3)
        for at in wheres
    ]
    found: list[dict[int, Tensor]] = []
    for method in ("exact", "hooked"):
        runs = PatchedRuns(model, [pair.destination.ids], [read], method=method)
        table: dict[int, Tensor] = {}
        runs.run(cells, lambda at, rows, t=table: t.update(zip(at, rows, strict=True)))  # type: ignore[misc]
        found.append(table)
    for k in range(len(cells)):
        scale = float(found[1][k].abs().max())
        assert found[0][k].shape == (4, model.cfg.d_vocab)
        assert float((found[0][k] - found[1][k]).abs().max()) <= 1e-4 * scale


@pytest.mark.parametrize("site", ["z", "k", "v", "q", "mlp_out"])
def test_between_unequal_lengths_aligned_positions_are_patched(model: Any, site: PatchSite) -> None:
    """Keys among them: copied before rotation, and rotated at the destination's position."""
    pair = unequal_pair(model)
    moves = [(p + 2, p) for p in range(7, 13)]
    result = sweep(model, pair, site=site, cells="layer_span", spans=["tail"], progress=False)
    inside = "" if site == "mlp_out" else "attn."
    expected = [
        patched_by_hand(model, pair, f"blocks.{layer}.{inside}hook_{site}", moves)
        for layer in range(N_LAYERS)
    ]
    allowed = max(tolerance([*expected, float(result.baseline[0])]), 1e-5)
    assert result.values[:, 0, 0].tolist() == pytest.approx(expected, abs=allowed)
    assert "1 of 1 pairs are not aligned by index" in result.notes[0]
    assert len(result.notes) == 1
    if site in ("z", "k"):
        # by position, each from its own aligned position
        by_position = sweep(model, pair, site=site, cells="layer_pos", progress=False)
        for column, position in enumerate(range(7, 13)):
            moved = [(position + 2, position)]
            value = patched_by_hand(model, pair, f"blocks.1.attn.hook_{site}", moved)
            assert float(by_position.values[1, column, 0]) == pytest.approx(value, abs=allowed)


def own_forwards(model: Any) -> list[str]:
    """Modules of the model that carry a forward of their own."""
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


def test_nothing_is_left_behind(model: Any) -> None:
    pair = rough_pair(model)
    before = hook_counts(model), own_forwards(model), own_margin(model, pair, pair.source.ids)
    for site in ("resid_pre", "attn_out", "k"):
        sweep(model, pair, site=site, progress=False)
    after = hook_counts(model), own_forwards(model), own_margin(model, pair, pair.source.ids)
    assert after == before


@pytest.mark.parametrize("module", ["attn.o", "mlp", "ln1"])
def test_nothing_is_left_behind_after_an_exception_inside_a_block(
    model: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third block breaks once the engine runs it on its own rows: every block before the
    replaced attention has been put back, and that of the third too."""
    pair = rough_pair(model)
    sweep(model, pair, site="attn_out", progress=False)  # its verdict is known from here on
    before = hook_counts(model), own_forwards(model), own_margin(model, pair, pair.source.ids)
    inside: list[tuple[tuple[int, int], list[str]]] = []
    from interp.patching import blocks

    call = blocks._call_block

    def breaking(model: Any, layer: int, *args: Any) -> Tensor:
        if layer < 2:
            return call(model, layer, *args)
        broken = model.blocks[2].get_submodule(module)

        def fail(*args: Any, **kwargs: Any) -> None:
            inside.append((hook_counts(model), own_forwards(model)))
            raise RuntimeError("broken on purpose")

        handle = broken.register_forward_pre_hook(fail)
        try:
            return call(model, layer, *args)
        finally:
            handle.remove()

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "_call_block", breaking)
        with pytest.raises(RuntimeError, match="broken on purpose"):
            sweep(model, pair, site="attn_out", progress=False)
    assert len(inside) == 1
    assert inside[0][1] != before[1]  # the attention was replaced at that moment
    after = hook_counts(model), own_forwards(model), own_margin(model, pair, pair.source.ids)
    assert after == before
