"""``interp models list | fetch | show``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from analyses.commands.completion import complete_models
from analyses.commands.options import (
    DeviceOption,
    DtypeOption,
    QuietOption,
    help_of,
    loading_options,
    print_table,
    reporting,
)
from analyses.config import CompatibilityMode

app = typer.Typer(
    help="Models: list, fetch, show.",
    no_args_is_help=True,
    epilog="Examples:\n\n  interp models list\n\n  interp models fetch smollm2-135m-instruct\n\n"
    "  interp models show path/to/model --dtype float32",
)

_log = logging.getLogger("interp")

MirrorOption = Annotated[
    bool,
    typer.Option(
        "--allow-mirrors",
        help="Allow an unofficial mirror (always checked against the pinned hash).",
    ),
]


@app.command("list", epilog="Example:  interp models list")
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
    name: Annotated[str, typer.Argument(help="A catalogue name.", autocompletion=complete_models)],
    allow_mirrors: MirrorOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch and convert a model into the cache, once."""
    from interp.models.catalogue import model_entry

    entry = model_entry(name)
    with reporting(quiet=quiet) as progress:
        if not entry.folder.is_dir():
            _log.info("fetching and converting %s, %.0f MB", name, entry.size_bytes / 1e6)
        from interp.models.load import prepare_model  # heavy: only for a name of the catalogue

        typer.echo(prepare_model(name, allow_mirrors=allow_mirrors, progress=progress))


@app.command(
    "show",
    epilog="Examples:\n\n  interp models show smollm2-135m-instruct\n\n"
    "  interp models show path/to/model --device cuda --dtype bfloat16",
)
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="Catalogue name, hub id, folder or .gguf file.", autocompletion=complete_models
        ),
    ],
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    compatibility_mode: Annotated[
        bool, typer.Option("--compatibility-mode", help=help_of(CompatibilityMode))
    ] = False,
) -> None:
    """Load a model and print its card: provenance, shape, self-checks."""
    options = loading_options(name, device, dtype)
    from interp.models import load_model, model_card  # heavy: only for a name that may be one

    card = model_card(load_model(name, compatibility_mode=compatibility_mode, **options))
    rows = [[str(cell) for cell in row] for row in card.to_dataframe().to_numpy()]
    typer.echo(card.one_line)
    print_table(["property", "value"], rows)
