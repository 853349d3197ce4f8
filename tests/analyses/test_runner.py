"""Every study: reopened without a model, shipped to another process, run on a model in memory."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import runner
from analyses.config import StudyConfig
from analyses.executors import processes
from analyses.registry import STUDIES, load_config_class, load_study
from analyses.runner import load, rebuild_report, run
from analyses.study import Lab, Steps
from interp.errors import InterpError
from interp.models import load_model
from interp.runs import read_manifest

pytestmark = pytest.mark.slow  # end to end; left out of the everyday tests

Folder = Callable[..., Path]

SMALL: dict[str, dict[str, Any]] = {
    "demo": {"items": "bundled", "limit": 4, "texts": 2, "pairs": 2},
    "patch": {"items": "bundled", "limit": 2, "texts": 2, "layers": "0,3"},
    "behave": {
        "items": "bundled,bundled:completions",
        "conditions": "instructed,nontoxic,placebo",
        "rounds": 1,
        "limit": 2,
        "texts": 1,
        "scorer": "offline",
    },
    "lens": {"items": "bundled", "limit": 2, "texts": 2},
    "attention": {"items": "bundled", "limit": 2, "texts": 2},
    "circuit": {"items": "bundled", "limit": 6, "texts": 2, "draws": 2, "random": 30},
    "superficiality": {
        "items": "bundled",
        "limit": 6,
        "texts": 2,
        "causal": 4,
        "untrained": 1,
        "further": ("health", "rank"),
        "further_items": 2,
    },
    "direction steer": {
        "items": "bundled",
        "limit": 2,
        "strengths": (1.0,),
        "groups": 2,
        "plain": 4,
        "completions": 1,
        "covariance": 2,
        "placebos": 2,
    },
    "project": {"items": "bundled", "limit": 3, "texts": 2, "positions": ("last", "question")},
    "direction fit": {
        "limit": 40, "shuffles": 3, "methods": ("mean_difference", "lda"), "sites": ("resid_post",),
    },
    "direction transfer": {
        "texts": ("bundled:contrasts:tense", "bundled:contrasts:number"), "limit": 30,
    },
}  # fmt: skip
"""Options that make a study of a tiny model take seconds."""


ONE_SCREEN = 1600
"""Characters."""


def small(name: str, folder: Path, out: Path) -> StudyConfig:
    config = load_config_class(name)
    return config(model=str(folder), out=out, **SMALL[name])


def assert_same(one: Any, other: Any, place: str = "result", *, moved: bool = False) -> None:
    """Equal in type and value, to the last bit; of a moved folder all but where its report is."""
    assert type(one) is type(other), place
    if isinstance(one, pd.DataFrame | pd.Series):
        pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other), obj=place)
    elif isinstance(one, np.ndarray | torch.Tensor):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=place)
    elif dataclasses.is_dataclass(one) and not isinstance(one, type):
        for name in (field.name for field in dataclasses.fields(one)):
            if not (moved and name == "report"):
                both = getattr(one, name), getattr(other, name)
                assert_same(*both, f"{place}.{name}", moved=moved)
    elif isinstance(one, dict):
        assert list(one) == list(other), place
        for key in one:
            assert_same(one[key], other[key], f"{place}[{key!r}]", moved=moved)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{place}[{k}]", moved=moved)
    elif isinstance(one, float) and np.isnan(one):
        assert np.isnan(other), place
    else:
        assert one == other, place


def tables_of(out: Path) -> dict[str, bytes]:
    """The bytes of every table, tensor file and figure of a run, and of its report."""
    patterns = ("*.parquet", "*.csv", "**/*.safetensors", "report.html", "figures/*.html")
    found = {p for pattern in patterns for p in out.glob(pattern)}
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(found)}


def assert_layers_are_integers(out: Path) -> None:
    """In every table that has layers: sorted and joined they would be wrong as text."""
    for path in out.glob("*.parquet"):
        table = pd.read_parquet(path)
        for name in ("layer", "last_layer"):
            assert name not in table or table[name].dtype.kind == "i", path.name


def test_every_study_is_tested_here() -> None:
    assert set(SMALL) == set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_finished_run_is_reopened_as_the_result_it_was_without_a_model(
    name: str, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    config = small(name, tiny_folder("llama"), out)
    done = run(load_study(name), config, progress=False)
    assert read_manifest(out)["study"] == name

    def no_model(*args: Any, **options: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(runner, "load_model", no_model)
    monkeypatch.setattr("interp.models.load.load_model", no_model)
    assert_same(load(out), done)
    assert_layers_are_integers(out)
    before = tables_of(out)
    told = rebuild_report(out)
    assert told.story.headline == read_manifest(out)["headline"] != ""
    assert "\n" not in told.story.headline
    assert tables_of(out) == before
    assert len(repr(done)) <= ONE_SCREEN
    assert "\n" not in repr(done)
    moved = out.rename(tmp_path / "moved")
    again = load(moved)
    assert again.report == moved / "report.html"
    assert_same(again, done, moved=True)


@pytest.mark.parametrize("name", STUDIES)
def test_units_are_plain_data_and_other_processes_compute_the_same_rows(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    study = load_study(name)
    config = small(name, tiny_folder("llama"), tmp_path / "here")
    run(study, config, progress=False)
    there = config.model_copy(update={"out": tmp_path / "there"})
    run(_Pickled(study), there, executor=processes(1), progress=False)
    assert tables_of(tmp_path / "there") == tables_of(tmp_path / "here")


class _Pickled:
    """A study whose units go through pickle before they are computed."""

    def __init__(self, study: Any) -> None:
        self._study = study
        self.name, self.Config = study.name, study.Config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self._study, name)

    def steps(self, asked: Any, bench: Any) -> Steps:
        inner = self._study.steps(asked, bench)
        step = next(inner, None)
        while step is not None:
            units = [pickle.loads(pickle.dumps(unit)) for unit in step.units]
            assert [step.key(unit) for unit in units] == [step.key(unit) for unit in step.units]
            compute = pickle.loads(pickle.dumps(step.compute))
            table = yield dataclasses.replace(step, units=units, compute=compute)
            try:
                step = inner.send(table)
            except StopIteration:
                return


@pytest.mark.parametrize("name", STUDIES)
def test_a_model_in_memory_gives_the_tables_of_one_loaded_by_name(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder, study = tiny_folder("llama"), load_study(name)
    run(study, small(name, folder, tmp_path / "by-name"), progress=False)
    config = small(name, folder, tmp_path / "in-memory")
    run(study, config, model=load_model(str(folder)), progress=False)
    assert tables_of(tmp_path / "in-memory") == tables_of(tmp_path / "by-name")


def test_a_model_in_memory_is_recorded_as_what_it_is(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = tiny_folder("llama")
    config = load_config_class("lens")(out=tmp_path / "run", **SMALL["lens"])
    model = load_model(str(folder), compatibility_mode=True)
    done = run(load_study("lens"), config, model=model, progress=False)
    assert done.config.compatibility_mode
    recorded = read_manifest(tmp_path / "run")
    assert recorded["config"]["model"] == done.card.name != config.model
    assert_same(load(tmp_path / "run"), done)
    wrong = config.model_copy(update={"out": tmp_path / "other"})
    wrong = type(wrong)(**{**wrong.model_dump(), "compatibility_mode": False})
    with pytest.raises(InterpError, match="the model given is in mode 'compatibility'"):
        run(load_study("lens"), wrong, model=model, progress=False)
    with pytest.raises(InterpError, match="cannot be shipped to other processes"):
        run(load_study("lens"), config, model=model, executor=processes(1), progress=False)


def test_what_is_no_finished_run_is_not_reopened(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterpError, match="is it a run"):
        load(tmp_path)
    out, items = tmp_path / "run", tmp_path / "items.jsonl"
    line = (
        '{"id": "one", "question": "Who?", "gold": 0, "choices": [{"text": "no one", "role": '
        '"unknown"}, {"text": "the one", "role": "stereotyped"}, {"text": "the other", "role": '
        '"counter"}]}'
    )
    items.write_text(line)
    config = load_config_class("lens")(
        model=str(tiny_folder("llama")), items=str(items), texts=1, out=out
    )
    run(load_study("lens"), config, progress=False)
    items.write_text(line.replace("Who?", "Which one?"))
    with pytest.raises(InterpError, match="items changed since the run"):
        load(out)
    items.write_text(line)
    load(out)
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete"', '"interrupted"', 1))
    with pytest.raises(InterpError, match=r"has not ended \(status interrupted\)"):
        load(out)


def test_a_file_made_once_is_not_made_by_a_worker(tmp_path: Path) -> None:
    lab = Lab(model=None, folder=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InterpError, match="is missing: run the command again"):
        lab.file("directions/mine.safetensors", lambda path: path.write_text("") and None)
