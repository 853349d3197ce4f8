"""Commands made of configurations: every option, default, bound and help text is a field's.

    app.command("lens")(command_of("lens"))

A field that the command line cannot type as it is (a tuple, a choice among words) is typed as text and
read by the configuration, which refuses it in one line. So an option is declared once.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from analyses.asking import ask
from analyses.commands.completion import completer_of
from analyses.commands.options import QuietOption, print_frame, reporting
from analyses.config import StudyConfig, read_config
from analyses.registry import load_config_class, load_study

_TYPED = (bool, Path)
"""What typer reads by itself; everything else is typed as text and read by the configuration."""

_NUMBERS = {int: "<int>", float: "<float>"}


def command_of(name: str) -> Callable[..., None]:
    """The command of a study: its options are the fields of its configuration."""
    config = load_config_class(name)

    def command(*, quiet: bool, **options: Any) -> None:
        wanted = read_config(config, **{k: _number(config, k, v) for k, v in options.items()})
        with reporting(quiet=quiet) as progress:
            asked = ask(name, wanted, progress=progress)
            from analyses.runner import (
                run_and_tell,  # heavy: only when there is something to compute
            )

            how: dict[str, Any] = {"asked": asked, "progress": progress}
            line = " ".join(["interp", *sys.argv[1:]])
            done = run_and_tell(load_study(name), wanted, command=line, **how)
        if done.story.printed is not None and not quiet:
            print_frame(done.story.printed)
        if done.story.headline:
            typer.echo(done.story.headline)
        typer.echo(f"report: {done.report}")
        for path in done.story.copies:
            typer.echo(f"page: {path}")

    parameters = [_parameter(field, info) for field, info in _in_order(config)]
    parameters.append(
        inspect.Parameter(
            "quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietOption
        )
    )
    command.__name__ = name.replace(" ", "_")
    command.__doc__ = inspect.cleandoc(config.__doc__ or "")
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def epilog_of(name: str) -> str:
    """The examples under a command's help."""
    return "\n\n".join(["Examples:", *load_config_class(name).examples])


def _in_order(config: type[StudyConfig]) -> list[tuple[str, FieldInfo]]:
    """The model first, then the study's own fields, then those that all studies share."""
    shared = [name for name in StudyConfig.model_fields if name != "model"]
    own = [name for name in config.model_fields if name not in ("model", *shared)]
    return [(name, config.model_fields[name]) for name in ("model", *own, *shared)]


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    typed, optional = _typed(field.annotation)
    kind = typed if typed in _TYPED else str
    # a switch that is off has no --no- form
    names = [f"--{name.replace('_', '-')}"] if kind is bool and not field.default else []
    option = typer.Option(
        *names,
        help=field.description,
        metavar=_NUMBERS.get(typed),
        autocompletion=completer_of(name, field),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=_spelt(field.default, kind),
        annotation=Annotated[kind | None if optional else kind, option],
    )


def _number(config: type[StudyConfig], name: str, text: Any) -> Any:
    """A number that was typed, where the field is one; what is none is left to the configuration."""
    kind, _ = _typed(config.model_fields[name].annotation)
    if kind not in _NUMBERS or not isinstance(text, str):
        return text
    with contextlib.suppress(ValueError):
        return kind(text)
    return text


def _typed(annotation: Any) -> tuple[Any, bool]:
    """What a field holds, without None; and whether it may be None."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    inner = [part for part in get_args(annotation) if part is not type(None)]
    typed = _typed(inner[0])[0] if len(inner) == 1 else str
    return typed, type(None) in get_args(annotation)


def _spelt(default: Any, kind: Any) -> Any:
    """A default as one would type it."""
    if kind is str and isinstance(default, int | float):
        return str(default)
    if isinstance(default, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in default)
    return default
