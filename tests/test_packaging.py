"""What surrounds the code agrees with it: one version, one lint, typed packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import interp

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_written_in_one_place_and_has_an_entry_in_the_changelog() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    source = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{interp.__version__}"' in source.read_text()
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert interp.__version__ in headings
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_every_package_of_the_wheel_is_marked_as_typed() -> None:
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").is_file(), package


def test_the_commit_hooks_run_the_tools_of_make_lint() -> None:
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    tools = set(re.findall(r"\$\(BIN\)/(ruff check|ruff format|mypy)", lint))
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"  # nothing is downloaded
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert {e.removeprefix(".venv/bin/").partition(" --")[0] for e in entries} == tools


def test_the_workflow_runs_what_the_repository_runs() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    assert job["steps"][-1]["run"] == ".ci/run"
    default = re.search(r"^TORCH_SPEC \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert default is not None
    assert job["env"]["TORCH_SPEC"].split()[0] == default[1]


def test_the_documents_link_to_files_that_exist() -> None:
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "docs/glossary.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_tests_are_found_by_the_path_of_what_they_test() -> None:
    rooms = [path for path in (ROOT / "interp").iterdir() if (path / "__init__.py").is_file()]
    assert {"models", "fetch", "viz"} <= {room.name for room in rooms}
    for room in rooms:
        modules = [path.stem for path in room.glob("*.py") if path.stem != "__init__"]
        for test in (ROOT / "tests" / room.name).glob("test_*.py"):
            about = test.stem.removeprefix("test_")
            named = [m for m in [room.name, *modules] if f"{about}_".startswith(f"{m}_")]
            assert named, f"{test.relative_to(ROOT)}: no module of interp/{room.name} has that name"
