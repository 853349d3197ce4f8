"""Without widgets: figures, and one line that says so."""

from __future__ import annotations

from typing import Any

import pytest

import interp
from interp.explore import show
from tests.explore.test_explorer import ITEMS
from tests.explore.test_saved import Patching


def displayed(explorer: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr("IPython.display.display", found.append)
    explorer._ipython_display_()
    return found


@pytest.mark.parametrize("asked", [True, False])
def test_figures_are_shown_where_widgets_are_missing_or_not_wanted(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    real = show.find_spec
    if asked:
        monkeypatch.setattr(show, "find_spec", lambda n: None if n == "anywidget" else real(n))
    explorer = interp.explore(tiny_model, ITEMS, widgets=asked)
    before = explorer.state
    first, *rest = displayed(explorer, monkeypatch)
    why = "anywidget is not installed" if asked else "widgets=False"
    assert f"figures without widgets: {why}" in first.data
    figures = [type(one).__name__ for one in rest if type(one).__name__ != "HTML"]
    assert figures == ["PromptPair", "Figure", "Figure", "Figure"]  # prompts, options, lens, map
    assert explorer.state == before


def test_a_view_that_cannot_be_drawn_is_its_line(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = interp.make_pair(tiny_model, "one fox", "two fox", answers=())
    shown = displayed(interp.explore(tiny_model, pair, widgets=False), monkeypatch)
    lines = [one.data for one in shown if type(one).__name__ == "HTML"]
    assert sum("no margin target" in line for line in lines) == 3


def test_a_finished_runs_figures_are_shown_without_widgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = displayed(interp.explore(Patching.made(), widgets=False), monkeypatch)
    assert [type(one).__name__ for one in shown] == ["HTML", "Figure", "HTML"]
    assert "interp.viz.heatmap" in shown[-1].data


def test_with_widgets_the_app_is_shown_once(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("anywidget")
    explorer = interp.explore(tiny_model, ITEMS)
    (first,) = displayed(explorer, monkeypatch)
    (again,) = displayed(explorer, monkeypatch)
    assert first is again
    assert "interp-explore" in first._dom_classes
    explorer.close()
