"""Options that the hand-written commands share, and how tables are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from analyses.config import Items, Model, Seed

if TYPE_CHECKING:
    import pandas as pd


def help_of(declared: Any) -> str:
    """The description of a field that :mod:`analyses.config` declares."""
    return str(get_args(declared)[1].description)


ModelOption = Annotated[str, typer.Option(help=help_of(Model))]
ItemsOption = Annotated[str, typer.Option(help=help_of(Items))]
SeedOption = Annotated[int, typer.Option(min=0, help=help_of(Seed))]


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table without borders, its first column never wrapped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    printed = Table(box=None, pad_edge=False, header_style="bold")
    for k, name in enumerate(header):
        printed.add_column(Text(name), no_wrap=k == 0)
    for row in rows:
        printed.add_row(*(Text(_cell(cell)) for cell in row))  # a text is no markup
    Console().print(printed)


def print_frame(frame: pd.DataFrame) -> None:
    """Print a frame."""
    print_table(list(frame.columns), frame.to_numpy().tolist())


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
