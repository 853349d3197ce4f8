"""``interp runs``: lists, shows, compares and tells again, in one line where it cannot."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from analyses.cli import build_app
from interp.errors import InterpError
from interp.runs import read_manifest
from tests.analyses.test_comparison import make_run, totals


def invoke(*arguments: str | Path) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(build_app(), ["runs", *map(str, arguments)], env={"TERM": "dumb"})
    return done.exit_code, done.output, done.exception


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_run(tmp_path / "one", totals(), limit=5)
    make_run(tmp_path / "two", totals(shift=1.0), model="large")
    return tmp_path


def test_list_has_a_line_and_a_headline_for_every_run(runs: Path) -> None:
    (runs / "foreign").mkdir()
    code, said, _ = invoke("list", runs)
    assert code == 0
    lines = said.splitlines()
    assert lines[0].split() == ["run", "study", "model", "items", "condition", "date", "status"]
    assert lines[1].startswith("not a run: ")
    assert lines[2].split()[:5] == ["one", "lens", "small", "bbq:Age", "instructed"]
    assert lines[2].endswith("complete")
    assert lines[3].strip().endswith("an effect.")
    assert len(lines) == 6


def test_show_has_what_was_asked_what_is_there_and_what_was_found(runs: Path) -> None:
    code, said, _ = invoke("show", runs / "one", "--limit", "2")
    assert code == 0
    for words in (
        "an effect.",
        "--limit",
        "not the default",
        "totals",
        "measured",
        "0.250 [",
        "4 rows",
    ):
        assert words in said, words
    _, _, error = invoke("show", runs / "one", "--table", "total")
    assert isinstance(error, InterpError)
    assert "did you mean 'totals'?" in str(error)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "html"])
def test_compare_prints_and_writes(suffix: str, runs: Path) -> None:
    out = runs / "written" / f"compared.{suffix}"
    code, said, error = invoke("compare", runs / "one", runs / "two", "--out", out)
    assert code == 0, error
    assert "1.250 [" in said
    if suffix == "html":
        page = out.read_text()
        assert "1.25 [" in page
        assert "large" in page
        return
    rows = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert list(rows["run"].unique()) == ["one", "two"]
    assert rows["estimate"].max() == pytest.approx(1.25)


def test_compare_refuses_before_it_compares(runs: Path) -> None:
    _, _, error = invoke("compare", runs / "one", runs / "two", "--out", runs / "x.xlsx")
    assert "ends in .csv, .parquet, .html" in str(error)
    make_run(runs / "other", totals(), metric="option_margin")
    _, _, error = invoke("compare", runs / "one", runs / "other")
    assert "cannot be compared: they differ in metric" in str(error)
    _, _, error = invoke("compare", runs / "one", runs / "nowhere")
    assert "is it a run?" in str(error)


def test_report_refuses_what_has_not_ended(runs: Path) -> None:
    manifest = runs / "one" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete"', '"failed"', 1))
    _, _, error = invoke("report", runs / "one")
    assert "has not ended (status failed)" in str(error)
    assert read_manifest(runs / "one")["status"] == "failed"
