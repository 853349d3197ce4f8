"""The benchmark runs, and both of its ways give the same margins."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from analyses.benchmarks import harness, scoring
from interp.data import load_items

INSTALLED = importlib.util.find_spec("lm_eval") is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "peer",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not INSTALLED, reason="needs lm-evaluation-harness")
        ),
    ],
    ids=["without-harness", "harness"],
)
def test_scoring_benchmark_prints_a_ratio_and_equal_margins(
    peer: bool,
    tiny_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = load_items("bundled", limit=2, seed=0)
    monkeypatch.setattr(scoring, "load_items", lambda *a, **k: items)
    monkeypatch.setattr(scoring, "matrix_rate", lambda: 1e9)
    if not peer:
        monkeypatch.setattr(scoring, "harness_version", lambda: None)
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
    if not peer:
        assert f"not measured: {harness.INSTALL}" in out
        return
    assert re.search(r"lm-evaluation-harness \d\S+ \(transformers \d\S+\): batch 1: ", out)
    assert re.search(r"ratio to lm-evaluation-harness, batch \d+: \d+\.\dx", out)
    difference = re.search(r"largest difference of an option margin to it: (\S+) nats", out)
    assert difference is not None
    assert float(difference[1]) < 1e-4


def test_the_version_to_install_is_that_of_the_extra() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["peers"] == [f"lm-eval=={harness.VERSION}"]
    assert harness.INSTALL.endswith(f"lm-eval=={harness.VERSION}")
    assert f"--no-deps lm-eval=={harness.VERSION}\n" in (root / "Makefile").read_text()
