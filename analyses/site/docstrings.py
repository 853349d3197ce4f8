"""Griffe extension: docstrings of this repository as Markdown.

They are Google style with a few marks of reStructuredText, which are read in an editor as they are:
``:func:`.sweep``` becomes a link where the site has the name, ``text::`` with an indented block a code
block, and what is drawn with ``====`` a table.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:py:)?(?:func|class|mod|meth|data|attr|exc|const):`(?P<target>[^`]+)`")
_TITLED = re.compile(r"(?P<title>.+) <(?P<place>[\w.]+)>")
_LITERAL = re.compile(r"^(?P<text>.*\S)::[ ]*$", re.MULTILINE)
_TABLE = re.compile(
    r"^(?P<rule>={4,}(?: +={4,})+)$\n(?P<rows>.*?)^={4,}(?: +={4,})+$(?!\n=|\n\S)",
    re.MULTILINE | re.DOTALL,
)
_COLUMN = re.compile(r"=+")


class Docstrings(griffe.Extension):
    """Rewrites every docstring when it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe calls this for every object it has read."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value, str(obj.module.path))


def as_markdown(text: str, module: str) -> str:
    """A docstring whose roles, literal blocks and drawn tables Markdown understands."""
    text = _TABLE.sub(_table, text)
    text = _LITERAL.sub(
        lambda found: found["text"].rstrip(":") + ("" if found["text"] == "Example" else ":"), text
    )
    return _ROLE.sub(lambda found: _link(found["target"], module), text)


def _table(found: re.Match[str]) -> str:
    """A drawn table with its header, or with an empty one, as Markdown."""
    starts = [column.start() for column in _COLUMN.finditer(found["rule"])]
    ends = [*starts[1:], None]
    head, rule, body = found["rows"].partition(f"{found['rule'].rstrip()}\n")
    lines = [*head.splitlines(), *body.splitlines()] if rule else ["", *head.splitlines()]
    rows: list[list[str]] = []
    for line in lines:
        cells = [line[a:b].strip() for a, b in zip(starts, ends, strict=True)]
        if rows and not cells[0] and len(rows) > 1:  # a cell that goes on
            rows[-1] = [f"{old} {more}".strip() for old, more in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    rows.insert(1, ["---"] * len(starts))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _link(target: str, module: str) -> str:
    """A reference that the site resolves where it can."""
    titled = _TITLED.fullmatch(target)
    title, place = (titled["title"], titled["place"]) if titled else (target, target)
    place = place.removeprefix("~")
    shown = (
        title.removeprefix("~").rpartition(".")[2] if title.startswith("~") else title.lstrip(".")
    )
    if place.startswith("."):
        place = f"{module}{place}"
    elif not place.startswith(("interp", "analyses", "transformer_lens")):
        place = f"{module}.{place.removesuffix('()')}"
    return f'<autoref identifier="{place}" optional><code>{shown}</code></autoref>'
