"""The tables: each from the rows of its runs, through the studies' and the library's own tables.

A function takes the committed rows and gives markdown. Nothing is computed here but the choice of rows
and their layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.behaviour.claims import effect_claims, rank_claims, with_verdicts
from analyses.benchmarks.nulls.claims import MAP
from analyses.benchmarks.nulls.measure import KEPT as NULL_DRAWS
from analyses.benchmarks.nulls.measure import shares
from analyses.benchmarks.placebos import ROWS as PLACEBO_ROWS
from analyses.benchmarks.placebos import placebo_effects
from analyses.contrast import CONTROL_ARMS
from analyses.demo.tables import DemoResult
from analyses.direction.tables import DirectionResult
from analyses.report.claims import Claim
from analyses.tables import markdown
from analyses.tables.nulls import null_card_verdicts, null_rows, null_verdicts
from analyses.tables.runs import ROWS, Kept
from analyses.tables.scorecards import (
    known_arms_directions,
    known_arms_verdicts,
    known_card_shares,
    known_direction_verdicts,
    known_programs_verdicts,
    known_verdicts,
)
from analyses.tables.validity import (
    estimates,
    known_arms,
    known_backup,
    known_cells,
    known_directions,
    known_edges,
    known_missed_edges,
    known_shares,
    known_trained_directions,
    known_trained_edges,
    known_trained_places,
    screens,
)
from analyses.totals import claim_of
from interp.behaviour import prompt_tables
from interp.behaviour.scores import PRIMARY
from interp.directions import DirectionStack
from interp.directions.swings import LEARNED, swing_table
from interp.errors import InterpError, did_you_mean
from interp.stats import Interval, interval_of
from interp.viz.directions import METHOD_NAMES

Rows = Mapping[str, Kept]
"""The rows of the runs that a table needs, by their names."""


@dataclass(frozen=True)
class Entry:
    """A table: the runs whose rows it needs, and how it is made of them."""

    runs: tuple[str, ...]
    make: Callable[[Rows], str]


MODELS = {"rq1-smollm2-135m": "SmolLM2 135M", "rq1-qwen2.5-0.5b": "Qwen2.5-Coder 0.5B"}
_ORDER = {name: k for k, name in enumerate((*CONTROL_ARMS, "instructed", "statement", "placebo"))}
_PRIMARY, _MARGIN, _P = "option margin, nats per token", "margin, nats", "P(a)"


def effects(rows: Rows) -> str:
    """What the control's arms and the instruction do to the answers of both models, in every metric.

    What is read against the clean prompt is shown and not claimed.
    """
    found = []
    for run, name in MODELS.items():
        scores = rows[run].scores()
        table = with_verdicts(prompt_tables.effects(scores))
        table = table[(table["items"] != "all") & table["estimate"].notna()]
        for (items, contrast), part in sorted(
            table.groupby(["items", "contrast"]), key=_effect_key
        ):
            first = part[part["metric"] == PRIMARY].iloc[0]
            metrics = {row["metric"]: interval_of(row) for row in part.to_dict("records")}
            main = metrics[PRIMARY]
            found.append(
                {
                    "model": name,
                    "items": items,
                    "contrast": contrast,
                    _PRIMARY: markdown.interval(main, 3),
                    "p (Holm)": markdown.p_value(float(first["p_holm"])),
                    "verdict": first["verdict"] or "-",
                    _MARGIN: markdown.interval(metrics["margin"]),
                    _P: markdown.interval(metrics["p_gold"], 3),
                    "n": main.n,
                    "clusters": main.n_clusters,
                    "wordings": " x ".join(map(str, main.texts or ())),
                }
            )
    return markdown.table(pd.DataFrame(found))


def _effect_key(group: Any) -> tuple[str, bool, int]:
    """Subsets in turn; the placebo's contrasts first, the control's arms before the others."""
    (items, _), part = group
    row = part.iloc[0]
    return items, row["against"] == "clean", _ORDER.get(row["condition"], len(_ORDER))


def placebo_kinds(_: Rows) -> str:
    """Instruction, requests and statements of equal token counts against each other."""
    table = placebo_effects(pd.read_parquet(PLACEBO_ROWS))
    found = []
    for contrast, part in table.groupby("contrast", sort=False):
        by_metric = {row["metric"]: row for row in part.to_dict("records")}
        cells = {
            name: f"{markdown.number(row['estimate'], 3)} "
            f"[{markdown.number(row['low'], 3)}, {markdown.number(row['high'], 3)}]"
            for name, row in (
                (_PRIMARY, by_metric["option_margin"]),
                (_MARGIN, by_metric["margin"]),
            )
        }
        one = by_metric["option_margin"]
        words = str(contrast).replace("placebo", "requests").replace("statement", "statements")
        found.append({"contrast": words, **cells, "n": one["n_items"], "wordings": one["n_texts"]})
    return markdown.table(pd.DataFrame(found))


def nulls(_: Rows) -> str:
    """How often reports print an effect of nothing, and of the control that names the answer."""
    drawn = pd.read_parquet(NULL_DRAWS)
    found = []
    for power, what in ((False, "placebo against placebo"), (True, "naming the answer")):
        table = shares(drawn[drawn["power"] == power])
        for report, part in table.groupby("report", sort=False):
            if power and report == MAP:
                continue  # a family without its report's gate is a null's question
            cells = {
                f"{row['items']} items": f"{markdown.number(row['share'], 3)} "
                f"±{markdown.number(row['se'], 3)}"
                for row in part.to_dict("records")
            }
            found.append({"who poses as the instruction": what, "report": report, **cells})
    frame = pd.DataFrame(found).fillna("-")
    return markdown.table(frame)


def rank_gains(rows: Rows) -> str:
    """Where the instruction gains, by the rank of the right answer before, of models asked in orders."""
    found = []
    for run, name in MODELS.items():
        scores = rows[run].scores()
        table = prompt_tables.rank_gain(scores)
        claims = rank_claims(table)
        table = table[(table["condition"] == "instructed") & (table["items"] != "all")]
        for (items, rank), part in table.groupby(["items", "rank"], sort=False):
            by_measure = {row["measure"]: interval_of(row) for row in part.to_dict("records")}
            if not by_measure["gain"].n:
                continue  # asked in one order, from which ranks and gains cannot both be read
            claim = claims.get((str(items), "instructed")) if rank == "top - rest" else None
            found.append(
                {
                    "model": name,
                    "items": items,
                    "rank of gold before": rank,
                    f"gain in {_PRIMARY}": markdown.interval(by_measure["gain"], 3),
                    f"in {_MARGIN}": markdown.interval(by_measure["gain_margin"]),
                    "verdict": "-" if claim is None else claim.verdict,
                    "n": by_measure["gain"].n,
                }
            )
    return markdown.table(pd.DataFrame(found))


def flips(rows: Rows) -> str:
    """Answers lost and gained, of the instruction and of its placebos."""
    found = []
    for run, name in MODELS.items():
        scores = rows[run].scores()
        table = prompt_tables.flips(scores)
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
                    "net": markdown.interval(interval_of(row, "net"), 3),
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
        found.append({"method": METHOD_NAMES[method], **cells})
    means = {site: done.fits["mean_difference", site] for site in sites}
    found.append(
        {"method": "*shuffled labels (difference of means)*"}
        | {site: _shuffled(stack) for site, stack in means.items()}
    )
    for kind, words in _NULLS.items():
        cells = {site: _strongest(done.fits.nulls, stack, kind) for site, stack in means.items()}
        found.append({"method": f"*{words}*", **cells})
    for name, auc in done.fits.baselines.items():
        found.append({"method": f"*{name}*", **{site: markdown.interval(auc) for site in sites}})
    return markdown.table(pd.DataFrame(found))


_NULLS = {
    "covariance": "random directions, same covariance: the farthest from .5",
    "contrast": "non-moral contrasts (difference of means): the farthest from .5",
}


def _shuffled(stack: DirectionStack) -> str:
    """The null of the best layer, and the family-wise p against it."""
    null, row = stack.shuffled, stack.best_row
    mean, low, high, p = (float(x[row]) for x in (null.mean, null.low, null.high, null.p))
    bounds = f"[{markdown.number(low)}, {markdown.number(high)}]"
    return f"{markdown.number(mean)} {bounds}, p = {markdown.p_value(p)}"


def _strongest(nulls: pd.DataFrame, stack: DirectionStack, kind: str) -> str:
    """The AUC of the null direction that separates best, at the best layer; either sign counts."""
    here = (nulls["null"] == kind) & (nulls["site"] == stack.site)
    rows = nulls[here & (nulls["layer"] == stack.best_layer)]
    rows = rows if kind == "covariance" else rows[rows["method"] == "mean_difference"]
    far = rows.iloc[int((rows["auc"] - 0.5).abs().argmax())]
    name = "" if kind == "covariance" else f", {far['name']}"
    return f"{markdown.number(far['auc'])} (of {len(rows)}{name})"


def transfer(rows: Rows, *, reader: str = "direction") -> str:
    """AUC of what was trained on the rows and tested on the columns, with the interval's half-width."""
    frame = rows["transfer"].table("transfer")
    frame = frame[frame["reader"] == reader]
    found = []
    for trained, part in frame.groupby("trained_on", sort=False):
        cells = {}
        for row in part.to_dict("records"):
            auc = interval_of(row, "auc")
            half = markdown.number((float(auc.high) - float(auc.low)) / 2)
            cell = f"{markdown.number(float(auc.estimate))} ±{half}"
            cells[row["tested_on"]] = f"*{cell}*" if row["tested_on"] == trained else cell
        found.append({"trained on \\ tested on": trained, **cells})
    return markdown.table(pd.DataFrame(found))


def steering(rows: Rows) -> str:
    """The swing of every outcome along the learned direction, and among null directions."""
    found = []
    table = swing_table(rows["steer"].table("steering"))
    for (outcome, subset), part in table.groupby(["outcome", "subset"], sort=False):
        own = part[part["kind"] == LEARNED].iloc[0]
        nulls = part[part["kind"] != LEARNED]
        if nulls.empty or pd.isna(own["p_null"]):
            continue
        largest = nulls.iloc[int(nulls["estimate"].abs().argmax())]
        swing = interval_of(own)
        size = markdown.number(abs(float(largest["estimate"])), 3)
        found.append(
            {
                "outcome": f"{outcome}, {subset}",
                "swing": markdown.interval(swing, 3),
                "largest null": f"{size} ({largest['direction']})",
                "size beyond the largest null": markdown.interval(interval_of(own, "beyond"), 3),
                "p among nulls": markdown.p_value(float(own["p_null"])),
                "nulls": len(nulls),
                "n": swing.n,
                "clusters": swing.n_clusters,
            }
        )
    return markdown.table(pd.DataFrame(found))


def demo(rows: Rows) -> str:
    """What the demo's report says in numbers; every p is corrected for its studies as well."""
    done: DemoResult = rows["demo"].result()
    found = [*_demo_effects(done), *_demo_direction(done)]
    return markdown.table(pd.DataFrame(found))


def _demo_effects(done: DemoResult) -> Iterator[dict[str, Any]]:
    """The whole sample in the option margin, the items of the map in the margin."""
    for (items, condition), claim in effect_claims(done.behaviour.tables["effects"]).items():
        yield _row(f"{condition} - placebo, {items}: {_PRIMARY}", claim.effect, claim.verdict)
    names = dict.fromkeys(done.patch.totals["condition"])
    for condition in names:
        claim = claim_of(done.patch.totals, condition)
        yield _row(f"{condition} - placebo, patched items: {_MARGIN}", claim.effect, claim.verdict)


def _demo_direction(done: DemoResult) -> Iterator[dict[str, Any]]:
    stack = done.project.direction
    auc = stack.auc.at(stack.best_row)
    yield _row(f"morality direction, layer {stack.best_layer}: held-out AUC", auc, "-")
    contrasts = done.project.contrasts
    last = contrasts[
        (contrasts["layer"] == stack.best_layer)
        & (contrasts["component"] == stack.site)
        & (contrasts["position"] == done.project.config.positions[0])
    ]
    for row in last.to_dict("records"):
        what = f"{row['condition']}: shift along it, placebo SDs"
        claim = Claim(interval_of(row), float(row["p_corrected"]))
        yield _row(what, claim.effect, claim.verdict)


def _row(what: str, value: Interval, verdict: str) -> dict[str, Any]:
    cells = {"what": what, "estimate": markdown.interval(value, 3), "verdict": verdict}
    return cells | {"n": value.n, "clusters": value.n_clusters}


TABLES: dict[str, Entry] = {
    "demo": Entry(("demo",), demo),
    "effects": Entry(tuple(MODELS), effects),
    "rank-gains": Entry(tuple(MODELS), rank_gains),
    "flips": Entry(tuple(MODELS), flips),
    "directions": Entry(("direction",), directions),
    "nulls": Entry((), nulls),
    "null-rows": Entry((), lambda _: null_rows()),
    "null-card-verdicts": Entry((), lambda _: null_card_verdicts()),
    "null-verdicts": Entry((), lambda _: null_verdicts()),
    "known-cells": Entry((), lambda _: known_cells()),
    "known-edges": Entry((), lambda _: known_edges()),
    "known-missed-edges": Entry((), lambda _: known_missed_edges()),
    "known-backup": Entry((), lambda _: known_backup()),
    "known-directions": Entry((), lambda _: known_directions()),
    "known-arms": Entry((), lambda _: known_arms()),
    "known-shares": Entry((), lambda _: known_shares()),
    "known-trained-places": Entry((), lambda _: known_trained_places()),
    "known-trained-edges": Entry((), lambda _: known_trained_edges()),
    "known-trained-directions": Entry((), lambda _: known_trained_directions()),
    "known-compiled-verdicts": Entry((), lambda _: known_verdicts("compiled")),
    "known-verdicts": Entry((), lambda _: known_verdicts("trained")),
    "known-programs-verdicts": Entry((), lambda _: known_programs_verdicts()),
    "known-direction-verdicts": Entry((), lambda _: known_direction_verdicts()),
    "known-arms-directions": Entry((), lambda _: known_arms_directions()),
    "known-arms-verdicts": Entry((), lambda _: known_arms_verdicts()),
    "known-card-shares": Entry((), lambda _: known_card_shares()),
    "estimates": Entry((), lambda _: estimates()),
    "screens": Entry((), lambda _: screens()),
    "placebo-kinds": Entry((), placebo_kinds),
    "transfer": Entry(("transfer",), transfer),
    "transfer-words": Entry(("transfer",), partial(transfer, reader="bag of words")),
    "steering": Entry(("steer",), steering),
}


def render(name: str, folder: Path = ROWS) -> str:
    """The markdown of a table; a sentence where its rows are not committed.

    Raises:
        InterpError: no table of this name, or rows that are not there.
    """
    if name not in TABLES:
        raise InterpError(f"no table {name!r}: {did_you_mean(name, TABLES)}")
    rows = {run: Kept(run, folder) for run in TABLES[name].runs}
    missing = ",".join(run for run, kept in rows.items() if not kept.is_there)
    if missing:
        return f"*This table's rows are not committed: `make tables ROWS={missing}` makes them.*"
    return TABLES[name].make(rows)
