"""``interp patch``: where an instruction acts, by exact patching."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import (
    DEFAULT_MODEL,
    CompatibilityOption,
    ConditionFileOption,
    ItemsOption,
    ModelOption,
    OutOption,
    PngOption,
    SeedOption,
)

EPILOG = (
    "Examples:\n\n  interp patch --items bbq:Age\n\n  interp patch --items bbq:Age,bbq:Religion "
    "--limit 60 --texts 6 --site resid_pre,attn_out,mlp_out --out runs/where\n\n  interp patch "
    "--site z --positions post_instruction --out runs/heads\n\n  interp patch --cells layer_pos "
    "--layers 0-29:2 --condition negated --out runs/negated\n\n  interp patch --condition careful "
    "--condition-file my.yaml --out runs/careful\n\n  where my.yaml says  careful: {description: "
    "asks for care, texts: [Please take care.]}"
)


def patch(
    model: ModelOption = DEFAULT_MODEL,
    items: ItemsOption = "bbq:Age",
    condition: Annotated[
        str,
        typer.Option(
            help="Copy from: instructed, negated, revealing, placebo, clean, or another of interp "
            "conditions or of your file."
        ),
    ] = "instructed",
    against: Annotated[
        str, typer.Option(help="Copy into: placebo (matched in length) or another condition.")
    ] = "placebo",
    condition_file: ConditionFileOption = None,
    site: Annotated[
        str,
        typer.Option(
            help="What is copied, comma-separated: resid_pre, resid_mid, resid_post, attn_out, "
            "mlp_out, z, q, k, v, pattern."
        ),
    ] = "resid_pre",
    cells: Annotated[
        str | None,
        typer.Option(
            help="The grid: layer_span, layer_pos, layer_head, layer_head_pos. "
            "Default: by span; by head at z, q, k, v, pattern."
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="0,5,10 or 0-29 or 0-29:2. Default: all.")
    ] = None,
    positions: Annotated[
        str,
        typer.Option(
            help="Where, for grids by position or head: aligned (from the first difference on), "
            "all, post_instruction, or a span such as answer_prefix."
        ),
    ] = "aligned",
    window: Annotated[int, typer.Option(min=1, help="Layers patched together.")] = 1,
    texts: Annotated[
        int, typer.Option(min=1, help="Wordings per condition; every item is asked with each.")
    ] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Items, sampled by template.")] = 24,
    method: Annotated[
        str, typer.Option(help="exact, or hooked (one forward per cell, slow).")
    ] = "exact",
    placement: Annotated[
        str, typer.Option(help="The instruction after or before the question.")
    ] = "after",
    control: Annotated[
        bool,
        typer.Option(help="Also run the positive control, without which no map is read."),
    ] = True,
    max_mib: Annotated[int, typer.Option(min=1, help="Memory that a sweep may hold, MiB.")] = 1024,
    seed: SeedOption = 0,
    png: PngOption = False,
    out: OutOption = Path("runs/patch"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """Where an instruction acts: exact patching over many items, with a positive control."""
    from analyses.config import checked
    from analyses.patch import PatchConfig, run

    config = checked(
        PatchConfig,
        model=model,
        items=items,
        condition=condition,
        against=against,
        condition_file=condition_file,
        site=site,
        cells=cells,
        layers=layers,
        positions=positions,
        window=window,
        texts=texts,
        limit=limit,
        method=method,
        placement=placement,
        control=control,
        max_mib=max_mib,
        seed=seed,
        png=png,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    result = run(config)
    typer.echo(f"report: {result.report}")
