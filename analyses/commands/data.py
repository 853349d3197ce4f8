"""``interp data list | fetch | show``."""

from __future__ import annotations

from typing import Annotated

import typer

from analyses.commands.completion import complete_of, dataset_names_to_show
from analyses.commands.options import QuietOption, print_table, reporting
from interp.data.catalogue import dataset_names

app = typer.Typer(
    help="Data sets: list, fetch, show.",
    no_args_is_help=True,
    epilog="Examples:\n\n  interp data list\n\n  interp data fetch bbq\n\n  interp data show bbq:Age",
)


@app.command("list", epilog="Example:  interp data list")
def list_() -> None:
    """The catalogue of data sets, with licences."""
    from interp.data.catalogue import dataset_entry, dataset_names

    entries = [dataset_entry(name) for name in dataset_names()]
    print_table(
        ["name", "licence", "items", "what it is"],
        [[e.name, e.licence, str(e.n_items or ""), e.description] for e in entries],
    )


@app.command("fetch", epilog="Example:  interp data fetch bbq")
def fetch(
    name: Annotated[
        str,
        typer.Argument(help="A catalogue name.", autocompletion=complete_of(dataset_names())),
    ],
    quiet: QuietOption = False,
) -> None:
    """Fetch a data set into the cache, once."""
    from interp.data.catalogue import fetch_dataset

    with reporting(quiet=quiet) as progress:
        typer.echo(fetch_dataset(name, progress=progress))


@app.command(
    "show",
    epilog="Examples:  interp data show bbq:Age    interp data show crows-pairs:age    "
    "interp data show jsonl",
)
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="bbq, bbq:Age, bundled, bundled:morality, a file ...; jsonl: the form of your own.",
            autocompletion=lambda incomplete: complete_of(dataset_names_to_show())(incomplete),
        ),
    ],
    limit: Annotated[int, typer.Option(min=1, help="How many rows to print.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
) -> None:
    """Print a few rows of a data set, as the library sees them; or the form of a file of your own."""
    from interp.data import load_items, load_texts
    from interp.data.load import ITEM_SETS, TEXT_SETS

    if name == "jsonl":
        from interp.data.tables import CHOICE_ROWS

        typer.echo(f"Questions of your own, in a .jsonl file: --items FILE\n\n{CHOICE_ROWS}")
        return
    kind = name.partition(":")[0]
    if _is_bundled_text(name) or (kind in TEXT_SETS and kind not in ITEM_SETS):
        texts = load_texts(name)
        typer.echo(f"{name}: {len(texts)} texts")
        rows = [[str(t.label), t.category, t.group, t.text] for t in texts[:limit]]
        print_table(["label", "category", "group", "text"], rows)
        return
    items = load_items(name, limit=limit, seed=seed)
    for item in items:
        typer.echo(
            f"{item.id}  [{item.category}, {item.context_condition}, cluster {item.cluster}]"
        )
        typer.echo(f"  {item.context}\n  {item.question}")
        for k, choice in enumerate(item.choices):
            mark = "*" if k == item.gold else " "
            typer.echo(f"  {mark} ({chr(ord('a') + k)}) {choice.text}  [{choice.role}]")


def _is_bundled_text(name: str) -> bool:
    return name.startswith("bundled:") and name != "bundled:choices"
