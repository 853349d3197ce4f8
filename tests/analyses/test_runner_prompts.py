"""A resumed run has the prompts that it began with, or is refused."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from analyses.behaviour import units
from analyses.behaviour.config import BehaviourConfig
from analyses.behaviour.study import Behaviour
from analyses.config import StudyConfig, read_config
from analyses.executors import processes
from analyses.lens.config import LensConfig
from analyses.lens.study import Lens
from analyses.registry import STUDIES, load_study
from analyses.runner import load, run
from analyses.study import Lab
from interp.errors import InterpError
from interp.models import load_model, set_template_date
from interp.runs import read_manifest, read_table
from tests.analyses.test_runner import SMALL, small, tables_of
from tests.conftest import CHAT_TEMPLATE, build_folder
from tests.thinking import DATED

pytestmark = pytest.mark.slow  # end to end; left out of the everyday tests

EDITED = CHAT_TEMPLATE.replace("<|{{", "<|turn|>{{")
PARTS = {
    "behave": {"scores": "item", "stereotype_questions": "item", "conversations": "protocol",
               "completions": "protocol", "toxicity_questions": "item"},
    "patch": {"notes": "condition"},
    "lens": {"lens": "item"},
    "attention": {"attention": "item", "patterns": "layers"},
    "circuit": {"effects": "slot", "circuits": "circuits", "ablations": "circuits"},
    "superficiality": {"runs": "donors", "untrained": "donors",
                       "behaviour": "item", "behaviour_after": "item"},
    "project": {"projections": "item", "null_directions": "position"},
    "direction steer": {"place": "place", "nulls": "kind", "steering": "strength"},
}  # fmt: skip
"""Tables whose units render prompts, and something else that their keys hold."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose files the test may change."""
    return build_folder("llama", tmp_path / "model")


def set_template(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)


def on(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    """The clock that templates read."""

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return datetime.datetime.fromisoformat(day)

    monkeypatch.setattr(chat_template_utils, "datetime", Day)


def ask(folder: Path, out: Path, **options: Any) -> BehaviourConfig:
    asked = {
        "items": "bundled",
        "limit": 3,
        "rounds": 1,
        "texts": 1,
        "conditions": "clean,instructed",
    }
    return read_config(BehaviourConfig, model=str(folder), out=out, **asked, **options)


def interrupted(config: BehaviourConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends after its second item."""
    done: list[object] = []
    real = units.score_variants

    def score(*args: Any, **options: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(units, "score_variants", score)
        with pytest.raises(KeyboardInterrupt):
            run(Behaviour(), config, progress=False)
    assert len(list((config.out / "parts" / "scores").glob("*.parquet"))) == 2


@pytest.mark.parametrize("end", ["chat_template", "tokenizer"])
def test_a_run_is_not_resumed_with_another_template_or_tokenizer(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    config = ask(folder, tmp_path / "run")
    interrupted(config, monkeypatch)
    if end == "chat_template":
        set_template(folder, EDITED)
    else:
        path = folder / "tokenizer.json"
        saved = json.loads(path.read_text())
        saved["normalizer"] = {"type": "Lowercase"}
        path.write_text(json.dumps(saved))
    with pytest.raises(
        InterpError, match=rf'model\.{end}_sha256 was "\w{{64}}", is now "\w{{64}}": '
    ):
        run(Behaviour(), config, progress=False)


def test_a_run_resumed_on_another_day_equals_one_that_was_never_interrupted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_template(folder, DATED)
    on(monkeypatch, "2026-11-26")
    config = ask(folder, tmp_path / "resumed")
    interrupted(config, monkeypatch)
    on(monkeypatch, "2026-12-25")
    resumed = run(Behaviour(), config, progress=False)
    whole = ask(folder, tmp_path / "whole")
    run(Behaviour(), whole, progress=False)
    assert tables_of(config.out) == tables_of(whole.out)
    assert resumed.card.template_date == "2024-07-26"
    later = ask(folder, tmp_path / "resumed", template_date="2025-01-01")
    with pytest.raises(InterpError, match='template_date was "2024-07-26", is now "2025-01-01"'):
        run(Behaviour(), later, progress=False)


def test_the_date_of_a_run_is_its_option_and_changes_its_prompts(
    folder: Path, tmp_path: Path
) -> None:
    set_template(folder, DATED)
    margins = []
    for day in ("2024-07-26", "2025-01-01"):
        config = ask(folder, tmp_path / day, template_date=day)
        done = run(Behaviour(), config, progress=False)
        assert (done.card.template_date, load(config.out).card) == (day, done.card)
        margins.append(done.scores.frame["margin"].tolist())
    assert margins[0] != margins[1]
    with pytest.raises(InterpError, match=r"--template-date 'May 1': .*give a date as 2024-07-26"):
        ask(folder, tmp_path / "x", template_date="May 1")
    assert ask(folder, tmp_path / "x", template_date=datetime.date(2025, 1, 1)).template_date == day


def test_other_processes_write_the_same_date(folder: Path, tmp_path: Path) -> None:
    set_template(folder, DATED)
    here = ask(folder, tmp_path / "here", template_date="2025-01-01")
    there = ask(folder, tmp_path / "there", template_date="2025-01-01")
    run(Behaviour(), here, progress=False)
    run(Behaviour(), there, executor=processes(1), progress=False)
    assert tables_of(here.out) == tables_of(there.out)


def test_a_date_that_no_template_writes_does_not_matter(folder: Path, tmp_path: Path) -> None:
    config = ask(folder, tmp_path / "run")
    done = run(Behaviour(), config, progress=False)
    again = run(
        Behaviour(), ask(folder, tmp_path / "run", template_date="2025-01-01"), progress=False
    )
    assert done.card == again.card
    assert done.card.template_date is None


def test_a_model_in_memory_keeps_its_own_date(folder: Path, tmp_path: Path) -> None:
    set_template(folder, DATED)
    model = load_model(folder)
    set_template_date(model.tokenizer, "2025-01-01")
    options: dict[str, Any] = {"items": "bundled", "limit": 2, "texts": 1}
    done = run(Lens(), LensConfig(out=tmp_path / "run", **options), model=model, progress=False)
    assert done.card.template_date == "2025-01-01"
    assert read_manifest(tmp_path / "run")["config"]["template_date"] == "2025-01-01"
    other = LensConfig(out=tmp_path / "other", template_date="2024-07-26", **options)
    with pytest.raises(InterpError, match="the chat template of the model given writes 2025-01-01"):
        run(Lens(), other, model=model, progress=False)


@pytest.mark.parametrize("name", PARTS)
def test_a_unit_is_named_after_its_prompts(name: str, folder: Path, tmp_path: Path) -> None:
    """With another template, in memory and behind the manifest's back, no unit keeps its key."""
    study = load_study(name)
    model = load_model(folder)

    def keys(out: str) -> dict[str, list[dict[str, Any]]]:
        config: StudyConfig = small(name, folder, tmp_path / out)
        run(study, config, model=model, progress=False)
        asked = study.ask(config, progress=False)
        steps = study.steps(asked, study.bench(asked, Lab(model, config.out, False)))
        found, step = {}, next(steps, None)
        while step is not None:
            if step.table in PARTS[name]:
                found[step.table] = [step.key(unit) for unit in step.units]
            try:
                table = None if step.stream else read_table(config.out, step.table)
                step = steps.send(table)
            except StopIteration:
                step = None
        return found

    before = keys("before")
    assert before.keys() <= PARTS[name].keys()
    assert before
    model.tokenizer.chat_template = EDITED
    after = keys("after")
    for table, held in before.items():
        assert all(key["prompts"] and PARTS[name][table] in key for key in held)
        changed = [a["prompts"] != b["prompts"] for a, b in zip(held, after[table], strict=True)]
        assert all(changed), table


def test_every_study_of_prompts_is_tested_here() -> None:
    without = {
        "demo",
        "direction fit",
        "direction transfer",
    }  # composed; sentences without a template
    assert set(PARTS) | without == set(STUDIES) == set(SMALL)


def test_a_finished_run_of_an_older_version_is_reopened(folder: Path, tmp_path: Path) -> None:
    config = ask(folder, tmp_path / "run")
    done = run(Behaviour(), config, progress=False)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    for field in ("chat_template_sha256", "tokenizer_sha256", "template_date", "thinking"):
        del manifest["model"][field]
    del manifest["config"]["template_date"]
    path.write_text(json.dumps(manifest))
    again = load(tmp_path / "run")
    assert again.scores.frame.equals(done.scores.frame)
    assert again.card.chat_template_sha256 == ""
    with pytest.raises(InterpError, match=r"model\.chat_template_sha256 was absent, is now"):
        run(Behaviour(), config, progress=False)
