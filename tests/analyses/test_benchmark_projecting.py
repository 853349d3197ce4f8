"""The projection benchmark: its lines, and prompts counted as the run has them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analyses.benchmarks import projecting
from analyses.benchmarks.projecting import Measured, measure, prompts_per_item

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests


def test_one_run_measures_its_peak_and_counts_its_prompts(
    tiny_folder: Callable[..., Path],
) -> None:
    measured = measure(str(tiny_folder("llama")), "bundled", 1, 2)
    assert measured.prompts == 2 * prompts_per_item(1) == 2 * 5
    assert 50 < measured.peak_mib <= measured.whole_mib < 50_000
    assert measured.seconds > 0


def test_both_sizes_run_in_processes_of_their_own_and_give_a_ratio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def child(command: list[str], **options: object) -> object:
        n_items = int(command[command.index("--alone") + 1])
        asked.append(n_items)
        line = json.dumps(
            {
                "prompts": 15 * n_items,
                "peak_mib": 1000.0 + n_items,
                "whole_mib": 2e3,
                "seconds": float(n_items),
            }
        )
        return type("Done", (), {"stdout": f"a warning\n{line}\n"})()

    monkeypatch.setattr(projecting.subprocess, "run", child)
    monkeypatch.setattr(sys, "argv", ["projecting"])
    projecting.main()
    assert asked == [5, 69]  # the fewest items that have 64 and 1,024 prompts
    out = capsys.readouterr().out
    assert "1035 prompts: peak 1069 MiB" in out
    assert "ratio of peaks: 1.064" in out
    assert "prompts per second: 15.0" in out


def test_alone_prints_one_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(projecting, "measure", lambda *a: Measured(10, 5.0, 6.0, 1.0))
    monkeypatch.setattr(sys, "argv", ["projecting", "--alone", "2"])
    projecting.main()
    assert json.loads(capsys.readouterr().out) == {
        "prompts": 10, "peak_mib": 5.0, "whole_mib": 6.0, "seconds": 1.0,
    }  # fmt: skip
