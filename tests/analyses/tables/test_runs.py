"""Rows are made by a study's run and kept without the machine they were made on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analyses.runner import load
from analyses.tables import runs
from analyses.tables.__main__ import main
from analyses.tables.runs import RUNS, Kept, RowsRun, make_rows

SMALL = {"items": "bundled", "limit": 3, "texts": 2, "rounds": 0}


def test_every_run_is_one_that_its_study_takes() -> None:
    for name, one in RUNS.items():
        assert one.kept, name
        assert "out" not in one.options
        study = runs.load_study(one.study)
        assert runs.read_config(study.Config, **one.options).model_fields_set == set(one.options)


@pytest.mark.slow
def test_kept_rows_are_read_as_the_run_was(
    load_tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = RowsRun("behave", SMALL, ("scores.parquet",))
    monkeypatch.setattr(runs, "RUNS", {"small": small})
    out, rows = tmp_path / "runs", tmp_path / "rows"
    make_rows("small", load_tiny("llama"), out=out, rows=rows, progress=False)
    kept = Kept("small", rows)
    assert sorted(p.name for p in kept.path.iterdir()) == ["manifest.json", "scores.parquet"]
    text = (kept.path / "manifest.json").read_text()
    assert socket.gethostname() not in text
    assert str(tmp_path) not in text.replace(kept.card.source, "")
    whole = load(out / "small")
    pd.testing.assert_frame_equal(kept.scores().frame, whole.scores.frame)
    pd.testing.assert_frame_equal(kept.result().tables["effects"], whole.tables["effects"])
    before = (kept.path / "scores.parquet").read_bytes()
    make_rows("small", load_tiny("llama"), out=out, rows=rows, progress=False)
    assert (kept.path / "scores.parquet").read_bytes() == before


@pytest.mark.slow
def test_kept_rows_do_not_say_where_a_data_set_lay(
    load_tiny: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cm_test.csv"
    rows = [f"{k % 2},one{k} two{k} three{k}.,True" for k in range(40)]
    file.write_text("\n".join(["label,input,is_short", *rows]) + "\n")
    options = {"texts": "bundled:statements,ethics", "limit": None, "folds": 2}
    small = RowsRun("direction transfer", options, ("transfer.parquet",))
    monkeypatch.setattr(runs, "RUNS", {"small": small})
    places = {"ethics": str(file)}
    out, into = tmp_path / "runs", tmp_path / "rows"
    model = load_tiny("llama")
    make_rows("small", model, out=out, rows=into, data=places, progress=False)
    text = (into / "small" / "manifest.json").read_text()
    assert str(tmp_path) not in text.replace(Kept("small", into).card.source, "")
    assert Kept("small", into).manifest["config"]["texts"] == ["bundled:statements", "ethics"]
    assert set(Kept("small", into).table("transfer")["tested_on"]) == {"statements", "ethics"}


def test_jobs_load_the_model_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def note(study: Any, config: Any, **options: Any) -> None:
        asked.update(options, config=config)

    monkeypatch.setattr(runs, "run", note)
    monkeypatch.setattr(runs, "keep", lambda *_: None)
    make_rows("rq1-smollm2-135m", None, out=tmp_path, rows=tmp_path, jobs=2)
    assert asked["model"] is None
    assert asked["config"].model == RUNS["rq1-smollm2-135m"].model
    assert asked["executor"] is not runs.in_process
    assert main(["--rows", "demo", "--jobs", "2", "--model", f"{runs.DEFAULT_MODEL}=there"]) == 2


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "rq1"]) == 2
    assert "--rows 'rq1': no such run" in capsys.readouterr().err
