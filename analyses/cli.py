"""The command line: one module of :mod:`analyses.commands` per command.

Nothing heavy is imported until a command needs it, so that ``interp --help`` answers at once. A
mistake of the user's prints one line and exits with code 2; Ctrl-C exits with 130 and keeps what was
finished.
"""

from __future__ import annotations

import os
import sys

import typer

from analyses.commands import (
    behave,
    conditions,
    data,
    demo,
    direction,
    lens,
    models,
    patch,
    project,
)
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
app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.command("behave", epilog=behave.EPILOG)(behave.behave)
app.command("patch", epilog=patch.EPILOG)(patch.patch)
app.command("lens", epilog=lens.EPILOG)(lens.lens)
app.command("project", epilog=project.EPILOG)(project.project)
app.add_typer(direction.app, name="direction")
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(conditions.app, name="conditions")

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
