"""Tables of ``docs/validity.md``: what the methods find where the truth is known."""

from __future__ import annotations

import pandas as pd

from analyses.benchmarks.known.measure import DIRECTIONS, EDGES, KEPT, NODES
from analyses.tables import markdown


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
                "AUROC, mean": markdown.number(part["auroc"].mean(), 3),
                "lowest": markdown.number(part["auroc"].min(), 3),
                f"true {what} among the top": markdown.number(part["found"].mean(), 3),
                "all found in": f"{int((part['found'] == 1).sum())} of {len(part)}",
            }
        )
    return markdown.table(pd.DataFrame(found))


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
