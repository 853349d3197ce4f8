"""What a patching run asks: options in one line, layers as they are typed, the grid of a site."""

from __future__ import annotations

import pytest

from analyses.config import read_config
from analyses.patch.config import PatchConfig, parse_layers
from interp.errors import InterpError
from interp.patching import Grid


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("0", (0,)),
        ("5, 0,10", (0, 5, 10)),
        ("0-3", (0, 1, 2, 3)),
        ("0-6:2", (0, 2, 4, 6)),
        ("1-5:3,4,4", (1, 4)),
    ],
)
def test_layers_are_read(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "0-4:0", "0:2", "1.5", "1-2-3"])
def test_other_layers_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InterpError, match="layers are written") as error:
        parse_layers(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "resid_pre,edges"}, "--site 'edges': should be 'resid_pre'"),
        ({"site": ""}, "--site .*at least 1"),
        ({"cells": "layer"}, "--cells 'layer': should be 'layer_pos'"),
        ({"layers": "0..5"}, "layers are written 0,5,10 or 0-29 or 0-29:2, not '0..5'"),
        ({"window": 0}, "--window 0: should be greater than or equal to 1"),
        ({"method": "slow"}, "--method 'slow': should be 'exact' or 'hooked'"),
        ({"placement": "middle"}, "--placement 'middle'"),
        ({"max_mib": 0}, "--max-mib 0"),
    ],
)
def test_options_that_cannot_be_are_named_in_one_line(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InterpError, match=message) as error:
        read_config(PatchConfig, **options)
    assert "\n" not in str(error.value)


def test_what_is_asked_about_is_the_text_on_either_side() -> None:
    asked = {
        ("careful", "placebo"): "careful",
        ("placebo", "careful"): "careful",
        ("clean", "negated"): "negated",
        ("negated", "careful"): "negated",
        ("placebo", "clean"): "instructed",
    }
    for (condition, against), name in asked.items():
        assert read_config(PatchConfig, condition=condition, against=against).asked == name


def test_the_grid_of_a_site_is_by_head_where_there_are_heads() -> None:
    asked = read_config(PatchConfig, site="resid_pre,z", layers="0-2", positions="all", window=2)
    shared = {"layers": (0, 1, 2), "positions": "all", "window": 2}
    assert asked.grid("resid_pre") == Grid("resid_pre", "layer_span", **shared)
    assert asked.grid("z") == Grid("z", "layer_head", **shared)
    assert asked.axes("z") == ["layer", "head"]
    assert read_config(PatchConfig, cells="layer_head_pos").axes("z") == ["layer", "head", "pos"]
