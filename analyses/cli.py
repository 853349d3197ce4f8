"""The command line: a command per study, made of its configuration, and a few that compute nothing.

Nothing heavy is imported until a command needs it, so that ``interp --help`` answers at once. A
mistake of the user's prints one line and exits with code 2; Ctrl-C exits with 130 and keeps what was
finished. Anything else is a defect, in one line too, with exit code 1.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from analyses import registry
from analyses.commands import conditions, data, direction, models, runs
from analyses.commands.from_config import command_of, epilog_of
from analyses.commands.options import version_line
from analyses.console import print_in_any_encoding
from interp.errors import InterpError

_TRACEBACK = "INTERP_TRACEBACK"
_UsageError: Any = typer.BadParameter.__base__
"""click's own, of which typer may hold a copy."""

_INTERRUPTED = "interrupted; finished work is kept, the same command resumes it"


def build_app() -> typer.Typer:
    """The application: the studies, then the catalogues and conditions."""
    app = typer.Typer(
        name="interp",
        epilog="First time here: [bold]interp demo[/bold]. Tab completes names of models, data sets, "
        "conditions and sites after [bold]interp --install-completion[/bold].",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    groups = {"direction": direction.direction_group()}
    for name in registry.STUDIES:
        group, _, command = name.rpartition(" ")
        home = groups[group] if group else app
        home.command(command, epilog=epilog_of(name))(command_of(name))
    app.add_typer(groups["direction"], name="direction")
    app.add_typer(runs.app, name="runs")
    app.add_typer(models.app, name="models")
    app.add_typer(data.app, name="data")
    app.add_typer(conditions.app, name="conditions")
    return app


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_line())
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Say which versions and stop."
        ),
    ] = False,
) -> None:
    """Where inside a transformer does an instruction act?"""


def main() -> None:
    """Entry point of ``interp``: one clear line and exit code 2 for a mistake of the user's."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    print_in_any_encoding()
    try:
        sys.exit(build_app()(standalone_mode=False) or 0)  # mistakes come here, not to a box
    except _UsageError as error:
        if not str(error):  # a group alone shows its help
            error.show()
            sys.exit(error.exit_code)
        _fail(error.format_message(), error.exit_code)
    except InterpError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail(_INTERRUPTED, 130)
    except SystemExit as stop:  # typer turns Ctrl-C into a silent exit
        if stop.code == 130:
            _fail(_INTERRUPTED, 130)
        raise
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail_unexpected(error, f"{error.strerror or type(error).__name__}{where}")
    except MemoryError as error:
        _fail_unexpected(error, "not enough memory: use fewer items or a smaller model")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(last.filename)}, line {last.lineno}"
        _fail_unexpected(
            error,
            f"a defect, please report it: {type(error).__name__}: {str(error)[:300]} ({place}; "
            f"{_TRACEBACK}=1 shows more)",
        )


def _fail_unexpected(error: BaseException, message: str) -> NoReturn:
    """One line for what nobody foresaw; the traceback for those who ask for it."""
    if os.environ.get(_TRACEBACK):
        raise error
    _fail(message, 1)


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"interp: {' '.join(message.split())}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
