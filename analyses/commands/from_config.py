"""Commands made of configurations: every option, default, bound and help text is a field's.

    app.command("lens")(command_of("lens"))

A field that the command line cannot type as it is (a tuple, a choice among words) is typed as text and
read by the configuration, which refuses it in one line. So an option is declared once.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from analyses.commands.options import print_frame
from analyses.config import StudyConfig, read_config
from analyses.registry import load_config_class, load_study

_TYPED = (bool, int, float, Path)
"""What typer reads by itself; everything else is typed as text."""


def command_of(name: str) -> Callable[..., None]:
    """The command of a study: its options are the fields of its configuration."""
    config = load_config_class(name)

    def command(**options: Any) -> None:
        from analyses.runner import run_and_tell  # heavy: only when the command runs

        asked = read_config(config, **options)
        done = run_and_tell(load_study(name), asked, command=" ".join(["interp", *sys.argv[1:]]))
        if done.story.printed is not None:
            print_frame(done.story.printed)
        typer.echo(f"report: {done.report}")
        for path in done.story.copies:
            typer.echo(f"page: {path}")

    parameters = [_parameter(field, info) for field, info in _in_order(config)]
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
    option = f"--{name.replace('_', '-')}"
    kind = _kind(field.annotation)
    # a switch that is off has no --no- form
    names = [option] if kind is bool and not field.default else []
    annotation = Annotated[kind, typer.Option(*names, help=field.description)]  # type: ignore[valid-type]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=_spelt(field.default, kind),
        annotation=annotation,
    )


def _kind(annotation: Any) -> Any:
    """The type that is typed: that of the field, or text."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        kind = _kind(inner[0]) if len(inner) == 1 else str
        return kind | None if type(None) in get_args(annotation) else kind
    return annotation if annotation in _TYPED else str


def _spelt(default: Any, kind: Any) -> Any:
    """A default as one would type it."""
    if isinstance(default, tuple):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in default)
    return default
