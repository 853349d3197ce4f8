"""``interp direction steer``: what a run's tables hold, that it resumes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import analyses.steer.steps as steer_steps
import analyses.steer.study as steer_study
from analyses.runner import load
from analyses.runner import run as run_study
from analyses.steer.config import SteerConfig
from analyses.steer.steps import steps_of
from analyses.steer.study import Steer
from analyses.steer.tables import SteerResult
from interp.behaviour import Outcomes
from interp.data import load_texts
from interp.directions import fit_direction, load_direction
from interp.errors import InterpError
from interp.runs import read_manifest, read_table

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

Folder = Callable[..., Path]
SMALL = {
    "items": "bundled",
    "limit": 2,
    "strengths": (2.0,),
    "groups": 3,
    "plain": 6,
    "completions": 2,
    "covariance": 2,
    "placebos": 2,
}
TABLES = {"steering", "effects", "swings", "completions", "texts", "nulls", "place"}


def config(folder: Path, out: Path, **changes: Any) -> SteerConfig:
    """A small run on a local model and bundled items."""
    return SteerConfig(model=str(folder), out=out, **{**SMALL, **changes})


def run(settings: SteerConfig) -> SteerResult:
    return run_study(Steer(), settings, progress=False)


@pytest.fixture(scope="module")
def done(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> SteerResult:
    return run(config(tiny_folder("llama"), tmp_path_factory.mktemp("steer") / "run"))


def values(rows: pd.DataFrame, outcome: str) -> pd.Series:
    return rows[rows["outcome"] == outcome].set_index("item")["value"]


def test_the_run_steps_equally_far_along_every_direction(done: SteerResult) -> None:
    best = done.stack.best
    nulls = read_table(done.config.out, "nulls")
    units = steps_of(best, nulls, done.config.strengths)
    assert done.config.strengths == (-2.0, 2.0)
    lengths = {(u.kind, abs(u.strength)): float(np.linalg.norm(u.vector)) for u in units}
    for kind in ("covariance", "placebo", "contrast"):
        assert lengths[kind, 2.0] == pytest.approx(lengths["learned", 2.0], rel=1e-5)
    assert lengths["unsteered", 0.0] == 0
    counts = nulls["kind"].value_counts()
    assert counts.to_dict() == {"contrast": 12, "covariance": 2, "placebo": 1}
    assert set(done.rows["strength"]) == {-2.0, 0.0, 2.0}
    n_units = done.rows.groupby(["kind", "direction", "strength"]).ngroups
    assert n_units == len(units) == 1 + 2 + 2 * 15


def test_tables_are_the_paired_differences(done: SteerResult) -> None:
    rows = done.rows
    baseline = rows[rows["kind"] == "unsteered"]
    cell = rows[(rows["direction"] == "tense") & (rows["outcome"] == "preference")]
    before = values(baseline, "preference")
    up, down = (cell[cell["strength"] == s].set_index("item")["value"] - before for s in (2, -2))
    swing = done.swings.set_index(["outcome", "direction"]).loc[("preference", "tense")]
    assert swing["estimate"] == pytest.approx((up - down).mean() / 2)
    assert swing["low"] <= swing["estimate"] <= swing["high"]
    effects = done.effects.set_index(["outcome", "direction", "strength"])["estimate"]
    assert effects.loc[("preference", "tense", 2.0)] == pytest.approx(up.mean())
    cost = done.swings.set_index(["outcome", "direction"]).loc[("nll", "tense"), "estimate"]
    ends = [effects.loc[("nll", "tense", s)] for s in (2.0, -2.0)]
    assert cost == pytest.approx(np.mean(ends))
    assert swing["cost"] == pytest.approx(cost)
    own = done.swings[done.swings["outcome"] == "preference"].set_index("direction")
    sizes = own["estimate"].abs()
    assert own.loc["learned", "p_null"] == pytest.approx((sizes >= sizes["learned"]).mean())
    assert own["p_null"].notna().sum() == 1


def bytes_of(out: Path) -> dict[str, bytes]:
    patterns = ("*.parquet", "*.csv", "report.html", "figures/*.html")
    return {p.name: p.read_bytes() for pattern in patterns for p in out.glob(pattern)}


def test_run_folder_holds_tables_figures_and_report(done: SteerResult) -> None:
    out = done.config.out
    assert {p.stem for p in out.glob("*.parquet")} == TABLES
    assert {p.stem for p in (out / "figures").glob("*.html")} == {"margin", "preference", "cost"}
    report = done.report.read_text()
    for title in ("Does it move the margin?", "At what cost?", "What does it write?"):
        assert title in report
    assert read_manifest(out)["status"] == "complete"
    texts = done.texts.groupby("strength")["prompt"].nunique()
    assert texts.to_dict() == dict.fromkeys((-2.0, 0.0, 2.0), 2)


def test_interrupted_and_resumed_gives_the_same_bytes(
    done: SteerResult, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Outcomes.measure, []

    def stops(self: Outcomes, *args: Any, **options: Any) -> pd.DataFrame:
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(1)
        return original(self, *args, **options)

    out = tmp_path / "stopped"
    monkeypatch.setattr(Outcomes, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        run(config(tiny_folder("llama"), out))
    seen.clear()
    monkeypatch.setattr(steer_study, "fit_direction", None)  # the fitted one is kept with the run
    monkeypatch.setattr(steer_steps, "contrast_axes", None)
    with pytest.raises(KeyboardInterrupt):
        run(config(tiny_folder("llama"), out))
    monkeypatch.setattr(Outcomes, "measure", original)
    run(config(tiny_folder("llama"), out))
    assert bytes_of(out) == bytes_of(done.config.out)


def test_a_file_is_read_on_sentences_it_has_not_seen(
    done: SteerResult, tiny_folder: Folder, tmp_path: Path
) -> None:
    path = done.config.out / "directions" / "morality.safetensors"
    again = run(
        config(tiny_folder("llama"), tmp_path / "run", direction=path, limit=1, completions=1)
    )
    assert again.sentences.source.startswith(
        "bundled:statements, because the direction was fitted on"
    )
    groups = set(values(again.rows, "preference").index)
    assert groups <= {text.group for text in load_texts("bundled:statements")}
    assert again.config.strengths == (-2.0, 2.0)
    same = load_direction(path).best
    assert again.stack.best.layer == same.layer


def test_a_file_with_another_direction_does_not_resume_the_run(
    tiny_model: Any, tiny_folder: Folder, tmp_path: Path
) -> None:
    path, texts = tmp_path / "mine.safetensors", load_texts("bundled:statements")
    settings = config(
        tiny_folder("llama"), tmp_path / "run", direction=path, limit=1, completions=1
    )
    fit_direction(tiny_model, texts, n_shuffles=0, progress=False).save(path)
    run(settings)
    # the same sentences, another method: only the file's content tells them apart
    fit_direction(tiny_model, texts, method="lda", n_shuffles=0, progress=False).save(path)
    with pytest.raises(InterpError, match="direction"):
        run(settings)
    with pytest.raises(InterpError, match="direction changed since the run"):
        load(settings.out)


def test_placebos_of_a_condition_file_are_the_null_directions(
    done: SteerResult, tiny_folder: Folder, tmp_path: Path
) -> None:
    own = tmp_path / "my.yaml"
    own.write_text(
        "placebo:\n  description: d\n  replaces: true\n"
        "  texts: [The shelf has three boards., A river bends to the west.]\n"
    )
    out = tmp_path / "run"
    run(config(tiny_folder("llama"), out, condition_file=own, limit=1, completions=1))
    before, after = (
        read_table(folder, "nulls").set_index("name")["vector"] for folder in (done.config.out, out)
    )
    for name in before.index:
        assert np.array_equal(before[name], after[name]) == (name != "placebo 1"), name


def test_a_direction_of_another_model_is_refused(
    load_tiny: Any, tiny_folder: Folder, tmp_path: Path
) -> None:
    texts = load_texts("bundled:statements")
    fitted = fit_direction(load_tiny("gpt2"), texts, n_shuffles=0, progress=False)
    path = fitted.save(tmp_path / "other.safetensors")
    with pytest.raises(InterpError, match="fitted on other weights"):
        run(config(tiny_folder("llama"), tmp_path / "run", direction=path))
    with pytest.raises(InterpError, match="not a readable direction"):
        run(config(tiny_folder("llama"), tmp_path / "run", direction=tmp_path / "no.st"))
    assert not (tmp_path / "run").exists()


def test_unknown_items_are_refused_in_one_line(tiny_folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="neither a path nor a data set"):
        run(config(tiny_folder("llama"), tmp_path / "run", items="bundeld"))
    assert not (tmp_path / "run").exists()
