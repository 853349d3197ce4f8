"""Sections of the behaviour report that look at single prompts more closely."""

from __future__ import annotations

import pandas as pd

from analyses.behaviour import claims as claimed
from analyses.behaviour import sentences as words
from analyses.behaviour.claims import apart
from analyses.behaviour.layout import (
    Build,
    Part,
    by_measure,
    cell,
    control_first,
    make_part,
    wide,
)
from analyses.behaviour.tables import BehaviourResult
from analyses.config import MIN_CLUSTERS
from analyses.report.claims import Claim
from interp import viz
from interp.behaviour.scores import PRIMARY


def _categories(done: BehaviourResult, table: pd.DataFrame) -> Part:
    rows = table[(table["measure"] == "effect") & (table["category"] != "all")]
    claims = claimed.category_claims(table)
    said = [
        words.say_categories(name, subset, claims)
        for name in control_first(rows)
        for subset in apart(rows)
    ]
    few = (
        f"No category has enough wordings and {MIN_CLUSTERS} clusters of items: shown but not "
        "interpreted."
    )
    return make_part(
        "In which categories?",
        [*said, "The figure's intervals are uncorrected: exploratory."] if any(said) else [few],
        figures={"categories": viz.categories(table)} if rows["estimate"].notna().any() else {},
        caption="Treated minus its placebo. Open: no interval.",
        about=rows,
    )


def _option_forms(done: BehaviourResult, table: pd.DataFrame) -> Part:
    rows = []
    keys = ["items", "condition", "option_form"]
    for key, own in table[table["items"].isin(apart(table))].groupby(keys, sort=False):
        by_metric = {row["metric"]: row for row in own.to_dict("records")}
        first = by_metric[PRIMARY]
        rows.append(
            dict(zip(keys, key, strict=True))
            | {label: cell(by_metric[m]) for m, label in claimed.METRIC_NAMES.items()}
            | {"n": first["n"], "clusters": first["n_clusters"]}
            | {"single token": first["single_token"]}
        )
    return make_part(
        "Does it depend on the option's form?",
        [
            "The margin is read at the first token where two options differ, which is “ The” in one "
            "form and a name in another. An effect whose sign follows the form is one of that token. "
            "Exploratory: no row is claimed."
        ],
        tables=[
            (
                pd.DataFrame(rows),
                "Treated minus its placebo by the form of the option that names somebody; 95 % "
                "intervals, each for itself. Single token: share of items where margin and option "
                "margin are one.",
            )
        ],
        about=table,
    )


def _letters(done: BehaviourResult, table: pd.DataFrame) -> Part:
    names = {
        "share": "most probable letter",
        "option_chosen": "option chosen",
        "probability": "mean probability of the letter",
        "n": "prompts",
    }
    first = table[table["condition"] == table["condition"].iloc[0]]
    return make_part(
        "Does it prefer a letter?",
        [
            words.say_letters(first),
            "All readings of this report average over cyclic orders, in which every option stands at "
            "every letter equally often.",
        ],
        tables=[
            (
                table.rename(columns=names),
                "Shares of the prompts, over all orders, items and texts.",
            )
        ],
        figures={"letters": viz.letters(table)},
        caption="Shares of prompts; dashed: even.",
        about=table,
    )


def _winogender(done: BehaviourResult, table: pd.DataFrame) -> Part:
    found = {str(k): by_measure(rows) for k, rows in table.groupby("condition", sort=False)}
    p = claimed.family_p("pronouns", {(name,): by["correlation"] for name, by in found.items()})
    return make_part(
        "Which pronouns? (Winogender)",
        [
            "Does the model's choice of pronoun follow how many women work in an occupation?",
            " ".join(
                words.say_pronouns(name, Claim(by["correlation"], p[name,]), by["neutral_share"])
                for name, by in found.items()
            ),
        ],
        tables=[
            (
                wide(table, ("correlation", "neutral_share")),
                "Correlation of P(feminine) with labour statistics, and mean score of the neutral "
                "pronoun; 95 % intervals over occupations (Fisher's z), of the wordings asked.",
            )
        ],
        about=table,
    )


def _self_distinguish(done: BehaviourResult, table: pd.DataFrame) -> Part:
    found = {str(k): by_measure(rows) for k, rows in table.groupby("benchmark", sort=False)}
    p = claimed.family_p("told apart", {(name,): by["option_margin"] for name, by in found.items()})
    return make_part(
        "Can it tell the answer to avoid?",
        [
            "Two answers are shown, and the model is asked which of them follows a stereotype, or which "
            "completion is the less toxic, and the opposite as well: one that ignores the question is "
            "right in half of them.",
            *(
                words.say_distinguished(
                    name,
                    by["accuracy"],
                    Claim(by["option_margin"], p[name,], others={"margin": by["margin"]}),
                )
                for name, by in found.items()
            ),
        ],
        about=table,
    )


SECTIONS: dict[str, Build] = {
    "categories": _categories,
    "option_forms": _option_forms,
    "letters": _letters,
    "winogender": _winogender,
    "self_distinguish": _self_distinguish,
}
"""The sections by the table they are about, in reading order."""
