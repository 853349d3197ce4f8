"""Tables of the scorecards that are committed: their verdicts, and all their rows side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analyses.tables import markdown
from analyses.tables.runs import Kept
from interp.superficiality import Finding, Scorecard
from interp.superficiality.instrument import INSTRUMENT
from interp.superficiality.mediation import R_IN
from interp.superficiality.rows import (
    BEHAVIOUR,
    CHANGED,
    CONTENT_EDGES,
    CONTENT_IN,
    CONTENT_OUT,
    ONSET,
    OTHER_EDGES,
)

CARDS = {
    "card-smollm2-135m-instructed": "SmolLM2 135M, a moral instruction",
    "card-smollm2-135m-names": "SmolLM2 135M, naming the answer",
    "card-qwen2.5-0.5b-instructed": "Qwen2.5-Coder 0.5B, a moral instruction",
    "card-qwen2.5-0.5b-names": "Qwen2.5-Coder 0.5B, naming the answer",
}
"""What the committed cards are of."""

_SUMMARY = (BEHAVIOUR, CONTENT_IN, CONTENT_OUT, CHANGED, CONTENT_EDGES, OTHER_EDGES, ONSET, R_IN,
            INSTRUMENT)  # fmt: skip


def cards(rows: Mapping[str, Kept]) -> str:
    """A column per card: its verdicts, and the rows that they rest on."""
    done = scorecards(rows)
    found = [
        _line("**by route**", (card.verdict.name for card in done.values())),
        _line("**along the direction**", map(_direction, done.values())),
        *(_row(name, done.values()) for name in _SUMMARY),
    ]
    return markdown.table(pd.DataFrame(found, columns=["", *done]))


def card_rows(rows: Mapping[str, Kept]) -> str:
    """Every row of every card."""
    done = scorecards(rows)
    names = dict.fromkeys(row.name for card in done.values() for row in card)
    found = [_row(name, done.values()) for name in names]
    return markdown.table(pd.DataFrame(found, columns=["row", *done]))


def scorecards(rows: Mapping[str, Kept]) -> dict[str, Scorecard]:
    """The cards by what they are of."""
    return {CARDS[run]: kept.result().scorecard for run, kept in rows.items()}


def _direction(card: Scorecard) -> str:
    found = card.direction_verdict
    return "not asked" if found is None else found.name


def _row(name: str, done: Iterable[Scorecard]) -> list[str]:
    return _line(name, (_cell({row.name: row for row in card}.get(name)) for card in done))


def _cell(row: Finding | None) -> str:
    """``.10 [.02, .18], n 60``, in italics where the row is not read."""
    if row is None:
        return "-"
    if math.isnan(float(row.interval.estimate)):
        return "*not defined*"
    number = f"{markdown.interval(row.interval)}, n {row.n}"
    return number if row.is_read else f"*{number}*"


def _line(name: str, cells: Iterable[Any]) -> list[str]:
    return [name, *map(str, cells)]
