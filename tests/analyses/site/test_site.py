"""The site holds every public name and command, links to what is there, and asks no network."""

from __future__ import annotations

import ast
import importlib
import operator
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import interp
from analyses.site.commands import command_names, command_reference
from analyses.site.docstrings import as_markdown
from analyses.site.hooks import on_page_markdown, reference
from analyses.site.names import ROOT, public_names, rooms

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


class Loose(yaml.SafeLoader):
    """YAML whose tags of MkDocs are left alone."""


Loose.add_multi_constructor("", lambda loader, suffix, node: None)
CONFIG: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(), Loose)


def files_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    below = nav.values() if isinstance(nav, dict) else nav
    return [name for one in below for name in files_of(one)]


def test_every_page_has_its_place_and_every_place_a_page() -> None:
    assert sorted(files_of(CONFIG["nav"])) == [page.relative_to(DOCS).as_posix() for page in PAGES]


@pytest.mark.parametrize("room", rooms())
def test_every_public_name_is_on_a_page_of_the_api(room: str) -> None:
    if room == "interp":  # its names are rooms, or stand on their room's page
        shown = {place for other in rooms()[1:] for place in public_names(other).values()}
        own = set(public_names(room).values())
        assert own - shown - set(rooms()) == {"interp.errors.InterpError"}
        assert "::: interp.errors.InterpError" in (DOCS / "api/index.md").read_text()
        return
    page = DOCS / "api" / f"{room.removeprefix('interp.')}.md"
    markdown = on_page_markdown(page.read_text())
    for name, place in public_names(room).items():
        assert f"::: {place}\n" in markdown or f"`{name}` is `{place}`" in markdown, name


def test_a_name_is_followed_to_where_it_is_defined() -> None:
    assert public_names("interp")["sweep"] == "interp.patching.sweep.sweep"
    assert public_names("interp")["viz"] == "interp.viz"
    assert "`PatchingResult` is `transformer_lens.patching.PatchingResult`" in reference(
        "interp.patching"
    )


def test_every_command_has_its_options() -> None:
    text = command_reference()
    assert {"interp demo", "interp direction fit", "interp conditions"} <= set(command_names())
    for name in command_names():
        assert f"### {name}\n" in text
    assert "| `--max-mib` | `1024` |" in text


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"])
def test_links_lead_to_files_and_headings(path: str) -> None:
    place = ROOT / path
    for page in PAGES if place.is_dir() else [place]:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        targets = re.findall(r"\]\(([^)\s]+)\)", text)
        targets += re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
        for target in targets:
            name, _, heading = target.partition("#")
            if "://" in target:
                continue
            linked = page.parent / name if name else page
            assert linked.exists(), f"{page.name}: {target}"
            if heading and linked.suffix == ".md":
                slugs = {slug(line) for line in re.findall(r"^#+ (.+)$", linked.read_text(), re.M)}
                assert heading in slugs, f"{page.name}: {target}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-")


def test_docstrings_become_markdown() -> None:
    drawn = "========= ====\n:func:`b` one\n          two\n========= ====\n"
    assert as_markdown(f"See :func:`.a`::\n\n    a()\n\n{drawn}", "interp.x") == (
        'See <autoref identifier="interp.x.a" optional><code>a</code></autoref>:\n\n    a()\n\n'
        '|  |  |\n| --- | --- |\n| <autoref identifier="interp.x.b" optional><code>b</code></autoref>'
        " | one two |\n"
    )
    titled = as_markdown("the :mod:`engine <interp.patching.wavefront>`", "interp")
    assert titled == (
        'the <autoref identifier="interp.patching.wavefront" optional><code>engine</code></autoref>'
    )


def test_the_readme_stays_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 250
    for command in ("make demo", "make test", "TransformerBridge"):
        assert any(command in line for line in lines[:40]), command


def test_the_figures_of_the_readme_are_small_and_whole() -> None:
    drawn = sorted((DOCS / "figures").glob("*.svg"))
    assert sum(path.stat().st_size for path in drawn) < 2_000_000
    light = {path.stem for path in drawn if not path.stem.endswith("-dark")}
    assert {f"{name}-dark" for name in light} == {path.stem for path in drawn} - light
    for path in drawn:
        text = path.read_text()
        assert "numbers: " in text
        assert not re.search(r'(href|src)="https?:', text)


class External(HTMLParser):
    """What a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loads = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset"}
        target = dict(attrs).get(loads.get(tag, ""))
        if target and "//" in target and not (tag == "link" and ("rel", "canonical") in attrs):
            self.found.append(target)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    built = sorted(tmp_path.rglob("*.html"))
    assert len(built) > len(PAGES)
    for page in built:
        parser = External()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found == [], page.name
    patching = (tmp_path / "api/patching.html").read_text(encoding="utf-8")
    assert 'id="interp.patching.sweep.sweep"' in patching
    assert ":func:" not in patching
    styles = "".join(path.read_text() for path in tmp_path.rglob("*.css"))
    assert "url(http" not in styles


TEXTS = [ROOT / "README.md", *PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_python_on_a_page_parses_and_names_what_there_is(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), block
            if isinstance(node, ast.Attribute) and dotted(node).startswith("interp."):
                operator.attrgetter(dotted(node).removeprefix("interp."))(interp)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_commands_on_a_page_are_commands_with_these_options(page: Path) -> None:
    known = {
        part.partition("\n")[0]: set(re.findall(r"--[\w-]+", part))
        for part in command_reference().split("### ")
    }
    typed = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    typed += re.findall(r"(?:`|<code>)(interp [^`<]+)", page.read_text())
    for line in typed:
        words = line.removeprefix(".venv/bin/").partition("#")[0].split()
        if words[:1] != ["interp"] or len(words) < 2 or words[1].startswith("-"):
            continue
        own = max((k for k in known if words[: len(k.split())] == k.split()), key=len, default=None)
        group = any(name.startswith(f"{' '.join(words[:2])} ") for name in known)
        assert own or group, line
        options = {word for word in words if word.startswith("--")} - {"--help"}
        assert options <= known.get(own or "", set()), line
