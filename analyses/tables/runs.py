"""The runs behind the committed rows: what each asks, and which of its files are kept.

Rows lie in ``docs/rows/NAME``: the tables and files that the study's own reading needs, and a manifest
without the machine it was made on. So a kept folder is read as the run was
(:func:`analyses.runner.load`), and the statistics of a table are those of the code at hand.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.config import read_config
from analyses.executors import in_process, processes
from analyses.registry import load_study
from analyses.runner import load, run
from interp.behaviour import OptionScores
from interp.errors import InterpError, did_you_mean
from interp.models import DEFAULT_MODEL, ModelCard
from interp.runs import read_manifest, read_table
from interp.runs.manifest import MANIFEST_NAME

ROWS = Path(__file__).resolve().parents[2] / "docs" / "rows"
"""Where the rows are committed."""

LARGER_MODEL = "qwen2.5-coder-0.5b-instruct"

_CONDITIONS = "clean,instructed,placebo,revealing,mentions,paraphrases"
_ROUNDS: dict[str, Any] = {"items": "bbq", "limit": 66, "rounds": 5}


@dataclass(frozen=True)
class RowsRun:
    """A run whose rows are committed: its study, options, and the files that are kept (patterns)."""

    study: str
    options: Mapping[str, Any]
    kept: Sequence[str]
    model: str = DEFAULT_MODEL


def _card(condition: str, direction: str, *, model: str = DEFAULT_MODEL) -> RowsRun:
    """A scorecard of BBQ items at its defaults, along the morality direction of other rows."""
    along = Path("docs/rows") / direction / "directions" / "mean_difference-resid_post.safetensors"
    options = {"items": "bbq", "condition": condition, "direction": along}
    return RowsRun("superficiality", options, ("*.parquet",), model)


def _behaviour(kept: Sequence[str], *, model: str = DEFAULT_MODEL, **options: Any) -> RowsRun:
    return RowsRun("behave", options, kept, model)


RUNS: dict[str, RowsRun] = {
    "demo": RowsRun("demo", {}, ("*.parquet", "directions/morality.safetensors")),
    "direction": RowsRun("direction fit", {}, ("nulls.parquet", "directions/*.safetensors")),
    "direction-qwen2.5-0.5b": RowsRun(
        "direction fit",
        {"methods": "mean_difference", "sites": "resid_post"},
        ("nulls.parquet", "directions/*.safetensors"),
        LARGER_MODEL,
    ),
    "card-smollm2-135m-instructed": _card("instructed", "direction"),
    "card-smollm2-135m-names": _card("specificity_2", "direction"),
    "card-qwen2.5-0.5b-instructed": _card(
        "instructed", "direction-qwen2.5-0.5b", model=LARGER_MODEL
    ),
    "card-qwen2.5-0.5b-names": _card("specificity_2", "direction-qwen2.5-0.5b", model=LARGER_MODEL),
    "transfer": RowsRun(
        "direction transfer",
        {
            "texts": "bundled:morality,bundled:statements,bundled:contrasts:sentiment,crows-pairs,"
            "stereoset,ethics,moralchoice"
        },
        ("transfer.parquet",),
    ),
    "steer": RowsRun("direction steer", {}, ("steering.parquet", "place.parquet")),
    "rq1-smollm2-135m": _behaviour(
        ("scores.parquet", "stereotype_questions.parquet"),
        items="bbq",
        limit=198,
        rounds=0,
        conditions=f"{_CONDITIONS},statement",
    ),
    "rq1-qwen2.5-0.5b": _behaviour(
        ("scores.parquet", "stereotype_questions.parquet"),
        model=LARGER_MODEL,
        items="bbq",
        limit=110,
        orders=1,  # every prompt costs four times that of the default model
        rounds=0,
        conditions=_CONDITIONS,
    ),
    "rounds-instructed": _behaviour(
        ("conversations.parquet",),
        **_ROUNDS,
        round_texts=6,
        texts=1,
        conditions="clean,instructed,placebo,specificity_0",
    ),
    "rounds-revealing": _behaviour(
        ("conversations.parquet",),
        **_ROUNDS,
        round_texts=6,
        texts=1,
        conditions="clean,revealing,placebo",
    ),
    # Completions of toxic beginnings are not kept, only what was measured of them.
    "rounds-nontoxic": _behaviour(
        ("toxicity.parquet", "edits.parquet", "round_effects.parquet"),
        items="rtp-993",
        limit=60,
        rounds=5,
        conditions="nontoxic,placebo",
        scorer="offline",
    ),
}


@dataclass(frozen=True)
class Kept:
    """The committed rows of a run."""

    name: str
    folder: str | Path = field(default=ROWS)

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self.folder) / self.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was run."""
        manifest: dict[str, Any] = json.loads((self.path / MANIFEST_NAME).read_text())
        return manifest

    @property
    def card(self) -> ModelCard:
        """The model's."""
        return ModelCard.from_dict(self.manifest["model"])

    @property
    def is_there(self) -> bool:
        """Whether rows are committed."""
        return (self.path / MANIFEST_NAME).is_file()

    def table(self, name: str) -> pd.DataFrame:
        """A table of rows. Raises InterpError if it is not kept."""
        return read_table(self.path, name)

    def scores(self) -> OptionScores:
        """The single prompts of a behaviour run."""
        return OptionScores(self.table("scores"), self.card)

    def result(self) -> Any:
        """The run's result, by its study's own reading; needs the data set that the items are of."""
        return load(self.path)


def make_rows(
    name: str,
    model: TransformerBridge | None,
    *,
    out: Path,
    rows: Path = ROWS,
    data: Mapping[str, str] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> None:
    """Run ``name`` in ``out``, or go on with it, and put what is kept into ``rows``.

    Args:
        name: one of :data:`RUNS`.
        model: its model; None: loaded by its catalogue name, which several processes take.
        out: where run folders lie.
        rows: where rows are kept.
        data: local places of data sets by their names (``ethics``: ``cm_test.csv``).
        jobs: processes that compute units.
        progress: show bars.

    Raises:
        InterpError: no run of this name, or what its study refuses.
    """
    asked, places = find_run(name), dict(data or {})
    study = load_study(asked.study)
    by_name = {"model": asked.model} if model is None else {}
    options = {**asked.options, **by_name, "out": out / name}
    if "texts" in options and isinstance(options["texts"], str):
        sets = options["texts"].split(",")
        options["texts"] = ",".join(f"{s}:{places[s]}" if s in places else s for s in sets)
    run(
        study,
        read_config(study.Config, **options),
        model=model,
        executor=processes(jobs) if jobs > 1 else in_process,
        command=f"python -m analyses.tables --rows {name}",
        progress=progress,
    )
    keep(out / name, rows / name, asked.kept, places)


def find_run(name: str) -> RowsRun:
    """The run of this name.

    Raises:
        InterpError: there is none.
    """
    if name not in RUNS:
        raise InterpError(f"--rows {name!r}: no such run; {did_you_mean(name, RUNS)}")
    return RUNS[name]


def keep(
    folder: Path, into: Path, patterns: Sequence[str], places: Mapping[str, str] | None = None
) -> None:
    """Copy the kept files of a finished run, and its manifest without times, host and folders.

    ``places``: where data sets lay (see :func:`make_rows`), which the manifest does not keep either.
    """
    manifest = read_manifest(folder)
    shutil.rmtree(into, ignore_errors=True)
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    for path in found:
        target = into / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    names = {path.relative_to(folder).as_posix() for path in found}
    place = f"runs/{into.name}"
    clean = {
        **manifest,
        "folder": place,
        "config": {**manifest["config"], "out": place},
        "files": {name: facts for name, facts in manifest["files"].items() if name in names},
        "sessions": [],
    }
    text = json.dumps(clean, indent=2)
    for name, place in (places or {}).items():
        text = text.replace(json.dumps(f"{name}:{place}"), json.dumps(name))
    (into / MANIFEST_NAME).write_text(f"{text}\n", encoding="ascii")
