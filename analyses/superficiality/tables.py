"""What a card's run measured: the card, and the tables that it is told with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.contrast import Question, read_example
from analyses.study import Saved
from analyses.superficiality.along import read_along
from analyses.superficiality.config import SuperficialityConfig
from interp.data import ChoiceItem
from interp.display import short_repr
from interp.models import ModelCard
from interp.prompts import ConditionSpec
from interp.superficiality import Scorecard, card_of
from interp.superficiality.further import FURTHER_TABLES
from interp.superficiality.rows import BEHAVIOUR, BEHAVIOUR_AFTER, ONSET


@dataclass(frozen=True)
class SuperficialityResult:
    """What a run measured.

    ``scorecard``: rows and verdicts. ``card_table``: the same as a table, a row per row; ``verdict``:
    name, rule and reasons of the verdict on the route and, with a direction, of that on it; ``effects``:
    B in every metric, the instruction first and last; ``depth``: the share of B in the states behind the
    instruction, per layer. ``n_patched``: pairs of the causal rows. ``example``: a text of each side.
    """

    config: SuperficialityConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    scorecard: Scorecard
    card_table: pd.DataFrame
    verdict: pd.DataFrame
    effects: pd.DataFrame
    depth: pd.DataFrame
    n_patched: int
    example: dict[str, str]
    report: Path

    __repr__ = short_repr


def read(asked: Question[SuperficialityConfig], saved: Saved) -> SuperficialityResult:
    """The result of the saved tables."""
    config, runs = asked.config, saved.table("runs")
    card = card_of(
        saved.table("behaviour"),
        runs,
        after=saved.table("behaviour_after"),
        untrained=saved.table("untrained") if saved.has("untrained") else None,
        further={name: saved.table(name) for name in FURTHER_TABLES if saved.has(name)},
        seed=config.seed,
        direction=read_along(saved),
        title=f"{saved.card.name}, {config.condition} on {config.items}",
    )
    verdicts = {"route": card.verdict, "direction": card.direction_verdict}
    effects = [
        card[name].table.assign(placement=placement)
        for name, placement in ((BEHAVIOUR, "before"), (BEHAVIOUR_AFTER, "after"))
    ]
    return SuperficialityResult(
        config=config,
        card=saved.card,
        items=asked.items,
        spec=asked.spec,
        scorecard=card,
        card_table=card.to_dataframe(),
        verdict=pd.DataFrame(
            [{**vars(one), "of": of} for of, one in verdicts.items() if one is not None]
        ),
        effects=pd.concat(effects, ignore_index=True),
        depth=card[ONSET].table,
        n_patched=int(runs.groupby("item").ngroups),
        example=read_example(saved),
        report=saved.report,
    )
