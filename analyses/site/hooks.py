"""MkDocs hook: what stands for a marker on a page.

``<!-- names: interp.lens -->`` becomes the reference of every public name of the room,
``<!-- commands -->`` that of every command, and ``<!-- readme: comparison -->`` the part of the README
between markers of this name.
"""

from __future__ import annotations

import re
from typing import Any

from analyses.site.commands import command_reference
from analyses.site.names import ROOT, public_names

_NAMES = re.compile(r"^<!-- names: ([\w.]+) -->$", re.MULTILINE)
_README = re.compile(r"^<!-- readme: (\w+) -->$", re.MULTILINE)
_COMMANDS = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its markers replaced; MkDocs calls this for every page."""
    markdown = _NAMES.sub(lambda found: reference(found[1]), markdown)
    markdown = _README.sub(lambda found: readme_part(found[1]), markdown)
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, command_reference())
    return markdown


def reference(room: str) -> str:
    """A heading and mkdocstrings' block per public name; names of other projects in a last line."""
    parts, others = [], []
    places = public_names(room)
    # functions, classes, constants
    for name in sorted(places, key=lambda name: (name.isupper(), name[0].isupper(), name.lower())):
        place = places[name]
        if not place.startswith("interp"):
            others.append(f"`{name}` is `{place}`")
        elif place.count(".") > 1 or place == "interp.InterpError":
            parts.append(
                f"::: {place}\n    options:\n      heading: {name}\n      toc_label: {name}"
            )
    return "\n\n".join([*parts, *([f"Also here: {', '.join(others)}."] if others else [])])


def readme_part(name: str) -> str:
    """What stands in the README between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0].strip()
