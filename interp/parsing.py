"""Text and JSON from outside, read strictly: what a reader would choke on later is refused here.

Python's ``json`` lets through what no table should hold (NaN, 1e999, a key twice of which the last
wins, half a surrogate pair, which no tokenizer takes) and raises errors of its own for deep nesting
and for numbers of thousands of digits. Here each is one `InterpError` that begins with ``where``.
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

from interp.errors import InterpError

_HEAD = re.compile(r"L([0-9]{1,4})H([0-9]{1,4})")


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        InterpError: the file cannot be read, or is not UTF-8; names file and line.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a null byte in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InterpError(f"{path}: cannot be read ({reason})".replace("\0", "\\0")) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InterpError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from error


def parse_json(text: str, where: str, *, allow_nan: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: the JSON.
        where: file and row, the beginning of every error line.
        allow_nan: whether NaN and Infinity, which Python writes, may stand for numbers.

    Raises:
        InterpError: not valid JSON, nested too deeply, a number that is too long or not finite, a
            key that comes twice, or a text that is not valid Unicode; names the key where there is
            one.
    """
    try:
        hook = partial(_object, allow_nan=allow_nan)
        value = json.loads(text, object_pairs_hook=hook)
        _check("", value, allow_nan)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if error.lineno > 1 else ""
        raise InterpError(f"{where}{line}: not valid JSON ({error.msg})") from error
    except RecursionError as error:
        raise InterpError(f"{where}: not valid JSON (nested too deeply)") from error
    except _RefusedValueError as error:
        raise InterpError(f"{where}{error}") from error
    except ValueError as error:  # Python converts no more than some thousand digits
        raise InterpError(f"{where}: not valid JSON (a number has too many digits)") from error
    return value


def parse_head(label: str) -> tuple[int, int]:
    """Layer and head of a label such as ``L15H5``.

    Raises:
        InterpError: any other text.
    """
    found = _HEAD.fullmatch(label.strip())
    if found is None:
        raise InterpError(f"{label!r} is no head: heads are written L15H5 (layer 15, head 5)")
    return int(found[1]), int(found[2])


def require_unicode(text: str, where: str) -> None:
    """Refuse a text with half a surrogate pair: no file or tokenizer can hold it.

    Raises:
        InterpError: names the text by ``where`` and the character.
    """
    problem = _half_character(text)
    if problem:
        raise InterpError(f"{where} {problem}")


class _RefusedValueError(ValueError):
    """What is wrong with a value of a JSON text, from its field on: ", field 'x': ..."."""


def _object(pairs: list[tuple[str, Any]], *, allow_nan: bool) -> dict[str, Any]:
    """A JSON object, its keys and values checked.

    Nothing can be wrong with most values, short texts of which files have millions: these, and lists of
    them, are told apart here; objects inside were checked when they were made.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if not key.isascii():
            _check("", key, allow_nan)
        if key in found:
            raise _RefusedValueError(f", field {key!r}: comes twice in one object")
        kind = type(value)
        plain = kind is int or kind is dict or (kind is str and value.isascii())
        if kind is list:
            plain = all(type(one) is str and one.isascii() for one in value)
        if not plain:
            _check(f", field {key!r}", value, allow_nan)
        found[key] = value
    return found


def _check(field: str, value: Any, allow_nan: bool) -> None:
    """Check a value, or the items of a list; objects inside were checked when they were made."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str):
            problem = _half_character(value)
            if problem:
                raise _RefusedValueError(f"{field}: the text {problem}")
        elif isinstance(value, float) and not math.isfinite(value) and not allow_nan:
            raise _RefusedValueError(
                f"{field}: {value} is no number; leave it out or give a finite one"
            )


def _half_character(text: str) -> str | None:
    """What is wrong with a text that UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        return f"has half a surrogate pair (\\u{code:04x}) at character {error.start}; remove it"
    return None
