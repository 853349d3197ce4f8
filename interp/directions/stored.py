"""A direction's file, as far as it is known without loading torch: its header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from interp.errors import InterpError
from interp.parsing import parse_json

HEADER = "interp_direction"
"""The entry of the file's metadata that holds everything but the tensors."""


def read_header(path: str | Path) -> Any:
    """The header of a file written by ``DirectionStack.save``.

    Raises:
        InterpError: no such file, a truncated one, or one that holds no direction.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error
    if HEADER not in metadata:
        raise no_direction(path)
    try:
        return parse_json(metadata[HEADER], str(path), allow_nan=True)
    except InterpError as error:
        raise no_direction(path) from error


def unreadable(path: str | Path, error: Exception) -> InterpError:
    """The line for a file that is none of safetensors'."""
    return InterpError(f"{path}: not a readable direction file ({error})")


def no_direction(path: str | Path) -> InterpError:
    """The line for another kind of safetensors file."""
    return InterpError(f"{path}: holds no direction as DirectionStack.save writes it; fit it again")
