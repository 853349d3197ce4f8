"""The tables: each from the rows of its runs, through the studies' and the library's own tables.

A function takes the committed rows and gives markdown. Nothing is computed here but the choice of rows
and their layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from analyses.contrast import CONTROL
from analyses.demo.tables import DemoResult
from analyses.direction.tables import DirectionResult
from analyses.tables import markdown
from analyses.tables.runs import ROWS, Kept
from interp.behaviour import prompt_tables
from interp.directions import Transfer
from interp.directions.swings import LEARNED, swing_table
from interp.errors import InterpError, did_you_mean
from interp.stats import interval_of, intervals_of

Rows = Mapping[str, Kept]
"""The rows of the runs that a table needs, by their names."""


@dataclass(frozen=True)
class Entry:
    """A table: the runs whose rows it needs, and how it is made of them."""

    runs: tuple[str, ...]
    make: Callable[[Rows], str]


MODELS = {"rq1-smollm2-135m": "SmolLM2 135M", "rq1-qwen2.5-0.5b": "Qwen2.5-Coder 0.5B"}
_METHODS = {
    "lda": "LDA",
    "logistic": "logistic regression",
    "mean_difference": "difference of means",
    "pca": "PCA of pair differences",
    "cosine": "cosine with biased statements, as arXiv 2407.15286 reads it",
    "cosine_last": "the same with the last layer's statements",
}


def effects(rows: Rows, *, whole: bool = True) -> str:
    """What naming the answer and the instruction do to the margin, of both models.

    ``whole``: also what is read against the clean prompt on disambiguated items and of the control.
    """
    found = []
    for run, name in MODELS.items():
        kept = rows[run]
        table = prompt_tables.effects(kept.scores(), seed=kept.seed)
        table = table[table["items"] != "all"]
        if not whole:
            kept_rows = (table["items"] == "ambiguous") & (table["condition"] != CONTROL)
            table = table[kept_rows | (table["against"] == "placebo")]
        order = {CONTROL: 0, "instructed": 1, "placebo": 2}
        table = table.assign(rank=table["condition"].map(order)).sort_values(
            ["items", "rank", "against"], ascending=[True, True, False], kind="stable"
        )
        for row, effect in zip(table.to_dict("records"), intervals_of(table), strict=True):
            texts = "" if effect.texts is None else f"{effect.texts[0]} x {effect.texts[1]}"
            found.append(
                {
                    "model": name,
                    "items": row["items"],
                    "contrast": row["contrast"],
                    "effect, nats": markdown.interval(effect),
                    "p (Holm)": markdown.number(float(row["p_holm"]), 3),
                    "n": effect.n,
                    "clusters": effect.n_clusters,
                    "texts": texts,
                }
            )
    return markdown.table(pd.DataFrame(found))


def rank_gains(rows: Rows) -> str:
    """Where the instruction gains, by the rank of the right answer before."""
    found = []
    for run, name in MODELS.items():
        kept = rows[run]
        table = prompt_tables.rank_gain(kept.scores(), seed=kept.seed)
        own = (table["condition"] == "instructed") & (table["measure"] == "gain")
        table = table[own & (table["items"] != "all")]
        for (items, rank), part in table.groupby(["items", "rank"], sort=False):
            gain = interval_of(part.iloc[0])
            key = {"model": name, "items": items, "rank of gold before": rank}
            found.append(key | {"gain, nats": markdown.interval(gain), "n": gain.n})
    return markdown.table(pd.DataFrame(found))


def flips(rows: Rows) -> str:
    """Answers lost and gained, of the instruction and of its placebos."""
    found = []
    for run, name in MODELS.items():
        kept = rows[run]
        table = prompt_tables.flips(kept.scores(), seed=kept.seed)
        own = (table["condition"] == "instructed") | (table["control_of"] == "instructed")
        for row in table[own & (table["items"] != "all")].to_dict("records"):
            lost, gained = int(row["right_wrong"]), int(row["wrong_right"])
            of = lost + gained + int(row["right_right"]) + int(row["wrong_wrong"])
            found.append(
                {
                    "model": name,
                    "items": row["items"],
                    "prompt": row["condition"],
                    "correct -> incorrect": lost,
                    "incorrect -> correct": gained,
                    "of": of,
                    "net": markdown.interval(interval_of(row, "net")),
                }
            )
    return markdown.table(pd.DataFrame(found))


def directions(rows: Rows) -> str:
    """Held-out AUC of every method and site at its best layer, beside what it has to beat."""
    done: DirectionResult = rows["direction"].result()
    best = {(row["method"], row["site"]): row for row in done.fits.best.to_dict("records")}
    sites = list(dict.fromkeys(site for _, site in done.fits.stacks))
    found = []
    for method in dict.fromkeys(method for method, _ in done.fits.stacks):
        cells: dict[str, str] = {}
        for site in sites:
            row = best[method, site]
            cells[site] = f"{markdown.interval(interval_of(row, 'auc'))} (layer {row['layer']})"
        found.append({"method": _METHODS.get(method, method), **cells})
    for name, auc in done.fits.baselines.items():
        words = {str(site): markdown.interval(auc) for site in sites}
        found.append({"method": f"*{name}*", **words})
    return markdown.table(pd.DataFrame(found))


def transfer(rows: Rows) -> str:
    """AUC of directions trained on the rows and tested on the columns."""
    table = Transfer(rows["transfer"].table("transfer"), "mean_difference", "resid_post").table()
    found = []
    for trained, row in table.to_dict("index").items():
        cells = {str(tested): markdown.number(auc) for tested, auc in row.items()}
        cells[str(trained)] = f"*{cells[str(trained)]}*"
        found.append({"trained on \\ tested on": trained, **cells})
    return markdown.table(pd.DataFrame(found))


def steering(rows: Rows) -> str:
    """The swing of every outcome along the learned direction, and among null directions."""
    kept, found = rows["steer"], []
    table = swing_table(kept.table("steering"), kept.seed)
    for (outcome, subset), part in table.groupby(["outcome", "subset"], sort=False):
        own = part[part["kind"] == LEARNED].iloc[0]
        nulls = part[part["kind"] != LEARNED]
        if nulls.empty or pd.isna(own["p"]):
            continue
        largest = nulls.iloc[int(nulls["estimate"].abs().argmax())]
        swing = interval_of(own)
        found.append(
            {
                "outcome": f"{outcome}, {subset}",
                "swing": markdown.interval(swing, 3),
                "largest null": f"{markdown.number(largest['estimate'], 3)} ({largest['direction']})",
                "p among nulls": markdown.number(float(own["p"]), 3),
                "nulls": len(nulls),
                "n": swing.n,
            }
        )
    return markdown.table(pd.DataFrame(found))


def demo(rows: Rows) -> str:
    """What the demo's report says in numbers."""
    done: DemoResult = rows["demo"].result()
    found = []
    table = done.behaviour.tables["effects"]
    table = table[(table["items"] != "all") & (table["against"] == "placebo")]
    for row, effect in zip(table.to_dict("records"), intervals_of(table), strict=True):
        what = f"{row['contrast']}, {row['items']}: margin, nats"
        found.append((what, effect, effect.n, effect.n_clusters))
    stack = done.project.direction
    auc = stack.auc.at(stack.best_row)
    found.append(
        (f"morality direction, layer {stack.best_layer}: held-out AUC", auc, auc.n, auc.n_clusters)
    )
    contrasts = done.project.contrasts
    last = contrasts[
        (contrasts["layer"] == stack.best_layer)
        & (contrasts["component"] == stack.site)
        & (contrasts["position"] == done.project.config.positions[0])
    ]
    for row, shift in zip(last.to_dict("records"), intervals_of(last), strict=True):
        what = f"{row['condition']}: shift along it, placebo SDs"
        found.append((what, shift, shift.n, shift.n_clusters))
    cells = [(what, markdown.interval(value), n, k) for what, value, n, k in found]
    return markdown.table(pd.DataFrame(cells, columns=["what", "estimate", "n", "clusters"]))


TABLES: dict[str, Entry] = {
    "demo": Entry(("demo",), demo),
    "effects": Entry(tuple(MODELS), effects),
    "main-effects": Entry(tuple(MODELS), partial(effects, whole=False)),
    "rank-gains": Entry(tuple(MODELS), rank_gains),
    "flips": Entry(tuple(MODELS), flips),
    "directions": Entry(("direction",), directions),
    "transfer": Entry(("transfer",), transfer),
    "steering": Entry(("steer",), steering),
}


def render(name: str, folder: Path = ROWS) -> str:
    """The markdown of a table.

    Raises:
        InterpError: no table of this name, or rows that are not there.
    """
    if name not in TABLES:
        raise InterpError(f"no table {name!r}: {did_you_mean(name, TABLES)}")
    entry = TABLES[name]
    return entry.make({run: Kept(run, folder) for run in entry.runs})
