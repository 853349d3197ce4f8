"""Options that several commands share, and how their tables are printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MODEL = "smollm2-135m-instruct"
"""That of :mod:`interp.models`, spelt again: importing it takes seconds, and ``--help`` must not."""

ModelOption = Annotated[
    str, typer.Option(help="Catalogue name, hub id (owner/name), folder, or .gguf file.")
]
ItemsOption = Annotated[
    str, typer.Option(help="Data sets, comma-separated: bbq, bbq:Age, bundled, a .jsonl file.")
]
ConditionOption = Annotated[
    str, typer.Option(help="Contrasted with its placebo; names: interp conditions, or your file's.")
]
ConditionFileOption = Annotated[
    Path | None, typer.Option(help="Your own conditions, YAML (interp conditions --help).")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the sample and of all resampling.")]
OutOption = Annotated[Path, typer.Option(help="Run folder; an interrupted run resumes.")]
PngOption = Annotated[
    bool, typer.Option("--png", help="Also write the figures as PNG (needs Chrome/Chromium).")
]
CompatibilityOption = Annotated[
    bool,
    typer.Option(
        "--compatibility-mode", help="TransformerLens's weight processing (folded norms)."
    ),
]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without borders, its first column never wrapped."""
    from rich.console import Console
    from rich.table import Table

    printed = Table(box=None, pad_edge=False, header_style="bold")
    for k, name in enumerate(header):
        printed.add_column(name, no_wrap=k == 0)
    for row in rows:
        printed.add_row(*(str(cell) for cell in row))
    Console().print(printed, markup=False)
