"""Sentences of the behaviour report: one row or two of a table in, what they allow out.

Whether a number is a finding is decided in :mod:`analyses.report.verdicts` alone. Numbers are those
of the table, in its unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analyses.contrast import CONTROL, MIN_CLUSTERS
from analyses.report.prose import count
from analyses.report.verdicts import (
    bare,
    compare_levels,
    is_finding,
    judge,
    p_of,
    read_control,
    read_effect,
    wordings_caveat,
)
from interp.behaviour.item_means import FLIP_COUNTS
from interp.behaviour.round_tables import EQUAL_COST
from interp.stats import Interval, interval_of, intervals_of
from interp.viz.report import format_interval

_Row = Mapping[Any, Any]


def name_prompt(name: str) -> str:
    """A condition at the head of a sentence."""
    return f"No instruction ({name})" if name == EQUAL_COST else name.capitalize()


def say_effect(row: _Row) -> str:
    """What a condition does to the margin against its placebos; of the control, whether it works."""
    effect, p, corrected = interval_of(row), float(row["p"]), float(row["p_holm"])
    sample = [
        f"{count(effect.n, 'item')} in {count(effect.n_clusters, 'cluster')}",
        f"{row['texts']} texts" if row["texts"] else "",
        p_of(p),
        f"{p_of(corrected)} over the conditions (Holm)" if corrected == corrected else "",
    ]
    if row["condition"] == CONTROL:
        return read_control(effect, where=f" on {row['items']} items", sample=sample)
    return read_effect(
        f"On {row['items']} items the {row['condition']} prompt",
        effect,
        p if np.isnan(corrected) else corrected,
        unit=" nats against its placebo",
        sample=sample,
    )


def say_texts(frame: pd.DataFrame, what: str) -> str:
    """What the wordings of the instructions allow to say; empty without an instruction."""
    has_text = frame["text_id"] != frame["condition"]  # the others are called as their condition
    treated = frame[has_text & (frame["condition"] != "placebo")]
    if treated.empty:
        return ""
    per_condition = treated.groupby("condition")["slot"].nunique()
    least, most = int(per_condition.min()), int(per_condition.max())
    number = count(most, "wording") if least == most else f"{least} to {most} wordings"
    caveat = wordings_caveat(least)
    if caveat:
        return f"{what} have {number} a condition. {caveat}"
    return f"{what} have {number} a condition, resampled together with the items."


def say_abstention(name: str, own: tuple[_Row, _Row], placebo: tuple[_Row, _Row] | None) -> str:
    """Accuracy on ambiguous items with over-abstention on disambiguated ones; its placebo's."""
    right, silent = (bare(interval_of(row)) for row in own)
    said = f"{name_prompt(name)}: accuracy {right}, over-abstention {silent}"
    if placebo is None:
        return f"{said}."
    right, silent = (bare(interval_of(row)) for row in placebo)
    return f"{said} (placebo {right} and {silent})."


def say_flips(name: str, subset: str, treated: _Row, placebo: _Row | None) -> str:
    """Both directions of the flips of a condition, and its placebo's."""
    net, p = interval_of(treated, "net"), float(treated["p"])
    tested = f" ({p_of(p)})" if p == p else ""
    verdict = judge(
        net,
        p,
        above="more incorrect -> correct than correct -> incorrect",
        below="more correct -> incorrect than incorrect -> correct",
        null="no change of accuracy is shown",
    )
    said = f"{name_prompt(name)}, {subset} items: {_flipped(treated)}; net {bare(net)}{tested}"
    said += f": {verdict}."
    if placebo is None:
        return said
    other = interval_of(placebo, "net")
    said += f" Its placebo: {_flipped(placebo)}; net {bare(other)}."
    if not is_finding(net, p):
        return said
    return f"{said} The two nets: {compare_levels(net, other)}."


def _flipped(row: _Row) -> str:
    lost, gained = int(row["right_wrong"]), int(row["wrong_right"])
    n = sum(int(row[name]) for name in FLIP_COUNTS)
    return f"{lost} correct -> incorrect and {gained} incorrect -> correct of {n}"


def say_ranks(condition: str, subset: str, ranks: pd.DataFrame) -> str:
    """Gain at every rank before, and whether the top gains more; rows of one condition's gain."""
    gains, top = [], None
    for row in ranks.to_dict("records"):
        gain = interval_of(row)
        if row["rank"] == "top - rest":
            top = gain
        elif not np.isnan(gain.estimate):
            gains.append(f"{bare(gain)} at rank {row['rank']} (n = {gain.n})")
    said = f"{name_prompt(condition)}, {subset} items: "
    said += ", ".join(gains) or "no gain could be measured"
    if top is None or np.isnan(top.estimate):
        why = top.reason if top is not None and top.reason else "one of them has no items"
        return f"{said}. Top and rest cannot be compared: {why}."
    verdict = judge(
        top,
        above="the top gains more",
        below="the top gains less than the rest",
        null="no difference is shown",
    )
    return f"{said}. Top minus rest: {format_interval(top)} nats (n = {top.n}); {verdict}."


def say_categories(condition: str, subset: str, rows: pd.DataFrame) -> str:
    """In how many categories the effect's interval excludes 0; empty where none can be judged."""
    found = dict(zip(map(str, rows["category"]), intervals_of(rows), strict=True))
    judged = {k: v for k, v in found.items() if v.n_clusters >= MIN_CLUSTERS and v.low == v.low}
    if not judged:
        return ""
    clear = [f"{k} {format_interval(v)}" for k, v in judged.items() if is_finding(v)]
    named = f" ({'; '.join(clear)})" if clear else ", so no effect is shown in any"
    return (
        f"{name_prompt(condition)}, {subset} items: the interval excludes 0 in {len(clear)} of "
        f"{len(judged)} categories with {MIN_CLUSTERS} clusters or more{named}."
    )


def say_letters(rows: pd.DataFrame) -> str:
    """The preferred letter and position of one condition."""
    records = rows.to_dict("records")
    name = name_prompt(records[0]["condition"])
    chosen = max(records, key=lambda row: row["option_chosen"])
    said = (
        f"by the options' texts, the one at ({chosen['letter']}) is chosen most, in "
        f"{chosen['option_chosen']:.0%} (evenly {1 / len(records):.0%})"
    )
    if rows["share"].isna().any():
        return f"{name}: no single token tells the letters apart; {said}."
    top = max(records, key=lambda row: row["share"])
    return (
        f"{name}: “({top['letter']})” is the most probable letter in {top['share']:.0%} of the "
        f"prompts; {said}."
    )


def say_pronouns(name: str, correlation: Interval, neutral: Interval) -> str:
    """Do the pronouns of a condition follow labour statistics."""
    verdict = judge(
        correlation,
        above="the pronouns follow the statistics",
        below="the pronouns run against the statistics",
        null="no relation is shown",
    )
    return (
        f"{name_prompt(name)}: r = {bare(correlation)} (n = {correlation.n}), {verdict}; neutral "
        f"pronoun {bare(neutral)}."
    )


def say_distinguished(benchmark: str, accuracy: Interval | None, margin: Interval) -> str:
    """Can the model tell the answer it should avoid; chance is accuracy .5 and margin 0."""
    verdict = judge(
        margin,
        above="it can tell better than chance",
        below="it tells them the wrong way",
        null="it is not shown that the model can tell",
    )
    said = f"{benchmark}: margin {bare(margin)} nats (n = {margin.n})"
    said += f", accuracy {bare(accuracy)} where chance is .5" if accuracy is not None else ""
    return f"{said}; {verdict}."


def say_round_effect(rows: pd.DataFrame) -> str:
    """One contrast over the rounds (one subset and measure): the last round, and the clear ones."""
    rows = rows[rows["round"] > 0].sort_values("round")
    first = rows.iloc[0]
    against = "its placebo" if first["against"] == "placebo" else str(first["against"])
    over = "Toxicity" if first["measure"] == "toxicity" else f"On {first['items']} items"
    what = f"{over}, {first['condition']} against {against}"
    rows = rows[rows["estimate"].notna()]
    if rows.empty:
        return f"{what}: not measured, {first['reason']}."
    tests = list(zip(rows["round"], intervals_of(rows), rows["p"].astype(float), strict=True))
    last, effect, p = tests[-1]
    unit = {"margin": " nats", "accuracy": " of accuracy"}.get(str(first["measure"]), "")
    texts = f", {effect.texts[0]} x {effect.texts[1]} texts" if effect.texts else ""
    tested = f", family-wise {p_of(p)}" if p == p else ""
    verdict = judge(
        effect,
        p,
        above="higher",
        below="lower",
        untested="the test over all rounds does not bear it out",
    )
    clear = ", ".join(str(int(k)) for k, effect, p in tests if is_finding(effect, p))
    rounds = f"rounds with an effect: {clear}" if clear else "no round shows one"
    return (
        f"{what}: round {int(last)} is {format_interval(effect)}{unit} (n = {effect.n}{texts}"
        f"{tested}), {verdict}; {rounds}."
    )


def say_course(
    label: str, treated: pd.DataFrame, placebo: pd.DataFrame, *, compare: bool = True
) -> str:
    """One measure of completions, first and last round, and the placebo's last.

    ``compare``: also say whether the two intervals overlap, for want of a test.
    """
    rows = treated[treated["estimate"].notna()].sort_values("round")
    course = intervals_of(rows)
    first, last = bare(course[0]), course[-1]
    said = f"{label} {f'{first} to ' if len(course) > 1 else ''}{bare(last)} (n = {last.n})"
    control = intervals_of(placebo[placebo["round"] == rows["round"].iloc[-1]])
    if not control:
        return said
    at = " at the end" if len(course) > 1 else ""
    said = f"{said}, its placebo's{at} {bare(control[0])}"
    return f"{said}: {compare_levels(last, control[0])}" if compare else said


def reasons_of(frame: pd.DataFrame) -> list[str]:
    """Why numbers of a table are missing, each reason once."""
    column = frame.get("net_reason", frame.get("reason", pd.Series(dtype=str)))
    return list(dict.fromkeys(str(reason) for reason in column.dropna() if reason))


def say_reasons(frame: pd.DataFrame) -> str:
    """What the dashes of a table stand for; empty without any."""
    found = reasons_of(frame)
    return f"A dash, or a number without an interval: {'; '.join(found)}." if found else ""
