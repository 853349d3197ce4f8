"""The grid of a sweep: which cells are patched, as one value to store, compare and hand on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar, get_args

from interp.errors import InterpError
from interp.patching.sites import PATCH_SITES, Cells, KnockoutCells, PatchSite, Positions

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, repr=False)
class Grid:
    """Which cells a sweep patches: the keywords of :func:`interp.patching.sweep` as one value.

    Sequences are stored as tuples, so that a grid can be compared, hashed, pickled and, through
    ``dataclasses.asdict``, written as JSON. What takes a model or a prompt to know (whether there
    is a layer 40, a head 7, a span "tail") is checked where the grid is used.

    Attributes:
        site: what is copied. None: ``"resid_pre"``; :func:`interp.patching.attribute` takes
            ``sites`` instead, and a knockout has no site.
        cells: the axes. None: those that the function takes by itself.
        layers: which layers; of a window the first. None takes all.
        spans: the columns of ``"layer_span"``. None: those that the function takes by itself.
        heads: which heads (key/value heads at ``k`` and ``v``). None takes all.
        positions: which positions of the destination. A knockout has ``queries`` instead.
        window: how many layers from the cell's layer on are patched together.

    Raises:
        InterpError: an unknown site or axes, an empty list, a window below 1, or an entry that is
            not a whole number.

    Example:
        >>> grid = Grid(site="z", layers=range(2), window=3)
        >>> grid
        Grid(site='z', layers=(0, 1), window=3)
        >>> results = [sweep(model, pair, grid=grid) for pair in pairs]   # doctest: +SKIP
    """

    site: PatchSite | None = None
    cells: Cells | KnockoutCells | None = None
    layers: Sequence[int] | None = None
    spans: Sequence[str] | None = None
    heads: Sequence[int] | None = None
    positions: Positions = "aligned"
    window: int = 1

    def __post_init__(self) -> None:
        if self.site is not None and self.site not in PATCH_SITES:
            raise InterpError(f"no site {self.site!r}; known: {', '.join(PATCH_SITES)}")
        if self.cells is not None and self.cells not in (
            *get_args(Cells),
            *get_args(KnockoutCells),
        ):
            raise InterpError(
                f"no grid {self.cells!r}; known: {', '.join(get_args(Cells))}, and in a knockout "
                f"{', '.join(get_args(KnockoutCells))}"
            )
        if self.layers is not None:
            object.__setattr__(self, "layers", _whole_numbers("layers", self.layers))
        if self.spans is not None:
            object.__setattr__(self, "spans", _names("spans", self.spans))
        if self.heads is not None:
            object.__setattr__(self, "heads", _whole_numbers("heads", self.heads))
        if not isinstance(self.positions, str):
            object.__setattr__(self, "positions", _whole_numbers("positions", self.positions))
        object.__setattr__(self, "window", _checked_window(self.window))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given().items())
        return f"Grid({given})"

    def _given(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}

    def require_unset(self, function: str, remedies: Mapping[str, str]) -> None:
        """Refuse the fields that a function cannot use, by name.

        Args:
            function: name of the function, for the message.
            remedies: by field, why it has no meaning there or what to give instead.

        Raises:
            InterpError: one of these fields is not at its default.
        """
        for name in self._given():
            if name in remedies:
                raise InterpError(f"{function}() takes no {name} in its grid: {remedies[name]}")


def grid_or_keywords(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function refuse a ``grid`` given together with keywords that are fields of it.

    It looks at the call, not at the values: a keyword that is given at its default is refused too,
    since it may contradict the grid.
    """

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        both = [field.name for field in fields(Grid) if field.name in kwargs]
        if both and kwargs.get("grid") is not None:
            them = "it" if len(both) == 1 else "them"
            raise InterpError(
                f"{function.__name__}() got a grid and also {', '.join(both)}: put {them} into the "
                "grid, or leave the grid out"
            )
        return function(*args, **kwargs)

    return call


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    """A sequence (also an array) as plain integers."""
    try:
        found = tuple(operator.index(value) for value in values)
    except TypeError as error:
        raise InterpError(f"{name} is {values!r}: give a list of whole numbers") from error
    return _not_empty(name, found)


def _names(name: str, values: Sequence[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InterpError(f"{name} is {values!r}: give a list of names, [{values!r}]")
    return _not_empty(name, tuple(values))


_T = TypeVar("_T")


def _not_empty(name: str, values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise InterpError(f"no {name} to patch: the list is empty")
    return values


def _checked_window(window: Any) -> int:
    try:
        window = operator.index(window)
    except TypeError as error:
        raise InterpError(f"window is {window!r}: it is a whole number of layers") from error
    if window < 1:
        raise InterpError(f"window is {window}: it covers at least one layer")
    return int(window)
