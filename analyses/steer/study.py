"""The steering study: one direction at one strength is one unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analyses.contrast import digest_prompts
from analyses.steer import asked as questions
from analyses.steer import story, tables
from analyses.steer.asked import SteerQuestion
from analyses.steer.config import SteerConfig
from analyses.steer.steps import (
    NULLS,
    SteerBench,
    measure_place,
    measure_step,
    null_rows,
    steps_of,
)
from analyses.steer.tables import SteerResult
from analyses.study import Lab, Saved, Step, Steps, Story
from interp.behaviour.outcomes import Outcomes
from interp.directions import fit_direction, load_direction
from interp.prompts import Condition, TextBank, condition_prompt


class Steer:
    """See :mod:`analyses.steer`."""

    name = "direction steer"
    Config = SteerConfig

    def ask(self, config: SteerConfig, *, progress: bool = True) -> SteerQuestion:
        """Items, sentences, and the direction's file if one is given; refuses too few placebos."""
        return questions.ask(config, progress=progress)

    def bench(self, asked: SteerQuestion, lab: Lab) -> SteerBench:
        """The direction and what is measured under it.

        A given direction must be the model's; without one it is fitted once and stays with the run.
        """
        config, model = asked.config, lab.model
        if asked.given is not None:
            asked.given.require(model)
        outcomes = Outcomes(
            model,
            asked.items,
            sentences=asked.sentences.compared,
            plain=asked.plain,
            completions=asked.completions,
        )
        bank = TextBank(
            model.tokenizer, conditions=asked.specs, n_ctx=model.cfg.n_ctx, seed=config.seed
        )
        texts = [
            bank.conditions(item, ["placebo"], n_texts=config.placebos) for item in asked.items
        ]
        both = list(zip(asked.items, texts, strict=True))
        placebos = tuple(
            tuple(condition_prompt(model, item, placebo).ids for placebo in own)
            for item, own in both
        )
        clean = Condition("clean", "clean", None)
        digests = tuple(
            digest_prompts(model.tokenizer, item, (clean, *own), n_orders=None)
            for item, own in both
        )

        def fit(path: Path) -> None:
            texts, seed = asked.sentences.fit, config.seed
            fit_direction(model, texts, seed=seed, progress=lab.progress).save(path)

        stack = asked.given
        if stack is None:
            stack = load_direction(lab.file(tables.FITTED, fit))
        return SteerBench(config, model, stack.best, outcomes, placebos, digests)

    def steps(self, asked: SteerQuestion, bench: SteerBench) -> Steps:
        """The place, the null directions there, and the outcomes under every step."""
        at, prompts = bench.at, list(bench.digests)
        yield Step(
            "place",
            [(at.site, at.layer)],
            key=lambda place: {"place": place, "prompts": prompts},
            compute=measure_place,
        )
        nulls = yield Step(
            "nulls",
            list(NULLS),
            key=lambda kind: {"kind": kind, "prompts": prompts},
            compute=null_rows,
        )
        yield Step(
            "steering",
            steps_of(at, nulls, asked.config.strengths),
            key=lambda step: step.key() | {"prompts": prompts},
            compute=measure_step,
        )

    def read(self, asked: SteerQuestion, saved: Saved) -> SteerResult:
        """Effects, swings among those of the null directions, continuations."""
        return tables.read(asked, saved)

    def tables(self, result: SteerResult) -> Mapping[str, pd.DataFrame]:
        """Everything but the outcomes themselves; the swings at the largest step first."""
        names = ("swings", "effects", "completions", "texts")
        return {name: getattr(result, name) for name in names}

    def story(self, result: SteerResult) -> Story:
        """Order of the gates: held-out sentences, an interval without 0, beyond null directions."""
        return story.tell(result)
