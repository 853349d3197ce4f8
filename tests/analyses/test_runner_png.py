"""``--png`` where nothing can draw: told at once, not after the computing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from analyses.cli import build_app
from analyses.config import StudyConfig
from analyses.lens.config import LensConfig
from analyses.lens.study import Lens
from analyses.runner import run
from interp.errors import InterpError


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise InterpError("no browser: install one")

    monkeypatch.setattr("interp.viz.export.require_browser", missing)


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(self: Lens, config: StudyConfig, *, progress: bool) -> None:
        raise AssertionError("the study was asked")

    monkeypatch.setattr(Lens, "ask", asked)


def test_png_without_a_browser_is_refused_before_the_study_is_asked(
    tmp_path: Path, no_browser: None, nothing_is_computed: None
) -> None:
    with pytest.raises(InterpError, match="no browser"):
        run(Lens(), LensConfig(items="bundled", png=True, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_without_png_no_browser_is_looked_for(
    tmp_path: Path, no_browser: None, nothing_is_computed: None
) -> None:
    with pytest.raises(AssertionError, match="the study was asked"):
        run(Lens(), LensConfig(items="bundled", out=tmp_path / "run"))


def test_the_command_ends_in_one_line(
    tmp_path: Path, no_browser: None, nothing_is_computed: None
) -> None:
    words = ["lens", "--items", "bundled", "--png", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(build_app(), words)
    assert done.exit_code != 0
    assert "no browser" in str(done.exception)
