"""``interp direction steer``: does steering move the answers more than null directions do?"""

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
    "Examples:\n\n  interp direction steer --items bbq:Age\n\n  interp direction steer --direction "
    "my.safetensors --items bundled --limit 24 --out runs/steer-mine\n\n  interp direction steer "
    "--strengths -4,-2,-1,1,2,4 --out runs/steer-far"
)


def steer(
    model: ModelOption = DEFAULT_MODEL,
    direction: Annotated[
        Path | None,
        typer.Option(
            help="A direction's file. Default: difference of means on half of bundled:morality."
        ),
    ] = None,
    items: ItemsOption = "bbq:Age",
    limit: Annotated[int, typer.Option(min=1, help="Items, sampled by template.")] = 12,
    strengths: Annotated[
        str,
        typer.Option(
            help="Steps in class units (the classes lie 2 apart), comma-separated; the largest runs "
            "with both signs, for the null directions too."
        ),
    ] = "-2,-1,1,2",
    seed: SeedOption = 0,
    out: OutOption = Path("runs/steer"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """Steer along a direction: margins, preferences, texts and cost, beside null directions."""
    from analyses.config import checked
    from analyses.steer import SteerConfig, run

    config = checked(
        SteerConfig,
        model=model,
        direction=direction,
        items=items,
        limit=limit,
        strengths=strengths,
        seed=seed,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    result = run(config)
    typer.echo(f"report: {result.report}")
