"""The public names of the library and where each is defined, read from the source alone."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rooms() -> list[str]:
    """``interp`` and its packages: what users import from."""
    packages = (ROOT / "interp").glob("*/__init__.py")
    found = [f"interp.{path.parent.name}" for path in packages if _exported(_tree(path))]
    return ["interp", *sorted(found)]


def public_names(room: str) -> dict[str, str]:
    """Every name of a room's ``__all__`` and the dotted place of its definition."""
    path = _file_of(room)
    assert path is not None, f"{room} is no module of this repository"
    return {name: defined_at(f"{room}.{name}") for name in _exported(_tree(path))}


def defined_at(name: str) -> str:
    """The place of a dotted name's own definition, through all imports on the way."""
    room, _, last = name.rpartition(".")
    path = _file_of(room)
    if path is None:  # another project's
        return name
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                place = f"{node.module}.{alias.name}"
                if (alias.asname or alias.name) == last and place != name:  # a room is of itself
                    return defined_at(place)
    return name


def _file_of(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []
