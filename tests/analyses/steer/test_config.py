"""Options of a steering run as they are typed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from analyses import runner
from analyses.cli import build_app
from analyses.commands import from_config
from analyses.config import read_config
from analyses.steer.config import SteerConfig
from interp.errors import InterpError


@pytest.mark.parametrize("text", ["one,two", "0", "", "nan", "inf,1"])
def test_strengths_that_are_no_steps_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InterpError, match="--strengths") as caught:
        read_config(SteerConfig, strengths=text)
    assert "\n" not in str(caught.value)


def test_the_largest_strength_is_read_with_both_signs() -> None:
    assert read_config(SteerConfig, strengths="0,-1,3").strengths == (-3.0, -1.0, 3.0)


def test_the_command_passes_every_option_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def finished(study: Any, config: Any, **options: Any) -> Any:
        asked.append((study.name, config))
        told = SimpleNamespace(printed=None, copies={}, headline="No effect.")
        return SimpleNamespace(story=told, report="r.html")

    monkeypatch.setattr(from_config, "ask", lambda *_, **__: None)
    monkeypatch.setattr(runner, "run_and_tell", finished)
    words = ["direction", "steer", "--strengths", "-2,-1", "--items", "bundled", "--limit", "3"]
    words += ["--direction", "v.safetensors", "--out", str(tmp_path), "--compatibility-mode"]
    words += ["--seed", "5", "--condition-file", "my.yaml", "--placebos", "2", "--png"]
    result = CliRunner().invoke(build_app(), words)
    assert result.exit_code == 0, result.output
    assert result.output.endswith("No effect.\nreport: r.html\n")
    ((name, found),) = asked
    assert name == "direction steer"
    assert found.strengths == (-2.0, -1.0, 2.0)
    assert (found.items, found.limit, found.seed, found.out) == ("bundled", 3, 5, tmp_path)
    assert (found.direction, found.compatibility_mode) == (Path("v.safetensors"), True)
    assert (found.condition_file, found.placebos, found.png) == (Path("my.yaml"), 2, True)
