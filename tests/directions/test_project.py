"""Projections of pairs: dot products by hand, shifts, refusals."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch

from interp.activations import read_states
from interp.data import load_items, load_texts
from interp.directions import DirectionStack, fit_direction, project, project_prompts
from interp.errors import InterpError
from interp.prompts import PromptPair, make_pair


@pytest.fixture(scope="module")
def stack(load_tiny: Callable[..., Any]) -> DirectionStack:
    texts = load_texts("bundled:morality")[:40]
    return fit_direction(load_tiny("llama"), texts, progress=False)


@pytest.fixture(scope="module")
def pairs(load_tiny: Callable[..., Any]) -> list[PromptPair]:
    items = load_items("bundled:choices", limit=2, seed=0)
    model = load_tiny("llama")
    return [
        make_pair(model, items[0], "instructed"),
        make_pair(model, items[1], "instructed", against="clean"),
    ]


def test_projections_equal_dot_products_by_hand(
    tiny_model: Any, stack: DirectionStack, pairs: list[PromptPair]
) -> None:
    frame = project(tiny_model, pairs, stack, progress=False).to_dataframe()
    assert len(frame) == 2 * 2 * 4
    assert frame.groupby(["pair", "run"])["condition"].first().to_dict() == {
        (0, "destination"): "placebo",
        (0, "source"): "instructed",
        (1, "destination"): "clean",
        (1, "source"): "instructed",
    }
    for row in frame.itertuples():
        pair = pairs[row.pair]
        assert (row.item, row.cluster) == (pair.item.id, pair.item.cluster)
        _, cache = tiny_model.run_with_cache(getattr(pair, row.run).ids[None])
        state = cache[f"blocks.{row.layer}.hook_resid_post"][0, -1].double()
        direction = stack[row.layer]
        dot = float(state @ direction.vector.double())
        expected = (dot - direction.offset) / direction.scale
        assert row.projection == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_shift_is_source_minus_destination(
    tiny_model: Any, stack: DirectionStack, pairs: list[PromptPair]
) -> None:
    projections = project(tiny_model, pairs, stack, progress=False)
    frame, shift = projections.to_dataframe(), projections.shift()
    assert shift.columns.tolist() == ["pair", "item", "cluster", "layer", "shift"]
    assert len(shift) == 2 * 4
    for row in shift.itertuples():
        cell = frame[(frame["pair"] == row.pair) & (frame["layer"] == row.layer)]
        value = cell.set_index("run")["projection"]
        assert row.shift == pytest.approx(value["source"] - value["destination"])
    assert bool((shift["shift"] != 0).any())


def test_equal_prompts_shift_by_exactly_zero(tiny_model: Any, stack: DirectionStack) -> None:
    ids = torch.arange(10, 20)
    shift = project(tiny_model, make_pair(tiny_model, ids, ids), stack, progress=False).shift()
    assert shift["shift"].tolist() == [0.0] * 4
    assert shift["cluster"].tolist() == ["0"] * 4


def test_several_directions_read_the_prompts_once(
    tiny_model: Any,
    stack: DirectionStack,
    pairs: list[PromptPair],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = import_module("interp.directions.project")
    calls = []

    def spy(*args: Any, **options: Any) -> Any:
        calls.append(options)
        return read_states(*args, **options)

    monkeypatch.setattr(module, "read_states", spy)
    tense = load_texts("bundled:contrasts:tense")
    other = fit_direction(tiny_model, tense, progress=False)
    prompts = [pairs[0].source, pairs[0].destination]
    both = project_prompts(tiny_model, prompts, [stack, other], progress=False)
    assert len(calls) == 1
    alone = project_prompts(tiny_model, prompts, [other], progress=False)
    assert [values.shape for values in both] == [(4, 2), (4, 2)]
    assert torch.equal(both[1], alone[0])


def test_directions_of_other_weights_or_modes_are_refused(
    load_tiny: Callable[..., Any], stack: DirectionStack, pairs: list[PromptPair]
) -> None:
    with pytest.raises(InterpError, match="other weights"):
        project(load_tiny("gemma"), pairs, stack, progress=False)
    with pytest.raises(InterpError, match="compatibility mode"):
        project(load_tiny("llama", compatibility_mode=True), pairs, stack, progress=False)


def test_empty_requests_and_mixed_sites_are_refused(
    tiny_model: Any, stack: DirectionStack, pairs: list[PromptPair]
) -> None:
    with pytest.raises(InterpError, match="no prompts"):
        project(tiny_model, [], stack, progress=False)
    with pytest.raises(InterpError, match="no directions"):
        project_prompts(tiny_model, [pairs[0].source], [], progress=False)
    texts = load_texts("bundled:morality")[:40]
    other = fit_direction(tiny_model, texts, site="mlp_out", progress=False)
    with pytest.raises(InterpError, match="do not fit a direction of mlp_out"):
        project_prompts(tiny_model, [pairs[0].source], [stack, other], progress=False)
