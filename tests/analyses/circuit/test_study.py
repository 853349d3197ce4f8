"""``interp circuit``: its numbers are the library's, it resumes, and what it may say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from analyses import cli
from analyses.circuit import story
from analyses.circuit.config import CircuitConfig
from analyses.circuit.study import Circuit, scoring_clusters
from analyses.circuit.tables import CircuitResult, Plan
from analyses.runner import load, run
from interp.circuits import (
    CircuitNode,
    check_circuit,
    edge_scores,
    faithfulness_by_ablation,
    faithfulness_curve,
    joint_ablation,
    node_scores,
    random_circuits,
)
from interp.circuits.units import score_table
from interp.data import load_items
from interp.errors import InterpError
from interp.models import load_model
from interp.prompts import TextBank, pair_of_conditions
from interp.prompts.pair import paired_conditions
from interp.runs import read_manifest, read_table

pytestmark = pytest.mark.slow  # end to end; left out of the everyday tests

Folder = Callable[..., Path]
TABLES = ("scores", "curve", "random", "areas", "tests", "minimality", "joint", "by_ablation")


def config(folder: Path, out: Path, **changes: Any) -> CircuitConfig:
    """A small run on a local model and bundled items."""
    small = {"items": "bundled", "limit": 6, "texts": 2, "draws": 2, "random": 30}
    return CircuitConfig(model=str(folder), out=out, **{**small, **changes})


def both_halves(settings: CircuitConfig) -> tuple[Any, list[Any], list[Any]]:
    """The model, and the aligned pairs of either half, made without the study."""
    model = load_model(settings.model)
    items = load_items(settings.items, limit=settings.limit, seed=settings.seed)
    bank = TextBank(model.tokenizer, n_ctx=model.cfg.n_ctx, seed=settings.seed)
    first = scoring_clusters(items, settings.seed)
    halves: tuple[list[Any], list[Any]] = ([], [])
    for k, item in enumerate(items):
        texts = paired_conditions(
            bank, item, "instructed", against="placebo", slot=k % settings.texts
        )
        pair = pair_of_conditions(model, item, *texts)
        if pair.target is not None and pair.alignment.by_index:
            halves[item.cluster not in first].append(pair)
    return model, *halves


@pytest.mark.parametrize(
    "changes",
    [
        {"ablation": "zero"},
        {"ablation": "mean", "method": "exact"},
        {"ablation": "mean", "unit": "edges"},
    ],
)
def test_the_run_holds_what_the_library_gives(
    tiny_folder: Folder, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = config(tiny_folder("llama"), tmp_path / "run", size=4, **changes)
    done = run(Circuit(), settings, progress=False)
    model, scoring, running = both_halves(settings)
    score, label = (node_scores, "node") if settings.unit == "nodes" else (edge_scores, "edge")
    scores = score(model, scoring, method=settings.method, progress=False)
    assert done.scores[label].tolist() == scores[label].tolist()
    np.testing.assert_allclose(done.scores["score"], scores["score"], atol=1e-5)
    options: dict[str, Any] = {"ablation": settings.ablation, "progress": False}
    curve = faithfulness_curve(model, running, scores, sizes=done.curve.sizes, **options)
    assert done.curve.ranking == curve.ranking
    by_label = dict(zip(curve.runs.clusters, curve.runs.full, strict=True))
    for cluster, full in zip(done.curve.runs.clusters, done.curve.runs.full, strict=True):
        assert full == pytest.approx(by_label[cluster], abs=1e-5)
    np.testing.assert_allclose(done.curve.faithfulness, curve.faithfulness, atol=1e-4)
    random = random_circuits(
        model, running, unit=settings.unit, sizes=done.curve.sizes, draws=2, **options
    )
    np.testing.assert_allclose(done.random.faithfulness, random.faithfulness, atol=1e-4)
    tests = check_circuit(model, running, curve.circuit(4), n_random=30, **options)
    found = done.tests.to_dataframe()
    assert found["test"].tolist() == tests.to_dataframe()["test"].tolist()
    np.testing.assert_allclose(found["statistic"], tests.to_dataframe()["statistic"], atol=1e-4)
    joint = joint_ablation(model, running, curve.circuit(4), **options)
    assert [str(unit) for unit in done.joint.units] == [str(u) for u in curve.circuit(4)]
    both = [t.set_index("without")["estimate"] for t in (done.joint_table, joint.to_dataframe())]
    pd.testing.assert_series_equal(both[0].sort_index(), both[1].sort_index(), atol=1e-4)
    kinds = faithfulness_by_ablation(
        model, [p for p in running if p.alignment.by_index], curve.circuit(4), progress=False
    )
    own = done.by_ablation.set_index("ablation")["estimate"]
    zero = kinds.set_index("ablation")["estimate"]["zero"]
    if len(running) == int(done.by_ablation["pairs"].min()):  # else of other pairs
        assert own["zero"] == pytest.approx(zero, abs=1e-4, nan_ok=True)
    assert set(done.minimality[label]) == {unit.label for unit in curve.circuit(4)}


def test_the_folder_holds_tables_figures_graph_and_report(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = run(Circuit(), config(tiny_folder("gpt2"), out, ablation="zero"), progress=False)
    for name in TABLES:
        assert len(pd.read_csv(out / f"{name}.csv")) == len(read_table(out, name)) > 0
    assert {p.stem for p in (out / "figures").glob("*.html")} == {"faithfulness", "circuit"}
    graph = ElementTree.parse(out / "circuit.graphml").getroot()
    kept = [d for d in graph.iter() if d.attrib.get("key") == "kept" and d.text == "true"]
    assert len(kept) == len(done.circuit) + 2 == 4
    curve = read_table(out, "curve")
    assert (curve["faithfulness"].iloc[0], curve["faithfulness"].iloc[-1]) == (0.0, 1.0)
    assert read_manifest(out)["status"] == "complete"
    report = done.report.read_text()
    for title in (
        "How faithful are circuits?",
        "What is in the circuit?",
        "Which tests",
        "relied on",
    ):
        assert title in report
    assert "shown but not interpreted" in report  # two wordings of few items
    again = load(out)
    assert again.curve.ranking == done.curve.ranking
    pd.testing.assert_frame_equal(again.areas, done.areas)


def test_a_circuit_of_edges_is_told_as_one(tiny_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = config(tiny_folder("llama"), out, unit="edges", limit=12)
    done = run(Circuit(), settings, progress=False)
    assert len(done.scores) == 343
    assert len(done.circuit) == 3  # a hundredth
    graph = ElementTree.parse(out / "circuit.graphml").getroot()
    scored = [d for d in graph.iter() if d.attrib.get("key") == "edge_score"]
    assert len(scored) == 3
    report = done.report.read_text()
    for words in (
        "Which edges between heads",
        "every edge (from the embedding",
        "3 edges with the",
    ):
        assert words in report
    again = load(out)
    assert again.circuit == done.circuit
    pd.testing.assert_frame_equal(again.areas, done.areas)


def test_the_command_runs_end_to_end(
    tiny_folder: Folder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    words = (
        f"interp circuit --model {tiny_folder('llama')} --items bundled --limit 8 --texts 2 --draws 2 "
        f"--random 30 --metric option_margin --out {out}"
    )
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert "CPR" in printed
    assert (out / "report.html").is_file()
    first = {p.name: p.read_bytes() for p in out.glob("*.parquet")}
    with pytest.raises(SystemExit):
        cli.main()
    assert {p.name: p.read_bytes() for p in out.glob("*.parquet")} == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 1}, "of a single cluster"),
        ({"size": 20}, "--size 20: a circuit leaves out some of 20 nodes"),
        ({"condition": "clean"}, "adds no text"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_folder_is_made(
    tiny_folder: Folder, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(InterpError, match=message):
        run(Circuit(), config(tiny_folder("llama"), out, **changes), progress=False)
    assert not out.exists()


def test_a_plan_survives_its_row_and_names_every_circuit() -> None:
    settings = CircuitConfig(draws=3, random=30, seed=5)
    nodes = [CircuitNode(k) for k in range(30)]
    scores = score_table(nodes, np.random.default_rng(0).normal(size=30))
    plan = Plan.of(settings, scores, left_out=2)
    assert Plan.of_row(plan.row()) == plan
    assert plan.size == 3
    assert plan.size in plan.sizes
    n_curve, n_random, n_tests, n_joint = map(len, plan.parts)
    assert n_curve == len(plan.sizes)
    assert n_random == 3 * n_curve
    assert n_tests == 2 + 3 + 27 + 30
    assert n_joint == plan.size + 1
    assert len(plan.masks) == n_curve + n_random + n_tests + n_joint


def test_a_curve_without_an_effect_is_not_read(tiny_folder: Folder, tmp_path: Path) -> None:
    settings = config(tiny_folder("gpt2"), tmp_path / "run", ablation="zero")
    done: CircuitResult = run(Circuit(), settings, progress=False)
    assert "too few for a claim" in story.blocked(done)
    for read in (story.read_curve, story.read_circuit, story.read_tests):
        assert "interpreted" in read(done) or "not read" in read(done)
