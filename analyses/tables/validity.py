"""Tables of ``docs/validity.md``: what the methods find where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analyses.benchmarks.attribution import KEPT as ESTIMATES
from analyses.benchmarks.attribution import TOP, summary
from analyses.benchmarks.known.measure import DIRECTIONS, EDGES, KEPT, NODES
from analyses.benchmarks.known.trained import DIRECTIONS as TRAINED_DIRECTIONS
from analyses.benchmarks.known.trained import EDGES as TRAINED_EDGES
from analyses.benchmarks.known.trained import FIDELITY, SHARES
from analyses.tables import markdown
from interp.models import DEFAULT_MODEL


def known_cells() -> str:
    """Every method's area under the ROC curve, on programs without back-up and with."""
    return _methods(pd.read_parquet(KEPT / NODES), "cells")


def known_edges() -> str:
    """The same over edges."""
    return _methods(pd.read_parquet(KEPT / EDGES), "edges")


def known_missed_edges() -> str:
    """Which true edges exact patching scores at 0."""
    rows = pd.read_parquet(KEPT / EDGES)
    rows = rows[rows["method"].str.startswith("exact") & (rows["missed"] != "")]
    found = rows.groupby(["program", "method", "missed"], sort=False)["variant"].agg(" and ".join)
    table = found.reset_index().rename(
        columns={"missed": "true edges that score 0", "variant": "basis"}
    )
    return markdown.table(table[["program", "basis", "method", "true edges that score 0"]])


def _methods(rows: pd.DataFrame, what: str) -> str:
    found = []
    for (backup, variant, method), part in rows.groupby(
        ["backup", "variant", "method"], sort=False
    ):
        found.append(
            {
                "programs": "with back-up" if backup else "without back-up",
                "basis": variant,
                "method": method,
                **_found(part, what),
            }
        )
    return markdown.table(pd.DataFrame(found))


def _found(part: pd.DataFrame, what: str) -> dict[str, str]:
    """How well one method's scores tell true cells or edges from the others."""
    return {
        "AUROC, mean": markdown.number(part["auroc"].mean(), 3),
        "lowest": markdown.number(part["auroc"].min(), 3),
        f"true {what} among the top": markdown.number(part["found"].mean(), 3),
        "all found in": f"{int((part['found'] == 1).sum())} of {len(part)}",
    }


def known_backup() -> str:
    """The effects of nodes that back each other up: alone, added up, and together."""
    rows = pd.read_parquet(KEPT / NODES)
    rows = rows[rows["backup"]].drop_duplicates(["program", "variant"])
    found = [
        {
            "program": row["program"],
            "basis": row["variant"],
            "largest single node": markdown.number(row["largest_single"], 3),
            "sum of the single ones": markdown.number(row["sum_of_singles"], 3),
            "all together": markdown.number(row["joint"], 3),
        }
        for row in rows.to_dict("records")
    ]
    return markdown.table(pd.DataFrame(found))


def known_directions() -> str:
    """Every fitting method's |cos| with the truth, and its interchange agreement."""
    rows = pd.read_parquet(KEPT / DIRECTIONS)
    found = []
    for (variant, method), part in rows.groupby(["variant", "method"], sort=False):
        exchanged = part[part["exchanged"] > 0]
        found.append(
            {
                "basis": variant,
                "method": method,
                "cosine with the truth, mean": markdown.number(part["cosine"].mean(), 3),
                "interchange agreement, mean": markdown.number(exchanged["agreement"].mean(), 3),
                "full agreement in": f"{int((exchanged['agreement'] == 1).sum())} of {len(exchanged)}",
                "variables": len(part),
                "programs": part["program"].nunique(),
            }
        )
    return markdown.table(pd.DataFrame(found))


def known_arms() -> str:
    """Every arm, and whether its ten models are what their truth says."""
    rows = pd.read_parquet(KEPT / FIDELITY)
    found = []
    for arm, part in rows.groupby("arm", sort=False):
        trained = bool(part["localised"].iloc[0])
        unseen = part["unseen"]
        found.append(
            {
                "arm": arm,
                "answers as the program, lowest": markdown.number(part["accuracy"].min(), 3),
                "exchanges as the program, mean": markdown.number(part["agreement"].mean(), 3),
                "lowest": markdown.number(part["agreement"].min(), 3),
                "exchanges trained": "yes" if trained else "no",
                "judges never asked in training": (
                    "" if unseen.isna().all() else markdown.number(unseen.mean(), 3)
                ),
                "models": len(part),
            }
        )
    return markdown.table(pd.DataFrame(found))


def known_shares() -> str:
    """The share of an instruction's effect that passes the content's position, by every method."""
    rows = pd.read_parquet(KEPT / SHARES)
    rows = rows[rows["localised"] & (rows["method"] != "random")]
    found = []
    for arm, part in rows.groupby("arm", sort=False):
        true = part["true_content"].iloc[0]
        row = {"arm": arm, "true share": "either" if pd.isna(true) else markdown.number(true, 2)}
        for method, own in part.groupby("method", sort=False):
            mean, sd = own["content"].mean(), own["content"].std()
            row[str(method)] = f"{markdown.number(mean, 2)} ± {markdown.number(sd, 2)}"
        found.append(row)
    return markdown.table(pd.DataFrame(found))


def known_trained_places() -> str:
    """Every method's area under the ROC curve over positions, on trained models."""
    rows = pd.read_parquet(KEPT / SHARES)
    rows = rows[rows["localised"]]
    found = []
    for (backup, method), part in rows.groupby(["backup", "method"], sort=False):
        off = (part["content"] - part["true_content"]).abs().mean()
        found.append(
            {
                "arms": "with back-up" if backup else "without back-up",
                "method": method,
                "AUROC, mean": markdown.number(part["auroc"].mean(), 3),
                "lowest": markdown.number(part["auroc"].min(), 3),
                "share of the content off by": "" if pd.isna(off) else markdown.number(off, 3),
                "models": len(part),
            }
        )
    return markdown.table(pd.DataFrame(found))


def known_trained_edges() -> str:
    """Every method's area under the ROC curve over edges between positions, on trained models."""
    rows = pd.read_parquet(KEPT / TRAINED_EDGES)
    found = []
    for (localised, method), part in rows.groupby(["localised", "method"], sort=False):
        found.append(
            {
                "exchanges trained": "yes" if localised else "no",
                "method": method,
                **_found(part, "edges"),
            }
        )
    return markdown.table(pd.DataFrame(found))


def known_trained_directions() -> str:
    """Every fitting method on trained models, where sentences' labels are the concept's and not."""
    rows = pd.read_parquet(KEPT / TRAINED_DIRECTIONS)
    rows = rows[rows["localised"]]
    found = []
    for (valid, method), part in rows.groupby(["valid", "method"], sort=False):
        found.append(
            {
                "labels": "of the concept" if valid else "of something else",
                "method": method,
                "cosine with the truth, mean": markdown.number(part["cosine"].mean(), 3),
                "interchange agreement, mean": markdown.number(part["agreement"].mean(), 3),
                "full agreement in": f"{int((part['agreement'] == 1).sum())} of {len(part)}",
            }
        )
    return markdown.table(pd.DataFrame(found))


def estimates() -> str:
    """How near estimates of every method come to exact sweeps, by model, task and site."""
    found = []
    for path in sorted(ESTIMATES.glob("*.parquet")):
        rows = summary(pd.read_parquet(path))
        model = path.stem.removesuffix(f"-{rows['task'].iloc[0]}")
        found += [_estimate_row(model, row) for row in rows.to_dict("records")]
    if not found:
        return "*No rows are committed: `python -m analyses.benchmarks.attribution` makes them.*"
    return markdown.table(pd.DataFrame(found))


def screens() -> str:
    """A screen of all sites beside exact sweeps: pairs of a data set, the default model."""
    rows = summary(pd.read_parquet(ESTIMATES / f"{DEFAULT_MODEL}-bbq.parquet"))
    by = {name: one.set_index("site") for name, one in rows.groupby("method")}
    screen, exact = by["screened"], by["exact"]
    times, swept = f"**{screen['faster'].iloc[0]:.0f}**", exact["pairs"].iloc[0]
    found = f"top {TOP} found by a screen of all four, {screen['pairs'].iloc[0]} pairs"
    faster = f"times as fast: the screen {times}, exact sweeps of a site ({swept} pairs)"
    shown = [
        {"": found}
        | {f"`{site}`": markdown.number(screen.loc[site, "recall"], 3) for site in screen.index},
        {"": faster} | {f"`{site}`": f"{exact.loc[site, 'faster']:.0f}" for site in screen.index},
    ]
    return markdown.table(pd.DataFrame(shown))


def _estimate_row(model: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    numbers = {
        "Pearson": row["pearson"],
        "lowest": row["lowest"],
        "Spearman": row["spearman"],
        "slope": row["slope"],
        f"top {TOP} found": row["recall"],
        "cells run": row["run"],
    }
    shown = {name: "" if pd.isna(v) else markdown.number(v) for name, v in numbers.items()}
    faster = row["faster"]
    return {
        "model": model,
        "pairs": f"{row['pairs']}, {row['task']}",
        "site": row["site"],
        "method": row["method"],
        **shown,
        "forwards": "" if pd.isna(row["forwards"]) else f"{row['forwards']:.0f}",
        "time, in forwards": f"{row['times a forward']:.0f}",
        "faster than TransformerLens": "" if pd.isna(faster) else f"{faster:.0f}x",
    }
