"""Pages with generated tables: written between markers, and checked.

    <!-- table: effects -->
    | ... |
    <!-- end -->

What stands between the markers is the table's alone. The prose around it may quote an interval
(``.29 [.11, .46]``) only where a table of the same page holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from interp.errors import InterpError

_BLOCK = re.compile(r"<!-- table: (?P<name>[\w.-]+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)
_NUMBER = r"[-+−]?\d*\.?\d+"
_QUOTED = re.compile(
    rf"(?P<estimate>{_NUMBER})\*{{0,2}} \[(?P<low>{_NUMBER}), (?P<high>{_NUMBER})\]"
)

Render = Callable[[str], str]
"""The markdown of a table by its name."""

Quoted = tuple[float, float, float]
"""An interval as it is printed: estimate, low, high."""


def tables_in(text: str) -> list[str]:
    """The names of the tables of a page, in their order."""
    return [found["name"] for found in _BLOCK.finditer(text)]


def write_tables(text: str, render: Render) -> str:
    """The page with every table rendered."""

    def block(found: re.Match[str]) -> str:
        return f"<!-- table: {found['name']} -->\n{render(found['name']).strip()}\n<!-- end -->"

    return _BLOCK.sub(block, text)


def quoted_intervals(text: str) -> Iterator[Quoted]:
    """Every interval that a text quotes, as numbers (a leading zero or plus sign does not matter)."""
    for found in _QUOTED.finditer(text):
        estimate, low, high = (
            float(found[name].replace("−", "-")) for name in ("estimate", "low", "high")
        )
        yield estimate, low, high


def prose_of(text: str) -> str:
    """A page without its generated tables."""
    return _BLOCK.sub("", text)


def problems(pages: Mapping[Path, str], render: Render) -> list[str]:
    """What is wrong with pages: a table that differs from its rows, a quoted interval without any.

    An unknown table is refused by ``render``.
    """
    found = []
    for path, text in pages.items():
        for block in _BLOCK.finditer(text):
            if block["body"].strip() != render(block["name"]).strip():
                found.append(f"{path.name}: table {block['name']!r} differs from its rows")
        known = {quoted for name in tables_in(text) for quoted in quoted_intervals(render(name))}
        for quoted in quoted_intervals(prose_of(text)):
            if quoted not in known:
                estimate, low, high = quoted
                found.append(
                    f"{path.name}: {estimate:g} [{low:g}, {high:g}] stands in no table of the page"
                )
    return found


def read_pages(paths: list[Path]) -> dict[Path, str]:
    """The pages that have tables.

    Raises:
        InterpError: a marker without its end.
    """
    pages = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        begun = text.count("<!-- table: ")
        if begun != len(tables_in(text)):
            raise InterpError(f"{path}: a table's marker has no '<!-- end -->'")
        if begun:
            pages[path] = text
    return pages
