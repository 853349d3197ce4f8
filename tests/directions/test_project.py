"""Projections: every number against a plain run's activations, shifts, places, refusals."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch

from interp.activations import places_of, read_states
from interp.behaviour.generation import complete
from interp.data import load_items, load_texts
from interp.directions import (
    Component,
    DirectionStack,
    fit_direction,
    project,
    project_prompts,
    read_moments,
)
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


ALL: tuple[Component, ...] = (
    "embedding", "head", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post",
)  # fmt: skip


def activation(model: Any, cache: Any, component: str, layer: int, head: int) -> torch.Tensor:
    """A component's addition to the residual stream, formed in full, ``[pos, d_model]``."""
    if component == "embedding":
        return cache["blocks.0.hook_resid_pre"][0]
    if component == "head":
        return cache[f"blocks.{layer}.attn.hook_z"][0, :, head] @ model.blocks[layer].attn.W_O[head]
    return cache[f"blocks.{layer}.hook_{component}"][0]


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["last", "question", "instruction:last", "options:all"])
def test_every_projection_equals_the_oracle_that_caches_everything(
    tiny_model: Any, stack: DirectionStack, pairs: list[PromptPair], positions: str
) -> None:
    moments = read_moments(
        tiny_model,
        [pair.destination for pair in pairs],
        components=[c for c in ALL if c != "head"],
        progress=False,
    )
    found = project(
        tiny_model, pairs[0], stack, components=ALL, positions=positions, standardise=moments,
        progress=False,
    )  # fmt: skip
    frame = found.to_dataframe()
    caches = {
        run: tiny_model.run_with_cache(getattr(pairs[0], run).ids[None])[1]
        for run in ("source", "destination")
    }
    n_cells = 1 + 4 * 4 + 5 * 4
    prompt = pairs[0].source
    places = places_of(prompt, positions)
    per_prompt = 1 if places.averaged else len(places.positions)
    assert len(frame) == 2 * per_prompt * n_cells
    for row in frame.itertuples():
        prompt = getattr(pairs[0], row.run)
        where = list(places_of(prompt, positions).positions)
        if row.position >= 0:
            assert row.position in where
            where = [row.position]
        states = activation(tiny_model, caches[row.run], row.component, row.layer, row.head)[where]
        v = stack[row.layer].vector
        assert row.dot == pytest.approx(float((states @ v).mean()), rel=1e-3, abs=1e-4)
        cosine = torch.cosine_similarity(states, v[None], dim=-1)
        assert row.cosine == pytest.approx(float(cosine.mean()), rel=1e-3, abs=1e-5)
        if row.component == "resid_post":
            units = stack[row.layer].project(states).mean()
            assert row.projection == pytest.approx(float(units), rel=1e-3, abs=1e-4)
        else:
            assert row.projection != row.projection  # NaN: no class units
        here = moments.at(row.component, row.layer)
        if here is None:
            assert row.standardised != row.standardised
        else:
            centred = (states - here.mean) / here.std
            standard = torch.cosine_similarity(centred, (v / here.std)[None], dim=-1)
            assert row.standardised == pytest.approx(float(standard.mean()), rel=1e-3, abs=1e-5)


def test_one_direction_is_projected_onto_at_every_layer(
    tiny_model: Any, stack: DirectionStack, pairs: list[PromptPair]
) -> None:
    prompt = pairs[0].source
    frame = project(tiny_model, prompt, stack[2], progress=False).to_dataframe()
    assert frame["layer"].tolist() == [0, 1, 2, 3]
    assert frame[["run", "condition", "item"]].drop_duplicates().to_numpy().tolist() == [
        ["prompt", prompt.label, ""]
    ]
    _, cache = tiny_model.run_with_cache(prompt.ids[None])
    for row in frame.itertuples():
        state = cache[f"blocks.{row.layer}.hook_resid_post"][0, -1]
        assert row.dot == pytest.approx(float(state @ stack[2].vector), rel=1e-4, abs=1e-4)
        assert (row.projection == row.projection) == (row.layer == 2)


def test_generated_tokens_are_projected_in_one_exact_forward(
    tiny_model: Any, stack: DirectionStack, pairs: list[PromptPair]
) -> None:
    whole = complete(tiny_model, pairs[0].source, max_new_tokens=5, stop_ids=())
    frame = project(
        tiny_model, [whole], stack, positions="generated:all", progress=False
    ).to_dataframe()
    start = len(pairs[0].source)
    assert sorted(set(frame["position"])) == list(range(start, start + 5))
    for position in (start, start + 4):
        _, cache = tiny_model.run_with_cache(whole.ids[None, : position + 1])  # as generated
        row = frame[(frame["position"] == position) & (frame["layer"] == 3)].iloc[0]
        state = cache["blocks.3.hook_resid_post"][0, -1]
        assert row["dot"] == pytest.approx(float(state @ stack[3].vector), rel=1e-3, abs=1e-4)


def test_shifts_of_other_components_and_values(
    tiny_model: Any, stack: DirectionStack, pairs: list[PromptPair]
) -> None:
    found = project(
        tiny_model, pairs, stack, components=["resid_post", "head", "mlp_out"], progress=False
    )
    shift = found.shift(component="mlp_out", value="dot")
    frame = found.to_dataframe()
    cell = frame[(frame["component"] == "mlp_out") & (frame["layer"] == 1) & (frame["pair"] == 1)]
    dots = cell.set_index("run")["dot"]
    got = shift[(shift["pair"] == 1) & (shift["layer"] == 1)]["shift"].iloc[0]
    assert got == pytest.approx(dots["source"] - dots["destination"])
    heads = found.shift(component="head", value="cosine")
    assert len(heads) == 2 * 4 * 4
    assert heads.columns.tolist() == ["pair", "item", "cluster", "layer", "head", "shift"]
    assert "source - destination" in found._repr_html_()
    with pytest.raises(InterpError, match="class units belong to resid_post"):
        found.shift(component="mlp_out")
    with pytest.raises(InterpError, match="no dot of 'attn_out'"):
        found.shift(component="attn_out", value="dot")
    with pytest.raises(InterpError, match="needs pairs"):
        project(tiny_model, [pairs[0].source], stack, progress=False).shift()
    with pytest.raises(InterpError, match="several positions"):
        project(tiny_model, pairs, stack, positions="options:all", progress=False).shift()


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
    with pytest.raises(InterpError, match="no components"):
        project(tiny_model, pairs, stack, components=[], progress=False)
    with pytest.raises(InterpError, match="no directions"):
        project_prompts(tiny_model, [pairs[0].source], [], progress=False)
    texts = load_texts("bundled:morality")[:40]
    other = fit_direction(tiny_model, texts, site="mlp_out", progress=False)
    with pytest.raises(InterpError, match="do not fit a direction of mlp_out"):
        project_prompts(tiny_model, [pairs[0].source], [stack, other], progress=False)
