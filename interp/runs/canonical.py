"""One text for one value: the JSON that keys are hashed from and configurations compared by.

:func:`to_json_values` turns dicts, dataclasses and pydantic models into JSON values and refuses what
JSON cannot say (NaN, infinities, sets, arbitrary objects, keys that are not text), naming the place.
:func:`canonical_json` writes a value with sorted keys, no spaces and ASCII only, so that the text
does not depend on insertion order or locale. ``1``, ``1.0`` and ``true`` are three different
values; a tuple and a list are the same.

    canonical({"b": 1, "a": (2, 3)}) == '{"a":[2,3],"b":1}'
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

from interp.errors import InterpError

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

_ABSENT = "absent"
_LONGEST_VALUE = 84
_MOST_DIFFERENCES = 5


def to_json_values(value: Any, where: str) -> Json:
    """``value`` as JSON values; ``where`` names it in errors (``config``: ``config.limit``)."""
    if isinstance(value, enum.Enum):
        return to_json_values(value.value, where)
    if _is_numpy_scalar(value):
        return to_json_values(value.item(), where)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InterpError(f"{where} is {value}: give a finite number, or null")
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [to_json_values(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return _plain_mapping(value, where)


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")  # where it is not loaded, nothing is of it
    return numpy is not None and isinstance(value, numpy.generic)


def _plain_mapping(value: Any, where: str) -> Json:
    if isinstance(value, BaseModel):
        value = dict(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        raise InterpError(
            f"{where} is a {type(value).__name__}, which JSON cannot hold: "
            "use text, numbers, lists and dicts"
        )
    for key in value:
        if not isinstance(key, str):
            raise InterpError(f"{where} has the key {key!r}, which is not text: write it as text")
    return {str(key): to_json_values(item, f"{where}.{key}") for key, item in value.items()}


def canonical_json(value: Any, where: str = "value") -> str:
    """The canonical JSON text of ``value``. Errors: as :func:`to_json_values`."""
    return json.dumps(
        to_json_values(value, where), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )


def digest(value: Any, where: str = "value") -> str:
    """SHA-256 of the canonical text, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value, where).encode("ascii")).hexdigest()


def differences(before: Json, now: Json, *, ignore: Collection[str] = ()) -> list[str]:
    """What changed between two JSON values, one ``config.limit was 48, is now 60`` per leaf.

    ``ignore`` lists dotted places (``config.out``) that are left out with everything below them.
    """
    old, new = dict(_leaves(before, ())), dict(_leaves(now, ()))
    changed = [place for place in {**old, **new} if old.get(place) != new.get(place)]
    return [
        f"{_spell(place)} was {_shorten(old.get(place, _ABSENT))}, "
        f"is now {_shorten(new.get(place, _ABSENT))}"
        for place in changed
        if not _covered(place, ignore)
    ]


def summarise(changes: list[str]) -> str:
    """The first few differences in one line."""
    shown = "; ".join(changes[:_MOST_DIFFERENCES])
    hidden = len(changes) - _MOST_DIFFERENCES
    return f"{shown}; and {hidden} more" if hidden > 0 else shown


_Place: TypeAlias = tuple[str | int, ...]


def _leaves(value: Json, place: _Place) -> Iterator[tuple[_Place, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*place, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, index))
    else:
        yield place, canonical_json(value)


def _covered(place: _Place, ignore: Collection[str]) -> bool:
    return any(_spell(place[:length]) in ignore for length in range(1, len(place) + 1))


def _spell(place: _Place) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.removeprefix(".")


def _shorten(text: str) -> str:
    if len(text) <= _LONGEST_VALUE:
        return text
    half = _LONGEST_VALUE // 2 - 2
    return f"{text[:half]}...{text[-half:]}"
