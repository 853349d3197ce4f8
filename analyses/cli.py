"""The command line: ``interp demo``, ``interp patch``, ``interp models ...``, ``interp data ...``.

Nothing heavy is imported until a command needs it, so that ``interp --help`` answers at once. A
mistake of the user's prints one line and exits with code 2; Ctrl-C exits with 130 and keeps what was
finished.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.errors import InterpError

app = typer.Typer(
    name="interp",
    help="Where inside a transformer does an instruction act?",
    epilog="First time here: [bold]interp demo[/bold]",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="Models: list, fetch, show.", no_args_is_help=True)
data = typer.Typer(help="Data sets: list, fetch, show.", no_args_is_help=True)
app.add_typer(models, name="models")
app.add_typer(data, name="data")

DEFAULT_MODEL = "smollm2-135m-instruct"
ModelOption = Annotated[
    str,
    typer.Option(help="Catalogue name, hub id (owner/name), folder, or .gguf file."),
]
MirrorOption = Annotated[
    bool,
    typer.Option(
        "--allow-mirrors",
        help="Allow an unofficial mirror (always checked against the pinned hash).",
    ),
]


@app.command(
    epilog="Examples:\n\n  interp demo\n\n  interp demo --items bbq:Age,bbq:Religion --limit 40 "
    "--out runs/age\n\n  interp demo --model path/to/model --compatibility-mode"
)
def demo(
    model: ModelOption = DEFAULT_MODEL,
    items: Annotated[
        str, typer.Option(help="Data sets, comma-separated: bbq, bbq:Age, bundled, a .jsonl file.")
    ] = "bbq,bundled",
    limit: Annotated[
        int, typer.Option(min=2, help="Items in all, sampled by category and template.")
    ] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and of all resampling.")] = 0,
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run resumes.")] = Path(
        "runs/demo"
    ),
    compatibility_mode: Annotated[
        bool,
        typer.Option(
            "--compatibility-mode", help="TransformerLens's weight processing (folded norms)."
        ),
    ] = False,
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


@app.command(
    epilog="Examples:\n\n  interp patch --items bbq:Age\n\n  interp patch --items bbq:Age,bbq:Religion "
    "--limit 60 --texts 6 --site resid_pre,attn_out,mlp_out --out runs/where\n\n  interp patch "
    "--site z --positions post_instruction --out runs/heads\n\n  interp patch --cells layer_pos "
    "--layers 0-29:2 --condition negated --out runs/negated"
)
def patch(
    model: ModelOption = DEFAULT_MODEL,
    items: Annotated[
        str, typer.Option(help="Data sets, comma-separated: bbq, bbq:Age, bundled, a .jsonl file.")
    ] = "bbq:Age",
    condition: Annotated[
        str, typer.Option(help="Copy from: instructed, negated, revealing, placebo, clean.")
    ] = "instructed",
    against: Annotated[
        str, typer.Option(help="Copy into: placebo (matched in length) or another condition.")
    ] = "placebo",
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and of all resampling.")] = 0,
    png: Annotated[
        bool, typer.Option("--png", help="Also write the figures as PNG (needs Chrome/Chromium).")
    ] = False,
    out: Annotated[Path, typer.Option(help="Run folder; an interrupted run resumes.")] = Path(
        "runs/patch"
    ),
    compatibility_mode: Annotated[
        bool,
        typer.Option(
            "--compatibility-mode", help="TransformerLens's weight processing (folded norms)."
        ),
    ] = False,
) -> None:
    """Where an instruction acts: exact patching over many items, with a positive control."""
    from analyses.patch import config_of, run

    config = config_of(
        model=model,
        items=items,
        condition=condition,
        against=against,
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


@models.command("list")
def models_list() -> None:
    """The catalogue: names, licences, and whether the weights are in the cache."""
    from interp.models.catalogue import model_entry, model_names

    entries = [model_entry(name) for name in model_names()]
    _table(
        ["name", "licence", "born as", "MB", "in cache", "what it is"],
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


@models.command("fetch", epilog="Example:  interp models fetch smollm2-135m-instruct")
def models_fetch(
    name: Annotated[str, typer.Argument(help="A catalogue name.")],
    allow_mirrors: MirrorOption = False,
) -> None:
    """Fetch and convert a model into the cache, once."""
    from interp.models.load import prepare_model

    typer.echo(prepare_model(name, allow_mirrors=allow_mirrors))


@models.command("show", epilog="Example:  interp models show smollm2-135m-instruct")
def models_show(
    name: Annotated[str, typer.Argument(help="Catalogue name, hub id, folder or .gguf file.")],
    compatibility_mode: Annotated[bool, typer.Option("--compatibility-mode")] = False,
) -> None:
    """Load a model and print its card: provenance, shape, self-checks."""
    from interp.models import load_model, model_card

    card = model_card(load_model(name, compatibility_mode=compatibility_mode))
    rows = [[str(cell) for cell in row] for row in card.to_dataframe().to_numpy()]
    typer.echo(card.one_line)
    _table(["property", "value"], rows)


@data.command("list")
def data_list() -> None:
    """The catalogue of data sets, with licences."""
    from interp.data.catalogue import dataset_entry, dataset_names

    entries = [dataset_entry(name) for name in dataset_names()]
    _table(
        ["name", "licence", "items", "what it is"],
        [[e.name, e.licence, str(e.n_items or ""), e.description] for e in entries],
    )


@data.command("fetch", epilog="Example:  interp data fetch bbq")
def data_fetch(name: Annotated[str, typer.Argument(help="A catalogue name.")]) -> None:
    """Fetch a data set into the cache, once."""
    from interp.data.catalogue import fetch_dataset

    typer.echo(fetch_dataset(name))


@data.command(
    "show", epilog="Examples:  interp data show bbq:Age    interp data show bundled:morality"
)
def data_show(
    name: Annotated[
        str, typer.Argument(help="bbq, bbq:Age, bundled, bundled:morality, a file ...")
    ],
    limit: Annotated[int, typer.Option(min=1, help="How many rows to print.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
) -> None:
    """Print a few rows of a data set, as the library sees them."""
    from interp.data import load_items, load_texts

    if name.startswith("bundled:") and name != "bundled:choices":
        texts = load_texts(name)
        typer.echo(f"{name}: {len(texts)} texts")
        rows = [[str(t.label), t.category, t.group, t.text] for t in texts[:limit]]
        _table(["label", "category", "group", "text"], rows)
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


_INTERRUPTED = "interrupted; finished work is kept, the same command resumes it"


def main() -> None:
    """Entry point of ``interp``: one clear line and exit code 2 for a mistake of the user's."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except InterpError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail(_INTERRUPTED, 130)
    except SystemExit as stop:  # typer turns Ctrl-C into a silent exit
        if stop.code == 130:
            _fail(_INTERRUPTED, 130)
        raise


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"interp: {' '.join(message.split())}\n")
    sys.exit(code)


def _table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for k, name in enumerate(header):
        table.add_column(name, no_wrap=k == 0)
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)
