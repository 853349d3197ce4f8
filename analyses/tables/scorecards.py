"""Tables of ``docs/validity.md`` on scorecards of models whose truth is known."""

from __future__ import annotations

import pandas as pd

from analyses.benchmarks.known.direction_scorecards import ROWS as DIRECTIONS
from analyses.benchmarks.known.direction_scorecards import SHOWN
from analyses.benchmarks.known.measure import KEPT
from analyses.benchmarks.known.scorecards import CARD_SHARES, share_errors
from analyses.benchmarks.known.scorecards import ROWS as SCORECARDS
from analyses.benchmarks.known.suite import confusion
from analyses.tables import markdown
from interp.known.registry import program_of


def known_verdicts(kind: str) -> str:
    """Verdicts across, truths down, numbers of cards of one kind of model."""
    rows = _rows(kind)
    return _matrix(confusion(rows[rows["localised"]]))


def _rows(kind: str) -> pd.DataFrame:
    rows = pd.read_parquet(KEPT / SCORECARDS)
    return rows[rows["kind"] == kind]


def _matrix(found: pd.DataFrame) -> str:
    return markdown.table(found.reset_index().rename_axis(None, axis=1))


def known_programs_verdicts() -> str:
    """What the card says of every compiled program."""
    rows = _rows("compiled")
    rows = rows[rows["question"] == "asked"]
    found = []
    for name, part in rows.groupby("arm", sort=False):
        source = program_of(str(name)).source if part["published"].iloc[0] else "ours"
        of = {"program": name, "follows": source.split("; ")[0].replace("(arXiv 2407.14494), ", "")}
        found.append(of | _said(part) | _shares(part))
    return markdown.table(pd.DataFrame(found))


def known_arms_verdicts() -> str:
    """What the card says of every trained arm."""
    rows = _rows("trained")
    rows = rows[rows["question"] == "asked"]
    found = []
    for arm, part in rows.groupby("arm", sort=False):
        held = {"exchanges trained": "yes" if part["localised"].iloc[0] else "no"}
        found.append({"arm": arm} | held | _said(part) | _shares(part))
    return markdown.table(pd.DataFrame(found))


def _said(part: pd.DataFrame) -> dict[str, str]:
    said = part["verdict"].value_counts()
    return {
        "truth": part["truth"].iloc[0],
        "verdicts": ", ".join(f"{n} {name}" for name, n in said.items()),
    }


def _shares(part: pd.DataFrame) -> dict[str, str]:
    return {
        name: "" if part[name].isna().all() else markdown.number(part[name].mean(), 2)
        for name in CARD_SHARES
    }


def known_card_shares() -> str:
    """Content shares of the programs and arms, and the card's."""
    table = share_errors(pd.read_parquet(KEPT / SCORECARDS)).reset_index()
    for name in table.columns.drop(["models", "kind"]):
        table[name] = [markdown.number(value, 2 if name == "alpha" else 3) for value in table[name]]
    return markdown.table(table)


def known_direction_verdicts() -> str:
    """Rule 5's verdicts across, truths down, numbers of trained models."""
    rows = pd.read_parquet(KEPT / DIRECTIONS)
    return _matrix(confusion(rows[rows["localised"]]))


def known_arms_directions() -> str:
    """What rule 5 says of every arm, with all null directions and with the contrasts alone."""
    rows = pd.read_parquet(KEPT / DIRECTIONS)
    found = []
    for arm, part in rows.groupby("arm", sort=False):
        alone = part.drop(columns="verdict").rename(columns={"by_contrasts": "verdict"})
        found.append(
            {
                "arm": arm,
                **_said(part),
                "with the contrasts as nulls alone": _said(alone)["verdicts"],
                **{name: markdown.number(part[name].mean(), 2) for name in SHOWN},
            }
        )
    return markdown.table(pd.DataFrame(found))
