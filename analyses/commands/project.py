"""``interp project``: what an instruction does to the projection, beside null directions."""

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
    "Examples:\n\n  interp project --items bbq:Age\n\n  interp project --items bbq:Age,bbq:Religion "
    "--limit 60 --components resid_post,attn_out,mlp_out,head --out runs/components\n\n  interp "
    "project --placement before --positions last,question,options --out runs/before\n\n  interp "
    "project --direction my.safetensors --items bundled\n\n  interp project --condition careful "
    "--condition-file my.yaml --texts 2 --out runs/careful\n\n  where my.yaml says  careful: "
    "{description: asks for care, texts: [Please take care., Please be careful.]}"
)


def project(
    model: ModelOption = DEFAULT_MODEL,
    items: ItemsOption = "bbq:Age",
    condition: ConditionOption = "instructed",
    condition_file: ConditionFileOption = None,
    direction: Annotated[
        Path | None,
        typer.Option(help="A direction's file. Default: difference of means on bundled:morality."),
    ] = None,
    components: Annotated[
        str,
        typer.Option(
            help="Beside the direction's own site, comma-separated: embedding, head, attn_out, "
            "mlp_out, resid_pre, resid_mid, resid_post."
        ),
    ] = "attn_out,mlp_out",
    positions: Annotated[
        str,
        typer.Option(
            help="Where, comma-separated: last, a span such as question (its mean), or span:last."
        ),
    ] = "last",
    placement: Annotated[
        str, typer.Option(help="The instruction after or before the question.")
    ] = "after",
    texts: Annotated[
        int,
        typer.Option(min=1, help="Wordings, each with its placebo; 6 for a claim."),
    ] = 6,
    limit: Annotated[int, typer.Option(min=1, help="Items, sampled by template.")] = 24,
    seed: SeedOption = 0,
    png: PngOption = False,
    out: OutOption = Path("runs/project"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """How far an instruction moves states along a direction, and which components move them."""
    from analyses.config import checked
    from analyses.project import ProjectConfig, run

    config = checked(
        ProjectConfig,
        model=model,
        items=items,
        condition=condition,
        condition_file=condition_file,
        direction=direction,
        components=components,
        positions=positions,
        placement=placement,
        texts=texts,
        limit=limit,
        seed=seed,
        png=png,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    result = run(config)
    typer.echo(f"report: {result.report}")
