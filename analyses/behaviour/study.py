"""The behaviour study: a unit is an item's prompts, or one trajectory's conversations over items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from analyses.behaviour import story, tables
from analyses.behaviour.asked import BehaviourAsked, ask, is_single_prompt, require_texts
from analyses.behaviour.config import BehaviourConfig
from analyses.behaviour.tables import BehaviourResult
from analyses.behaviour.units import (
    BehaviourBench,
    Talk,
    greedy,
    hold_talk,
    prompts_key,
    question_key,
    score_prompts,
    score_question,
    scorer_name,
    stereotype_questions,
    talk_key,
    talks,
    token_ids,
    toxicity_questions,
)
from analyses.study import Lab, Saved, Step, Steps, Story
from interp.behaviour import scorer
from interp.prompts import TextBank


class Behaviour:
    """See :mod:`analyses.behaviour`."""

    name = "behave"
    Config = BehaviourConfig

    def ask(self, config: BehaviourConfig, *, progress: bool = True) -> BehaviourAsked:
        """See :mod:`analyses.behaviour.asked`."""
        return ask(config, progress=progress)

    def bench(self, asked: BehaviourAsked, lab: Lab) -> BehaviourBench:
        """Model, text bank and scorer; refuses texts beyond the context or without a placebo."""
        config, model = asked.config, lab.model
        bank = TextBank(
            model.tokenizer,
            conditions=asked.specs,
            feedback=asked.feedback,
            require_match=config.require_match,
            n_ctx=model.cfg.n_ctx,
            seed=config.seed,
        )
        require_texts(bank, asked)
        return BehaviourBench(
            config=config,
            model=model,
            bank=bank,
            feedback=asked.feedback,
            scorer=scorer(config.scorer) if config.scorer else None,
            n_options=max((len(item.choices) for item in asked.choices), default=0),
        )

    def steps(self, asked: BehaviourAsked, bench: BehaviourBench) -> Steps:
        """Single prompts and questions of choice items, conversations, completions and their ids."""
        config, choices = asked.config, asked.choices
        if choices and any(is_single_prompt(asked.specs[name]) for name in config.conditions):
            key = partial(prompts_key, bench)
            yield Step("scores", choices, key=key, compute=score_prompts)
        of_question = partial(question_key, bench)
        questions = stereotype_questions(choices) if config.stereotype_questions else ()
        if questions:
            yield Step("stereotype_questions", questions, key=of_question, compute=score_question)
        if asked_again := talks(bench.bank, choices, "choice", config):
            yield _conversations(bench, "conversations", asked_again)
        begun = talks(bench.bank, asked.completions, "completion", config)
        if not begun:
            return
        table = yield _conversations(bench, "completions", begun)
        texts = list(dict.fromkeys(greedy(table)["completion"]))
        yield Step("completion_tokens", [texts], key=lambda unit: unit, compute=token_ids)
        if config.scorer is None:
            return
        yield Step("scorer", [config.scorer], key=lambda unit: unit, compute=scorer_name)
        if questions := toxicity_questions(table, asked.completions):
            yield Step("toxicity_questions", questions, key=of_question, compute=score_question)

    def read(self, asked: BehaviourAsked, saved: Saved) -> BehaviourResult:
        """The tables of single prompts, of rounds and of completions, as far as there are any."""
        return tables.read(asked, saved)

    def tables(self, result: BehaviourResult) -> Mapping[str, pd.DataFrame]:
        """Everything that has rows, effects first."""
        return dict(sorted(result.tables.items(), key=lambda table: table[0] != "effects"))

    def story(self, result: BehaviourResult) -> Story:
        """A section for every table with numbers; the positive control is read first."""
        return story.tell(result)


def _conversations(bench: BehaviourBench, name: str, units: Sequence[Talk]) -> Step:
    lines = {f"{name}_histories.jsonl": "history"}
    return Step(name, units, key=partial(talk_key, bench), compute=hold_talk, lines=lines)
