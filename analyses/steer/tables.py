"""What a steering run measured: the outcomes, and the tables of :mod:`interp.directions.swings`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analyses.steer.asked import Sentences, SteerQuestion
from analyses.steer.config import SteerConfig
from analyses.study import Saved
from interp.data import ChoiceItem
from interp.directions import DirectionStack, load_direction
from interp.directions.swings import (
    LEARNED,
    SWINGING,
    completion_table,
    effect_table,
    swing_table,
    text_table,
)
from interp.display import short_repr
from interp.models import ModelCard
from interp.stats import Family, interval_of

FITTED = "directions/morality.safetensors"
"""The direction learned here, where none is given."""


@dataclass(frozen=True, eq=False)
class SteerResult:
    """What a run measured.

    ``stack``: the direction, at every layer; ``place``: a class unit beside the states' spread;
    ``sentences``: which were compared; ``beginnings``: what was continued, by name; ``left_out``:
    items without a margin; ``rows``: every outcome under every step; the other tables are those of
    :mod:`interp.directions.swings`.
    """

    config: SteerConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    left_out: tuple[str, ...]
    stack: DirectionStack
    place: pd.Series
    sentences: Sentences
    beginnings: dict[str, str]
    rows: pd.DataFrame
    effects: pd.DataFrame
    swings: pd.DataFrame
    completions: pd.DataFrame
    texts: pd.DataFrame
    report: Path

    __repr__ = short_repr

    @property
    def family(self) -> Family:
        """The swings that are claimed, corrected together: the margins' and the preference's."""
        rows = self.swings[(self.swings["kind"] == LEARNED) & self.swings["outcome"].isin(SWINGING)]
        claims = {
            (row["outcome"], row["subset"]): interval_of(row) for row in rows.to_dict("records")
        }
        return Family.of("swings", claims)


def read(asked: SteerQuestion, saved: Saved) -> SteerResult:
    """The result of the saved outcomes."""
    config, rows = asked.config, saved.table("steering")
    used = set(rows.loc[rows["outcome"] == "margin", "item"])
    stack = load_direction(saved.path(FITTED)) if asked.given is None else asked.given
    return SteerResult(
        config=config,
        card=saved.card,
        items=asked.items,
        left_out=tuple(item.id for item in asked.items if item.id not in used),
        stack=stack,
        place=saved.table("place").iloc[0],
        sentences=asked.sentences,
        beginnings={item.id: item.prompt for item in asked.completions},
        rows=rows,
        effects=effect_table(rows),
        swings=swing_table(rows),
        completions=completion_table(rows),
        texts=text_table(rows),
        report=saved.report,
    )
