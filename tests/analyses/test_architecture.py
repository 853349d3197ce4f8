"""The analyses house: arrows run down, no circle, no room too large."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "analyses"
MOST_LINES = 400


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(HOUSE.rglob("*.py"))}


def imports_of(module: str) -> Iterator[str]:
    """Every module of the house that is imported anywhere in the file, inside functions too."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name` is of the name where that is a module
            names = [
                name if (name := f"{node.module}.{alias.name}") in FILES else node.module
                for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name in FILES)


GRAPH = {module: set(imports_of(module)) - {module} for module in FILES}


def reached_from(module: str) -> set[str]:
    found: set[str] = set()
    ahead = [module]
    while ahead:
        for name in GRAPH[ahead.pop()] - found:
            found.add(name)
            ahead.append(name)
    return found


def is_study(module: str) -> bool:
    """A room's own study, story or the runner: what stands above configurations, tables and reports."""
    return module.count(".") == 2 and module.rsplit(".", 1)[1] in ("study", "story")


def test_no_circle() -> None:
    try:
        order = list(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")
    assert len(order) == len(FILES)


def test_no_import_of_ours_hides_under_type_checking() -> None:
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                hidden = [ast.unparse(n) for n in node.body if "analyses" in ast.unparse(n)]
                assert not hidden, (module, hidden)


def test_configurations_tables_and_reports_know_no_study() -> None:
    low = [
        module
        for module in FILES
        if module.rsplit(".", 1)[-1] in ("config", "tables") or module.startswith("analyses.report")
    ]
    assert len(low) > 5
    for module in low:
        above = {name for name in reached_from(module) if is_study(name)}
        assert not above | ({"analyses.runner"} & reached_from(module)), (module, above)


def test_the_library_does_not_know_the_analyses() -> None:
    for path in (ROOT / "interp").rglob("*.py"):
        names = [
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        ]
        assert not [name for name in names if name.split(".")[0] == "analyses"], path


def test_no_file_is_too_large() -> None:
    sizes = {module: len(path.read_text().splitlines()) for module, path in FILES.items()}
    assert {module: n for module, n in sizes.items() if n > MOST_LINES} == {}
