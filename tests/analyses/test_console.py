"""Consoles that hold little, machines without a home, defects: one line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analyses import cli
from analyses.commands.options import print_table

ROOT = Path(__file__).parents[2]


def run_module(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "analyses.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "60", **variables},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
@pytest.mark.parametrize("command", ["models list", "data list", "patch --help"])
def test_tables_and_help_are_printed_in_any_encoding(encoding: str, command: str) -> None:
    done = run_module(*command.split(), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr.decode(encoding)
    assert len(done.stdout.decode(encoding)) > 200


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])  # in ASCII click writes UTF-8
def test_data_and_errors_of_any_script_are_printed(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    path.write_text(
        '{"question": "Qui → “où” ⏎ 名?", "gold": 0, "choices": [{"text": "é"}, {"text": "−"}]}',
        encoding="utf-8",
    )
    done = run_module("data", "show", str(path), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr.decode(encoding)
    assert "->" in done.stdout.decode(encoding)
    done = run_module("data", "show", "名→.jsonl", PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    assert b"interp: ?->.jsonl: no such file" in done.stderr


def test_a_text_in_a_table_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["[bold]name"], [["[/x] and [red]"]])
    assert "[/x] and [red]" in capsys.readouterr().out


def test_no_home_directory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("INTERP_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(sys, "argv", ["interp", "models", "list"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "set INTERP_CACHE to a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TypeError("x is\nno y"), "interp: a defect, please report it: TypeError: x is no y"),
        (PermissionError(13, "Permission denied", "/a/b"), "interp: Permission denied: /a/b"),
        (MemoryError(), "interp: not enough memory"),
        (RecursionError("too deep"), "interp: a defect, please report it: RecursionError"),
    ],
)
def test_what_nobody_foresaw_is_one_line_too(
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "build_app", lambda: broken)
    monkeypatch.delenv("INTERP_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("INTERP_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main()
