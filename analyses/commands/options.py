"""Options that the hand-written commands share, and how tables are printed."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from analyses.commands.completion import complete_items, complete_models, complete_of
from analyses.config import Device, Items, Model, ModelDtype, Seed, read_config
from interp.models.names import DEVICES, DTYPES, require_model

if TYPE_CHECKING:
    import pandas as pd


def help_of(declared: Any) -> str:
    """The description of a field that :mod:`analyses.config` declares."""
    return next(str(part.description) for part in get_args(declared) if isinstance(part, FieldInfo))


ModelOption = Annotated[str, typer.Option(help=help_of(Model), autocompletion=complete_models)]
DeviceOption = Annotated[
    str, typer.Option(help=help_of(Device), autocompletion=complete_of(DEVICES))
]
DtypeOption = Annotated[
    str, typer.Option(help=help_of(ModelDtype), autocompletion=complete_of(DTYPES))
]
ItemsOption = Annotated[str, typer.Option(help=help_of(Items), autocompletion=complete_items)]
SeedOption = Annotated[int, typer.Option(min=0, help=help_of(Seed))]
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="Nothing but the result: no bars, no log, no tables.")
]


def version_line() -> str:
    """``interp 0.1.0 (transformer-lens 4.3.0, torch 2.9.0, ...)``, without loading any of them."""
    from importlib import metadata

    from interp import __version__

    packages = ("transformer-lens", "torch", "transformers")
    own = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return f"interp {__version__} ({own}, python {platform.python_version()})"


class _Lines(logging.Handler):
    """Writes every record as a line, to what standard error is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


@contextlib.contextmanager
def reporting(*, quiet: bool = False) -> Iterator[bool]:
    """How a command says what it is doing; gives whether with bars.

    On a terminal with bars. Into a file or a pipe, where bars would be thousands of lines, with a plain
    line for each step. ``quiet``: not at all.
    """
    bars = not quiet and sys.stderr.isatty()
    log, lines = logging.getLogger("interp"), _Lines()
    before = log.level
    lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if not quiet and not bars:
        log.addHandler(lines)
        log.setLevel(logging.INFO)
    try:
        yield bars
    finally:
        log.removeHandler(lines)
        log.setLevel(before)


class _Loading(BaseModel):
    """How a command without a study loads its model."""

    device: Device
    dtype: ModelDtype


def loading_options(name: str, device: str, dtype: str) -> dict[str, Any]:
    """How ``load_model`` loads a model for a command; refused before anything heavy is imported.

    Raises:
        InterpError: a name of no model, or an option that cannot be.
    """
    read = read_config(_Loading, device=device, dtype=dtype)
    require_model(name)
    return {**read.model_dump(), "progress": sys.stderr.isatty()}


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table without borders, its first column never wrapped; a row is a line in a file."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    printed = Table(box=None, pad_edge=False, header_style="bold")
    for k, name in enumerate(header):
        printed.add_column(Text(name), no_wrap=k == 0)
    for row in rows:
        printed.add_row(*(Text(_cell(cell)) for cell in row))  # a text is no markup
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    Console(width=None if narrow else _WIDEST).print(printed)


_WIDEST = 400
"""Characters of a line where no terminal sets the width."""


def print_frame(frame: pd.DataFrame) -> None:
    """Print a frame."""
    print_table(list(frame.columns), frame.to_numpy().tolist())


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
