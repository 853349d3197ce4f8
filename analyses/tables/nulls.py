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
    counts = {
        (one["row"], one["route"], one["size"]): one for one in rejections(rows).to_dict("records")
    }
    n, largest = rows["draw"].nunique(), SIZES[-1]
    found = []
    for name in dict.fromkeys(row for row, *_ in counts):
        null, blind, sees = counts[name, "none", 0.0], BLIND.get(name), SEES.get(name)
        other, power = "-", dict.fromkeys(SIZES, "-")
        if blind is not None:
            planted = counts[name, blind, largest]
            other = f"{planted['rejected']} of {planted['defined']}"
        if sees is not None:
            seen = {size: counts[name, sees, size] for size in SIZES}
            power = {k: markdown.number(x["rejected"] / x["draws"]) for k, x in seen.items()}
        found.append(
            {
                "row": name,
                f"nothing asked: rejected, of {n}": null["rejected"],
                "defined": null["defined"],
                f"{largest:g} sd on another route: rejected, of defined": other,
                **{f"power at {size:g} sd": value for size, value in power.items()},
            }
        )
    return markdown.table(pd.DataFrame(found))


def null_card_verdicts() -> str:
    """How often each verdict is given, by what was planted."""
    found = []
    for row in count_verdicts(pd.read_parquet(KEPT)).reset_index().to_dict("records"):
        route, size = row.pop("route"), row.pop("size")
        planted = f"{size:g} sd, route of the {route}" if size else "nothing"
        found.append({"planted": planted, **{str(key): value for key, value in row.items()}})
    found.sort(key=lambda row: row["planted"] != "nothing")
    return markdown.table(pd.DataFrame(found))


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
