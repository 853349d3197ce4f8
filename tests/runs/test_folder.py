from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.errors import InterpError
from interp.runs import Run, open_run, read_manifest, read_table

ROOT = Path(__file__).parents[2]


def started(path: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "config": {"limit": 48, "out": str(path)},
        "model": {"name": "tiny"},
        "data": {"bbq": "ab"},
        "command": "interp demo",
        "threads": 2,
    }
    return open_run(path, **{**given, **changes})


def test_importing_the_ledger_loads_neither_torch_nor_transformer_lens() -> None:
    script = (
        "import sys, interp.runs; print([m for m in ('torch', 'transformer_lens') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_a_run_that_ends_well_is_complete_and_says_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "demo"
    with started(path, seed=3) as run:
        assert read_manifest(path)["status"] == "running"
        run.save_text("report.html", "<p>é</p>")
    manifest = read_manifest(path)
    assert manifest["status"] == "complete"
    assert manifest["config"] == {"limit": 48, "out": str(path)}
    assert manifest["model"] == {"name": "tiny"}
    assert manifest["data"] == {"bbq": "ab"}
    assert (manifest["seed"], manifest["threads"]) == (3, 2)
    assert (manifest["command"], manifest["folder"]) == ("interp demo", str(path))
    assert manifest["created_by"].startswith("interp-workbench ")
    assert manifest["packages"]["torch"]
    assert manifest["sessions"][0]["pid"] == os.getpid()
    assert manifest["files"] == {"report.html": hashlib.sha256("<p>é</p>".encode()).hexdigest()}
    assert sorted(entry.name for entry in path.iterdir()) == [
        ".lock", "manifest.json", "report.html",
    ]  # fmt: skip


def test_a_complete_run_can_be_opened_again_from_another_place_and_command(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "a") as run:
        run.save_text("report.html", "x")
    (tmp_path / "a").rename(tmp_path / "b")
    with started(tmp_path / "b", command="interp demo --again"):
        pass
    manifest = read_manifest(tmp_path / "b")
    assert [session["status"] for session in manifest["sessions"]] == ["complete", "complete"]
    assert list(manifest["files"]) == ["report.html"]
    assert manifest["config"]["out"] == str(tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config": {"limit": 60}}, "config.limit was 48, is now 60"),
        ({"model": {"name": "small"}}, 'model.name was "tiny", is now "small"'),
        ({"data": {"bbq": "cd"}}, 'data.bbq was "ab", is now "cd"'),
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"threads": 4}, "threads was 2, is now 4 (OMP_NUM_THREADS sets them)"),
        (
            {"seed": 1, "threads": 4},
            "seed was 0, is now 1; threads was 2, is now 4 (OMP_NUM_THREADS sets them)",
        ),
    ],
)
def test_a_changed_identity_is_refused_by_name_and_changes_nothing(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with started(tmp_path):
        pass
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(InterpError) as caught, started(tmp_path, **changes):
        pass
    assert str(caught.value) == (
        f"{tmp_path}: {expected}: choose another --out or delete the folder"
    )
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_ignored_places_are_recorded_but_may_change(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        with started(tmp_path, model={"device": device}, ignore=("config.out", "model.device")):
            pass
    assert read_manifest(tmp_path)["model"] == {"device": "cuda"}


def test_the_default_thread_count_is_torchs(tmp_path: Path) -> None:
    import torch

    with started(tmp_path, threads=None):
        pass
    assert read_manifest(tmp_path)["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RuntimeError("first\nsecond"), "failed", "RuntimeError: first"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_an_exception_passes_through_and_is_noted(
    tmp_path: Path, error: BaseException, status: str, line: str
) -> None:
    with pytest.raises(type(error)), started(tmp_path):
        raise error
    manifest = read_manifest(tmp_path)
    assert manifest["status"] == status
    assert manifest["sessions"][-1]["error"] == line


def test_a_config_with_nan_is_refused_before_the_folder_exists(tmp_path: Path) -> None:
    config = {"alpha": float("nan")}
    with (
        pytest.raises(InterpError, match=r"config\.alpha is nan"),
        started(tmp_path / "a", config=config),
    ):
        pass
    assert not (tmp_path / "a").exists()


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with (
        pytest.raises(InterpError, match=r"holds 'thesis\.txt' but no manifest"),
        started(tmp_path),
    ):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_whose_writer_died_before_its_manifest_is_taken_up(tmp_path: Path) -> None:
    for name in (".lock", ".writer.json", ".unfinished-00ff-manifest.json"):
        (tmp_path / name).write_text("{")
    with started(tmp_path):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".lock", "manifest.json"]


def test_a_path_that_is_a_file_or_lies_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(InterpError, match="is a file, not a folder"), started(tmp_path / "a"):
        pass
    with pytest.raises(InterpError, match="a: is a file"), started(tmp_path / "a" / "b"):
        pass


def test_a_folder_one_may_not_write_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", denied)
    with (
        pytest.raises(InterpError, match=r"cannot be written \(Permission denied\)"),
        started(tmp_path),
    ):
        pass


def test_a_full_disk_leaves_a_resumable_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def report_twice() -> None:
        with started(tmp_path) as run:
            run.save_text("report.html", "old")
            monkeypatch.setattr(os, "replace", full)
            run.save_text("report.html", "new")

    with pytest.raises(InterpError, match="No space left on device"):
        report_twice()
    monkeypatch.undo()
    assert (tmp_path / "report.html").read_text() == "old"
    with started(tmp_path):
        pass
    sessions = read_manifest(tmp_path)["sessions"]
    assert [session["status"] for session in sessions] == ["killed", "complete"]


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with (
        started(tmp_path),
        pytest.raises(InterpError, match=f"another run \\(process {os.getpid()} on "),
        started(tmp_path),
    ):
        pass


def test_a_second_writer_is_told_of_the_first_and_may_follow_when_that_is_killed(
    tmp_path: Path,
) -> None:
    script = (
        "import sys\n"
        "from interp.runs import open_run\n"
        "with open_run(sys.argv[1], config={}, threads=1):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(InterpError) as caught, open_run(tmp_path, config={}, threads=1):
            pass
        first.send_signal(signal.SIGKILL)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}: is being written by another run (process {first.pid} on ")
    assert "\n" not in line
    with open_run(tmp_path, config={}, threads=1):
        pass
    sessions = read_manifest(tmp_path)["sessions"]
    assert [session["status"] for session in sessions] == ["killed", "complete"]


def test_nothing_can_be_written_once_the_run_is_closed(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        table = run.ledger("scores")
    for write in (
        lambda: run.save_text("report.html", "x"),
        lambda: run.ledger("lens"),
        lambda: table.run([1], key=lambda u: u, compute=lambda u: pd.DataFrame()),
    ):
        with pytest.raises(InterpError, match="has been closed"):
            write()


@pytest.mark.parametrize("name", ["", "../x", "/x", "a//b", "a\\b", ".hidden", "a b", "x/.."])
def test_names_that_could_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with started(tmp_path) as run, pytest.raises(InterpError, match="cannot name a file"):
        run.save_text(name, "x")


@pytest.mark.parametrize("name", ["manifest.json", "parts/scores"])
def test_the_runs_own_names_are_refused(tmp_path: Path, name: str) -> None:
    with started(tmp_path) as run, pytest.raises(InterpError, match="is kept for the run"):
        run.save_text(name, "x")


def test_a_table_has_one_ledger_and_one_writer(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        run.ledger("scores")
        with pytest.raises(InterpError, match="'scores' is open already"):
            run.ledger("scores")
        with pytest.raises(InterpError, match="must not contain '/'"):
            run.ledger("a/b")
        with pytest.raises(InterpError, match="'scores' belongs to a ledger"):
            run.save_table("scores", pd.DataFrame({"a": [1]}))


def test_a_small_table_is_saved_without_a_ledger(tmp_path: Path) -> None:
    frame = pd.DataFrame({"group": ["a", "b"], "gap": [0.25, -0.5]})
    with started(tmp_path) as run:
        run.save_table("summary", frame)
    pd.testing.assert_frame_equal(read_table(tmp_path, "summary"), frame)
    content = (tmp_path / "summary.parquet").read_bytes()
    assert read_manifest(tmp_path)["files"] == {
        "summary.parquet": hashlib.sha256(content).hexdigest()
    }


def test_tensors_of_numpy_and_torch_read_back_and_have_fixed_bytes(tmp_path: Path) -> None:
    import torch
    from safetensors import safe_open

    square = np.arange(6, dtype=np.float32).reshape(2, 3)
    shared = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    written = []
    for name in ("a", "b"):
        with started(tmp_path / name) as run:
            run.save_tensors("numpy", {"t": square.T, "zero": np.array(1.5)})
            tensors = {"whole": shared, "row": shared[0], "turned": shared.T}
            run.save_tensors("torch", tensors, facts={"site": "resid_pre", "layer": 3})
        written.append(
            [(tmp_path / name / f"{kind}.safetensors").read_bytes() for kind in ("numpy", "torch")]
        )
    assert written[0] == written[1]
    with safe_open(tmp_path / "a" / "numpy.safetensors", "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("t"), square.T)
        assert file.get_tensor("zero").shape == ()
    with safe_open(tmp_path / "a" / "torch.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("turned"), shared.T)
        assert file.metadata() == {"facts": '{"layer":3,"site":"resid_pre"}'}


def test_figures_share_one_script_work_offline_and_have_fixed_bytes(tmp_path: Path) -> None:
    import plotly.graph_objects as go

    pages = []
    for name in ("a", "b"):
        with started(tmp_path / name) as run:
            run.save_figure("margins", go.Figure(go.Bar(x=["clean"], y=[0.5])))
            run.save_figure("depth", go.Figure(go.Scatter(y=[0, 1])))
        pages.append((tmp_path / name / "figures" / "margins.html").read_bytes())
    assert pages[0] == pages[1]
    assert len(pages[0]) < 20_000
    assert b'src="plotly.min.js"' in pages[0]
    assert b'src="http' not in pages[0]
    assert sorted(entry.name for entry in (tmp_path / "a" / "figures").iterdir()) == [
        "depth.html", "margins.html", "plotly.min.js",
    ]  # fmt: skip


def test_another_writers_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def write_half(run: Run) -> None:
        with run.file("direction.safetensors") as path:
            path.write_bytes(b"ha")
            raise RuntimeError("half way")

    with started(tmp_path) as run:
        with run.file("direction.safetensors") as path:
            path.write_bytes(b"whole")
        with pytest.raises(RuntimeError, match="half way"):
            write_half(run)
    assert (tmp_path / "direction.safetensors").read_bytes() == b"whole"
