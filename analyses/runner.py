"""Running a study, and reopening what it left.

:func:`run` is one run: the study is asked, its model loaded (or the one in memory taken), its steps
driven through ledgers, its tables read, its page written. Interrupted anywhere, the same call goes on
and ends with the same bytes. :func:`load` reopens a finished folder as the result that :func:`run`
returned: no model is loaded, nothing is computed but the statistics.

    done = run(Patch(), PatchConfig(items="bbq:Age", out="runs/age"), model=model)
    load("runs/age").totals
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.config import RULES, StudyConfig, read_config
from analyses.executors import Executor, Job, in_process
from analyses.registry import load_study
from analyses.report.page import write_page
from analyses.study import AskedT, BenchT, ConfigT, Lab, ResultT, Saved, Step, Story, Study
from interp import viz
from interp.errors import InterpError
from interp.models import ModelCard, load_model, model_card
from interp.models.chat_template import template_date
from interp.prompts.tokenizer import require_tokenizer
from interp.runs import Run, open_run, read_manifest

NOT_COMPARED = (
    "config.out", "config.page", "config.png", "config.template_date", "model.checks", "model.versions",
)  # fmt: skip
"""What may differ between a run and its resumption; the model's card has the date that is written."""


@dataclass(frozen=True)
class Finished(Generic[ResultT]):
    """A result, and how it is told."""

    result: ResultT
    story: Story
    report: Path


def run(
    study: Study[ConfigT, AskedT, BenchT, ResultT],
    config: ConfigT,
    *,
    model: TransformerBridge | None = None,
    executor: Executor = in_process,
    command: str = "",
    progress: bool = True,
) -> ResultT:
    """Run a study (or go on with it) and write its folder; returns everything it measured.

    Args:
        study: what is asked, such as ``Lens()``.
        config: how.
        model: ``config.model`` where it has been loaded already, in ``config.compatibility_mode``.
        executor: where units are computed; the tables do not depend on it.
        command: recorded in the manifest.
        progress: show bars.

    Raises:
        InterpError: what the study refuses, a folder that holds another run, or ``png`` without a
            browser that draws (:func:`interp.viz.require_browser`), before anything is computed.
    """
    options: dict[str, Any] = {"executor": executor, "command": command, "progress": progress}
    return run_and_tell(study, config, model=model, **options).result


def run_and_tell(
    study: Study[ConfigT, AskedT, BenchT, ResultT],
    config: ConfigT,
    *,
    model: TransformerBridge | None = None,
    executor: Executor = in_process,
    command: str = "",
    progress: bool = True,
) -> Finished[ResultT]:
    """:func:`run`, with the story it wrote."""
    by_name = model is None
    if config.png:
        viz.require_browser()  # not found out after hours of computing
    if model is not None:
        config = _config_of(config, model)
    asked = study.ask(config, progress=progress)
    if model is None:
        model = load_model(
            config.model,
            compatibility_mode=config.compatibility_mode,
            template_date=config.template_date,
        )
    card = model_card(model)
    with contextlib.ExitStack() as stack:
        opened: list[Run] = []

        def open_once() -> Run:
            if not opened:
                context = open_run(
                    config.out,
                    study=study.name,
                    config=config,
                    model=card.to_dict(),
                    data=asked.data_hashes,
                    rules=RULES,
                    seed=config.seed,
                    command=command,
                    ignore=NOT_COMPARED,
                )
                opened.append(stack.enter_context(context))
            return opened[0]

        # a bench refuses what it can before it asks for the first file, and so for the folder
        bench = study.bench(asked, Lab(model, config.out, progress, open_once))
        folder = open_once()
        job = Job(study, config, config.out, by_name)
        _compute(study, asked, bench, folder, job, executor, progress)
        result = study.read(asked, Saved(config.out, ModelCard.from_dict(card.to_dict())))
        for name, table in study.tables(result).items():
            folder.save_table(name, table)
            folder.save_text(f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
        story = study.story(result)
        write_page(folder, story, card=card, png=config.png)
    return Finished(result, story, config.out / "report.html")


def _config_of(config: ConfigT, model: TransformerBridge) -> ConfigT:
    """What is recorded for a model in memory: its mode and date, and its name if none is given."""
    require_tokenizer(model.tokenizer)  # studies are about texts
    card = model_card(model)
    mode = card.mode == "compatibility"
    if "compatibility_mode" in config.model_fields_set and config.compatibility_mode != mode:
        raise InterpError(
            f"compatibility_mode is {config.compatibility_mode}, and the model given is in mode "
            f"{card.mode!r}: leave the option out, or load the model so"
        )
    date = template_date(model.tokenizer).isoformat()
    given = "template_date" in config.model_fields_set
    if given and card.template_date and config.template_date != date:
        raise InterpError(
            f"template_date is {config.template_date}, and the chat template of the model given "
            f"writes {date}: leave the option out, or load the model with that date"
        )
    name = config.model if "model" in config.model_fields_set else card.name
    return config.model_copy(
        update={"model": name, "compatibility_mode": mode, "template_date": date}
    )


def _compute(
    study: Study[ConfigT, AskedT, BenchT, ResultT],
    asked: AskedT,
    bench: BenchT,
    folder: Run,
    job: Job,
    executor: Executor,
    progress: bool,
) -> None:
    """Drive the steps: each table's units through its ledger, and the table back to the generator."""
    steps = study.steps(asked, bench)
    with executor(job, bench) as bind:
        step = next(steps, None)
        while step is not None:
            compute, mapper = bind(step.compute)
            ledger = folder.ledger(step.table)
            shown = progress and len(step.units) > 1
            ledger.run(step.units, key=step.key, compute=compute, mapper=mapper, progress=shown)
            if step.stream:
                ledger.stream()
                table = pd.DataFrame()
            else:
                table = ledger.merge()
                for file, column in step.lines.items():
                    folder.save_text(file, "".join(f"{line}\n" for line in table[column] if line))
            step = _next(steps, table)


def _next(steps: Any, table: pd.DataFrame) -> Step | None:
    try:
        following: Step = steps.send(table)
    except StopIteration:
        return None
    return following


def load(folder: str | Path, *, study: Study[Any, Any, Any, Any] | None = None) -> Any:
    """The result of a finished run, as :func:`run` returned it, without a model.

    Args:
        folder: the run's folder, wherever it lies now.
        study: the study that made it, where that is not one of the command line's.

    Raises:
        InterpError: no run there, one that has not ended, one of an unknown study, or one whose data
            sets or condition files have changed since.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest["status"] != "complete":
        raise InterpError(
            f"{folder}: the run has not ended (status {manifest['status']}): run its command again"
        )
    study = load_study(manifest["study"]) if study is None else study
    config: StudyConfig = read_config(study.Config, **manifest["config"])
    asked = study.ask(config, progress=False)
    _refuse_other_data(folder, manifest["data"], asked.data_hashes)
    return study.read(asked, Saved(folder, ModelCard.from_dict(manifest["model"])))


def _refuse_other_data(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        raise InterpError(
            f"{folder}: {', '.join(changed)} changed since the run: bring back what it was made of, "
            "or run it again into another --out"
        )
