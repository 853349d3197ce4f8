"""Views: each a figure of what is chosen, with one line of what it says and the code that makes it.

A view says which choices it depends on, so that it is made again when one of these changes and only
then. Views with a ``cost`` are computed on request. The code names what the caller of
:func:`interp.explore` has: ``model``, ``items`` or ``pair``, ``direction``, ``bank``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import pandas as pd
import plotly.graph_objects as go
from transformer_lens.model_bridge import TransformerBridge

from interp.directions import Direction, DirectionStack
from interp.explore.cache import Recent
from interp.explore.state import PAIR, ExplorerState
from interp.explore.subject import Explored
from interp.models.verdicts import model_state
from interp.prompts import PromptPair
from interp.viz import Fragment

_T = TypeVar("_T")

Shown: TypeAlias = go.Figure | Fragment | PromptPair
"""What Jupyter displays of a view."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A view as it was drawn: what is shown, one line of what it says, and the code for it.

    Run with the names of the module, ``code`` leaves the same in ``figure``.
    """

    figure: Shown
    code: str
    said: str = ""


@dataclass(frozen=True, eq=False)
class Scene:
    """What a view is drawn from."""

    model: TransformerBridge
    explored: Explored
    state: ExplorerState
    direction: DirectionStack | Direction | None = None
    progress: bool = False
    kept: Recent[Any] = field(default_factory=lambda: Recent(16))
    """Readings of the pair's two runs as they are, which several views show."""

    def read(self, name: str, make: Callable[[], _T]) -> _T:
        """A reading of the pair as it is, made where it is not kept: ``name`` says all but the pair."""
        chosen = tuple(getattr(self.state, field) for field in PAIR)
        read: _T = self.kept.get((name, chosen, model_state(self.model)), make)
        return read

    @property
    def pair(self) -> PromptPair:
        """The pair that is chosen."""
        return self.explored.pair(self.model, self.state)

    def code(self, *lines: str) -> str:
        """A program that begins with the pair and ends with ``figure``."""
        return "\n".join(["import interp", *self.explored.code(self.state), *lines, "figure"])


@dataclass(frozen=True)
class View:
    """One kind of picture: which fields of the state it is a function of, and how it is drawn.

    ``cost``: what a long one takes, in words; it is drawn on request.
    """

    name: str
    uses: tuple[str, ...]
    draw: Callable[[Scene], Drawn]
    cost: Callable[[Scene], str] | None = None

    def key(self, state: ExplorerState) -> tuple[object, ...]:
        """Equal for two states of which this view is the same."""
        return (self.name, *(getattr(state, name) for name in self.uses))


def names_of(pair: PromptPair) -> tuple[str, str]:
    """What the two runs are called; apart where both have one condition."""
    source, destination = pair.source_name, pair.destination_name
    return (source, destination) if source != destination else ("source", "destination")


def answer_of(options: pd.DataFrame) -> str:
    """``The farmer (.52)``: the most probable option."""
    best = options.iloc[int(options["probability"].argmax())]
    return f"{str(best['option']).strip()} ({best['probability']:.2f})"


def answers_line(readings: Mapping[str, pd.DataFrame]) -> str:
    """What every run answers, and whether the last one's answer is another than the one before."""
    return "; ".join(f"{name}: {answer_of(frame)}" for name, frame in readings.items())


def call(function: str, *arguments: str, **options: Any) -> str:
    """The source of a call; options are written as Python writes them."""
    said = [*arguments, *(f"{name}={value!r}" for name, value in options.items())]
    return f"{function}({', '.join(said)})"


def mapping(entries: Mapping[str, str]) -> str:
    """The source of a mapping from names to pieces of source."""
    lines = [f"    {name!r}: {source}," for name, source in entries.items()]
    return "\n".join(["{", *lines, "}"])


def by_name(views: Sequence[View]) -> dict[str, View]:
    """Views by their names."""
    return {view.name: view for view in views}
