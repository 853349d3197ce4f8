"""Rooms whose names load on first use, so that importing a light module loads nothing heavy.

A room is a package such as :mod:`interp.models`. Its ``__init__`` lists what it re-exports once, in
imports under ``if TYPE_CHECKING:``, where editors and type checkers read them; :func:`attach` reads
the same lines from the source and makes them true at run time, one name at a time (the idea of
lazy_loader's ``attach_stub``)::

    if TYPE_CHECKING:
        from interp.models.catalogue import DEFAULT_MODEL      # needs nothing heavy
        from interp.models.forward import forward              # needs torch

    __all__ = ["DEFAULT_MODEL", "forward"]
    attach(__name__)

So ``from interp.models import DEFAULT_MODEL`` is instant, and the first use of ``forward`` imports
torch. Nothing is cached in the room: a name is always what its module says it is now.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

_EXPORTS = "_exports"


def attach(room: str) -> None:
    """Let a package load the names that it imports under ``TYPE_CHECKING`` on first use.

    Args:
        room: the package's ``__name__``; to be called in its ``__init__``, in the last line.

    Raises:
        OSError: the package's source cannot be read.
    """
    module = sys.modules[room]
    exports = dict(_typed_imports(ast.parse(inspect.getsource(module))))
    module.__dict__[_EXPORTS] = exports
    module.__class__ = _Room


class _Room(ModuleType):
    """A package that imports a name of :data:`_EXPORTS` when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        source, original = self.__dict__[_EXPORTS].get(name, (None, name))
        if source is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if source == self.__name__:  # ``from interp import viz``: a room of this package
            return import_module(f"{source}.{original}")
        return getattr(import_module(source), original)

    def __setattr__(self, name: str, value: object) -> None:
        # Having loaded interp.models.forward, Python binds that module to ``forward`` of the room.
        # Where the room exports a function of the same name, the function is what is meant.
        is_submodule = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        source, _ = self.__dict__[_EXPORTS].get(name, (self.__name__, name))
        if not (is_submodule and source != self.__name__):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__dict__[_EXPORTS]} - {_EXPORTS})


def _typed_imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    """(name in the room, (module, name there)) of every import under ``if TYPE_CHECKING:``."""
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for line in block.body:
                if isinstance(line, ast.ImportFrom) and line.module:
                    for alias in line.names:
                        yield alias.asname or alias.name, (line.module, alias.name)
