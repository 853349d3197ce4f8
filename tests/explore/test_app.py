"""The widgets without a page: choices reach the explorer, views their panes, and all can be closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import interp
from interp.errors import InterpError
from interp.explore.app import NEEDS_MODEL, App
from interp.explore.readings import NO_DIRECTION
from tests.explore.test_explorer import ITEMS
from tests.explore.test_saved import Patching

pytest.importorskip("anywidget")

ANSWER, LENS, PROJECTION, MAP, ATTENTION, CHANGE = range(6)


@pytest.fixture
def app(tiny_model: Any) -> Iterator[App]:
    explorer = interp.explore(tiny_model, ITEMS)
    made = App(explorer)
    explorer._app = made
    yield made
    explorer.close()


def explorer_of(app: App) -> Any:
    assert app._explorer is not None
    return app._explorer


def test_a_tabs_views_are_drawn_when_it_is_looked_at(app: App) -> None:
    explorer = explorer_of(app)
    assert app.panes["options"].figure is not None
    assert "instructed" in app.panes["prompts"].html
    assert app.panes["lens"].figure is None
    app.tabs.selected_index = LENS
    assert app.panes["lens"].figure is not None
    assert app.panes["lens"].code == explorer.draw("lens").code
    app.tabs.selected_index = PROJECTION
    assert app.panes["projection"].note == NO_DIRECTION
    assert app.controls["dose"].disabled


def test_the_map_waits_for_its_button_and_a_click_shows_its_cell(app: App) -> None:
    app.tabs.selected_index = MAP
    pane = app.panes["map"]
    assert pane.figure is None
    assert pane.note.startswith("Not computed yet. resid_pre: 4 layer x ")
    assert "Click a cell" in app.panes["cell_options"].note
    app.buttons["map"].click()
    assert pane.figure is not None
    assert not app.buttons["map"].disabled
    before = pane.figure
    pane.clicked = {"x": 3, "y": 2, "n": 1}
    explorer = explorer_of(app)
    assert (explorer.state.cell, explorer.state.layer) == ((2, 3), 2)
    assert app.controls["layer"].value == 2
    assert pane.figure != before  # the cell is framed
    assert "patched: " in app.panes["cell_options"].said
    assert app.panes["cell_options"].title.startswith("L2 ")
    assert app.panes["cell_lens"].figure is not None
    assert "patched" in app.panes["cell_attention"].html
    app.controls["item"].value = 1  # another pair: another map, no cell
    assert pane.figure is None
    assert "Click a cell" in app.panes["cell_options"].note
    app.controls["item"].value = 0
    assert pane.figure is not None  # kept


def test_a_map_by_head_begins_with_what_heads_write(app: App) -> None:
    app.tabs.selected_index = MAP
    app.controls["cells"].value = "layer_head"
    assert app.controls["site"].value == explorer_of(app).state.site == "z"
    app.buttons["map"].click()
    app.panes["map"].clicked = {"x": 1, "y": 3, "n": 1}
    assert explorer_of(app).state.head == 1
    assert app.panes["cell_options"].title.startswith("L3H1 (z)")


def test_a_knockout_changes_the_answer_shown(app: App) -> None:
    app.tabs.selected_index = CHANGE
    assert "Knock out a span" in app.panes["edited_options"].note
    app.controls["blocked"].value = "span"
    said = app.panes["edited_options"].said
    assert said == explorer_of(app).draw("edited_options").said
    plain, edited = (part.partition(": ")[2] for part in said.split("; "))
    assert plain != edited


def test_what_is_said_after_a_change_is_generated_on_request(app: App) -> None:
    app.tabs.selected_index = CHANGE
    pane, button = app.panes["edited_continuation"], app.buttons["edited_continuation"]
    assert button.disabled
    assert "Knock out a span" in pane.note
    app.controls["blocked"].value = "span"
    assert not button.disabled
    assert pane.note == (
        "Not computed yet. Greedy, at most 24 tokens, without the change and with it."
    )
    button.click()
    assert pane.html == explorer_of(app).draw("edited_continuation").figure._repr_html_()
    assert "placebo" in pane.html
    assert "read_continuation(model, pair, patches=patches, max_new_tokens=24)" in pane.code


def test_an_error_is_one_line_in_its_pane(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.tabs.selected_index = MAP
    app.controls["cells"].value = "layer_head"
    app.controls["site"].value = "resid_pre"
    assert "resid_pre has no heads" in app.panes["map"].note

    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("out of luck\nand more")

    monkeypatch.setattr(type(explorer_of(app)), "draw", fail)
    app.tabs.selected_index = LENS
    assert app.panes["lens"].error == "RuntimeError: out of luck"
    assert not app.panes["lens"].busy


def test_a_choice_without_a_contrast_is_said_above(app: App) -> None:
    app.controls["condition"].value = "placebo"
    assert "placebo against itself" in app.error.value
    assert "placebo against itself" in app.panes["options"].error
    app.controls["condition"].value = "negated"
    assert app.error.value == ""
    assert app.panes["options"].figure is not None


def test_a_condition_with_fewer_texts_takes_its_last(app: App) -> None:
    app.controls["wording"].value = 3
    assert explorer_of(app).state.wording == 3
    app.controls["condition"].value = "clean"
    assert explorer_of(app).state.wording == app.controls["wording"].value == 0
    assert app.panes["options"].error == ""


def test_the_page_needs_the_widgets_of_ipywidgets_and_anywidget_alone(app: App) -> None:
    from ipywidgets.embed import embed_data

    state = embed_data(views=[app.widget], drop_defaults=False)["manager_state"]["state"].values()
    base = {f"@jupyter-widgets/{name}" for name in ("base", "controls", "output")}
    assert {one["model_module"] for one in state} == base | {"anywidget"}
    panes = [one["state"] for one in state if one["model_module"] == "anywidget"]
    assert len(panes) == len(app.panes)
    for pane in panes:  # its script and style come with its state, and name no other place
        assert "export default" in pane["_esm"]
        assert ".interp-pane-dark .js-plotly-plot" in pane["_css"]
        assert "http" not in pane["_esm"] + pane["_css"]


def test_closing_takes_every_widget_away(tiny_model: Any) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    explorer = interp.explore(tiny_model, ITEMS)
    app = App(explorer)
    explorer._app = app
    assert len(set(_instances) - before) > 30
    explorer.close()
    assert [type(_instances[key]).__name__ for key in set(_instances) - before] == []
    assert app._explorer is None
    with pytest.raises(InterpError, match="closed"):
        explorer.draw("options")


def test_without_a_model_results_are_shown_and_the_rest_is_greyed() -> None:
    explorer = interp.explore(Patching.made())
    app = App(explorer)
    assert app.tabs.titles[0] == "Results of the run"
    shown, cell = app.saved_panes
    assert shown.figure is not None
    shown.clicked = {"x": 0, "y": 1, "n": 1}
    assert cell.said.startswith("L1 instruction: mean effect")
    assert cell.figure is not None
    assert all(pane.greyed and pane.note == NEEDS_MODEL for pane in app.panes.values())
    assert all(control.disabled for control in app.controls.values())
    assert all(button.disabled for button in app.buttons.values())
    app.tabs.selected_index = 2  # nothing is computed
    assert app.panes["lens"].figure is None
    app.close()
