"""The demo on tiny models: every architecture, resumption, and the words of its report."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses.demo import DemoConfig, run, spread_layers
from analyses.shifts import CONTROL, projection_shifts
from interp.errors import InterpError
from interp.runs import read_manifest

Folder = Callable[..., Path]
TABLES = (
    "scores", "projections", "lens", "patching", "attention", "identities", "effects",
    "projection_shifts",
)  # fmt: skip


def config(folder: Path, out: Path, **changes: object) -> DemoConfig:
    """A small demo on a local model and bundled items."""
    small = {"items": "bundled", "limit": 6, "n_texts": 2, "n_pairs": 2}
    return DemoConfig(model=str(folder), out=out, **{**small, **changes})


def table_bytes(out: Path) -> dict[str, bytes]:
    """The bytes of every table and direction of a run."""
    paths = [*out.glob("*.parquet"), *out.glob("directions/*.safetensors")]
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(paths)}


class _Balance(HTMLParser):
    """Collects visible text and scripts' sources."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.external: list[str] = []
        self._skip = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skip += tag in ("script", "style")
        self.external += [v or "" for k, v in attrs if k == "src"]

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.text.append(data)


@pytest.mark.parametrize(
    ("architecture", "chat", "compatibility_mode"),
    [
        pytest.param("llama", True, False, marks=pytest.mark.slow),
        pytest.param("gpt2", False, False, marks=pytest.mark.slow),
        pytest.param("qwen2", True, False, marks=pytest.mark.slow),
        pytest.param("gemma", True, False, marks=pytest.mark.slow),
        pytest.param("neox", False, False, marks=pytest.mark.slow),
        pytest.param("llama", True, True, marks=pytest.mark.slow),
    ],
)
def test_demo_runs_on_every_architecture(
    architecture: str, chat: bool, compatibility_mode: bool, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder(architecture, chat=chat)
    out = tmp_path / "run"
    result = run(config(folder, out, compatibility_mode=compatibility_mode), progress=False)
    assert result.report == out / "report.html"
    assert {p.stem for p in out.glob("*.parquet")} == set(TABLES)
    assert read_manifest(out)["status"] == "complete"
    assert read_manifest(out)["model"]["mode"] == ("compatibility" if compatibility_mode else "raw")
    deviations = result.identities["largest deviation"]
    assert (deviations.dropna() < 1e-3).all()
    page = _Balance()
    page.feed(result.report.read_text())
    text = " ".join(page.text)
    assert page.external == []  # nothing is loaded from elsewhere
    assert result.card.one_line in text
    for heading in ("The question", "Where the instruction acts", "can and cannot say"):
        assert heading in text


@pytest.mark.slow
def test_scores_cover_every_item_condition_and_order(tiny_folder: Folder, tmp_path: Path) -> None:
    result = run(config(tiny_folder("llama"), tmp_path / "run"), progress=False)
    frame = result.scores.frame
    counts = frame.groupby(["condition", "control_of"], sort=False).size().to_dict()
    prompts = 6 * 3  # items x cyclic orders
    assert counts == {
        ("clean", ""): prompts,
        ("instructed", ""): 2 * prompts,
        ("placebo", "instructed"): 2 * prompts,
        ("placebo", "negated"): prompts,
        ("placebo", "revealing"): prompts,
        ("negated", ""): prompts,
        ("revealing", ""): prompts,
    }
    assert set(result.maps) == {"instructed", "revealing"}
    cells = sum(m.effect().mean(-1).numel() for m in result.maps.values())
    assert cells <= 240


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder("llama")
    runs = [
        run(config(folder, tmp_path / name, seed=seed), progress=False).config.out
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, second, other = (table_bytes(out) for out in runs)
    assert first == second
    assert first["scores.parquet"] != other["scores.parquet"]


@pytest.mark.slow
def test_a_changed_config_is_refused_and_named(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = tiny_folder("llama")
    run(config(folder, tmp_path / "run"), progress=False)
    before = table_bytes(tmp_path / "run")
    with pytest.raises(InterpError, match="limit was 6, is now 8"):
        run(config(folder, tmp_path / "run", limit=8), progress=False)
    assert table_bytes(tmp_path / "run") == before


def choice_line(gold: int, roles: list[str]) -> str:
    choices = [{"text": f"option {k}", "role": role} for k, role in enumerate(roles)]
    return json.dumps({"question": "Who was it?", "gold": gold, "choices": choices})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [
                choice_line(0, ["unknown", "stereotyped", "counter"]),
                choice_line(0, ["unknown", "stereotyped"]),
            ],
            "choices, .* choose --items of one number of choices",
        ),
        (
            [choice_line(1, ["unknown", "stereotyped", "counter"])] * 2,
            "no ambiguous item with an unknown and a stereotyped option",
        ),
    ],
)
def test_items_the_demo_cannot_use_are_refused_before_the_model_is_loaded(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(InterpError, match=message):
        run(config(tmp_path / "no model", tmp_path / "run", items=str(path)), progress=False)


def test_spread_layers_keeps_both_ends() -> None:
    assert spread_layers(30, 12) == [0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29]
    assert spread_layers(4, 12) == [0, 1, 2, 3]
    assert spread_layers(1, 12) == [0]


def test_projection_shifts_by_hand() -> None:
    rows = [
        {"item": item, "cluster": item, "contrast": contrast, "condition": condition, "slot": slot,
         "direction": direction, "layer": 3,
         "projection": base + slot * 0.5 + (scale if condition != "placebo" else 0.0)}
        for contrast, direction, scale in (
            ("instructed", "morality", 2.0),
            ("instructed", "tense", -1.0),
            ("revealing", "morality", 0.25),
            ("revealing", "tense", 9.0),
        )
        for base, item in ((0.0, "i"), (5.0, "j"), (9.0, "k"))
        for condition in (contrast, "placebo")
        for slot in (0, 1)
    ]  # fmt: skip
    shifts = projection_shifts(pd.DataFrame(rows), seed=0).set_index("direction")
    assert list(shifts.index) == ["morality", "tense", CONTROL]
    np.testing.assert_allclose(shifts["class_units"], [2.0, -1.0, 0.25])
    spread = np.std([0.0, 0.5, 5.0, 5.5, 9.0, 9.5])  # the placebo prompts' projections
    np.testing.assert_allclose(shifts["estimate"], np.array([2.0, -1.0, 0.25]) / spread)
    assert shifts["is_null"].tolist() == [False, True, False]
    assert (shifts["low"] <= shifts["estimate"]).all()


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_gives_the_same_bytes(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder("llama")
    arguments = ["--model", folder, "--items", "bundled", "--limit", "6"]

    def command(out: Path) -> list[str]:
        return [
            sys.executable, "-c", "from analyses.cli import main; main()", "demo",
            *map(str, arguments), "--out", str(out),
        ]  # fmt: skip

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True, env=environment)
    duration = time.monotonic() - start
    generator = random.Random(0)
    for number in range(5):
        out = tmp_path / f"killed-{number}"
        process = subprocess.Popen(
            command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        time.sleep(generator.uniform(0.4, 1.0) * duration)
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(command(out), check=True, capture_output=True, env=environment)
        assert table_bytes(out) == table_bytes(tmp_path / "whole"), f"run {number}"
