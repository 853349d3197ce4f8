"""What is asked wrongly is answered at once: no torch, transformers or TransformerLens is imported."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyses.commands.completion import words_of
from analyses.registry import STUDIES, load_config_class

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "transformer_lens")
LIMIT_S = 2.0
"""Of processor time, from typing to the refusal."""

_DRIVER = """
import contextlib, io, json, sys
from analyses import cli
found = []
for line in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["interp", *line]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which to import any of the heavy packages is an error."""
    folder = tmp_path_factory.mktemp("no-torch")
    for name in HEAVY:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise AssertionError('{name} was imported')\n")
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "TERM": "dumb"}


def run_lines(lines: list[list[str]], environment: dict[str, str]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of every command line, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        input=json.dumps(lines),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


_NAMED = {
    "device", "template_date", "positions", "layers", "scorer", "items", "condition", "conditions",
    "against",
}  # fmt: skip
"""Options that are a name, whatever their type says."""


def wrong_values(name: str, file: Path) -> Iterator[tuple[str, str]]:
    """Every option of a study that can be wrong without a model, with a wrong value."""
    for field, info in load_config_class(name).model_fields.items():
        option = f"--{field.replace('_', '-')}"
        kinds = str(info.annotation)
        if field == "out":
            yield option, str(file)
        elif field == "model":
            wrong = ("nope", "/nowhere/at-all", "no.gguf", str(file))
            yield from ((option, value) for value in wrong)
        elif field in _NAMED or words_of(info.annotation):
            yield option, "nope"
        elif field == "texts" and "str" in kinds:
            yield option, "nope" if "tuple" not in kinds else "nope,nope:too"
        elif "Path" in kinds:
            yield option, "nowhere.file"
        elif "int" in kinds or "float" in kinds:
            yield option, "many"


def lines_of(name: str, file: Path) -> Iterator[tuple[list[str], str]]:
    fields = load_config_class(name).model_fields
    bundled = ["--items", "bundled"] if "items" in fields else []
    for option, value in wrong_values(name, file):
        own = [] if option == "--items" else bundled
        if option in ("--scorer", "--samples"):
            own = ["--items", "bundled,bundled:completions", "--conditions", "clean,nontoxic"]
        yield [*name.split(), *own, option, value], value


@pytest.mark.parametrize("name", STUDIES)
def test_every_wrong_option_of_a_study_is_refused_without_torch(
    name: str, tmp_path: Path, without_torch: dict[str, str]
) -> None:
    file = tmp_path / "a-file"
    file.write_text("")
    lines = list(lines_of(name, file))
    options = {line[-2] for line, _ in lines}
    assert {"--model", "--device", "--dtype", "--out"} < options
    for (line, value), (code, out, err) in zip(
        lines, run_lines([line for line, _ in lines], without_torch), strict=True
    ):
        assert code == 2, (line, out, err)
        said = err.strip().splitlines()
        assert "was imported" not in err, (line, err)
        assert value.split(",")[0] in err, (line, err)
        assert len(said) == 1, (line, err)
        assert said[0].startswith("interp: "), (line, err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-file"]


@pytest.mark.parametrize(
    "line",
    [
        "models fetch nope", "models show nope", "models show ./nowhere",
        "models show smollm2-135m-instruct --dtype nope",
        "models show smollm2-135m-instruct --device nope",
        "data fetch nope", "data show nope", "data show bundled:nope", "data show nope.jsonl",
        "conditions show nope", "conditions --file nope.yaml", "conditions show instructed --items nope",
        "conditions show instructed --model nope", "conditions show instructed --turn nope",
        "conditions show instructed --placement nope", "conditions show instructed --device nope",
        "conditions show instructed --feedback nope", "conditions show instructed --dtype nope",
        "direction show nope", "nope",
    ],
)  # fmt: skip
def test_every_other_command_refuses_without_torch(
    line: str, without_torch: dict[str, str]
) -> None:
    ((code, _, err),) = run_lines([line.split()], without_torch)
    assert code == 2, err
    assert "was imported" not in err
    assert "nope" in err or "nowhere" in err


def test_a_folder_of_another_run_is_refused_without_torch(
    tmp_path: Path, without_torch: dict[str, str]
) -> None:
    from analyses.config import RULES
    from interp.runs.manifest import FORMAT, IDENTITY

    config = load_config_class("lens")(limit=3).model_dump(mode="json")
    known: dict[str, Any] = {"study": "lens", "config": config, "rules": RULES}
    identity = {name: known.get(name, {}) for name in IDENTITY}
    manifest = {"format": FORMAT, "status": "complete", "sessions": [], "files": {}, **identity}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    lines = [["lens", "--limit", "4", "--out", str(tmp_path)], ["lens", "--out", str(foreign)],
             ["patch", "--limit", "3", "--out", str(tmp_path)]]  # fmt: skip
    limit, other, study = run_lines(lines, without_torch)
    assert limit[0] == other[0] == study[0] == 2
    assert "config.limit was 3, is now 4" in limit[2]
    assert "notes.txt" in other[2]
    assert 'study was "lens", is now "patch"' in study[2]


@pytest.mark.parametrize(
    "line",
    ["patch --items nope --site resid_pre", "patch --items bundled --site xyz", "demo --model nope",
     "patch --items bundled --condition nope", "project --items bundled --direction nowhere"],
)  # fmt: skip
def test_a_refusal_takes_less_than_two_seconds_of_processor_time(line: str) -> None:
    def spent() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "analyses.cli", *line.split()],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 2, done.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # of a busy machine's processors, shared caches and all, the best of three
    assert min(spent() for _ in range(3)) < LIMIT_S
