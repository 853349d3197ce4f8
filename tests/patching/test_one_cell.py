"""One cell's patches are the sweep's: every reading of the patched run agrees with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp.activations import read_attention
from interp.data import Choice, ChoiceItem
from interp.errors import InterpError
from interp.lens import lens_prompt
from interp.patching import Grid, applied, blocked_edges, cell_patches, knockout, sweep
from interp.prompts import PromptPair, make_pair

ITEM = ChoiceItem(
    "q", "own", "own", "They met.", "Who was late?",
    (
        Choice("Not known", "unknown"),
        Choice("The farmer", "stereotyped"),
        Choice("The teacher", "counter"),
    ),
    0, "ambiguous", "c",
)  # fmt: skip
LAST = 3


def final_margin(model: Any, pair: PromptPair) -> float:
    return float(lens_prompt(model, pair.destination, pair.target)["margin"].iloc[-1])


def hooks_on(model: Any) -> int:
    return sum(len(point.fwd_hooks) for point in model.hook_dict.values())


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3"])
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "attn_out", "mlp_out"])
def test_a_run_under_a_cells_patches_gives_the_sweeps_value(
    load_tiny: Callable[..., Any], architecture: str, site: Any
) -> None:
    model = load_tiny(architecture)
    pair = make_pair(model, ITEM, "instructed")
    at = len(pair.destination) - 3
    grid = Grid(site=site, cells="layer_pos", layers=(1,), positions=(at,))
    swept = sweep(model, pair, grid=grid, progress=False)
    with applied(model, cell_patches(model, pair, grid=grid)):
        found = final_margin(model, pair)
    assert found == pytest.approx(float(swept.values), abs=2e-4)
    assert hooks_on(model) == 0


def test_a_heads_cell_and_its_attention(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    grid = Grid(site="z", cells="layer_head", layers=(0,), heads=(2,))
    swept = sweep(tiny_model, pair, grid=grid, progress=False)
    before = read_attention(tiny_model, pair.destination, layers=[0, LAST]).values
    with applied(tiny_model, cell_patches(tiny_model, pair, grid=grid)):
        assert final_margin(tiny_model, pair) == pytest.approx(float(swept.values), abs=2e-4)
        after = read_attention(tiny_model, pair.destination, layers=[0, LAST]).values
    assert torch.equal(before[0], after[0])  # the head's own pattern comes before its output
    assert not torch.allclose(before[1], after[1], atol=1e-4)


@pytest.mark.parametrize("heads", [None, (1,)])
def test_blocked_edges_are_the_knockouts(tiny_model: Any, heads: tuple[int, ...] | None) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    cells: Any = "layer" if heads is None else "layer_head"
    grid = Grid(cells=cells, layers=(1,), heads=heads, window=2)
    result = knockout(tiny_model, pair, grid=grid, progress=False)
    with applied(tiny_model, blocked_edges(tiny_model, pair, grid=grid)):
        assert final_margin(tiny_model, pair) == pytest.approx(float(result.values), abs=2e-4)
        mass = read_attention(tiny_model, pair.destination, layers=[1]).to_span("instruction")
    blocked = slice(None) if heads is None else list(heads)
    assert float(mass[0, blocked].max()) == pytest.approx(0.0, abs=1e-6)


def test_without_a_grid_every_edge_to_the_span_goes(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    n_layers = tiny_model.cfg.n_layers
    whole = knockout(tiny_model, pair, layers=[0], window=n_layers, progress=False)
    with applied(tiny_model, blocked_edges(tiny_model, pair)):
        assert final_margin(tiny_model, pair) == pytest.approx(float(whole.values), abs=2e-4)


def test_a_cell_that_cannot_reach_the_answer_still_has_its_patch(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    at = pair.destination.span("instruction").start
    grid = Grid(site="resid_post", cells="layer_pos", layers=(LAST,), positions=(at,))
    (patch,) = cell_patches(tiny_model, pair, grid=grid)
    assert patch.positions.tolist() == [at]


def test_refusals(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, ITEM, "instructed")
    grid = Grid(cells="layer_span", spans=("instruction",))
    with pytest.raises(InterpError, match=r"the grid has 4 cells \(4 layers x 1 spans\)"):
        cell_patches(tiny_model, pair, grid=grid)
    longer = make_pair(tiny_model, ITEM, "instructed", against="clean")
    grid = Grid(cells="layer_span", layers=(0,), spans=("instruction",))
    with pytest.raises(InterpError, match=r"no span 'instruction'|nothing is aligned"):
        cell_patches(tiny_model, longer, grid=grid)
    with pytest.raises(InterpError, match=r"blocked_edges\(\) takes no site"):
        blocked_edges(tiny_model, pair, grid=Grid(site="z", layers=(0,)))
    patches = blocked_edges(tiny_model, pair)
    with applied(tiny_model, patches), pytest.raises(InterpError, match="of a prompt of"):
        tiny_model(pair.destination.ids[None, :-1])
    with applied(tiny_model, patches), pytest.raises(InterpError, match="2 run at once"):
        tiny_model(pair.destination.ids[None].repeat(2, 1))
    assert hooks_on(tiny_model) == 0


def test_a_site_that_hooks_cannot_set_is_refused(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("opt")
    pair = make_pair(model, ITEM, "instructed")
    with (
        pytest.raises(InterpError, match="edges cannot be set by a hook"),
        applied(model, blocked_edges(model, pair)),
    ):
        pass
