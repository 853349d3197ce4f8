"""Sentences of the behaviour report: one row or two of a table in, what they allow out.

Whether a number is a finding is decided in :mod:`analyses.report.verdicts` alone. Numbers are those
of the table, in its unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analyses.behaviour.claims import Claims
from analyses.config import MIN_CLUSTERS
from analyses.contrast import CONTROL
from analyses.report.claims import Claim
from analyses.report.prose import count, of_kind
from analyses.report.verdicts import (
    bare,
    compare_levels,
    counted,
    judge,
    p_said,
    read_control,
    read_effect,
    read_headline,
    wordings_caveat,
)
from interp.behaviour.item_means import FLIP_COUNTS
from interp.behaviour.round_tables import EQUAL_COST
from interp.stats import Interval, interval_of, intervals_of
from interp.viz.report import format_interval

_Row = Mapping[Any, Any]

PER_TOKEN = " nats per token"
"""Unit of option margins."""


def name_prompt(name: str) -> str:
    """A condition at the head of a sentence."""
    return f"No instruction ({name})" if name == EQUAL_COST else name.capitalize()


def say_effect(subset: str, condition: str, claim: Claim) -> str:
    """What a condition does to the option margin against its placebos."""
    effect = claim.effect
    sample = [*counted(effect), p_said(claim)]
    if condition == CONTROL:
        return read_control(
            claim,
            where=f" on {of_kind(subset)}",
            sample=sample,
            of="the option margin",
            unit=PER_TOKEN,
        )
    return read_effect(
        f"On {of_kind(subset)} the {condition} prompt against its placebo",
        claim,
        of="the option margin",
        unit=PER_TOKEN,
        sample=sample,
    )


def say_headline(subset: str, condition: str, claim: Claim) -> str:
    """The effect of one condition, in one line."""
    return read_headline(
        f"On {of_kind(subset)}, “{condition}” against its placebo",
        claim,
        of="the option margin",
        unit=PER_TOKEN,
        sample=[*counted(claim.effect), p_said(claim)],
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
    return f"{what} have {number} a condition; wordings are random, as items are."


def say_abstention(name: str, own: tuple[_Row, _Row], placebo: tuple[_Row, _Row] | None) -> str:
    """Accuracy on ambiguous items with over-abstention on disambiguated ones; its placebo's."""
    right, silent = (bare(interval_of(row)) for row in own)
    said = f"{name_prompt(name)}: accuracy {right}, over-abstention {silent}"
    if placebo is None:
        return f"{said}."
    right, silent = (bare(interval_of(row)) for row in placebo)
    return f"{said} (placebo {right} and {silent})."


def say_flips(name: str, subset: str, treated: _Row, placebo: _Row | None, claim: Claim) -> str:
    """Both directions of the flips of a condition, and its placebo's."""
    net = claim.effect
    tested = f" ({p_said(claim)})" if net.p == net.p else ""
    verdict = judge(
        claim,
        above="more incorrect -> correct than correct -> incorrect",
        below="more correct -> incorrect than incorrect -> correct",
    )
    said = f"{name_prompt(name)}, {of_kind(subset)}: {_flipped(treated)}; net {bare(net)}{tested}"
    said += f": {verdict}."
    if placebo is None:
        return said
    other = interval_of(placebo, "net")
    return (
        f"{said} Its placebo: {_flipped(placebo)}; net {bare(other)}: {compare_levels(net, other)}."
    )


def _flipped(row: _Row) -> str:
    lost, gained = int(row["right_wrong"]), int(row["wrong_right"])
    n = sum(int(row[name]) for name in FLIP_COUNTS)
    return f"{lost} correct -> incorrect and {gained} incorrect -> correct of {n}"


def say_ranks(condition: str, subset: str, ranks: pd.DataFrame, claim: Claim | None) -> str:
    """Gain at every rank before, and whether the top gains more; rows of one condition's gain."""
    gains = []
    for row in ranks[ranks["rank"] != "top - rest"].to_dict("records"):
        gain = interval_of(row)
        if not np.isnan(gain.estimate):
            gains.append(f"{bare(gain)} at rank {row['rank']} (n = {gain.n})")
    said = f"{name_prompt(condition)}, {of_kind(subset)}: "
    said += ", ".join(gains) or "no gain could be measured"
    if claim is None or np.isnan(claim.effect.estimate):
        why = claim.effect.reason if claim is not None else ""
        return f"{said}. Top and rest cannot be compared: {why or 'one of them has no items'}."
    top = claim.effect
    verdict = judge(claim, above="the top gains more", below="the top gains less than the rest")
    return f"{said}. Top minus rest: {format_interval(top)}{PER_TOKEN} (n = {top.n}); {verdict}."


def say_categories(condition: str, subset: str, claims: Claims) -> str:
    """The categories with an effect, all corrected for; empty where none can be judged."""
    found = {
        key[2]: claim
        for key, claim in claims.items()
        if key[:2] == (subset, condition) and not claim.verdict.startswith("too few")
    }
    if not found:
        return ""
    clear = [f"{k} {format_interval(v.effect)}" for k, v in found.items() if v.is_effect]
    named = f" ({'; '.join(clear)})" if clear else ""
    signs = {np.sign(claim.effect.estimate) for claim in found.values()}
    mixed = " Signs are mixed: exploratory." if len(signs) > 1 and not clear else ""
    return (
        f"{name_prompt(condition)}, {of_kind(subset)}: an effect in {len(clear)} of {len(found)} "
        f"categories with {MIN_CLUSTERS} clusters or more, all corrected for{named}.{mixed}"
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


def say_pronouns(name: str, claim: Claim, neutral: Interval) -> str:
    """Do the pronouns of a condition follow labour statistics."""
    verdict = judge(
        claim,
        above="the pronouns follow the statistics",
        below="the pronouns run against the statistics",
    )
    return (
        f"{name_prompt(name)}: r = {bare(claim.effect)} (n = {claim.effect.n}), {verdict}; neutral "
        f"pronoun {bare(neutral)}."
    )


def say_distinguished(benchmark: str, accuracy: Interval | None, claim: Claim) -> str:
    """Can the model tell the answer it should avoid; chance is accuracy .5 and option margin 0."""
    verdict = judge(
        claim, above="it can tell better than chance", below="it tells them the wrong way"
    )
    said = f"{benchmark}: option margin {bare(claim.effect)}{PER_TOKEN} (n = {claim.effect.n})"
    said += f", accuracy {bare(accuracy)} where chance is .5" if accuracy is not None else ""
    return f"{said}; {verdict}."


def say_round_effect(rows: pd.DataFrame, claims: Claims) -> str:
    """One contrast over the rounds (one subset and measure): the last round, and the clear ones."""
    rows = rows[rows["round"] > 0].sort_values("round")
    first = rows.iloc[0]
    against = "its placebo" if first["against"] == "placebo" else str(first["against"])
    over = "Toxicity" if first["measure"] == "toxicity" else f"On {of_kind(str(first['items']))}"
    what = f"{over}, {first['condition']} against {against}"
    keys = ["items", "condition", "against", "measure"]
    by_round = {
        number: claims[*(first[k] for k in keys), number]
        for number in rows.loc[rows["estimate"].notna(), "round"]
    }
    if not by_round:
        return f"{what}: not measured, {first['reason']}."
    last, claim = list(by_round.items())[-1]
    effect = claim.effect
    unit = {"margin": " nats", "option_margin": PER_TOKEN, "accuracy": " of accuracy"}
    texts = f", {effect.texts[0]} x {effect.texts[1]} wordings" if effect.texts else ""
    tested = f", {p_said(claim)}" if claim.p == claim.p else ""
    verdict = judge(claim, above="higher", below="lower")
    clear = ", ".join(str(int(k)) for k, one in by_round.items() if one.is_effect)
    rounds = f"rounds with an effect: {clear}" if clear else "no round has an effect"
    return (
        f"{what}: round {int(last)} is {format_interval(effect)}"
        f"{unit.get(str(first['measure']), '')} (n = {effect.n}{texts}{tested}), {verdict}; {rounds}."
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
