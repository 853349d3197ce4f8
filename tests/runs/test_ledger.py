from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from interp.errors import InterpError
from interp.runs import Ledger, Run, Tally, open_run, read_table

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def a_run(path: Path) -> Iterator[Run]:
    with open_run(path, config={"limit": 4}, threads=1) as run:
        yield run


def rows(unit: int) -> pd.DataFrame:
    return pd.DataFrame({"unit": [unit] * 3, "value": [unit + 0.1 * i for i in range(3)]})


class Counting:
    """A compute function that remembers its calls and can fail at one unit."""

    def __init__(self, fails_at: int | None = None, error: type[BaseException] = OSError) -> None:
        self.calls: list[int] = []
        self.fails_at, self.error = fails_at, error

    def __call__(self, unit: int) -> pd.DataFrame:
        if unit == self.fails_at:
            raise self.error("stop")
        self.calls.append(unit)
        return rows(unit)


def do(table: Ledger, units: list[int], compute: Callable[[int], pd.DataFrame] = rows) -> Tally:
    return table.run(units, key=lambda u: {"unit": u}, compute=compute, progress=False)


def test_the_merged_table_holds_the_rows_of_every_unit_in_plan_order(tmp_path: Path) -> None:
    with a_run(tmp_path / "run") as run:
        table = run.ledger("scores")
        assert do(table, [2, 0, 1]) == Tally(total=3, resumed=0, computed=3)
        frame = table.merge()
    expected = pd.concat([rows(2), rows(0), rows(1)], ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected)
    pd.testing.assert_frame_equal(read_table(tmp_path / "run", "scores"), expected)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_finished_units_outlive_an_interruption_and_only_the_rest_is_done(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with a_run(tmp_path / "whole") as run:
        table = run.ledger("scores")
        do(table, [0, 1, 2, 3])
        table.merge()
    first = Counting(fails_at=2, error=error)
    with pytest.raises(error), a_run(tmp_path / "broken") as run:
        do(run.ledger("scores"), [0, 1, 2, 3], first)
    second = Counting()
    with a_run(tmp_path / "broken") as run:
        table = run.ledger("scores")
        assert do(table, [0, 1, 2, 3], second) == Tally(total=4, resumed=2, computed=2)
        table.merge()
    assert (first.calls, second.calls) == ([0, 1], [2, 3])
    name = "scores.parquet"
    assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_damaged_parts_are_redone_and_the_bytes_come_out_equal(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        table = run.ledger("scores")
        do(table, [0, 1, 2, 3])
        table.merge()
    whole = (tmp_path / "scores.parquet").read_bytes()
    truncated, emptied, exchanged, kept = sorted((tmp_path / "parts" / "scores").iterdir())
    truncated.write_bytes(truncated.read_bytes()[:-20])
    emptied.write_bytes(b"")
    exchanged.write_bytes(kept.read_bytes())
    compute = Counting()
    with a_run(tmp_path) as run:
        table = run.ledger("scores")
        assert do(table, [0, 1, 2, 3], compute) == Tally(total=4, resumed=1, computed=3)
        table.merge()
    assert (tmp_path / "scores.parquet").read_bytes() == whole


def test_the_key_is_content_and_not_position(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        do(run.ledger("scores"), [0, 1])
    compute = Counting()
    with a_run(tmp_path) as run:
        assert do(run.ledger("scores"), [7, 1, 0], compute).computed == 1
    assert compute.calls == [7]


def test_another_version_or_another_table_shares_no_part(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        do(run.ledger("scores", version=1), [0])
        assert do(run.ledger("lens", version=1), [0]).computed == 1
    with a_run(tmp_path) as run:
        assert do(run.ledger("scores", version=2), [0]).computed == 1


def test_plans_of_several_calls_follow_each_other_in_the_merge(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        table = run.ledger("scores")
        do(table, [3])
        do(table, [1, 2])
        assert table.merge()["unit"].unique().tolist() == [3, 1, 2]


def test_two_units_of_one_key_are_refused_within_and_across_calls(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        table = run.ledger("scores")
        with pytest.raises(InterpError, match=r'two units have the key \{"unit":5\}'):
            do(table, [5, 5])
        do(table, [5])
        with pytest.raises(InterpError, match="two units have the key"):
            do(table, [5])


def test_sorting_is_by_the_named_columns_with_ties_in_plan_order(tmp_path: Path) -> None:
    def compute(unit: int) -> pd.DataFrame:
        return pd.DataFrame({"unit": [unit] * 2, "layer": [1, 0]})

    with a_run(tmp_path) as run:
        table = run.ledger("scores")
        do(table, [2, 0, 1], compute)
        by_layer = table.merge(sort_by="layer")
        assert by_layer["unit"].tolist() == [2, 0, 1, 2, 0, 1]
        by_both = table.merge(sort_by=["unit", "layer"])
        assert by_both["layer"].tolist() == [0, 1] * 3
        assert by_both.index.tolist() == list(range(6))
        with pytest.raises(InterpError, match=r"cannot sort by \['depth'\]"):
            table.merge(sort_by="depth")


def test_units_without_rows_are_done_once_and_add_nothing(tmp_path: Path) -> None:
    def compute(unit: int) -> pd.DataFrame:
        return pd.DataFrame() if unit == 0 else rows(unit)

    for computed in (2, 0):
        with a_run(tmp_path) as run:
            table = run.ledger("scores")
            assert do(table, [0, 1], compute).computed == computed
            assert len(table.merge(sort_by="unit")) == 3


def test_a_table_of_nothing_but_empty_units_is_empty(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        table = run.ledger("scores")
        do(table, [0], lambda _: pd.DataFrame())
        assert table.merge(sort_by="unit").empty
    assert read_table(tmp_path, "scores").empty


def test_columns_that_change_between_units_are_refused_at_once(tmp_path: Path) -> None:
    def compute(unit: int) -> pd.DataFrame:
        return rows(unit).rename(columns={"value": "margin"}) if unit == 1 else rows(unit)

    with a_run(tmp_path) as run, pytest.raises(InterpError, match="raise the ledger's version"):
        do(run.ledger("scores"), [0, 1], compute)


def test_merging_before_running_or_after_a_part_has_vanished_is_refused(tmp_path: Path) -> None:
    with a_run(tmp_path) as run:
        table = run.ledger("scores")
        with pytest.raises(InterpError, match="no unit has been run"):
            table.merge()
        do(table, [0])
        next((tmp_path / "parts" / "scores").iterdir()).unlink()
        with pytest.raises(InterpError, match=r'unit \{"unit":0\} is missing or damaged'):
            table.merge()


def test_progress_goes_to_stderr_counts_resumed_units_and_can_be_silenced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with a_run(tmp_path) as run:
        do(run.ledger("scores"), [0, 1, 2])
    assert capsys.readouterr() == ("", "")
    with a_run(tmp_path) as run:
        run.ledger("scores").run([0, 1, 2, 3], key=lambda u: {"unit": u}, compute=rows)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3/4" in shown.err
    assert "4/4" in shown.err


WORK = """
import os, signal, sys, time
import pandas as pd
from interp.runs import open_run

def work(path, pause):
    def compute(unit):
        time.sleep(pause)
        return pd.DataFrame({"unit": [unit] * 2, "value": [unit / 7, unit / 3]})
    with open_run(path, config={"units": UNITS}, threads=1) as run:
        table = run.ledger("scores")
        table.run(range(UNITS), key=lambda u: {"unit": u}, compute=compute, progress=False)
        table.merge(sort_by=["value"])
        run.save_text("report.html", "<p>done</p>")
"""

KILLED_AT_EVERY_STEP = (
    WORK.replace("UNITS", "2")
    + '''
import json, pathlib

def die_at(step, path):
    """Run in a forked process that kills itself before its step-th call that changes the disk."""
    child = os.fork()
    if child == 0:
        left = [step]
        def counted(function):
            def call(*arguments, **options):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return function(*arguments, **options)
            return call
        os.replace, os.fsync, os.open = counted(os.replace), counted(os.fsync), counted(os.open)
        os.mkdir, os.unlink = counted(os.mkdir), counted(os.unlink)
        work(path, 0)
        os._exit(0)
    return os.waitpid(child, 0)[1]

base, step, outcomes = pathlib.Path(sys.argv[1]), 0, []
while True:
    path = base / str(step)
    died = die_at(step, path)
    resumed = die_at(-1, path) if died else 0
    left = [str(p) for p in path.rglob(".unfinished-*")]
    outcomes.append([died, resumed, (path / "scores.parquet").read_bytes().hex(), left])
    if not died:
        break
    step += 1
print(json.dumps(outcomes))
'''
)


@pytest.mark.slow
def test_killed_before_any_of_its_steps_a_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_STEP, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    outcomes = json.loads(done.stdout)
    *killed, (status, _, whole, _) = outcomes
    assert status == 0, "the last round runs to its end undisturbed"
    assert len(killed) > 20
    for died, resumed, table, left in killed:
        assert (died, resumed, table, left) == (signal.SIGKILL, 0, whole, [])


@pytest.mark.slow
def test_killed_at_random_moments_a_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    script = WORK.replace("UNITS", "60") + "work(sys.argv[1], float(sys.argv[2]))\n"

    def start(path: Path, pause: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(pause)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def parts() -> int:
        return len(list((tmp_path / "broken" / "parts" / "scores").glob("*.parquet")))

    assert start(tmp_path / "whole", 0).wait() == 0
    moments, before = random.Random(0), 0
    for _ in range(3):
        worker = start(tmp_path / "broken", 0.01)
        while parts() < before + 3 and worker.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        worker.kill()
        assert worker.wait() == -signal.SIGKILL, "killed in the middle of its work"
        assert before < parts() < 60, "work done before the kill is kept"
        before = parts()
    assert start(tmp_path / "broken", 0).wait() == 0
    for name in ("scores.parquet", "report.html"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
