"""Views without widgets: equal to the library's own calls, and to the code they hand out."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest
import torch

import interp
from interp.data import Choice, ChoiceItem, LabelledText
from interp.errors import InterpError
from interp.explore import edits
from interp.explore.explorer import VIEWS, Explorer
from interp.models import load_model
from interp.patching import Grid, blocked_edges, cell_patches, read_options
from interp.prompts import TextBank, make_pair

CHOICES = (
    Choice("Not known", "unknown"),
    Choice("The farmer", "stereotyped"),
    Choice("The teacher", "counter"),
)
ITEMS = [
    ChoiceItem(
        f"q{k}", "own", "own", f"They met {k}.", "Who was late?", CHOICES, 0, "ambiguous", "c"
    )
    for k in range(3)
]


@pytest.fixture(scope="module")
def direction(tiny_model: Any) -> Any:
    texts = [
        LabelledText(f"It {verb} kind {k}.", label, f"g{k}", "own")
        for k in range(4)
        for verb, label in (("was", 1), ("was not", 0))
    ]
    return interp.fit_direction(tiny_model, texts, n_folds=2, n_shuffles=3, progress=False)


def shown(figure: Any) -> str:
    return figure.to_json() if isinstance(figure, go.Figure) else figure._repr_html_()


def executed(code: str, **names: Any) -> Any:
    exec(compile(code, "copied", "exec"), names)
    return names["figure"]


def bars(figure: go.Figure) -> dict[str, list[float]]:
    return {trace.name: list(trace.x) for trace in figure.data}


CHOSEN: dict[str, dict[str, Any]] = {
    "another item": {"item": 2, "condition": "negated", "wording": 1, "order": 1},
    "the other way": {"swapped": True, "against": "clean"},
    "a later round": {"round": 2},
}
CHANGED: dict[str, dict[str, Any]] = {
    "span": {"cells": "layer_span", "cell": (0, 1), "blocked": "span"},
    "head": {"cells": "layer_head", "site": "z", "cell": (2, 1), "blocked": "head", "head": 1},
    "both": {
        "cell": (3, 5),
        "dose": -1.0,
        "layer": 1,
        "blocked": "head",
        "metric": "option_margin",
    },
}


def names_for(model: Any, direction: Any) -> dict[str, Any]:
    return {"model": model, "items": ITEMS, "direction": direction}


@pytest.mark.parametrize("chosen", CHOSEN)
def test_the_code_of_every_reading_makes_the_view_again(
    tiny_model: Any, direction: Any, chosen: str
) -> None:
    explorer = interp.explore(tiny_model, ITEMS, direction=direction)
    explorer.choose(**CHOSEN[chosen])
    for name in ("prompts", "options", "lens", "projection", "projected_tokens", "attention"):
        drawn = explorer.draw(name)
        again = executed(drawn.code, **names_for(tiny_model, direction))
        assert shown(again) == shown(drawn.figure), name


@pytest.mark.parametrize("changed", CHANGED)
def test_the_code_of_every_change_makes_the_view_again(
    tiny_model: Any, direction: Any, changed: str
) -> None:
    explorer = interp.explore(tiny_model, ITEMS, direction=direction)
    explorer.choose(**CHANGED[changed])
    for name in (name for name in VIEWS if name.startswith(("map", "cell", "edited"))):
        drawn = explorer.draw(name)
        again = executed(drawn.code, **names_for(tiny_model, direction))
        assert shown(again) == shown(drawn.figure), name


def test_the_options_of_a_cell_are_the_librarys_own(tiny_model: Any) -> None:
    explorer = interp.explore(tiny_model, ITEMS)
    explorer.choose(item=1, cell=(2, 4))
    pair = make_pair(tiny_model, ITEMS[1], "instructed")
    first = pair.alignment.first_difference
    assert first is not None
    grid = Grid(site="resid_pre", cells="layer_pos", layers=(2,), positions=(first + 4,))
    patches = cell_patches(tiny_model, pair, grid=grid)
    found = bars(explorer.draw("cell_options").figure)
    assert found == {
        "instructed": read_options(tiny_model, pair, run="source")["probability"].tolist(),
        "placebo": read_options(tiny_model, pair)["probability"].tolist(),
        "patched": read_options(tiny_model, pair, patches=patches)["probability"].tolist(),
    }
    assert explorer.cell_title() == f"L2 {explorer_label(pair, first + 4)} (resid_pre)"


def explorer_label(pair: Any, position: int) -> str:
    from interp.viz.grids import position_label

    return position_label(pair.destination.labels[position])


def test_the_map_is_the_librarys_own_and_its_cells_agree_with_the_cell_that_is_clicked(
    tiny_model: Any,
) -> None:
    explorer = interp.explore(tiny_model, ITEMS)
    explorer.choose(metric="option_margin", cells="layer_span", cell=(1, 0))
    figure = explorer.draw("map").figure
    result = interp.sweep(
        tiny_model, explorer.pair, cells="layer_span", metric="option_margin", progress=False
    )
    assert figure.to_json() == interp.viz.heatmap(result).to_json()
    frame = bars(explorer.draw("cell_options").figure)
    a, b = (torch.tensor(frame["patched"]).log()[k] for k in (0, 1))
    assert float(a - b) == pytest.approx(float(result.values[1, 0, 0]), abs=2e-4)


def test_a_knockout_and_a_dose_are_the_librarys_own(tiny_model: Any, direction: Any) -> None:
    explorer = interp.explore(tiny_model, ITEMS, direction=direction)
    pair = make_pair(tiny_model, ITEMS[0], "instructed")
    explorer.choose(blocked="head", layer=1, head=2)
    patches = blocked_edges(
        tiny_model, pair, grid=Grid(cells="layer_head", layers=(1,), heads=(2,))
    )
    plain = read_options(tiny_model, pair, patches=patches)["probability"].tolist()
    assert bars(explorer.draw("edited_options").figure)["edited"] == plain
    explorer.choose(dose=3.0)
    with direction[1].apply(tiny_model, strength=3.0):
        steered = read_options(tiny_model, pair, patches=patches)["probability"].tolist()
    drawn = explorer.draw("edited_options")
    assert bars(drawn.figure)["edited"] == steered
    assert steered != plain
    assert drawn.said.startswith("placebo: ")
    assert "; edited: " in drawn.said


def test_what_was_drawn_is_kept_for_its_exact_state(
    tiny_model: Any, direction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer = interp.explore(tiny_model, ITEMS, direction=direction)
    first = explorer.draw("options")
    explorer.choose(layer=2, site="z", cells="layer_head", dose=1.0)  # not what options depend on
    assert explorer.is_drawn("options")
    assert explorer.draw("options") is first
    explorer.choose(wording=1)
    assert not explorer.is_drawn("options")
    explorer.choose(wording=0)
    assert explorer.draw("options") is first
    with direction[1].apply(tiny_model, strength=2.0):  # a hook of the caller's: another model
        assert not explorer.is_drawn("options")
        steered = explorer.draw("options")
    assert shown(steered.figure) != shown(first.figure)
    assert explorer.draw("options") is first


@pytest.mark.parametrize(
    "change",
    [{"item": 1}, {"condition": "negated"}, {"against": "clean"}, {"wording": 1}, {"order": 1},
     {"round": 2}, {"swapped": True}],
    ids=str,
)  # fmt: skip
def test_every_choice_of_the_pair_alone_makes_another_pair(
    tiny_model: Any, change: dict[str, Any]
) -> None:
    explorer = interp.explore(tiny_model, ITEMS)
    before = explorer.pair
    explorer.choose(**change)
    after = explorer.pair
    same = [
        torch.equal(getattr(before, run).ids, getattr(after, run).ids)
        for run in ("source", "destination")
    ]
    assert not all(same)


def test_another_map_has_no_cell_and_the_same_map_keeps_it(tiny_model: Any) -> None:
    explorer = interp.explore(tiny_model, ITEMS)
    explorer.choose(cell=(1, 2))
    assert explorer.choose(head=1, layer=1).cell == (1, 2)
    assert explorer.choose(item=1).cell is None
    with pytest.raises(InterpError, match="no cell is chosen: click one"):
        explorer.draw("cell_options")


def test_a_pair_is_explored_with_code_that_names_it(tiny_model: Any) -> None:
    pair = make_pair(
        tiny_model, "The quick brown fox met", "The old brown fox met",
        answers=(" the teacher", " the farmer"), spans={"name": ("quick", "old")},
    )  # fmt: skip
    explorer = interp.explore(tiny_model, pair)
    explorer.choose(swapped=True, cell=(1, 0), span="name")
    for name in ("options", "lens", "map", "cell_options", "cell_lens"):
        drawn = explorer.draw(name)
        again = executed(drawn.code, model=tiny_model, pair=pair)
        assert shown(again) == shown(drawn.figure), name
    assert "name" in explorer.spans()
    assert explorer.explored.conditions == ()
    with pytest.raises(InterpError, match="known: none: a pair was given"):
        explorer.choose(condition="negated")
    with pytest.raises(InterpError, match="no direction: give"):
        explorer.draw("projection")


def test_a_bank_of_ones_own_is_named_in_the_code(tiny_model: Any) -> None:
    bank = TextBank(tiny_model.tokenizer, seed=3)
    explorer = interp.explore(tiny_model, ITEMS[0], bank=bank)
    drawn = explorer.draw("options")
    again = executed(drawn.code, model=tiny_model, items=ITEMS, bank=bank)
    assert shown(again) == shown(drawn.figure)
    assert "bank=bank" in drawn.code


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"itm": 1}, "no choice 'itm'; did you mean 'item'"),
        ({"item": 3}, "item is 3: give a whole number from 0 to 2"),
        ({"layer": 4}, "from 0 to 3"),
        ({"head": -1}, "from 0 to 3"),
        ({"round": 0}, "from 1 to 5"),
        ({"condition": "nothing"}, "no condition 'nothing'; known: clean"),
        ({"site": "resid"}, "site is 'resid'; known: resid_pre"),
        ({"cells": "layer_head_pos"}, "cells is 'layer_head_pos'; known: layer_pos"),
    ],
)
def test_what_cannot_be_chosen_is_refused_and_leaves_the_state(
    tiny_model: Any, changes: dict[str, Any], line: str
) -> None:
    explorer = interp.explore(tiny_model, ITEMS)
    before = explorer.state
    with pytest.raises(InterpError, match=line):
        explorer.choose(**changes)
    assert explorer.state == before


def test_an_unknown_view_and_a_map_without_heads_are_refused(tiny_model: Any) -> None:
    explorer = interp.explore(tiny_model, ITEMS)
    with pytest.raises(InterpError, match="no view 'optoins'; did you mean 'options'"):
        explorer.draw("optoins")
    explorer.choose(cells="layer_head")
    with pytest.raises(InterpError, match="resid_pre has no heads"):
        explorer.draw("map")
    explorer.choose(condition="placebo")
    with pytest.raises(InterpError, match="placebo against itself"):
        explorer.draw("options")
    with pytest.raises(InterpError, match="nothing is changed yet"):
        interp.explore(tiny_model, ITEMS).draw("edited_options")


def test_the_model_keeps_no_hook_also_after_an_error(
    tiny_model: Any, direction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer = interp.explore(tiny_model, ITEMS, direction=direction)
    explorer.choose(dose=2.0, blocked="span", cell=(1, 0))
    for name in ("cell_lens", "edited_options", "edited_lens", "edited_attention"):
        explorer.draw(name)

    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("out of luck")

    for name in ("read_options", "lens_prompt"):
        monkeypatch.setattr(edits, name, fail)
    explorer.choose(dose=1.0)
    for name in ("edited_options", "edited_lens"):
        with pytest.raises(RuntimeError):
            explorer.draw(name)
    assert sum(len(point.fwd_hooks) for point in tiny_model.hook_dict.values()) == 0


def test_closing_forgets_the_model(tiny_folder: Callable[..., Any]) -> None:
    model = load_model(tiny_folder("llama"))
    with interp.explore(model, ITEMS) as explorer:
        explorer.draw("options")
        explorer.choose(cell=(0, 0))
        explorer.draw("cell_lens")
        gone = weakref.ref(model)
        del model
        gc.collect()
        assert gone() is not None
    gc.collect()
    assert gone() is None
    assert repr(explorer) == "Explorer(closed)"
    with pytest.raises(InterpError, match="the explorer is closed"):
        explorer.draw("options")


def test_an_explorer_says_what_it_has(tiny_model: Any) -> None:
    explorer = interp.explore(tiny_model, ITEMS)
    assert isinstance(explorer, Explorer)
    assert "3 to choose from" in repr(explorer)
    assert len(repr(explorer)) < 400
    assert "cells" in explorer.cost("map")
    assert explorer.cost("lens") == ""
    assert len(explorer.positions()) == len(explorer.pair.destination)
