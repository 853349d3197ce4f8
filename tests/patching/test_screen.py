"""Screened sweeps: what was run is exact, what was not is not there, and how much is still missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from interp.data import load_items
from interp.errors import InterpError
from interp.models.wrapped import wrapped_logits
from interp.patching import Grid, screen, sweep
from interp.prompts import make_pair
from tests.patching.by_hand import TARGET, random_ids
from tests.patching.test_attribution import equal_length_pair, unequal_pair

N = 10


def top_of(effects: torch.Tensor, k: int) -> set[int]:
    return set(effects.flatten().abs().argsort(descending=True)[:k].tolist())


@pytest.mark.parametrize(
    "architecture",
    ["llama", *(pytest.param(a, marks=pytest.mark.slow) for a in ("gpt2", "gemma2"))],
)
def test_screened_cells_are_exact_and_the_others_are_not_there(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    pairs = [equal_length_pair(model, seed) for seed in (0, 1, 2)]
    exact = sweep(model, pairs, site="z", progress=False)
    found = sweep(model, pairs, site="z", method="screened", k=3, recall=0.6, progress=False)
    there = ~found.values.isnan()
    assert torch.equal(there.any(-1), there.all(-1))
    assert torch.allclose(found.values[there], exact.values[there], atol=1e-4)
    n = int(there.all(-1).sum())
    assert 3 <= n <= 16
    said = f"{n} of 16 cells run exactly; " if n < 16 else "all 16 cells run exactly"
    assert said in found.notes[0]
    assert found.title.endswith("z, screened")
    assert found.top(16)["estimate"].notna().sum() == n


def test_a_screen_that_misses_nothing_is_the_exact_sweep(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    exact = sweep(tiny_model, pair, site="mlp_out", progress=False)
    found = sweep(tiny_model, pair, site="mlp_out", method="screened", k=1000, progress=False)
    torch.testing.assert_close(found.values, exact.values, atol=1e-5, rtol=0)
    assert found.notes[0].startswith("screened: all")
    # at the last layer only the last position matters: what causality knows is there in any case
    assert bool((found.effect()[-1, :-1] == 0).all())


def test_the_largest_cells_of_many_are_found(load_tiny: Callable[..., Any]) -> None:
    """Most of a grid of which few cells matter is not run, and what matters is."""
    model = load_tiny("llama")
    ids = random_ids(48, 3)
    source = ids.clone()
    source[40] = (source[40] + 17) % 300 + 50
    pair = make_pair(model, source, ids, target=TARGET)
    options: dict[str, Any] = {"site": "resid_pre", "cells": "layer_pos", "progress": False}
    exact = sweep(model, pair, **options)
    found = sweep(model, pair, method="screened", k=4, recall=0.9, **options)
    run = set((~found.values[..., 0].flatten().isnan()).nonzero().flatten().tolist())
    assert len(top_of(exact.effect()[..., 0], 4) & run) >= 3


def test_several_sites_share_their_runs_and_keep_their_own_numbers(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attribution, one run of each prompt; every cell that was run is the sweep's."""
    model = load_tiny("llama")
    pair = equal_length_pair(model)
    forwards = []
    exact = {site: sweep(model, pair, site=site, progress=False) for site in ("resid_pre", "z")}
    monkeypatch.setattr(
        "interp.patching.source.wrapped_logits",
        lambda *args, **kwargs: forwards.append(1) or wrapped_logits(*args, **kwargs),
    )
    found = screen(model, pair, sites=["resid_pre", "z"], k=3, recall=0.6, progress=False)
    # what the exact cells copy was read by the attribution
    assert not forwards
    for site, result in found.items():
        there = ~result.values.isnan()
        assert torch.allclose(result.values[there], exact[site].values[there], atol=1e-4)
        assert torch.equal(result.source_baseline, exact[site].source_baseline)
        assert top_of(exact[site].effect(), 1) <= set(there.flatten().nonzero().flatten().tolist())


def test_several_batches_of_pairs_give_the_same(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory does not hold all pairs' runs they are made again for every block."""
    model = load_tiny("llama")
    pairs = [equal_length_pair(model, seed) for seed in (0, 1, 2)]
    options: dict[str, Any] = {"k": 3, "recall": 0.6, "sites": ["z", "attn_out"], "progress": False}
    whole = screen(model, pairs, **options)
    # the function has its module's name
    module = sys.modules[screen.__module__]
    monkeypatch.setattr(module, "pair_batches", lambda model, plans, max_bytes: [[0], [1, 2]])
    for site, found in screen(model, pairs, **options).items():
        torch.testing.assert_close(
            found.values, whole[site].values, equal_nan=True, atol=1e-5, rtol=0
        )


def test_a_screen_of_unequal_prompts_runs_where_tokens_are_aligned(tiny_model: Any) -> None:
    pair = unequal_pair(tiny_model)
    options: dict[str, Any] = {"site": "mlp_out", "spans": ["header", "instruction", "tail"]}
    exact = sweep(tiny_model, pair, progress=False, **options)
    found = sweep(tiny_model, pair, method="screened", k=50, progress=False, **options)
    torch.testing.assert_close(found.values, exact.values, equal_nan=True, atol=1e-5, rtol=0)


def test_equal_prompts_have_no_effects(tiny_model: Any) -> None:
    ids = random_ids(N, 0)
    pair = make_pair(tiny_model, ids, ids, target=TARGET)
    found = screen(tiny_model, pair, sites=["z"], progress=False)
    assert bool((found["z"].effect() == 0).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"recall": 1.0}, "recall is 1.0"),
        ({"recall": 0.0}, "all cells are a"),
        ({"grid": Grid(site="z")}, "name sites="),
        ({"grid": Grid(window=2)}, "cells of one layer"),
    ],
)
def test_refusals_name_the_remedy(tiny_model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InterpError, match=message):
        screen(tiny_model, equal_length_pair(tiny_model), progress=False, **options)


@pytest.mark.model
def test_on_the_default_model_the_largest_heads_are_found(default_model: Any) -> None:
    pair = make_pair(default_model, load_items("bundled:choices", limit=1)[0], "instructed")
    options: dict[str, Any] = {"site": "z", "layers": range(8, 16), "progress": False}
    exact = sweep(default_model, pair, **options)
    found = sweep(default_model, pair, method="screened", k=10, **options)
    there = ~found.values.isnan()
    assert torch.allclose(found.values[there], exact.values[there], atol=1e-4)
    best = top_of(exact.effect()[..., 0], 10)
    hit = best & set(there[..., 0].flatten().nonzero().flatten().tolist())
    assert len(hit) >= 9
    assert np.isfinite(found.top(9)["estimate"]).all()
