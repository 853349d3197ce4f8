"""``interp direction fit | show | transfer | steer``: learned directions and their controls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands import steer
from analyses.commands.options import (
    DEFAULT_MODEL,
    CompatibilityOption,
    ModelOption,
    OutOption,
    PngOption,
    SeedOption,
    table,
)

app = typer.Typer(
    help="Directions: fit, show, compare over data sets, steer along.", no_args_is_help=True
)

_TEXTS_HELP = (
    "Labelled sentences: bundled:morality, crows-pairs:age, stereoset, ethics:FILE, "
    "moralchoice:FOLDER, or a .csv/.jsonl table (text, label, group)."
)


@app.command(
    epilog="Examples:\n\n  interp direction fit\n\n  interp direction fit --texts crows-pairs:age "
    "--methods mean_difference,lda --out runs/age\n\n  interp direction fit --texts mine.csv "
    "--positive fair --sites resid_post"
)
def fit(
    model: ModelOption = DEFAULT_MODEL,
    texts: Annotated[str, typer.Option(help=_TEXTS_HELP)] = "bundled:morality",
    positive: Annotated[
        str | None, typer.Option(help="Which label of a table becomes + (labels other than 0/1).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=4, help="At most so many texts, drawn by whole groups.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help="mean_difference, logistic_regression, lda, pca, statements, statements_last."
        ),
    ] = "mean_difference,logistic_regression,lda,pca,statements,statements_last",
    sites: Annotated[
        str, typer.Option(help="resid_pre, resid_mid, resid_post, attn_out, mlp_out.")
    ] = "resid_post,attn_out,mlp_out",
    folds: Annotated[int, typer.Option(min=2, help="Folds of the held-out score.")] = 5,
    shuffles: Annotated[int, typer.Option(min=1, help="Label shuffles of the null.")] = 200,
    seed: SeedOption = 0,
    png: PngOption = False,
    out: OutOption = Path("runs/direction"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """Learn a direction from labelled sentences, at every layer, with every control."""
    from analyses.config import checked
    from analyses.direction import DirectionConfig, run
    from interp.stats import interval_column_names

    config = checked(
        DirectionConfig,
        model=model,
        texts=texts,
        positive=positive,
        limit=limit,
        methods=methods,
        sites=sites,
        folds=folds,
        shuffles=shuffles,
        seed=seed,
        png=png,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    done = run(config)
    best = done.fits.best.drop(columns=["scale", "offset", *interval_column_names("auc")[3:]])
    table(list(best.columns), [[_cell(value) for value in row] for row in best.to_numpy()])
    typer.echo(f"directions: {config.out / 'directions'}\nreport: {done.report}")


@app.command(
    epilog="Example:  interp direction show "
    "runs/direction/directions/mean_difference-resid_post.safetensors"
)
def show(
    file: Annotated[Path, typer.Argument(help="A .safetensors file of `interp direction fit`.")],
) -> None:
    """Print what a direction file says about itself, and its AUC by layer."""
    from analyses.direction import show as facts_of
    from interp.directions import load_direction
    from interp.stats import interval_column_names

    table(["property", "value"], facts_of(file).to_numpy().tolist())
    frame = load_direction(file).to_dataframe().drop(columns=interval_column_names("auc")[3:])
    table(list(frame.columns), [[_cell(value) for value in row] for row in frame.to_numpy()])


@app.command(
    epilog="Examples:\n\n  interp direction transfer\n\n  interp direction transfer --texts "
    "bundled:morality,ethics:cm_test.csv,moralchoice:scenarios --limit 400 --out runs/transfer"
)
def transfer(
    model: ModelOption = DEFAULT_MODEL,
    texts: Annotated[
        str, typer.Option(help=f"Two or more sets, comma-separated. {_TEXTS_HELP}")
    ] = "bundled:morality,bundled:statements,bundled:contrasts:sentiment,crows-pairs,stereoset",
    limit: Annotated[
        int | None, typer.Option(min=4, help="At most so many texts of each, by whole groups.")
    ] = 400,
    method: Annotated[str, typer.Option(help="How to fit.")] = "mean_difference",
    site: Annotated[str, typer.Option(help="Where to read.")] = "resid_post",
    folds: Annotated[int, typer.Option(min=2, help="Folds of the held-out score.")] = 5,
    seed: SeedOption = 0,
    png: PngOption = False,
    out: OutOption = Path("runs/transfer"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """Train on every set, test on every set: does what was learned hold elsewhere?"""
    from analyses.config import checked
    from analyses.direction import TransferConfig, run_transfer

    config = checked(
        TransferConfig,
        model=model,
        texts=texts,
        limit=limit,
        method=method,
        site=site,
        folds=folds,
        seed=seed,
        png=png,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    done = run_transfer(config)
    matrix = done.transfer.table()
    rows = [[str(name), *(_cell(v) for v in row)] for name, row in matrix.iterrows()]
    table(["trained on \\ tested on", *matrix.columns], rows)
    typer.echo(f"report: {done.report}")


app.command("steer", epilog=steer.EPILOG)(steer.steer)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
