"""Tables of ``docs/methods.md``: what the scorecard makes of nothing, and what it sees."""

from __future__ import annotations

import pandas as pd

from analyses.benchmarks.nulls.card import FILED, KEPT, SIZES, rejections
from analyses.benchmarks.nulls.card import verdicts as count_verdicts
from analyses.benchmarks.nulls.card_sets import Route
from analyses.benchmarks.nulls.verdicts import KEPT as VERDICTS
from analyses.benchmarks.nulls.verdicts import cards
from analyses.tables import markdown
from interp.superficiality.polarity import POLARITY
from interp.superficiality.rows import (
    BEHAVIOUR,
    BEHAVIOUR_AFTER,
    CHANGED,
    CONTENT_EDGES,
    CONTENT_IN,
    CONTENT_OUT,
    INTERACTION,
    OTHER_EDGES,
)

_BY_CONTENT = (CONTENT_IN, CONTENT_OUT, CHANGED, CONTENT_EDGES)

SEES: dict[str, Route] = {
    **dict.fromkeys((BEHAVIOUR, BEHAVIOUR_AFTER, POLARITY), FILED),
    **dict.fromkeys(_BY_CONTENT, "content"),
    OTHER_EDGES: "instruction",
}
"""On which route an effect has to be planted for a row to find it."""

BLIND: dict[str, Route] = {
    **dict.fromkeys((*_BY_CONTENT, INTERACTION), "instruction"),
    OTHER_EDGES: "content",
}
"""On which route a planted effect leaves a row's null hypothesis true."""


def null_rows() -> str:
    """Per row: rejections where nothing is asked, where an effect goes another way, and power."""
    rows = pd.read_parquet(KEPT)
    counts = rejections(rows).set_index(["row", "route", "size"])
    n = rows["draw"].nunique()
    found = []
    for name in dict.fromkeys(row for row, *_ in counts.index):
        null = counts.loc[(name, "none", 0.0)]
        cells = {
            "row": name,
            f"nothing asked: rejected, of {n}": int(null["rejected"]),
            "defined": int(null["defined"]),
        }
        size = SIZES[-1]
        blind, sees = BLIND.get(name), SEES.get(name)
        cells[f"effect of {size:g} sd on another route: rejected, of defined"] = (
            "-" if blind is None else _of(counts.loc[(name, blind, size)])
        )
        for size in SIZES:
            power = None if sees is None else counts.loc[(name, sees, size)]
            cells[f"power at {size:g} sd"] = (
                "-" if power is None else markdown.number(power["rejected"] / power["draws"])
            )
        found.append(cells)
    return markdown.table(pd.DataFrame(found))


def _of(counts: pd.Series) -> str:
    return f"{int(counts['rejected'])} of {int(counts['defined'])}"


def null_card_verdicts() -> str:
    """How often each verdict is given, by what was planted."""
    table = count_verdicts(pd.read_parquet(KEPT))
    named = [
        {
            "planted": "nothing" if not size else f"{size:g} sd, route of the {route}",
            **{str(verdict): int(number) for verdict, number in row.items()},
        }
        for (route, size), row in table.iterrows()
    ]
    named.sort(key=lambda row: row["planted"] != "nothing")
    return markdown.table(pd.DataFrame(named))


def null_verdicts() -> str:
    """The verdicts on nothing of the real default model, and what they rest on."""
    found = []
    for of, card in cards(pd.read_parquet(VERDICTS)).items():
        behaviour = card["behaviour"]
        found.append(
            {
                "who is asked nothing": of,
                "B, nats of option margin": markdown.interval(behaviour.interval, 3),
                "±delta": markdown.number(float(behaviour.table["delta"].iloc[0]), 3),
                "n": behaviour.n,
                "clusters": behaviour.interval.n_clusters,
                "verdict": f"{card.verdict.name} (rule {card.verdict.rule})",
                "because": card.verdict.because,
            }
        )
    return markdown.table(pd.DataFrame(found))
