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
from transformer_lens.model_bridge import TransformerBridge

from analyses.contrast import CONTROL_ARMS, PromptBench
from analyses.demo.config import DemoConfig
from analyses.demo.story import SECTIONS
from analyses.demo.study import STUDIES, Demo, in_turn, parts_of, spread_layers
from analyses.demo.tables import DemoResult
from analyses.lens.study import score_item
from analyses.patch.study import Patch
from analyses.patch.study import score_item as score_patched
from analyses.report.claims import corrected_for
from analyses.runner import run as run_study
from analyses.study import Lab
from analyses.totals import totals_of
from interp.data import load_items
from interp.errors import InterpError
from interp.runs import read_manifest

Folder = Callable[..., Path]


def config(folder: Path, out: Path, **changes: object) -> DemoConfig:
    """A small demo on a local model and bundled items."""
    small = {"items": "bundled", "limit": 6, "texts": 2, "pairs": 2, "read": 2}
    return DemoConfig(model=str(folder), out=out, **{**small, **changes})


def run(settings: DemoConfig, *, progress: bool) -> DemoResult:
    return run_study(Demo(), settings, progress=progress)


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
    parts = {p.stem.partition("-")[0] for p in out.glob("*.parquet")}
    assert parts == {*STUDIES, "arm", "identities"}
    assert read_manifest(out)["status"] == "complete"
    assert read_manifest(out)["model"]["mode"] == ("compatibility" if compatibility_mode else "raw")
    deviations = result.identities["largest deviation"]
    assert (deviations.dropna() < 1e-3).all()
    page = _Balance()
    page.feed(result.report.read_text())
    text = " ".join(page.text)
    assert page.external == []  # nothing is loaded from elsewhere
    assert result.card.one_line in text
    for heading in ("The question", "Looking inside: patching", "can and cannot say"):
        assert heading in text
    elsewhere = {"What was done"}  # the demo tells it in its own words
    for _, heading in SECTIONS:
        assert heading in text or heading in elsewhere


@pytest.fixture(scope="module")
def done(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    """One run for the tests that only look."""
    out = tmp_path_factory.mktemp("demo") / "run"
    return run(config(tiny_folder("llama"), out), progress=False)


@pytest.mark.slow
def test_scores_cover_every_item_and_condition_in_the_first_order(done: DemoResult) -> None:
    frame = done.behaviour.scores.frame
    counts = frame.groupby(["condition", "control_of"], sort=False).size().to_dict()
    prompts = 6  # one an item
    assert set(frame["order"]) == {0}
    assert counts == {
        ("clean", ""): prompts,
        ("instructed", ""): 2 * prompts,
        ("placebo", "instructed"): 2 * prompts,
        ("revealing", ""): 2 * prompts,
        ("placebo", "revealing"): 2 * prompts,
    }
    maps = done.patch.results
    assert list(maps) == [("instructed", "resid_pre"), ("revealing", "resid_pre")]
    # the wordings take turns over the items
    assert maps["instructed", "resid_pre"].pair_labels == [
        f"{item.id} #{k % 2}" for k, item in enumerate(done.patch.items)
    ]


@pytest.mark.slow
def test_lens_and_projections_take_their_answers_from_the_behaviour_part(
    done: DemoResult, load_tiny: Callable[..., TransformerBridge]
) -> None:
    model = load_tiny("llama")
    asked = Demo().ask(done.config, progress=False)
    question = parts_of(asked, model.cfg.n_layers)["lens"].asked
    bench = PromptBench.of(question, Lab(model, done.config.out))
    own = pd.concat([score_item(bench, item) for item in question.items])
    expected = totals_of(own)
    for found in (done.lens.totals, done.project.totals):
        found = found.set_index(["condition", "context", "metric"])["estimate"]
        wanted = expected.set_index(["condition", "context", "metric"])["estimate"]
        pd.testing.assert_series_equal(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_maps_take_their_answers_from_the_behaviour_part_and_ask_the_other_arms(
    done: DemoResult, load_tiny: Callable[..., TransformerBridge]
) -> None:
    model = load_tiny("llama")
    asked = Demo().ask(done.config, progress=False)
    question = parts_of(asked, model.cfg.n_layers)["patch"].asked
    bench = Patch().bench(question, Lab(model, done.config.out))
    own = pd.concat([score_patched(bench, item) for item in bench.sides])
    keys = ["condition", "context", "metric"]
    expected = totals_of(own).set_index(keys)
    found = done.patch.totals.set_index(keys)
    assert list(found.index) == list(expected.index)
    assert {name for name, *_ in found.index} == {"instructed", *CONTROL_ARMS}
    numbers = expected.select_dtypes("number").columns.difference(["p_raw", "p_corrected"])
    # ends of intervals of margins of 30 nats
    pd.testing.assert_frame_equal(found[numbers], expected[numbers], rtol=1e-4, atol=1e-3)


def test_an_item_of_a_map_has_the_wording_of_its_number_in_every_condition() -> None:
    items = load_items("bundled", limit=3, seed=0)
    readings = pd.DataFrame(
        [
            {"item": item.id, "condition": condition, "slot": slot, "margin": margin}
            for item, margin in zip(items, (1.0, 2.0, 3.0), strict=True)
            for condition, n in (("instructed", 2), ("revealing", 1))
            for slot in range(n)
        ]
    )
    rows = in_turn(readings, items)
    assert rows.groupby("condition")["slot"].apply(list).to_dict() == {
        "instructed": [0, 1, 0],
        "revealing": [0, 0, 0],
    }
    without = readings.assign(margin=readings["margin"].where(readings["item"] != items[1].id))
    assert set(in_turn(without, items)["item"]) == {items[0].id, items[2].id}


def test_items_looked_into_are_ambiguous_and_come_with_others_up_to_the_limit() -> None:
    few = Demo().ask(DemoConfig(items="bundled", limit=3, pairs=3, texts=2), progress=False)
    assert few.items == few.inside
    assert {item.context_condition for item in few.inside} == {"ambiguous"}
    more = Demo().ask(DemoConfig(items="bundled", limit=5, pairs=3, texts=2), progress=False)
    assert more.inside == few.inside
    assert len(more.items) == 5
    assert set(more.inside) < set(more.items)


@pytest.mark.slow
def test_another_seed_gives_other_bytes(
    done: DemoResult, tiny_folder: Folder, tmp_path: Path
) -> None:
    """The same seed gives the same bytes: see the run that is killed."""
    other = run(config(tiny_folder("llama"), tmp_path / "other", seed=1), progress=False)
    first, second = (table_bytes(one.config.out) for one in (done, other))
    assert first["behaviour-scores.parquet"] != second["behaviour-scores.parquet"]


@pytest.mark.slow
def test_a_changed_config_is_refused_and_named(done: DemoResult, tiny_folder: Folder) -> None:
    out = done.config.out
    before = table_bytes(out)
    with pytest.raises(InterpError, match="limit was 6, is now 8"):
        run(config(tiny_folder("llama"), out, limit=8), progress=False)
    assert table_bytes(out) == before


def choice_line(gold: int, roles: list[str]) -> str:
    choices = [{"text": f"option {k}", "role": role} for k, role in enumerate(roles)]
    return json.dumps({"question": "Who was it?", "gold": gold, "choices": choices})


def test_items_the_demo_cannot_use_are_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join([choice_line(1, ["other", "other", "other"])] * 2))
    with pytest.raises(InterpError, match="the sample holds no item with two options to contrast"):
        run(config(tmp_path / "no model", tmp_path / "run", items=str(path)), progress=False)


def test_every_p_is_corrected_for_the_number_of_studies() -> None:
    table = pd.DataFrame(
        {"p_raw": [0.01, 0.5], "p_corrected": [np.nan, 0.1], "estimate": [1.0, 2.0]}
    )
    scaled = corrected_for(table, 5)
    np.testing.assert_allclose(scaled["p_raw"], [0.05, 1.0])
    np.testing.assert_allclose(scaled["p_corrected"], [np.nan, 0.5])
    assert scaled["estimate"].tolist() == [1.0, 2.0]


@pytest.mark.slow
def test_fitted_placebos_are_the_maps_alone_and_have_readings_of_their_own(
    tiny_folder: Folder, tmp_path: Path, load_tiny: Callable[..., TransformerBridge]
) -> None:
    settings = config(tiny_folder("llama"), tmp_path / "run", fit_length="pad", require_match=40)
    done = run(settings, progress=False)
    model = load_tiny("llama")
    question = parts_of(Demo().ask(settings, progress=False), model.cfg.n_layers)["patch"].asked
    bench = Patch().bench(question, Lab(model, settings.out))
    pairs = bench.arms["instructed"].values()
    assert {len(pair.source) - len(pair.destination) for pair in pairs} == {0}
    assert all(pair.alignment.by_index for pair in pairs)
    own = pd.concat([score_patched(bench, item) for item in bench.sides], ignore_index=True)
    expected = totals_of(own)["estimate"].to_numpy()
    np.testing.assert_allclose(done.patch.totals["estimate"], expected, rtol=1e-4, atol=1e-5)
    assert question.config.require_match == done.lens.config.require_match == 40
    assert (settings.out / "patch-readings.parquet").exists()


def test_spread_layers_keeps_both_ends() -> None:
    assert spread_layers(30, 12) == (0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29)
    assert spread_layers(4, 12) == (0, 1, 2, 3)
    assert spread_layers(1, 12) == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_a_random_unit_and_resumed_gives_the_same_bytes(
    seed: int, done: DemoResult, tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    command = [
        sys.executable, "-c", "from analyses.cli import main; main()", "demo",
        "--model", str(tiny_folder("llama")), "--items", "bundled", "--limit", "6", "--texts", "2",
        "--pairs", "2", "--read", "2", "--out", str(out),
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, **quiet)
    number = random.Random(seed).randrange(1, 40)
    while sum(1 for _ in out.glob("parts/*/*.parquet")) < number and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_manifest(out)["status"] == "running"
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert table_bytes(out) == table_bytes(done.config.out)
