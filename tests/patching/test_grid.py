"""Grids: the same cells as the keywords give bit for bit, plain data, and what is refused."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.patching import (
    Cells,
    Grid,
    PatchSite,
    SweepPlan,
    SweepResult,
    attribute,
    knockout,
    plan_sweep,
    sweep,
)
from interp.patching.grid import KnockoutCells
from interp.patching.screen import screen
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import TARGET, random_ids, rough_model, with_spans

N = 10
SWEEPS: list[dict[str, Any]] = [
    {},
    {"site": "z", "layers": [0, 3], "heads": [3, 1]},
    {"site": "v", "cells": "layer_head_pos", "positions": [4, 9]},
    {"cells": "layer_span", "spans": ["instruction", "tail"]},
    {"site": "mlp_out", "positions": "tail"},
    {"site": "resid_post", "layers": range(1, 3), "positions": range(6, 9)},
]
"""Keywords that a sweep, a screened sweep and a plan understand."""

KNOCKOUTS: list[dict[str, Any]] = [
    {},
    {"cells": "layer_head", "heads": [2], "window": 2},
    {"cells": "layer_span", "spans": ["tail"], "layers": [1, 3]},
]


@pytest.fixture(scope="module")
def model(load_tiny: Callable[..., Any]) -> Any:
    """Four layers, four query heads, two key/value heads."""
    return rough_model(load_tiny, ("llama", False))


@pytest.fixture(scope="module")
def pair(model: Any) -> PromptPair:
    """An instruction of three tokens that differ, and a tail."""
    source, destination = random_ids(N, 0), random_ids(N, 0)
    source[3:6] = torch.tensor([50, 51, 52])
    spans = {"header": slice(0, 3), "instruction": slice(3, 6), "tail": slice(6, N)}
    return with_spans(make_pair(model, source, destination, target=TARGET), spans, spans)


@pytest.fixture
def no_type_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks a user meets."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


def require_same(one: SweepResult, other: SweepResult) -> None:
    """Bit for bit, NaN at the same places."""
    for a, b in ((one.values, other.values), (one.baseline, other.baseline)):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    assert (one.axis_names, one.axis_labels) == (other.axis_names, other.axis_labels)
    assert (one.title, one.notes) == (other.title, other.notes)


def cells_of(plan: SweepPlan) -> list[tuple[object, ...]]:
    return [
        (c.index, c.layers, c.heads, c.source.tolist(), c.destination.tolist(), c.state)
        for c in plan.cells
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [*SWEEPS, {"site": "z", "layers": (0, 2), "window": 3}], ids=str
)
def test_plan_and_sweep_of_a_grid_are_those_of_its_keywords(
    model: Any, pair: PromptPair, options: dict[str, Any]
) -> None:
    plans = plan_sweep(model, pair, **options), plan_sweep(model, pair, grid=Grid(**options))
    assert cells_of(plans[0]) == cells_of(plans[1])
    assert str(plans[0]) == str(plans[1])
    require_same(
        sweep(model, pair, progress=False, **options),
        sweep(model, pair, progress=False, grid=Grid(**options)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", SWEEPS, ids=str)
def test_screened_sweep_of_a_grid_is_that_of_its_keywords(
    model: Any, pair: PromptPair, options: dict[str, Any]
) -> None:
    own = dict(options)
    site = own.pop("site", "resid_pre")
    expected = screen(model, pair, sites=[site], k=3, progress=False, **own)[site]
    found = screen(model, pair, sites=[site], k=3, progress=False, grid=Grid(**own))[site]
    require_same(expected, found)
    by_sweep = sweep(model, pair, method="screened", k=3, progress=False, grid=Grid(**options))
    require_same(expected, by_sweep)


@pytest.mark.parametrize("options", SWEEPS, ids=str)
def test_attribution_of_a_grid_is_that_of_its_keywords(
    model: Any, pair: PromptPair, options: dict[str, Any]
) -> None:
    options = dict(options)
    site = options.pop("site", "resid_pre")
    expected = attribute(model, pair, sites=[site], progress=False, **options)
    found = attribute(model, pair, sites=[site], progress=False, grid=Grid(**options))
    assert list(found) == list(expected) == [site]
    require_same(expected[site], found[site])


@pytest.mark.parametrize("options", KNOCKOUTS, ids=str)
def test_knockout_of_a_grid_is_that_of_its_keywords(
    model: Any, pair: PromptPair, options: dict[str, Any]
) -> None:
    require_same(
        knockout(model, pair, progress=False, **options),
        knockout(model, pair, progress=False, grid=Grid(**options)),
    )


def test_a_grid_of_the_keywords_as_they_are_when_left_out_changes_nothing(
    model: Any, pair: PromptPair
) -> None:
    """Also with ``grid=None``, and also where the grid is the default one."""
    plain = sweep(model, pair, progress=False)
    require_same(plain, sweep(model, pair, progress=False, grid=None))
    require_same(plain, sweep(model, pair, progress=False, grid=Grid()))
    require_same(plain, sweep(model, pair, progress=False, grid=None, site="resid_pre"))


CALLS: dict[str, Callable[..., Any]] = {
    "sweep": sweep,
    "plan_sweep": plan_sweep,
    "screen": screen,
    "attribute": attribute,
    "knockout": knockout,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_grid_and_one_of_its_keywords_are_refused(
    model: Any, pair: PromptPair, name: str
) -> None:
    """Also where the keyword has the value that it has when it is left out: which one is meant?"""
    with pytest.raises(InterpError) as caught:
        CALLS[name](model, pair, grid=Grid(), layers=None)
    assert str(caught.value) == (
        f"{name}() got a grid and also layers: put it into the grid, or leave the grid out"
    )
    with pytest.raises(InterpError, match=r"got a grid and also cells, spans: put them into"):
        CALLS[name](model, pair, grid=Grid(), spans=["tail"], cells="layer_span")


@pytest.mark.parametrize(
    ("name", "grid", "message"),
    [
        ("attribute", Grid(site="resid_pre"), "attribute() takes no site in its grid: name sites="),
        ("attribute", Grid(window=2), "attribute() takes no window in its grid: an estimate is "),
        ("knockout", Grid(site="z"), "knockout() takes no site in its grid: it removes edges"),
        ("knockout", Grid(positions="all"), "knockout() takes no positions in its grid: name "),
        ("screen", Grid(window=2), "screen() takes no window in its grid: "),
        ("screen", Grid(site="z"), "screen() takes no site in its grid: name sites="),
        ("knockout", Grid(cells="layer_pos"), "no grid 'layer_pos'; known: layer, layer_head, la"),
        ("sweep", Grid(cells="layer"), "no grid 'layer'; known: layer_pos, layer_span, layer_he"),
        ("attribute", Grid(cells="layer"), "no grid 'layer'; known: layer_pos, layer_span, laye"),
    ],
    ids=str,
)
def test_a_field_that_a_function_does_not_understand_is_refused_by_name(
    model: Any, pair: PromptPair, name: str, grid: Grid, message: str
) -> None:
    with pytest.raises(InterpError) as caught:
        CALLS[name](model, pair, grid=grid)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_screened_sweep_refuses_windows_the_same_way_as_by_keyword(
    model: Any, pair: PromptPair
) -> None:
    for options in ({"window": 2}, {"grid": Grid(window=2)}):
        with pytest.raises(InterpError, match="a screened sweep copies whole activations of one"):
            sweep(model, pair, method="screened", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "residual"}, "no site 'residual'; known: resid_pre, resid_mid"),
        (
            {"cells": "pos_layer"},
            "known: layer_pos, .*, and in a knockout layer, layer_head, layer_span$",
        ),
        ({"layers": []}, "no layers to patch: the list is empty"),
        ({"heads": []}, "no heads to patch: the list is empty"),
        ({"spans": []}, "no spans to patch: the list is empty"),
        ({"positions": []}, "no positions to patch: the list is empty"),
        ({"window": 0}, "window is 0: it covers at least one layer"),
        ({"layers": 3}, "layers is 3: give a list of whole numbers"),
        ({"layers": [0, 1.5]}, r"layers is \[0, 1.5\]: give a list of whole numbers"),
        ({"heads": "12"}, "heads is '12': give a list of whole numbers"),
        ({"positions": 3}, "positions is 3: give a list of whole numbers"),
        ({"spans": "tail"}, r"spans is 'tail': give a list of names, \['tail'\]"),
        ({"window": 1.5}, "window is 1.5: it is a whole number of layers"),
    ],
    ids=str,
)
def test_what_no_model_is_needed_for_is_refused_when_the_grid_is_made(
    no_type_checks: None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterpError, match=message) as caught:
        Grid(**options)
    assert "\n" not in str(caught.value)


def test_every_sequence_becomes_a_tuple_of_plain_numbers(no_type_checks: None) -> None:
    grid = Grid(layers=np.arange(2), heads=torch.tensor([3, 1]), positions=range(4, 6), spans=["a"])
    assert (grid.layers, grid.heads, grid.positions) == ((0, 1), (3, 1), (4, 5))
    assert grid.spans == ("a",)
    numbers = [*(grid.layers or ()), *(grid.heads or ()), *grid.positions]
    assert {type(number) for number in numbers} == {int}
    assert grid == Grid(layers=[0, 1], heads=(3, 1), positions=[4, 5], spans=("a",))


def test_a_grid_prints_what_is_set() -> None:
    assert repr(Grid()) == "Grid()"
    grid = Grid(site="z", layers=[0, 5], positions="all", window=3)
    assert repr(grid) == "Grid(site='z', layers=(0, 5), positions='all', window=3)"


def test_a_grid_is_frozen_and_changed_by_replace() -> None:
    grid = Grid(layers=[0])
    with pytest.raises(FrozenInstanceError):
        grid.window = 2  # type: ignore[misc]
    assert replace(grid, window=2) == Grid(layers=[0], window=2)
    with pytest.raises(InterpError, match="window is 0"):
        replace(grid, window=0)


def test_the_keywords_are_the_fields_with_their_defaults() -> None:
    """The public signatures: every field by keyword, with the default it has always had."""
    usual = {"site": "resid_pre", "positions": "aligned", "window": 1}
    known = {
        "sweep": {"site", "cells", "layers", "spans", "heads", "positions", "window"},
        "plan_sweep": {"site", "cells", "layers", "spans", "heads", "positions", "window"},
        "screen": {"cells", "layers", "spans", "heads", "positions"},
        "attribute": {"cells", "layers", "spans", "heads", "positions"},
        "knockout": {"cells", "layers", "spans", "heads", "window"},
    }
    assert known["sweep"] == {field.name for field in fields(Grid)}
    for name, function in CALLS.items():
        parameters = inspect.signature(function).parameters
        found = {key: parameters[key].default for key in parameters if key in known["sweep"]}
        cells = {"cells": "layer"} if name == "knockout" else {}
        assert found == {key: {**usual, **cells}.get(key) for key in known[name]}
        assert parameters["grid"].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["grid"].default is None


def numbers(most: int) -> st.SearchStrategy[Sequence[int] | None]:
    return st.none() | st.lists(st.integers(0, most), min_size=1, max_size=5)


names = st.text(min_size=1, max_size=8)
grids = st.builds(
    Grid,
    site=st.sampled_from([None, *get_args(PatchSite)]),
    cells=st.sampled_from([None, *get_args(Cells), *get_args(KnockoutCells)]),
    layers=numbers(40),
    spans=st.none() | st.lists(names, min_size=1, max_size=3),
    heads=numbers(16),
    positions=names | st.lists(st.integers(0, 500), min_size=1, max_size=6),
    window=st.integers(1, 9),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grid=grids)
def test_a_grid_survives_pickle_json_and_its_own_repr(grid: Grid) -> None:
    copies = [
        pickle.loads(pickle.dumps(grid)),
        Grid(**json.loads(json.dumps(asdict(grid)))),
        eval(repr(grid), {"Grid": Grid}),
        replace(grid),
    ]
    for copy in copies:
        assert copy == grid
        assert hash(copy) == hash(grid)
    assert len({grid, *copies}) == 1
