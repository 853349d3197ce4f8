"""The sections of the behaviour report about rounds: effects, levels, flips, toxicity, edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analyses import behaviour_words as words
from analyses.behaviour_rows import (
    Build,
    Figures,
    apart,
    arms,
    chance_of,
    control_first,
    draw,
    ends,
    flip_sentences,
    flip_table,
    tables,
    wide,
    with_numbers,
)
from interp import viz
from interp.viz import Section
from interp.viz.behaviour import BASELINES

if TYPE_CHECKING:
    from analyses.behaviour import BehaviourRun

_TOXICITY = {
    "mean": "mean toxicity",
    "expected_maximum": "expected maximum toxicity",
    "empty": "share of completions that add nothing",
    "perplexity": "perplexity",
}
_EDITS = {
    "kept_prefix": "share of the prefix kept",
    "kept_tokens": "tokens kept",
    "appended": "appended",
    "rewritten": "rewritten",
}
_KINDS = ("unchanged", "appended", "shortened", "edited", "replaced")


def _round_effects(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    measures = [m for m in ("margin", "accuracy") if with_numbers(table, m)]
    rows = table[table["measure"].isin(measures[:1])]
    paragraphs = [
        "An effect in a round is the condition minus its placebo in the same round. Against "
        f"{words.EQUAL_COST}, asked as often without an instruction, is the second reading, at equal "
        "cost. p is corrected over the rounds (sign flips of clusters, max-T)."
    ]
    for name in control_first(rows):
        own = rows[(rows["condition"] == name) & rows["items"].isin(apart(rows))]
        parts = own.groupby(["items", "against"], sort=False)
        paragraphs.append(" ".join(words.read_round_effect(part) for _, part in parts))
    shown = table[table["items"].isin(apart(table)) & (table["against"] == "placebo")]
    return Section(
        "What does the instruction add, round by round?",
        paragraphs=paragraphs,
        tables=tables((_effect_table(rows), "The last round: 95 % intervals over texts and item "
                       "clusters, p family-wise over the rounds."),),
        figures=draw(
            figures,
            {
                f"round_effects_{m}": viz.round_effects(shown, measure=m)
                for m in ("margin", "accuracy")
                if with_numbers(shown, m)
            },
            "Condition minus its placebo in the same round.",
        ),
        note=words.reasons(rows),
    )  # fmt: skip


def _effect_table(rows: pd.DataFrame) -> pd.DataFrame:
    last = rows[rows["round"] == rows["round"].max()].to_dict("records")
    unit = {"margin": "effect (nats)", "accuracy": "effect (accuracy)"}
    return pd.DataFrame(
        [
            {
                "items": row["items"],
                "contrast": f"{row['condition']} - {row['against']}",
                unit[row["measure"]]: words.interval_of(row),
                "p": row["p"],
                "n": row["n"],
                "clusters": row["n_clusters"],
                "texts": row["texts"],
            }
            for row in last
            if not np.isnan(row["estimate"])
        ]
    )


def _rounds(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    last, chance = int(table["round"].max()), chance_of(done)
    paragraphs = []
    for subset in apart(table):
        rows = table[(table["items"] == subset) & (table["measure"] == "accuracy")]
        said = [words.read_change(arm, *ends(own)) for arm, own in arms(rows) if len(own)]
        if said:
            paragraphs.append(
                f"Accuracy on {subset} items, round 0 to round {last}: {'; '.join(said)}."
            )
    shown = table[table["items"].isin(apart(table))]
    final = shown[shown["round"] == last]
    return Section(
        "How does it answer over the rounds?",
        paragraphs=[
            *paragraphs,
            "These are levels: whether a difference is one is tested round by round above, where it "
            "is. Answers that could not be read are left out of all but their own share.",
        ],
        tables=tables(
            (
                wide(final, ("parsed", "accuracy", "p_unknown", "p_gold")),
                f"Round {last}: 95 % intervals over item clusters.",
            ),
            (wide(final, ("margin", "entropy", "ece")), f"Round {last}, likewise."),
        ),
        figures=draw(
            figures,
            {
                f"rounds_{m}": viz.rounds(shown, measure=m, chance=chance)
                for m in ("accuracy", "p_unknown", "entropy", "ece")
                if with_numbers(shown, m)
            },
            "A condition and its placebo"
            + ("; grey: no instruction." if set(BASELINES) & set(shown["condition"]) else "."),
        ),
        note=words.reasons(final),
    )


def _round_flips(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    last = int(table["round"].max())
    return Section(
        "Which answers flip over the rounds?",
        paragraphs=[
            f"Round {last} beside round 0 of the same trajectory.",
            *flip_sentences(table[table["round"] == last]),
        ],
        tables=tables(
            (flip_table(table[table["round"] == last]), f"Round {last}: counts, net change."),
        ),
        figures=draw(
            figures,
            {"round_flips": viz.round_flips(table[table["items"].isin(apart(table))])},
            "Up: wrong to right. Down, pale: right to wrong.",
        ),
        note=words.reasons(table),
    )


def _toxicity(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    scorers = ", ".join(sorted(set(table["scorer"].dropna())))
    effects, tested = done.tables.get("round_effects", pd.DataFrame()), []
    if len(effects):
        found = effects[effects["measure"] == "toxicity"].groupby(
            ["condition", "against"], sort=False
        )
        tested = [words.read_round_effect(part) for _, part in found]
    return Section(
        "How toxic are the completions?",
        paragraphs=[
            f"Scored by {scorers}: the reading of an instrument, not the truth, and not comparable "
            "with another scorer's.",
            *_completion_sentences(table, _TOXICITY, tested=("mean",) if tested else ()),
            *tested,
            "Perplexity, of a completion behind its beginning as plain text, guards fluency: where it "
            "rises as toxicity falls, the text may have got worse rather than kinder. A completion that "
            "adds nothing to its beginning has toxicity 0 and no perplexity."
            if with_numbers(table, "perplexity")
            else "Fluency was not guarded: a fall may be bought with broken text.",
        ],
        figures=draw(
            figures,
            {"toxicity": viz.toxicity(table)},
            "Toxicity and its guard, with the placebo beside the condition.",
        ),
        note=words.reasons(table),
    )


def _edits(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    first, last = int(table["round"].min()), int(table["round"].max())
    beginning, end = (table[table["round"] == r] for r in (first, last))
    later = _completion_sentences(end, {"kept_tokens": _EDITS["kept_tokens"]})
    return Section(
        "Does it edit or append?",
        paragraphs=[
            "The study's claim is that cautious text is appended and little is edited. Every "
            "completion is compared with the one of the round before, token by token.",
            *_completion_sentences(beginning, _EDITS),
            *(later if last > first else []),
        ],
        tables=tables(
            *((_kinds(table, r), f"Round {r}: shares of the kinds of edit.")
              for r in sorted({first, last}))
        ),
        figures=draw(
            figures, {"edits": viz.edits(table)}, "A paraphrase counts as rewritten."
        ),
        note=words.reasons(table),
    )  # fmt: skip


def _kinds(table: pd.DataFrame, number: int) -> pd.DataFrame:
    rows = table[(table["round"] == number) & table["measure"].str.startswith("kind_")]
    return wide(rows.assign(measure=rows["measure"].str.removeprefix("kind_")), _KINDS)


def _completion_sentences(
    table: pd.DataFrame, measures: Mapping[str, str], *, tested: Sequence[str] = ()
) -> list[str]:
    """A paragraph per condition: its course, and its end beside the placebo's, unless ``tested``."""
    paragraphs = []
    for name in control_first(table):
        own, control = (
            table[(table["condition"] == condition) & (table["control_of"].fillna("") == of)]
            for condition, of in ((name, ""), ("placebo", name))
        )
        said = [
            words.read_pair(
                label,
                own[own["measure"] == m],
                control[control["measure"] == m],
                compare=m not in tested,
            )
            for m, label in measures.items()
            if with_numbers(own, m)
        ]
        if said:
            first, last = int(own["round"].min()), int(own["round"].max())
            rounds = f"rounds {first} to {last}" if last > first else f"round {last}"
            paragraphs.append(f"{words.spoken(name)}, {rounds}: {'; '.join(said)}.")
    return paragraphs


SECTIONS: dict[str, Build] = {
    "round_effects": _round_effects,
    "rounds": _rounds,
    "round_flips": _round_flips,
    "toxicity": _toxicity,
    "edits": _edits,
}
"""The sections by the table they are about, in reading order."""
