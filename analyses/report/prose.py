"""Small pieces of prose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any


def count(n: Any, unit: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{n} {unit}{'s' * (n != 1)}"


def of_kind(subset: str) -> str:
    """``ambiguous items`` of a subset's name; ``these items`` of questions without a kind."""
    named = subset.removesuffix("plain").removesuffix(", ")
    return f"{named or 'these'} items"


def file_name(label: str) -> str:
    """A label as the name of a figure's file: ``winogender, ambiguous`` is ``winogender-ambiguous``."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", label)


def number_ranges(numbers: Iterable[int]) -> str:
    """``12, 20-30``; ``none`` of none."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    spelt = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ", ".join(spelt) or "none"


def sentences(notes: Sequence[str]) -> list[str]:
    """Notes as sentences."""
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]
