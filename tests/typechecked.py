"""Annotations checked at run time by beartype, each kind of function prepared once.

jaxtyping's hook hands over, for every function that is defined, two that hold nothing but its name,
its parameters and their annotations. A function inside another is defined at every call of the other
one, and to prepare its checks costs a millisecond each time, which was a fifth of the tests' time. What
is checked depends on the annotations alone, so equal ones share their checks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from beartype import beartype

_prepared: dict[Hashable, Callable[..., Any]] = {}


def check_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """``beartype`` of a function that holds annotations and no code of its own."""
    key = _described(function)
    try:
        known = _prepared.get(key)
    except TypeError:  # an annotation or a default without a hash
        return beartype(function)
    if known is None:
        known = _prepared[key] = beartype(function)
    return known


def _described(function: Callable[..., Any]) -> Hashable:
    """Everything that its checks depend on, and the name that an error is told with."""
    code = function.__code__
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return (
        function.__module__,
        function.__qualname__,
        code.co_code,
        code.co_varnames,
        code.co_flags,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        tuple(function.__annotations__.items()),
        tuple((type(value), value) for value in defaults),  # they are checked where they stand
        tuple(function.__kwdefaults__ or ()),
    )
