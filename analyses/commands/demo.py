"""``interp demo``: the main job, end to end, on the default model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import (
    DEFAULT_MODEL,
    CompatibilityOption,
    ItemsOption,
    ModelOption,
    OutOption,
    SeedOption,
)

EPILOG = (
    "Examples:\n\n  interp demo\n\n  interp demo --items bbq:Age,bbq:Religion --limit 40 "
    "--out runs/age\n\n  interp demo --model path/to/model --compatibility-mode"
)


def demo(
    model: ModelOption = DEFAULT_MODEL,
    items: ItemsOption = "bbq,bundled",
    limit: Annotated[
        int, typer.Option(min=2, help="Items in all, sampled by category and template.")
    ] = 24,
    seed: SeedOption = 0,
    out: OutOption = Path("runs/demo"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """A real model on real items: behaviour, where the instruction acts, one report."""
    from analyses.demo import DemoConfig, run

    config = DemoConfig(
        model=model,
        items=items,
        limit=limit,
        seed=seed,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    result = run(config)
    typer.echo(f"report: {result.report}")
