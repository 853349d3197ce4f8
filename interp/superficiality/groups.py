"""Names of the groups of further rows. Nothing here loads torch: a configuration checks them."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from interp.errors import InterpError, did_you_mean

FurtherRows: TypeAlias = Literal["health", "concentration", "polarity", "residue", "append", "rank"]
"""A group of rows behind the route (:mod:`interp.superficiality.further`), which can be left out."""

FURTHER: tuple[FurtherRows, ...] = get_args(FurtherRows)

FURTHER_ITEMS = 18
"""Pairs of the tables that cost most, where nothing else is asked for: three of each wording."""


def require_further(rows: tuple[str, ...]) -> None:
    """Refuse a group of rows that there is not.

    Raises:
        InterpError: names it.
    """
    for name in rows:
        if name not in FURTHER:
            raise InterpError(f"no group of rows {name!r}: {did_you_mean(name, FURTHER)}")
