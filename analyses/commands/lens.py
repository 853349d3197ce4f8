"""``interp lens``: the answer through the layers, with a positive control."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import (
    DEFAULT_MODEL,
    CompatibilityOption,
    ConditionFileOption,
    ConditionOption,
    ItemsOption,
    ModelOption,
    OutOption,
    PngOption,
    SeedOption,
)

EPILOG = (
    "Examples:\n\n  interp lens --items bbq:Age\n\n  interp lens --items bbq:Age,bbq:Religion "
    "--limit 60 --texts 6 --out runs/lens-two\n\n  interp lens --items bundled --model "
    "path/to/model --compatibility-mode --png\n\n  interp lens --condition careful --condition-file "
    "my.yaml --texts 2 --out runs/careful\n\n  where my.yaml says  careful: {description: asks for "
    "care, texts: [Please take care., Please be careful.]}"
)


def lens(
    model: ModelOption = DEFAULT_MODEL,
    items: ItemsOption = "bbq:Age",
    condition: ConditionOption = "instructed",
    condition_file: ConditionFileOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Items, sampled by template.")] = 24,
    texts: Annotated[
        int,
        typer.Option(min=1, help="Wordings per condition, each with its placebo; 6 for a claim."),
    ] = 2,
    seed: SeedOption = 0,
    png: PngOption = False,
    out: OutOption = Path("runs/lens"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """When an instruction changes the answer: logit lens over layers, with a positive control."""
    from analyses.lens import LensConfig, run

    config = LensConfig(
        model=model,
        items=items,
        condition=condition,
        condition_file=condition_file,
        limit=limit,
        texts=texts,
        seed=seed,
        png=png,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    result = run(config)
    typer.echo(f"report: {result.report}")
