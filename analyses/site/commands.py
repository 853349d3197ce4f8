"""The command line as Markdown, from the application itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from analyses.cli import build_app

_STYLE = re.compile(r"\[/?(bold|dim|italic|cyan|yellow|green|link)[^\]]*\]")


def command_reference() -> str:
    """A section per command: its help, then its options with defaults."""
    return "\n\n".join(_sections(typer.main.get_command(build_app()), "interp"))


def command_names() -> list[str]:
    """Every command as it is typed, groups left out."""
    return [
        name for name, one in _walk(typer.main.get_command(build_app()), "interp") if _runs(one)
    ]


def _sections(command: Any, name: str) -> Iterator[str]:
    for typed, one in _walk(command, name):
        if _runs(one):
            yield f"### {typed}\n\n{_prose(one.help or '')}\n\n{_options(one)}".rstrip()


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, below in _below(command).items():
        yield from _walk(below, f"{name} {word}")


def _runs(command: Any) -> bool:
    """Whether it does something of itself: a command, or a group that is also one."""
    return not _below(command) or bool(command.invoke_without_command)


def _below(command: Any) -> dict[str, Any]:
    return dict(getattr(command, "commands", {}))


def _options(command: Any) -> str:
    rows = [
        _row(one)
        for one in command.params
        if one.name != "help" and not getattr(one, "hidden", False)
    ]
    return "\n".join(["| option | default | what |", "|---|---|---|", *rows]) if rows else ""


def _row(option: Any) -> str:
    argument = option.param_type_name == "argument"
    name = (
        f"{option.name.upper()}" if argument else ", ".join([*option.opts, *option.secondary_opts])
    )
    default = option.default
    shown = (
        "" if default is None or callable(default) or default is False else f"`{_text(default)}`"
    )
    return f"| `{name}` | {shown} | {_prose(getattr(option, 'help', None) or '')} |"


def _text(default: Any) -> str:
    if isinstance(default, list | tuple):
        return ",".join(map(str, default)) or " "
    return str(getattr(default, "value", default))


def _prose(text: str) -> str:
    """Help without the terminal's styles, on one line a paragraph."""
    paragraphs = _STYLE.sub("", text).replace("\b", "").split("\n\n")
    lines = (" ".join(part.split()) for part in paragraphs)
    return "\n\n".join(lines).replace("|", "\\|").replace("<", "&lt;").strip()
