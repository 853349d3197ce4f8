from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.patching import Grid, dose, plan_sweep
from tests.circuits.by_hand import pairs_of


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox"])
@pytest.mark.parametrize(
    ("site", "cells", "hook"),
    [
        ("resid_pre", "layer_pos", "hook_in"),
        ("mlp_out", "layer_pos", "hook_mlp_out"),
        ("z", "layer_head_pos", "attn.hook_z"),
    ],
)
def test_a_dose_is_the_relative_norm_of_the_change(
    load_tiny: Callable[..., Any], architecture: str, site: Any, cells: Any, hook: str
) -> None:
    model = load_tiny(architecture)
    pair = pairs_of(model)[0]
    found = dose(model, pair, Grid(site=site, cells=cells, positions="all"))[..., 0]
    with torch.no_grad():
        source, destination = (
            model.run_with_cache(p.ids[None])[1] for p in (pair.source, pair.destination)
        )
    for layer in range(int(model.cfg.n_layers)):
        new, old = (c[f"blocks.{layer}.{hook}"][0].double() for c in (source, destination))
        expected = (new - old).norm(dim=-1) / old.norm(dim=-1)  # [pos] or [pos, head]
        np.testing.assert_allclose(found[layer], expected.T.numpy(), atol=1e-4)
    assert found[..., :3].max() < 1e-6  # before the first difference
    assert found.max() > 0.01


def test_a_span_and_a_window_take_all_their_states_together(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("llama")
    pair = pairs_of(model)[0]
    grid = Grid(site="resid_post", cells="layer_span", window=2)
    found, plan = dose(model, pair, grid), plan_sweep(model, pair, grid=grid)
    with torch.no_grad():
        source, destination = (
            model.run_with_cache(p.ids[None])[1] for p in (pair.source, pair.destination)
        )
    for cell in plan.cells:
        if cell.state == "empty":
            assert np.isnan(found[(*cell.index, 0)])
            continue
        new, old = (
            torch.cat(
                [cache[f"blocks.{layer}.hook_out"][0][where] for layer in cell.layers]
            ).double()
            for cache, where in ((source, cell.source), (destination, cell.destination))
        )
        assert found[(*cell.index, 0)] == pytest.approx(
            float((new - old).norm() / old.norm()), abs=1e-5
        )


def test_patterns_have_none(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    with pytest.raises(InterpError, match="patterns are no vectors"):
        dose(model, pairs_of(model)[0], Grid(site="pattern"))
