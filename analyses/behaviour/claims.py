"""What the behaviour report claims: every kind of claim is a family, corrected once (Holm).

A family runs over conditions and subsets (data set and context condition); of categories and rounds over
these as well. The control's arms are a family of their own, because every report reads them first. A
mixture of subsets (``all``) and the contrasts with the clean prompt are shown and not claimed. Effects
are the report's question; ranks and categories look closer at them, and are corrected for being two.

    claims = effect_claims(tables["effects"])
    claims["ambiguous", "instructed"].verdict
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from analyses.contrast import CONTROL, CONTROL_ARMS
from analyses.report.claims import NAN, Claim, delta_of
from interp.behaviour.scores import PRIMARY
from interp.stats import Family, Interval, interval_of
from interp.viz.behaviour import subsets_of

Key: TypeAlias = tuple[str, ...]
Claims: TypeAlias = dict[Key, Claim]

METRIC_NAMES: Mapping[str, str] = {
    "option_margin": "option margin",
    "margin": "margin",
    "p_gold": "P(a)",
}
"""Readings of one contrast by their columns, the primary one first."""


_CLOSER_LOOKS = 2
"""Ranks and categories."""


def apart(frame: pd.DataFrame) -> list[str]:
    """The subsets that are claimed: data sets and context conditions apart, else what there is."""
    subsets = subsets_of(frame)
    return [name for name in subsets if name != "all"] or subsets


def effect_claims(effects: pd.DataFrame) -> Claims:
    """Effects against the placebo by (items, condition), in the primary metric."""
    rows = effects[(effects["against"] == "placebo") & effects["items"].isin(apart(effects))]
    found = {
        name: _by_key(rows[rows["metric"] == name], "items", "condition") for name in METRIC_NAMES
    }
    primary = {
        key: one
        for key, one in found[PRIMARY].items()
        if key[1] not in CONTROL_ARMS[1:]
        or not np.isnan(one.estimate)  # an arm may not fit a subset
    }
    p = _corrected("effects", primary)
    deltas = {
        key[0]: delta_of(Claim(interval, p[key]))
        for key, interval in primary.items()
        if key[1] == CONTROL
    }
    return {
        key: Claim(
            interval,
            p[key],
            deltas.get(key[0], NAN) if key[1] != CONTROL else NAN,
            {
                METRIC_NAMES[m]: found[m][key]
                for m in METRIC_NAMES
                if m != PRIMARY and key in found[m]
            },
        )
        for key, interval in primary.items()
    }


def rank_claims(table: pd.DataFrame) -> Claims:
    """Top minus rest by (items, condition), the gain in the margin beside it."""
    rows = table[(table["rank"] == "top - rest") & table["items"].isin(apart(table))]
    gains, others = (
        _by_key(rows[rows["measure"] == name], "items", "condition")
        for name in ("gain", "gain_margin")
    )
    p = _closer("rank gain", gains)
    return {
        key: Claim(one, p[key], others={"margin": others[key]} if key in others else {})
        for key, one in gains.items()
    }


def category_claims(table: pd.DataFrame) -> Claims:
    """Effects by (items, condition, category), the primary metric alone."""
    rows = table[(table["measure"] == "effect") & (table["category"] != "all")]
    rows = rows[rows["items"].isin(apart(rows))]
    found = _by_key(rows, "items", "condition", "category")
    p = _closer("categories", found)
    return {key: Claim(one, p[key]) for key, one in found.items()}


def flip_claims(table: pd.DataFrame) -> Claims:
    """Net changes of accuracy by (items, condition) against the prompt without an instruction."""
    rows = table[(table["control_of"] == "") & table["items"].isin(apart(table))]
    found = _by_key(rows, "items", "condition", name="net")
    if "p_corrected" in rows:  # over the rounds already
        own = {
            k: p * len(found)
            for k, p in _numbers(rows, "p_corrected", "items", "condition").items()
        }
    else:
        own = _corrected("flips", found)
    return {key: Claim(one, min(own[key], 1.0), fixed_control=True) for key, one in found.items()}


def round_claims(table: pd.DataFrame) -> Claims:
    """Effects by (items, condition, against, measure, round); p over rounds and over contrasts.

    Toxicity is its own family. The other metrics of the same round stand beside the primary one.
    """
    keys = ("items", "condition", "against", "measure", "round")
    rows = table[(table["round"] > 0) & table["estimate"].notna()]
    rows = rows[rows["items"].isin(apart(rows)) | (rows["measure"] == "toxicity")]
    found, p = _by_key(rows, *keys), _numbers(rows, "p_corrected", *keys)
    contrasts: dict[str, set[Key]] = defaultdict(set)
    for key in found:
        contrasts[key[3]].add(key[:3])
    claims: Claims = {}
    for key, one in found.items():
        items, condition, against, measure, number = key
        others = {
            METRIC_NAMES[m]: found[items, condition, against, m, number]
            for m in METRIC_NAMES
            if measure == PRIMARY
            and m != measure
            and (items, condition, against, m, number) in found
        }
        control = found.get((items, CONTROL, against, measure, number))
        delta = NAN if control is None or condition == CONTROL else delta_of(Claim(control))
        claims[key] = Claim(one, min(p[key] * len(contrasts[measure]), 1.0), delta, others)
    return claims


def family_p(name: str, found: Mapping[Key, Interval]) -> dict[Key, float]:
    """p of intervals, corrected together."""
    p = Family.of(name, found).p_holm
    return {key: float(p[key]) for key in found}


def _corrected(name: str, found: Mapping[Key, Interval]) -> dict[Key, float]:
    """p by key: those of the conditions corrected together, and those of the control's arms."""
    is_arm = {key: key[1] in CONTROL_ARMS for key in found}
    parts = [{k: v for k, v in found.items() if is_arm[k] == arm} for arm in (False, True)]
    return {k: p for part in parts if part for k, p in family_p(name, part).items()}


def _closer(name: str, found: Mapping[Key, Interval]) -> dict[Key, float]:
    return {key: min(_CLOSER_LOOKS * p, 1.0) for key, p in _corrected(name, found).items()}


def _by_key(rows: pd.DataFrame, *keys: str, name: str = "") -> dict[Key, Interval]:
    return _collect(rows, keys, lambda row: interval_of(row, name))


def _numbers(rows: pd.DataFrame, column: str, *keys: str) -> dict[Key, float]:
    return _collect(rows, keys, lambda row: float(row[column]))


def _collect(
    rows: pd.DataFrame, keys: tuple[str, ...], value: Callable[[Any], Any]
) -> dict[Key, Any]:
    return {tuple(row[k] for k in keys): value(row) for row in rows.to_dict("records")}


def with_verdicts(effects: pd.DataFrame) -> pd.DataFrame:
    """The effects with ``p_holm`` and ``verdict`` of what is claimed; NaN and empty elsewhere."""
    claims = effect_claims(effects) if len(effects) else {}
    keys = [
        (row["items"], row["condition"])
        if (row["against"], row["metric"]) == ("placebo", PRIMARY)
        else ()
        for row in effects.to_dict("records")
    ]
    return effects.assign(
        p_holm=[claims[key].p if key in claims else np.nan for key in keys],
        verdict=[claims[key].verdict if key in claims else "" for key in keys],
    )
