"""What instructions do to answers: single prompts, rounds of self-correction, completions.

Choice items are scored under every condition, text and cyclic order (the text bank gives each
instruction its placebo), then asked over rounds, each trajectory beside its placebo. Completion
items are completed over rounds, read for toxicity by a named scorer, for fluency behind their
beginning as plain text, and for what was edited or appended. Items and conversations go through
ledgers, so a killed run resumes and ends with the same bytes; ``conversations_histories.jsonl`` and
``completions_histories.jsonl`` hold every conversation, ids and text.
The tables are those of :mod:`analyses.behaviour_tables` and :mod:`analyses.behaviour_rounds`, the
report is :mod:`analyses.behaviour_story`'s.

    done = run(BehaviourConfig(items="bbq:Age,bbq:Religion", limit=200, out="runs/behave"))
    done.tables["rank_gain"]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from transformer_lens.model_bridge import TransformerBridge

from analyses import behaviour_rounds, behaviour_tables
from analyses.behaviour_asked import (
    SAMPLED,
    Talk,
    hold_talks,
    score_prompts,
    score_questions,
    stereotype_questions,
    talks,
    toxicity_questions,
)
from analyses.behaviour_checks import Kinds, require_asked, require_texts
from analyses.config import IGNORED, listed, prompt_hashes
from interp.behaviour import OptionScores, ToxicityScorer, scorer
from interp.data import ChoiceItem, CompletionItem, is_completions, load_completions, load_items
from interp.models import DEFAULT_MODEL, ModelCard, load_model, model_card
from interp.prompts import ConditionSpec, InstructionTurn, Placement, TextBank, load_conditions
from interp.prompts.slots import read_feedback
from interp.runs import Run, digest, open_run, read_manifest, read_table

Names = Annotated[tuple[str, ...], BeforeValidator(listed)]


class BehaviourConfig(BaseModel):
    """What is asked; stored in the manifest and compared on resume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    items: Names = ("bbq",)
    conditions: Names = ("clean", "instructed", "placebo", "revealing", "specificity_0")
    rounds: int = Field(default=5, ge=0, description="the last round; 0: single prompts only")
    limit: int = Field(default=60, ge=1, description="items of a kind, choices sampled by cluster")
    texts: int = Field(default=6, ge=1, description="wordings per condition in single prompts")
    round_texts: int = Field(default=1, ge=1, description="wordings per condition over rounds")
    round_orders: int = Field(default=1, ge=1, description="cyclic orders over rounds")
    answer: Literal["score", "generate"] = "score"
    placement: Placement = "after"
    turn: InstructionTurn = "user"
    require_match: int | None = Field(
        default=None, ge=0, description="tokens by which a placebo may differ; None: the nearest"
    )
    condition_file: Path | None = None
    feedback: Path | None = None
    scorer: str | None = None
    samples: int = Field(default=0, ge=0, description="sampled completions beside the greedy one")
    seed: int = Field(default=0, ge=0)
    compatibility_mode: bool = False
    png: bool = Field(default=False, description="also write the figures as PNG")
    out: Path = Path("runs/behave")

    @field_validator("items", "conditions")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one")
        return value


@dataclass(frozen=True)
class BehaviourRun:
    """What a run measured.

    ``scores``: every single prompt of a choice item; None without choice items. ``rounds``: every
    round of every conversation (:func:`interp.behaviour.rounds_frame`), with ``toxicity`` and
    ``nll`` of completions where they were scored. ``tables``: by name, see the modules above.
    """

    config: BehaviourConfig
    card: ModelCard
    items: tuple[ChoiceItem | CompletionItem, ...]
    scores: OptionScores | None
    rounds: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    report: Path


def run(config: BehaviourConfig, *, progress: bool = True) -> BehaviourRun:
    """Ask (or go on asking) and write the run folder; returns everything it measured.

    Raises:
        InterpError: an unknown item set, condition or scorer, a condition file or feedback that
            cannot be read, a condition that fits none of the items, a prompt beyond the context, or
            a folder that holds another run.
    """
    from analyses.behaviour_story import write_story

    specs = load_conditions(config.condition_file)
    feedback = None if config.feedback is None else read_feedback(config.feedback)
    choices, completions = _items(config, progress=progress)
    kinds: Kinds = {"choice": choices, "completion": completions}
    require_asked(config, specs, kinds, feedback)
    named = scorer(config.scorer) if config.scorer else None
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    bank = TextBank(
        model.tokenizer,
        conditions=specs,
        feedback=feedback,
        require_match=config.require_match,
        n_ctx=model.cfg.n_ctx,
        seed=config.seed,
    )
    require_texts(bank, config, kinds)
    with open_run(
        config.out,
        config=config,
        model=model_card(model).to_dict(),
        data=_hashes(choices, completions, specs, feedback),
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:
        study = _Study(folder, model, bank, config, feedback, progress)
        scores, tables = study.prompts(choices)
        rounds = [study.rounds(choices, tables), study.completions(completions, named, tables)]
        done = BehaviourRun(
            config=config,
            card=model_card(model),
            items=(*choices, *completions),
            scores=scores,
            rounds=_stacked(*rounds),
            tables={name: table for name, table in tables.items() if len(table)},
            report=config.out / "report.html",
        )
        for name, table in done.tables.items():
            folder.save_table(f"table_{name}", table)
            folder.save_text(f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
        write_story(folder, done)
    return done


def load_scores(folder: str | Path) -> OptionScores:
    """The single prompts of a run folder that has ended, with its model card and seed.

    Raises:
        InterpError: no run there, or one without single prompts.
    """
    manifest = read_manifest(folder)
    card = ModelCard.from_dict(manifest["model"])
    return OptionScores(read_table(folder, "scores"), card, manifest["seed"])


@dataclass(frozen=True)
class _Study:
    """What all parts of a run share."""

    folder: Run
    model: TransformerBridge
    bank: TextBank
    config: BehaviourConfig
    feedback: Mapping[str, str] | None
    progress: bool

    def prompts(
        self, items: Sequence[ChoiceItem]
    ) -> tuple[OptionScores | None, dict[str, pd.DataFrame]]:
        """Single prompts of choice items, and their tables."""
        if not items:
            return None, {}
        seed = self.config.seed
        scores = score_prompts(
            self.folder, self.model, self.bank, items, self.config, progress=self.progress
        )
        tables = {}
        if scores is not None:
            tables = {
                "levels": behaviour_tables.levels(scores, seed=seed),
                "effects": behaviour_tables.effects(scores, seed=seed),
                "rank_gain": behaviour_tables.rank_gain(scores, seed=seed),
                "flips": behaviour_tables.flips(scores, seed=seed),
                "categories": behaviour_tables.categories(scores, seed=seed),
                "letters": behaviour_tables.letters(scores),
                "winogender": behaviour_tables.winogender(scores, items, seed=seed),
            }
        questions = stereotype_questions(items)
        if questions:
            tables["self_distinguish"] = self._distinguished(questions, "stereotype_questions")
        return scores, tables

    def rounds(self, items: Sequence[ChoiceItem], tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
        """Conversations about choice items; adds their tables."""
        asked = talks(self.bank, items, "choice", self.config)
        if not asked:
            return pd.DataFrame()
        frame = self._hold(asked, "conversations")
        seed = self.config.seed
        tables["rounds"] = behaviour_rounds.by_round(frame, seed=seed)
        tables["round_effects"] = behaviour_rounds.effects_by_round(frame, seed=seed)
        tables["round_flips"] = behaviour_rounds.flips_by_round(frame, seed=seed)
        return frame

    def completions(
        self,
        items: Sequence[CompletionItem],
        named: ToxicityScorer | None,
        tables: dict[str, pd.DataFrame],
    ) -> pd.DataFrame:
        """Completions over rounds; adds their tables."""
        asked = talks(self.bank, items, "completion", self.config)
        if not asked:
            return pd.DataFrame()
        frame = self._hold(asked, "completions", named)
        seed, sampled = self.config.seed, frame["protocol"].str.endswith(SAMPLED)
        greedy = frame[~sampled]
        tables["edits"] = behaviour_rounds.edits(greedy, self.model.tokenizer, seed=seed)
        if named is None:
            return frame
        parts = [
            behaviour_rounds.toxicity(rows, rows["toxicity"], scorer=named.name, seed=seed)
            for rows in (greedy, frame[sampled])
            if len(rows)
        ]
        highest = [part[part["measure"] == "expected_maximum"] for part in parts[1:]]
        tables["toxicity"] = pd.concat([parts[0], *highest], ignore_index=True)
        effects = behaviour_rounds.effects_by_round(
            greedy, measures={"toxicity": "toxicity"}, seed=seed
        )
        tables["round_effects"] = _stacked(tables.get("round_effects"), effects)
        questions = toxicity_questions(frame, items)
        if questions:
            told = self._distinguished(questions, "toxicity_questions")
            tables["self_distinguish"] = _stacked(tables.get("self_distinguish"), told)
        return frame

    def _hold(
        self, asked: Sequence[Talk], name: str, named: ToxicityScorer | None = None
    ) -> pd.DataFrame:
        return hold_talks(
            self.folder,
            self.model,
            asked,
            self.config,
            name=name,
            feedback=self.feedback,
            scorer=named,
            progress=self.progress,
        )

    def _distinguished(self, questions: Sequence[ChoiceItem], name: str) -> pd.DataFrame:
        scores = score_questions(
            self.folder,
            self.model,
            questions,
            name=name,
            seed=self.config.seed,
            progress=self.progress,
        )
        return behaviour_tables.self_distinguish(scores, seed=self.config.seed)


def _stacked(*frames: pd.DataFrame | None) -> pd.DataFrame:
    """One frame of those that have rows; an empty one of none."""
    filled = [frame for frame in frames if frame is not None and len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _items(
    config: BehaviourConfig, *, progress: bool
) -> tuple[tuple[ChoiceItem, ...], tuple[CompletionItem, ...]]:
    """``limit`` choice items of all their sets together, and ``limit`` of every completion set."""
    begun = [name for name in config.items if is_completions(name)]
    chosen = [name for name in config.items if name not in begun]
    options: dict[str, Any] = {"limit": config.limit, "seed": config.seed, "progress": progress}
    completions = [item for name in begun for item in load_completions(name, **options)]
    return load_items(chosen, **options) if chosen else (), tuple(completions)


def _hashes(
    choices: Sequence[ChoiceItem],
    completions: Sequence[CompletionItem],
    specs: Mapping[str, ConditionSpec],
    feedback: Mapping[str, str] | None,
) -> dict[str, str]:
    """What the prompts are made of."""
    hashes = prompt_hashes([*choices, *completions], specs)
    return hashes | {"feedback": digest(dict(feedback or {}))}
