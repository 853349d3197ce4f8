"""The worked example of CONTRIBUTING.md is a study: command, configuration, run folder, report."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml

from analyses import cli, registry
from analyses.registry import Entry
from analyses.runner import load, run
from interp.models import load_model
from interp.runs import read_manifest

Folder = Callable[..., Path]
PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The first python block as a module of the house, and the second one's registry line."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    code, line = blocks[0], blocks[1]
    (tmp_path / "sureness.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import sureness

    monkeypatch.setitem(sys.modules, "analyses.sureness", sureness)
    entries = eval(f"{{{line}}}", {"Entry": Entry})  # the line as it is printed
    monkeypatch.setattr(registry, "STUDIES", {**registry.STUDIES, **entries})
    return sureness


def test_the_example_is_short() -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0]
    body = [line for line in code.splitlines() if line and not line.startswith(("from", "import"))]
    assert len(body) <= 62


@pytest.mark.slow
def test_the_example_runs_as_a_command_and_is_reopened(
    example: ModuleType,
    tiny_folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, folder = tmp_path / "run", tiny_folder("llama")
    options = ["--items", "bundled", "--limit", "3", "--texts", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["interp", "sureness", "--model", str(folder), *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (0, None)
    headline, report = capsys.readouterr().out.splitlines()
    assert headline.startswith("The instruction")
    assert report == f"report: {out / 'report.html'}"
    assert "The instruction" in (out / "report.html").read_text()
    assert read_manifest(out)["study"] == "sureness"
    done = load(out)
    assert len(done.entropy) == 3 * 4
    config = example.SurenessConfig(
        **yaml.safe_load(f"{{limit: 3, texts: 2, items: bundled, out: {tmp_path / 'b'}}}")
    )
    again = run(example.Sureness(), config, model=load_model(str(folder)), progress=False)
    pd.testing.assert_frame_equal(again.effect, done.effect)
