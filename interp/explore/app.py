"""The explorer's widgets: choices on top, tabs of panes below.

A tab's short views are drawn when it is looked at, those with a button when it is pressed; an error is
one line in its pane. The widgets hold no results: they show what :class:`interp.explore.Explorer` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ipywidgets as ipw

from interp.display import escape_html
from interp.errors import InterpError
from interp.explore.controls import make_controls, update_controls, update_positions
from interp.explore.edits import columns_of, mark_cell
from interp.explore.explorer import VIEWS, Explorer
from interp.explore.pane import Pane
from interp.explore.readings import NO_DIRECTION
from interp.explore.show import draw_or_say
from interp.explore.turns import Turns
from interp.explore.views import Drawn
from interp.patching.sites import HEAD_SITES, KEY_VALUE_SITES

NEEDS_MODEL = "computes, and so needs the model: interp.explore(model, items)"
_CLICK = "Click a cell of the map: what that patch alone does."
_TITLES = {
    "prompts": "Both prompts, by span",
    "options": "What is answered",
    "lens": "Logit lens",
    "projection": "Projection of the last position",
    "projected_tokens": "Projection of every token of the destination",
    "source_attention": "Attention in the source",
    "attention": "Attention in the destination",
    "map": "Patching map: source into destination",
    "cell_options": "The cell: what is answered",
    "cell_lens": "The cell: the lens after it",
    "cell_attention": "The cell: attention of the head chosen",
    "edited_options": "What is answered after the change",
    "edited_lens": "The lens after the change",
    "edited_continuation": "What is said after the change",
    "edited_attention": "Attention after the change",
}


@dataclass(frozen=True)
class _Tab:
    """A tab: its title, its controls, and its panes in rows (views by name)."""

    title: str
    controls: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def views(self) -> list[str]:
        return [name for row in self.rows for name in row]


_TABS = (
    _Tab("Answer", (), (("options", "prompts"),)),
    _Tab("Lens", (), (("lens",),)),
    _Tab("Projection", ("layer",), (("projection", "projected_tokens"),)),
    _Tab(
        "Map",
        ("site", "cells", "metric", "head"),
        (("map", "cell_options"), ("cell_lens", "cell_attention")),
    ),
    _Tab("Attention", ("layer", "head", "query"), (("source_attention", "attention"),)),
    _Tab(
        "Knock out, steer",
        ("blocked", "span", "layer", "head", "dose"),
        (("edited_options", "edited_lens"), ("edited_continuation",), ("edited_attention",)),
    ),
)

_BUTTONS = {"map": "Compute the map", "edited_continuation": "Generate"}
"""What computes a view that is drawn on request."""


class App:
    """The widgets of one explorer; ``widget`` is what a notebook displays."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer: Explorer | None = explorer
        self._setting = False
        self._turns = Turns()
        self.controls = make_controls(explorer)
        self.panes = {name: Pane(_TITLES[name]) for name in VIEWS}
        self.buttons = {
            name: ipw.Button(description=said, button_style="primary", layout={"width": "150px"})
            for name, said in _BUTTONS.items()
        }
        self.progress = ipw.Output()
        self.error = ipw.HTML()
        self.saved_panes: tuple[Pane, ...] = ()
        self.tabs = self._make_tabs(explorer)
        self._closing = ipw.Button(description="close", layout={"width": "64px"})
        self.widget = ipw.VBox([self._head(explorer), *self._chooser(), self.error, self.tabs])
        self.widget.add_class("interp-explore")
        self._listen(explorer)
        if explorer.live:
            self.refresh()

    def refresh(self) -> None:
        """Show the state, and draw what is looked at."""
        explorer = self._explorer
        if explorer is None or not explorer.live:
            return
        self.error.value = ""
        with self._quiet():
            update_controls(explorer, self.controls)
            try:
                update_positions(explorer, self.controls)
            except InterpError as error:
                self._say(str(error))
        for k, tab in enumerate(_TABS):
            for name in tab.views:
                self._show(name, visible=k == self._visible)

    def close(self) -> None:
        """Take the widgets from the page and from the kernel, and forget the explorer."""
        self._explorer = None
        for control in self.controls.values():
            control.unobserve_all()
        for widget in _descendants(self.widget):
            for part in ("style", "layout"):
                if hasattr(widget, part):
                    getattr(widget, part).close()
            widget.close()

    @property
    def _visible(self) -> int:
        """Which of :data:`_TABS` is looked at; -1 for that of the saved results."""
        return (self.tabs.selected_index or 0) - bool(self.saved_panes)

    def _show(self, name: str, *, visible: bool) -> None:
        explorer, pane = self._explorer, self.panes[name]
        assert explorer is not None
        note = self._note(name)
        if name in self.buttons:
            self.buttons[name].disabled = bool(note)
        if note:
            pane.empty(note)
        elif name in self.buttons and not self._is_drawn(name):
            pane.empty(self._cost(name))
        elif visible or self._is_drawn(name):
            self._draw(name)
        else:
            pane.empty("…")

    def _note(self, name: str) -> str:
        """Why there is nothing to draw yet; empty where there is."""
        explorer = self._explorer
        assert explorer is not None
        state = explorer.state
        if name.startswith("project") and explorer.direction is None:
            return NO_DIRECTION
        if name.startswith("cell") and state.cell is None:
            return _CLICK
        if name.startswith("edited") and state.blocked == "nothing" and not state.dose:
            return "Knock out a span or a head, or move the dose."
        return ""

    def _is_drawn(self, name: str) -> bool:
        assert self._explorer is not None
        return self._explorer.is_drawn(name)

    def _draw(self, name: str, *, progress: bool = False) -> None:
        explorer, pane = self._explorer, self.panes[name]
        assert explorer is not None
        pane.busy = True
        drawn = draw_or_say(explorer, name, progress=progress)
        if isinstance(drawn, str):
            pane.fail(drawn)
        elif name == "map" and explorer.state.cell is not None:
            pane.show(drawn, mark_cell(drawn.figure, explorer.state.cell))
        else:
            pane.show(drawn)
        if name == "cell_options" and isinstance(drawn, Drawn):
            pane.title = f"{explorer.cell_title()}: what is answered"
        pane.busy = False

    def _cost(self, name: str) -> str:
        assert self._explorer is not None
        try:
            return f"Not computed yet. {self._explorer.cost(name)}"
        except InterpError as error:
            return str(error)

    def _compute(self, name: str) -> None:
        if self._explorer is None:
            return
        self.buttons[name].disabled = True
        self.progress.clear_output()
        try:
            with self.progress:
                self._draw(name, progress=True)
            self.progress.clear_output()
        finally:
            self.buttons[name].disabled = False

    def _choose(self, value: Any, name: str) -> None:
        if self._setting or self._explorer is None:
            return
        explorer = self._explorer
        changes = {name: value}
        if name == "condition":  # another one may have fewer texts, another item fewer options
            n_wordings = explorer.explored.n_wordings(value)
            changes["wording"] = min(explorer.state.wording, n_wordings - 1)
        if name == "item":
            changes["order"] = min(explorer.state.order, explorer.explored.n_orders(value) - 1)
        try:
            explorer.choose(**changes)
            if name == "cells":
                self._fit_site(value)
        except InterpError as error:
            self._say(str(error))
            return
        self.refresh()

    def _fit_site(self, cells: str) -> None:
        """Heads are at some sites only: the map by head begins with what heads write."""
        explorer = self._explorer
        assert explorer is not None
        if cells == "layer_head" and explorer.state.site not in (*HEAD_SITES, *KEY_VALUE_SITES):
            explorer.choose(site="z")
            with self._quiet():
                self.controls["site"].value = "z"

    def _clicked(self, place: Any) -> None:
        explorer = self._explorer
        if explorer is None or not place:
            return
        layer, column = round(float(place["y"])), round(float(place["x"]))
        try:
            there: dict[str, Any] = {"cell": (layer, column), "layer": layer, "query": -1}
            cells = explorer.state.cells
            if cells == "layer_head" and explorer.state.site not in KEY_VALUE_SITES:
                there["head"] = column
            if cells == "layer_pos":
                there["query"] = int(columns_of(explorer.pair, cells)[column])
            explorer.choose(**there)
        except (InterpError, IndexError) as error:
            self._say(str(error))
            return
        self.refresh()

    def _step(self, by: int) -> Callable[[Any], None]:
        def step(button: Any) -> None:
            item = self.controls["item"]
            item.value = (item.value + by) % len(item.options)

        return step

    def _say(self, line: str) -> None:
        self.error.value = f'<span class="interp-explore-error">{escape_html(line)}</span>'

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Inside the context the controls are set by us, not by the user."""
        before, self._setting = self._setting, True
        try:
            yield
        finally:
            self._setting = before

    def _listen(self, explorer: Explorer) -> None:
        take = self._turns.take
        for name, control in self.controls.items():
            control.observe(
                lambda change, name=name: take(partial(self._choose, change["new"], name)), "value"
            )
        self.tabs.observe(lambda change: take(self.refresh), "selected_index")
        for name, button in self.buttons.items():
            button.on_click(lambda button, name=name: take(partial(self._compute, name)))
        self.panes["map"].observe(
            lambda change: take(partial(self._clicked, change["new"])), "clicked"
        )
        self._closing.on_click(lambda button: take(explorer.close))

    def _head(self, explorer: Explorer) -> Any:
        what = "live" if explorer.live else "a finished run, without a model"
        text = f"<b>{escape_html(explorer.title)}</b> · {what}"
        line = ipw.HTML(
            f'<div class="interp-explore-head">{text}</div>',
            layout={"flex": "1 1 0", "min_width": "0"},
        )
        return _row([line, self._closing], flex_flow="row nowrap")

    def _chooser(self) -> list[Any]:
        item = self.controls["item"]
        item.layout.flex = "1 1 300px"
        buttons = [
            ipw.Button(description=sign, layout={"width": "36px"}, disabled=item.disabled)
            for sign in ("◀", "▶")
        ]
        for button, by in zip(buttons, (-1, 1), strict=True):
            button.on_click(self._step(by))
        names = ("condition", "against", "wording", "order", "round", "swapped")
        return [_row([*buttons, item]), _row([self.controls[name] for name in names])]

    def _make_tabs(self, explorer: Explorer) -> Any:
        live = explorer.live
        if not live:
            for pane in self.panes.values():
                pane.greyed = True
                pane.empty(NEEDS_MODEL)
            for button in self.buttons.values():
                button.disabled = True
        boxes = [self._box(tab) for tab in _TABS]
        titles = [tab.title for tab in _TABS]
        if not live:
            boxes.insert(0, self._saved_box(explorer))
            titles.insert(0, "Results of the run")
        return ipw.Tab(children=boxes, titles=titles, selected_index=0)

    def _box(self, tab: _Tab) -> Any:
        above: list[Any] = [self.controls[name] for name in tab.controls]
        for name in tab.views:
            if name in self.buttons:
                above.append(self.buttons[name])
        if "map" in tab.views:
            above.append(self.progress)
        rows = [
            _panes([self.panes[name] for name in row], "2" if row[0] == "map" else "1")
            for row in tab.rows
        ]
        return ipw.VBox([_row(above), *rows] if above else rows)

    def _saved_box(self, explorer: Explorer) -> Any:
        views = explorer.saved
        pane, cell = Pane("", ""), Pane("One cell, pair by pair", "")
        chosen = ipw.Dropdown(
            options=[(view.title, k) for k, view in enumerate(views)], value=0,
            description="result", layout={"width": "auto", "flex": "1 1 300px"},
        )  # fmt: skip

        def show(change: Any = None) -> None:
            view = views[chosen.value]
            pane.title = view.title
            _try(pane, view.draw)
            cell.empty("Click a cell of the map." if view.is_map else "")
            cell.layout.display = "" if view.is_map else "none"

        def look(change: Any) -> None:
            place, view = change["new"], views[chosen.value]
            if place and view.is_map:
                at = round(float(place["y"])), round(float(place["x"]))
                _try(cell, lambda: view.draw_cell(*at))

        chosen.observe(show, "value")
        pane.observe(look, "clicked")
        self.saved_panes = (pane, cell)
        show()
        return ipw.VBox([_row([chosen]), _panes([pane, cell], "2")])


def _try(pane: Pane, draw: Callable[[], Drawn]) -> None:
    try:
        pane.show(draw())
    except InterpError as error:
        pane.fail(str(error))


def _row(widgets: Sequence[Any], **layout: str) -> Any:
    layout = {"flex_flow": "row wrap", "align_items": "center", "width": "100%", **layout}
    return ipw.Box(list(widgets), layout={"display": "flex", **layout})


def _panes(panes: Sequence[Pane], first: str = "1") -> Any:
    """Panes beside each other where the page is wide enough; ``first``: the share of the first one."""
    for k, pane in enumerate(panes):
        pane.layout.flex = f"{'1' if k else first} 1 380px"
        pane.layout.width = "auto"
        pane.layout.min_width = "0"
        pane.layout.margin = "4px 10px 10px 0"
    return _row(panes, align_items="flex-start")


def _descendants(widget: Any) -> Iterator[Any]:
    """A widget's children, theirs, and itself, deepest first."""
    for child in getattr(widget, "children", ()):
        yield from _descendants(child)
    yield widget
