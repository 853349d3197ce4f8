"""Sweeps of pairs of unequal length, of items, of several pairs, and on the default model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from interp.activations.sites import Site
from interp.data import load_items
from interp.patching import ALL, sweep
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import (
    MODELS,
    N_LAYERS,
    TARGET,
    name_of,
    own_margin,
    patched_by_hand,
    random_ids,
    tolerance,
    with_spans,
)


@pytest.fixture(params=MODELS, ids=name_of)
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    architecture, compatibility_mode = request.param
    return load_tiny(architecture, compatibility_mode=compatibility_mode)


def unequal_pair(model: Any, *, longer: bool) -> PromptPair:
    """A header of 4, an instruction of 3 or 5 tokens without a common token, a tail of 3."""
    head, tail = random_ids(4, 0), random_ids(3, 1)
    short, long = torch.arange(50, 53), torch.arange(60, 65)
    one, other = (long, short) if longer else (short, long)
    ids = [torch.cat([head, middle, tail]) for middle in (one, other)]
    spans = [
        {"header": slice(0, 4), "instruction": slice(4, 4 + k), "tail": slice(4 + k, 7 + k)}
        for k in (len(one), len(other))
    ]
    return with_spans(make_pair(model, *ids, target=TARGET), *spans)


@pytest.mark.slow
@pytest.mark.parametrize("longer", [True, False], ids=["longer-source", "shorter-source"])
@pytest.mark.parametrize("site", ["resid_pre", "attn_out"])
def test_unequal_prompts_are_patched_at_aligned_positions(
    model: Any, longer: bool, site: Site
) -> None:
    pair = unequal_pair(model, longer=longer)
    shift = 2 if longer else -2
    tail = range(len(pair.destination) - 3, len(pair.destination))
    moves = [(position + shift, position) for position in tail]
    result = sweep(
        model, pair, site=site, spans=["header", "instruction", "tail", ALL], progress=False
    )
    expected = [
        patched_by_hand(model, pair, f"blocks.{layer}.hook_{site}", moves)
        for layer in range(N_LAYERS)
    ]
    allowed = tolerance([*expected, float(result.baseline[0])])
    assert result.values[:, 2, 0].tolist() == pytest.approx(expected, abs=allowed)
    # the instructions have no token in common, so all that is aligned is the tail
    assert result.values[:, 3, 0].tolist() == pytest.approx(expected, abs=allowed)
    assert bool((result.effect()[:, 0] == 0).all())  # before the first difference
    assert bool(result.effect()[:, 1].isnan().all())  # nothing aligned to copy
    assert result.notes[0].startswith("1 of 1 pairs are not aligned by index")
    carries = model.cfg.positional_embedding_type == "standard"
    assert ("carries absolute positions" in result.notes[0]) == carries


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_corrected_item_is_patched_into_the_clean_one(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    pair = make_pair(
        model, load_items("bundled:choices", limit=1)[0], "instructed", against="clean"
    )
    assert len(pair.source) > len(pair.destination)
    result = sweep(model, pair, cells="layer_span", layers=[0, 2], progress=False)
    assert "instruction" not in result.axis_labels["span"]
    for column, span in enumerate(result.axis_labels["span"][:-1]):
        here, there = pair.source.span(span), pair.destination.span(span)
        positions = range(there.start, there.stop)
        assert here.stop - here.start == len(positions)
        moves = [(p - there.start + here.start, p) for p in positions]
        moves = [m for m in moves if m[1] >= (pair.alignment.first_difference or 0)]
        for row, layer in enumerate((0, 2)):
            expected = patched_by_hand(model, pair, f"blocks.{layer}.hook_resid_pre", moves)
            assert float(result.values[row, column, 0]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("parameter", [("llama", False), ("gemma2", True), ("neox", False)])
def test_item_pairs_reach_the_source_run_and_equal_hooks_on_the_full_prompt(
    load_tiny: Callable[..., Any], parameter: tuple[str, bool]
) -> None:
    model = load_tiny(parameter[0], compatibility_mode=parameter[1])
    items = load_items("bundled:choices", limit=6)
    pairs = [make_pair(model, item, "instructed") for item in items]
    pair = next(p for p in pairs if p.alignment.by_index)
    result = sweep(model, pair, cells="layer_span", progress=False)
    spans = result.axis_labels["span"]
    assert spans[-1] == ALL
    assert "instruction" in spans
    assert "context" not in spans
    source = own_margin(model, pair, pair.source.ids)
    allowed = max(tolerance([source, float(result.baseline[0])]), tolerance(result.effect()))
    assert result.values[:, -1, 0].tolist() == pytest.approx([source] * N_LAYERS, abs=allowed)
    for column, span in enumerate(spans[:-1]):
        where = pair.destination.span(span)
        moves = [(p, p) for p in range(where.start, where.stop)]
        expected = patched_by_hand(model, pair, "blocks.2.hook_resid_pre", moves)
        assert float(result.values[2, column, 0]) == pytest.approx(expected, abs=allowed)


@pytest.mark.slow
def test_several_pairs_keep_their_values_labels_and_clusters(tiny_model: Any) -> None:
    items = load_items("bundled:choices", limit=3, seed=1)
    pairs = [make_pair(tiny_model, item, "instructed") for item in items]
    together = sweep(tiny_model, pairs, seed=5, progress=False)
    assert together.values.shape[-1] == 3
    for k, pair in enumerate(pairs):
        spans = together.axis_labels["span"]
        alone = sweep(tiny_model, pair, spans=spans, progress=False)
        assert torch.equal(together.values[..., k], alone.values[..., 0])
        assert torch.equal(together.baseline[k], alone.baseline[0])
        assert torch.equal(together.source_baseline[k], alone.source_baseline[0])
    assert together.pair_labels == [f"instructed -> placebo ({item.id})" for item in items]
    assert together.clusters == [item.cluster for item in items]
    assert (together.site, together.seed) == ("resid_pre", 5)
    assert together.title == "instructed -> placebo, resid_pre"
    assert together.metric_names == ["margin"]


def test_texts_of_one_item_get_labels_of_their_own(tiny_model: Any) -> None:
    item = load_items("bundled:choices", limit=1)[0]
    pairs = [make_pair(tiny_model, item, "instructed", slot=slot) for slot in (0, 1)]
    result = sweep(tiny_model, pairs, layers=[0], spans=[ALL], progress=False)
    assert result.pair_labels == [f"instructed -> placebo ({item.id}) #{k}" for k in (0, 1)]
    assert result.clusters == [item.cluster] * 2


def test_the_same_arguments_give_the_same_bytes(tiny_model: Any) -> None:
    pair = unequal_pair(tiny_model, longer=True)
    one, other = (sweep(tiny_model, pair, progress=False).values for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.model
def test_on_the_default_model_an_item_pair_is_exact(default_model: Any) -> None:
    item = load_items("bundled:choices", limit=1, seed=0)[0]
    pair = make_pair(default_model, item, "instructed", against="placebo")
    assert pair.alignment.by_index
    layers = [0, 7, 15, 29]
    result = sweep(default_model, pair, cells="layer_span", layers=layers, progress=False)
    source = own_margin(default_model, pair, pair.source.ids)
    assert result.values[:, -1, 0].tolist() == pytest.approx([source] * 4, abs=1e-3)
    effects = result.effect()[..., 0]
    allowed = 1e-4 * max(float(effects.max() - effects.min()), 0.1)
    spans = result.axis_labels["span"][:-1]
    cells = np.random.default_rng(0).choice(len(layers) * len(spans), size=6, replace=False)
    for cell in cells.tolist():
        row, column = divmod(cell, len(spans))
        where = pair.destination.span(spans[column])
        first = max(where.start, pair.alignment.first_difference or 0)
        moves = [(p, p) for p in range(first, where.stop)]
        expected = patched_by_hand(
            default_model, pair, f"blocks.{layers[row]}.hook_resid_pre", moves
        )
        assert float(result.values[row, column, 0]) == pytest.approx(expected, abs=allowed)


@pytest.mark.model
def test_on_the_default_model_a_run_patched_with_itself_stays_the_same(default_model: Any) -> None:
    item = load_items("bundled:choices", limit=1, seed=0)[0]
    pair = make_pair(default_model, item, "instructed")
    same = make_pair(default_model, pair.source.ids, pair.source.ids, target=TARGET)
    result = sweep(default_model, same, layers=[0, 15], spans=["prompt", ALL], progress=False)
    assert bool((result.effect() == 0).all())
