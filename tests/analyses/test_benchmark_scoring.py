"""The benchmark runs, and both of its ways give the same margins."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analyses.benchmarks import scoring
from interp.data import load_items


@pytest.mark.slow
def test_scoring_benchmark_prints_a_ratio_and_equal_margins(
    tiny_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = load_items("bundled", limit=2, seed=0)
    monkeypatch.setattr(scoring, "load_items", lambda *a, **k: items)
    monkeypatch.setattr(scoring, "matrix_rate", lambda: 1e9)
    arguments = ["scoring", "--model", str(tiny_folder("llama")), "--items", "2", "--compare", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    scoring.main()
    out = capsys.readouterr().out
    assert re.search(r"ratio to batch \d+: \d+\.\dx", out)
    computed = re.search(r"tokens computed: (\d+) of (\d+)", out)
    assert computed is not None
    assert 0 < int(computed[1]) < int(computed[2])
    assert "15 prompts of 1 items" in out  # five conditions, three orders
    assert "all 2 items" in out
    difference = re.search(r"largest difference of a margin: (\S+) nats", out)
    assert difference is not None
    assert float(difference[1]) < 1e-3
