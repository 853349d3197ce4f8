"""Sentences of the behaviour report: one row or two of a table in, what they allow out.

A finding needs an interval that excludes 0, at least :data:`~analyses.readings.MIN_CLUSTERS` clusters
and, where a test was made, p < .05; everything else says why it is none. Numbers are those of the
table, in its unit. Two levels are set beside each other by whether their intervals overlap, which is
stricter than a test of the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analyses.config import CLAIM_TEXTS
from analyses.readings import ALPHA, MIN_CLUSTERS, count
from interp.stats import Interval
from interp.viz.report import format_interval

_Row = Mapping[Any, Any]

EQUAL_COST = "specificity_0"
"""Asked as often as a condition, without an instruction."""


def interval_of(row: _Row, estimate: str = "estimate") -> Interval:
    """The interval of a row; ``estimate`` names the column of the number itself."""
    of = "" if estimate == "estimate" else f"{estimate}_"
    middle, low, high = (float(row[name]) for name in (estimate, f"{of}low", f"{of}high"))
    n, clusters = int(row.get(f"{of}n", 0)), int(row.get(f"{of}n_clusters", 0))
    return Interval(middle, low, high, n, clusters, reason=str(row.get(f"{of}reason") or ""))


def bare(interval: Interval) -> str:
    """The interval without its reason, for places that give the reason themselves."""
    return "not measured" if np.isnan(interval.estimate) else format_interval(interval)


def spoken(name: str) -> str:
    """A condition at the head of a sentence."""
    return f"No instruction ({name})" if name == EQUAL_COST else name.capitalize()


def p_of(p: float) -> str:
    """``p = 0.031``, ``p < 0.001``; empty without a test."""
    if np.isnan(p):
        return ""
    return "p < 0.001" if p < 5e-4 else f"p = {p:.3f}"


def doubt(
    interval: Interval,
    p: float = float("nan"),
    *,
    null: str = "no effect is shown",
    untested: str = "the test does not bear it out",
) -> str:
    """Why an interval is no finding; empty for a finding. ``untested``: what p >= .05 means here."""
    if np.isnan(interval.low):
        return f"{interval.reason or 'there is no interval'}, so this is no finding"
    if not interval.excludes(0):
        return f"the interval contains 0, so {null}"
    if interval.n_clusters < MIN_CLUSTERS:
        return f"{count(interval.n_clusters, 'cluster')} of items are too few for a finding"
    return f"the interval excludes 0, but {untested}, so {null}" if p >= ALPHA else ""


def read_control(row: _Row) -> str:
    """Whether naming the answer raises the margin."""
    effect = interval_of(row)
    where = f"on {row['items']} items"
    if np.isnan(effect.low) or effect.n_clusters < MIN_CLUSTERS:
        few = f"{count(effect.n_clusters, 'cluster')} of items are too few"
        return (
            f"The positive control cannot be judged {where} ({bare(effect)} nats; "
            f"{effect.reason or few}), so a null there says nothing."
        )
    numbers = f"{format_interval(effect)} nats {where} ({_sample(row)})"
    if effect.excludes(0) and effect.estimate > 0:
        return f"The positive control works: naming the answer raises the margin by {numbers}."
    return (
        f"The positive control fails: naming the answer moves the margin by {numbers}, so a null of "
        "another instruction says nothing there."
    )


def read_effect(row: _Row) -> str:
    """What a condition does to the margin against its placebos."""
    effect = interval_of(row)
    what = f"On {row['items']} items the {row['condition']} prompt"
    if np.isnan(effect.estimate):
        return f"{what} has no effect that could be measured: {effect.reason}."
    numbers = f"{format_interval(effect)} nats against its placebo ({_sample(row)})"
    corrected = float(row.get("p_holm", np.nan))
    p = float(row["p"]) if np.isnan(corrected) else corrected
    why = doubt(effect, p, untested="wordings with their labels permuted differ as much")
    if why:
        return f"{what} changes the margin by {numbers}: {why}."
    return f"{what} {'raises' if effect.estimate > 0 else 'lowers'} the margin by {numbers}."


def _sample(row: _Row) -> str:
    """Items, clusters, texts and p of an effect."""
    parts = [f"{count(int(row['n']), 'item')} in {count(int(row['n_clusters']), 'cluster')}"]
    parts += [f"{row['texts']} texts"] if row.get("texts") else []
    parts += [p_of(float(row["p"]))]
    corrected = float(row.get("p_holm", np.nan))
    parts += [f"{p_of(corrected)} over the conditions (Holm)"] if corrected == corrected else []
    return ", ".join(part for part in parts if part)


def read_texts(frame: pd.DataFrame, what: str) -> str:
    """What the wordings of the instructions allow to say; empty without an instruction."""
    has_text = frame["text_id"] != frame["condition"]  # the others are called as their condition
    treated = frame[has_text & (frame["condition"] != "placebo")]
    if treated.empty:
        return ""
    per_condition = treated.groupby("condition")["slot"].nunique()
    least, most = int(per_condition.min()), int(per_condition.max())
    number = count(most, "wording") if least == most else f"{least} to {most} wordings"
    if least >= CLAIM_TEXTS:
        return f"{what} have {number} a condition, resampled together with the items."
    return (
        f"{what} have {number} a condition. Below {CLAIM_TEXTS} the numbers speak of these sentences, "
        "not of wordings in general."
    )


def read_abstention(name: str, own: tuple[_Row, _Row], placebo: tuple[_Row, _Row] | None) -> str:
    """Accuracy on ambiguous items beside over-abstention on disambiguated ones; its placebo's."""
    right, silent = (bare(interval_of(row)) for row in own)
    said = f"{spoken(name)}: accuracy {right}, over-abstention {silent}"
    if placebo is None:
        return f"{said}."
    right, silent = (bare(interval_of(row)) for row in placebo)
    return f"{said} (placebo {right} and {silent})."


def read_flips(name: str, subset: str, treated: _Row, placebo: _Row | None) -> str:
    """Both directions of the flips of a condition, beside its placebo's."""
    net, p = interval_of(treated, "net"), float(treated["p"])
    said = f"{spoken(name)}, {subset} items: {_flipped(treated)}; net {bare(net)}"
    said += f" ({p_of(p)})" if p == p else ""
    why = doubt(net, p, null="no change of accuracy is shown")
    verdict = why or ("more mended than spoilt" if net.estimate > 0 else "more spoilt than mended")
    if placebo is None:
        return f"{said}: {verdict}."
    other = interval_of(placebo, "net")
    said = f"{said}: {verdict}. Its placebo: {_flipped(placebo)}; net {bare(other)}"
    return f"{said}." if why else f"{said}. Beside each other: {beside(net, other)}."


def _flipped(row: _Row) -> str:
    n = sum(int(row[k]) for k in ("right_right", "right_wrong", "wrong_right", "wrong_wrong"))
    spoilt, mended = int(row["right_wrong"]), int(row["wrong_right"])
    return f"{spoilt} right to wrong and {mended} wrong to right of {n}"


def read_ranks(condition: str, subset: str, ranks: pd.DataFrame) -> str:
    """Gain at every rank before, and whether the top gains more; rows of one condition's gain."""
    gains, top = [], None
    for row in ranks.to_dict("records"):
        if row["rank"] == "top - rest":
            top = interval_of(row)
        elif not np.isnan(row["estimate"]):
            gains.append(f"{bare(interval_of(row))} at rank {row['rank']} (n = {int(row['n'])})")
    said = f"{spoken(condition)}, {subset} items: {', '.join(gains) or 'no gain could be measured'}"
    if top is None or np.isnan(top.estimate):
        why = top.reason if top is not None and top.reason else "one of them has no items"
        return f"{said}. Top and rest cannot be compared: {why}."
    why = doubt(top, null="no difference is shown")
    way = "the top gains more" if top.estimate > 0 else "the top gains less than the rest"
    return f"{said}. Top minus rest: {format_interval(top)} nats (n = {top.n}); {why or way}."


def read_categories(condition: str, subset: str, rows: pd.DataFrame) -> str:
    """In how many categories the effect's interval excludes 0; empty where none can be judged."""
    found = {str(row["category"]): interval_of(row) for row in rows.to_dict("records")}
    judged = {k: v for k, v in found.items() if v.n_clusters >= MIN_CLUSTERS and v.low == v.low}
    if not judged:
        return ""
    clear = [f"{k} {format_interval(v)}" for k, v in judged.items() if v.excludes(0)]
    named = f" ({'; '.join(clear)})" if clear else ", so no effect is shown in any"
    return (
        f"{spoken(condition)}, {subset} items: the interval excludes 0 in {len(clear)} of "
        f"{len(judged)} categories with {MIN_CLUSTERS} clusters or more{named}."
    )


def read_letters(rows: pd.DataFrame) -> str:
    """The preferred letter and position of one condition."""
    records = rows.to_dict("records")
    even = f"{1 / len(records):.0%}"
    chosen = max(records, key=lambda row: row["option_chosen"])
    said = (
        f"read by the options' texts, the one at ({chosen['letter']}) is chosen most, in "
        f"{chosen['option_chosen']:.0%} (evenly {even})"
    )
    if rows["share"].isna().any():
        return (
            f"{spoken(records[0]['condition'])}: no single token tells the letters apart; {said}."
        )
    top = max(records, key=lambda row: row["share"])
    return (
        f"{spoken(records[0]['condition'])}: “({top['letter']})” is the most probable letter in "
        f"{top['share']:.0%} of the prompts; {said}."
    )


def read_pronouns(name: str, correlation: Interval, neutral: Interval) -> str:
    """Do the pronouns of a condition follow labour statistics."""
    why = doubt(correlation, null="no relation is shown")
    way = "the pronouns follow the statistics"
    way = way if correlation.estimate > 0 else "the pronouns run against the statistics"
    return (
        f"{spoken(name)}: r = {bare(correlation)} (n = {correlation.n}), {why or way}; neutral pronoun "
        f"{bare(neutral)}."
    )


def read_telling(benchmark: str, accuracy: Interval | None, margin: Interval) -> str:
    """Can the model tell the answer it should avoid; chance is accuracy .5 and margin 0."""
    said = f"{benchmark}: margin {bare(margin)} nats (n = {margin.n})"
    said += f", accuracy {bare(accuracy)} where chance is .5" if accuracy is not None else ""
    why = doubt(margin, null="it is not shown that the model can tell")
    way = "it can tell better than chance" if margin.estimate > 0 else "it tells them the wrong way"
    return f"{said}; {why or way}."


def read_round_effect(rows: pd.DataFrame) -> str:
    """One contrast over the rounds (one subset and measure): the last round, and the clear ones."""
    rows = rows[rows["round"] > 0].sort_values("round")
    measured = rows[rows["estimate"].notna()]
    first = rows.iloc[0]
    against = "its placebo" if first["against"] == "placebo" else str(first["against"])
    over = "Toxicity" if first["measure"] == "toxicity" else f"On {first['items']} items"
    what = f"{over}, {first['condition']} against {against}"
    if measured.empty:
        return f"{what}: not measured, {first['reason']}."
    last = measured.iloc[-1].to_dict()
    effect, p = interval_of(last), float(last["p"])
    unit = {"margin": " nats", "accuracy": " of accuracy"}.get(last["measure"], "")
    texts = f", {last['texts']} texts" if last.get("texts") else ""
    tested = f", family-wise {p_of(p)}" if p == p else ""
    numbers = f"{format_interval(effect)}{unit} (n = {effect.n}{texts}{tested})"
    why = doubt(effect, p, untested="the test over all rounds does not bear it out")
    way = "higher" if effect.estimate > 0 else "lower"
    clear = [
        str(int(row["round"]))
        for row in measured.to_dict("records")
        if not doubt(interval_of(row), float(row["p"]))
    ]
    rounds = f"rounds with an effect: {', '.join(clear)}" if clear else "no round shows one"
    return f"{what}: round {int(last['round'])} is {numbers}, {why or way}; {rounds}."


def read_change(name: str, first: Interval, last: Interval) -> str:
    """``instructed 0.38 [..] to 0.41 [..]``."""
    return f"{name} {bare(first)} to {bare(last)}"


def read_pair(
    label: str, treated: pd.DataFrame, placebo: pd.DataFrame, *, compare: bool = True
) -> str:
    """One measure of completions, first and last round, the last beside the placebo's.

    ``compare``: also say whether the two intervals overlap, for want of a test.
    """
    own = treated[treated["estimate"].notna()].sort_values("round").to_dict("records")
    first, last = interval_of(own[0]), interval_of(own[-1])
    course = bare(last) if len(own) == 1 else f"{bare(first)} to {bare(last)}"
    said = f"{label} {course} (n = {last.n})"
    control = placebo[placebo["round"] == own[-1]["round"]].to_dict("records")
    if not control:
        return said
    other = interval_of(control[0])
    at = "" if len(own) == 1 else " at the end"
    said = f"{said}, its placebo's{at} {bare(other)}"
    return f"{said}: {beside(last, other)}" if compare else said


def beside(treated: Interval, placebo: Interval) -> str:
    """Two levels beside each other: overlapping intervals show no difference."""
    if np.isnan(treated.low) or np.isnan(placebo.low):
        return "cannot be compared: an interval is missing"
    few = min(treated.n_clusters, placebo.n_clusters)
    if few < MIN_CLUSTERS:
        return f"not compared: {count(few, 'cluster')} of items are too few"
    if treated.low <= placebo.high and placebo.low <= treated.high:
        return "the intervals overlap, so no difference is shown"
    return (
        "higher than the placebo"
        if treated.estimate > placebo.estimate
        else "lower than the placebo"
    )


def reasons(frame: pd.DataFrame) -> str:
    """What the dashes of a table stand for; empty without any."""
    column = "net_reason" if "net_reason" in frame else "reason"
    if column not in frame:
        return ""
    found = dict.fromkeys(str(reason) for reason in frame[column].dropna() if reason)
    return f"A dash, or a number without an interval: {'; '.join(found)}." if found else ""
