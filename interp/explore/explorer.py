"""The explorer without its widgets: what is chosen, and every view of it on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from types import TracebackType
from typing import Any, get_args

from transformer_lens.model_bridge import TransformerBridge

from interp.directions import Direction, DirectionStack
from interp.errors import InterpError, did_you_mean
from interp.explore.cache import Recent
from interp.explore.edits import EDITS, cell_title, spans_of
from interp.explore.readings import READINGS, position_name
from interp.explore.saved import SavedView
from interp.explore.state import Blocked, ExplorerState
from interp.explore.subject import N_ROUNDS, Explored
from interp.explore.views import Drawn, Scene, by_name
from interp.models import model_card
from interp.models.verdicts import model_state
from interp.patching.sites import MetricName, SweepSite
from interp.prompts import PromptPair

VIEWS = by_name((*READINGS, *EDITS))
_KEPT = 64
_CHOICES: dict[str, tuple[str, ...]] = {
    "site": get_args(SweepSite),
    "cells": ("layer_pos", "layer_span", "layer_head"),
    "metric": get_args(MetricName),
    "blocked": get_args(Blocked),
}


class Explorer:
    """Choices and views of a model with items or a pair, or of a finished run without a model.

    In a notebook it shows itself with widgets (:mod:`interp.explore.app`), or where these are missing
    as figures. In a program it gives the same views::

        with interp.explore(model, items) as explorer:
            explorer.choose(item=3, condition="negated")
            drawn = explorer.draw("options")
            drawn.figure, drawn.said, drawn.code

    :meth:`close` forgets the model; a ``with`` block does so at its end. Nothing stays on the model in
    any case: hooks are there while a view is computed, also when that ends in an error.
    """

    def __init__(
        self,
        model: TransformerBridge | None,
        explored: Explored | None,
        *,
        direction: DirectionStack | Direction | None = None,
        saved: Sequence[SavedView] = (),
        title: str = "",
        widgets: bool = True,
    ) -> None:
        self._model, self._explored, self._direction = model, explored, direction
        self.saved = tuple(saved)
        self.title = title or (model_card(model).one_line if model is not None else "")
        self.widgets = widgets
        self.state = ExplorerState()
        self._drawn: Recent[Drawn] = Recent(_KEPT)
        self._read: Recent[Any] = Recent(_KEPT)
        self._app: Any = None
        if direction is not None:
            layer = direction.layer if isinstance(direction, Direction) else direction.best_layer
            self.state = replace(self.state, layer=layer)

    @property
    def live(self) -> bool:
        """Whether there is a model, and so views that compute."""
        return self._model is not None

    @property
    def closed(self) -> bool:
        """Whether everything was forgotten."""
        return self._model is None and not self.saved

    @property
    def model(self) -> TransformerBridge:
        """The model.

        Raises:
            InterpError: there is none.
        """
        if self._model is None:
            raise InterpError(
                "the explorer is closed: call interp.explore again"
                if self.closed
                else "this view needs the model: interp.explore(model, items)"
            )
        return self._model

    @property
    def explored(self) -> Explored:
        """Items or a pair.

        Raises:
            InterpError: there are none.
        """
        if self._explored is None:
            self.model  # noqa: B018  says what is missing
        assert self._explored is not None
        return self._explored

    @property
    def direction(self) -> DirectionStack | Direction | None:
        """The direction to project on and to steer along."""
        return self._direction

    @property
    def pair(self) -> PromptPair:
        """The pair that is chosen."""
        return self.explored.pair(self.model, self.state)

    def choose(self, **changes: Any) -> ExplorerState:
        """Change what is chosen; returns the new state. The cell is left where the map changes.

        Raises:
            InterpError: an unknown field, or a value that there is not; the state stays.
        """
        known = [field.name for field in fields(ExplorerState)]
        for name, value in changes.items():
            if name not in known:
                raise InterpError(f"no choice {name!r}; {did_you_mean(name, known)}")
            self._require(name, value)
        state = replace(self.state, **changes)
        if "cell" not in changes and _map_of(state) != _map_of(self.state):
            state = replace(state, cell=None)
        self.state = state
        return state

    def draw(self, name: str, *, progress: bool = False) -> Drawn:
        """A view of what is chosen, from the cache where it was drawn before.

        Args:
            name: ``prompts``, ``options``, ``lens``, ``projection``, ``projected_tokens``,
                ``source_attention``, ``attention``; ``map``; ``cell_options``, ``cell_lens``,
                ``cell_attention``; ``edited_options``, ``edited_lens``, ``edited_continuation``,
                ``edited_attention``.
            progress: show bars.

        Raises:
            InterpError: an unknown view, none without a model, or what it cannot be drawn of.
        """
        key = self._key(name)

        def make() -> Drawn:
            return VIEWS[name].draw(self._scene(progress))

        return self._drawn.get(key, make)

    def is_drawn(self, name: str) -> bool:
        """Whether a view of what is chosen is in the cache."""
        return self._key(name) in self._drawn

    def cost(self, name: str) -> str:
        """What a view of what is chosen takes; empty where it is drawn at once."""
        self._key(name)
        cost = VIEWS[name].cost
        return "" if cost is None else cost(self._scene())

    def cell_title(self) -> str:
        """The cell that is chosen, in words."""
        return cell_title(self._scene())

    def spans(self) -> list[str]:
        """The spans that can be knocked out."""
        return spans_of(self.pair)

    def positions(self) -> list[str]:
        """The destination's positions in words."""
        prompt = self.pair.destination
        return [position_name(prompt, k) for k in range(len(prompt))]

    def close(self) -> None:
        """Forget the model, what was drawn, and the widgets."""
        app, self._app = self._app, None
        if app is not None:
            app.close()
        self._drawn.clear()
        self._read.clear()
        self._model = self._explored = self._direction = None
        self.saved = ()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "Explorer(closed)"
        what = f"{len(self.explored.names)} to choose from" if self.live else "without a model"
        return f"Explorer({self.title!r}, {what}, {len(self.saved)} saved results)"

    def _ipython_display_(self) -> None:
        from interp.explore.show import show

        self._app = show(self, self._app)

    def _scene(self, progress: bool = False) -> Scene:
        return Scene(self.model, self.explored, self.state, self._direction, progress, self._read)

    def _key(self, name: str) -> tuple[object, ...]:
        if name not in VIEWS:
            raise InterpError(f"no view {name!r}; {did_you_mean(name, VIEWS)}")
        return (*VIEWS[name].key(self.state), model_state(self.model))

    def _require(self, name: str, value: Any) -> None:
        """Refuse what cannot be chosen, before anything is computed."""
        explored = self.explored
        if name in _CHOICES and value not in _CHOICES[name]:
            raise InterpError(f"{name} is {value!r}; known: {', '.join(_CHOICES[name])}")
        if name in ("condition", "against") and value not in explored.conditions:
            known = ", ".join(explored.conditions) or "none: a pair was given"
            raise InterpError(f"no {name} {value!r}; known: {known}")
        model = self.model.cfg
        limits = {
            "item": (0, len(explored.names) - 1),
            "round": (1, N_ROUNDS),
            "wording": (0, None),
            "order": (0, None),
            "layer": (0, int(model.n_layers) - 1),
            "head": (0, int(model.n_heads) - 1),
            "query": (-1, None),
        }
        if name in limits:
            low, high = limits[name]
            whole = type(value) is int
            if not whole or value < low or (high is not None and value > high):
                end = "" if high is None else f" to {high}"
                raise InterpError(f"{name} is {value!r}: give a whole number from {low}{end}")


def _map_of(state: ExplorerState) -> tuple[object, ...]:
    return VIEWS["map"].key(state)
