"""What a behaviour run measured: the saved rows, and the tables read from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.behaviour.asked import BehaviourAsked
from analyses.behaviour.claims import with_verdicts
from analyses.behaviour.config import BehaviourConfig
from analyses.behaviour.units import SAMPLED, greedy
from analyses.study import Saved
from interp.behaviour import OptionScores, prompt_tables, round_tables
from interp.data import ChoiceItem, CompletionItem
from interp.display import short_repr
from interp.models import ModelCard

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class BehaviourResult:
    """What a run measured.

    ``scores``: every single prompt of a choice item; None without any. ``rounds``: every round of
    every conversation (:func:`interp.behaviour.rounds_frame`), with ``toxicity`` and ``nll`` of
    completions where they were scored. ``tables``: by name, those with rows: see
    :mod:`interp.behaviour.prompt_tables` and :mod:`interp.behaviour.round_tables`.
    """

    config: BehaviourConfig
    card: ModelCard
    items: tuple[ChoiceItem | CompletionItem, ...]
    scores: OptionScores | None
    rounds: pd.DataFrame
    tables: Tables
    report: Path

    __repr__ = short_repr


def read(asked: BehaviourAsked, saved: Saved) -> BehaviourResult:
    """The result of the saved rows."""
    seed = asked.config.seed
    conversations, completions = (_rounds(saved, name) for name in ("conversations", "completions"))
    scores = _scores(saved, "scores") if saved.has("scores") else None
    parts: list[Tables] = []
    if scores is not None:
        parts.append(_of_prompts(scores, asked))
    if len(conversations):
        parts.append(
            {
                "rounds": round_tables.by_round(conversations, seed=seed),
                "round_effects": round_tables.effects_by_round(conversations, seed=seed),
                "round_flips": round_tables.flips_by_round(conversations, seed=seed),
            }
        )
    if len(completions):
        parts.append(_of_completions(completions, saved, seed))
    parts += [
        {"self_distinguish": prompt_tables.self_distinguish(_scores(saved, name))}
        for name in ("stereotype_questions", "toxicity_questions")
        if saved.has(name)
    ]
    names = dict.fromkeys(name for part in parts for name in part)
    tables = {name: _stacked([part[name] for part in parts if name in part]) for name in names}
    return BehaviourResult(
        config=asked.config,
        card=saved.card,
        items=asked.items,
        scores=scores,
        rounds=_stacked([conversations, completions]),
        tables={name: table for name, table in tables.items() if len(table)},
        report=saved.report,
    )


def _of_prompts(scores: OptionScores, asked: BehaviourAsked) -> Tables:
    """Tables of single prompts. Some need several orders of the options, or all, and are left out.

    The gain is read in other orders than the rank; letters are even only over all orders.
    """
    seed, n_orders = asked.config.seed, asked.config.orders
    by_order: Tables = {}
    if n_orders is None or n_orders > 1:
        by_order["rank_gain"] = prompt_tables.rank_gain(scores)
    if n_orders is None:
        by_order["letters"] = prompt_tables.letters(scores)
    return by_order | {
        "levels": prompt_tables.levels(scores, seed=seed),
        "effects": with_verdicts(prompt_tables.effects(scores)),
        "flips": prompt_tables.flips(scores),
        "categories": prompt_tables.categories(scores),
        "option_forms": prompt_tables.option_forms(scores),
        "winogender": prompt_tables.winogender(scores, asked.choices),
    }


def _of_completions(frame: pd.DataFrame, saved: Saved, seed: int) -> Tables:
    """Edits; with a scorer also toxicity, its maximum over samples, and its effects by round."""
    tokens, first = saved.table("completion_tokens"), greedy(frame)
    ids = {text: ids.tolist() for text, ids in zip(tokens["text"], tokens["ids"], strict=True)}
    edits = {"edits": round_tables.edits(first, ids)}
    if "toxicity" not in frame:
        return edits
    scorer = str(saved.table("scorer")["scorer"].iloc[0])
    sampled = frame[frame["protocol"].str.endswith(SAMPLED)]
    toxicity = [
        round_tables.toxicity(rows, rows["toxicity"], scorer=scorer)
        for rows in (first, sampled)
        if len(rows)
    ]
    highest = [part[part["measure"] == "expected_maximum"] for part in toxicity[1:]]
    measures = {"toxicity": "toxicity"}
    return edits | {
        "toxicity": pd.concat([toxicity[0], *highest], ignore_index=True),
        "round_effects": round_tables.effects_by_round(first, measures=measures, seed=seed),
    }


def _scores(saved: Saved, name: str) -> OptionScores:
    return OptionScores(saved.table(name), saved.card)


def _rounds(saved: Saved, name: str) -> pd.DataFrame:
    """The rounds of a table of conversations, without their histories."""
    return saved.table(name).drop(columns="history") if saved.has(name) else pd.DataFrame()


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """One frame of those that have rows; an empty one of none."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
