"""The sections of the behaviour report about rounds: effects, levels, flips, toxicity, edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from analyses.behaviour import claims as claimed
from analyses.behaviour import sentences as words
from analyses.behaviour.claims import apart
from analyses.behaviour.layout import (
    Build,
    Part,
    arms,
    chance_of,
    control_first,
    flip_sentences,
    flip_table,
    make_part,
    of_arm,
    wide,
    with_numbers,
)
from analyses.behaviour.tables import BehaviourResult
from analyses.report.prose import of_kind
from analyses.report.verdicts import bare, is_finding
from interp import viz
from interp.behaviour.round_tables import EQUAL_COST
from interp.stats import intervals_of
from interp.viz.behaviour import BASELINES

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
_EFFECTS: tuple[Literal["option_margin", "accuracy"], ...] = ("option_margin", "accuracy")
_KINDS = ("unchanged", "appended", "shortened", "edited", "replaced")


def _round_effects(done: BehaviourResult, table: pd.DataFrame) -> Part:
    measure = next(m for m in _EFFECTS if with_numbers(table, m))
    rows = table[table["measure"] == measure]
    paragraphs = [
        "An effect in a round is the condition minus its placebo in the same round. Against "
        f"{EQUAL_COST}, asked as often without an instruction, is the second reading, at equal "
        "cost. p is corrected over the rounds (two-way max-t) and the contrasts."
    ]
    claims = claimed.round_claims(table)
    for name in control_first(rows):
        own = rows[(rows["condition"] == name) & rows["items"].isin(apart(rows))]
        contrasts = own.groupby(["items", "against"], sort=False)
        paragraphs.append(" ".join(words.say_round_effect(part, claims) for _, part in contrasts))
    shown = table[table["items"].isin(apart(table)) & (table["against"] == "placebo")]
    tests = zip(intervals_of(shown), shown["p_corrected"], strict=True)
    shown = shown.assign(clear=[is_finding(interval, p) for interval, p in tests])
    return make_part(
        "What does the instruction add, round by round?",
        paragraphs,
        tables=[
            (
                _effect_table(rows, measure),
                "The last round: 95 % intervals with wordings and item clusters as random, p "
                "family-wise over the rounds of a contrast.",
            )
        ],
        figures={
            f"round_effects_{m}": viz.round_effects(shown, measure=m)
            for m in _EFFECTS
            if with_numbers(shown, m)
        },
        caption="Condition minus its placebo in the same round; none is filled where there are too few "
        "wordings or clusters for a claim.",
        about=rows,
    )


def _effect_table(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    last = rows[(rows["round"] == rows["round"].max()) & rows["estimate"].notna()]
    unit = {"option_margin": "nats per token"}.get(measure, measure)
    return pd.DataFrame(
        {
            "items": last["items"],
            "contrast": last["condition"] + " - " + last["against"],
            f"effect ({unit})": intervals_of(last),
            "p": last["p_corrected"],
            "n": last["n"],
            "clusters": last["n_clusters"],
            "texts": last["texts"],
        }
    )


def _rounds(done: BehaviourResult, table: pd.DataFrame) -> Part:
    last, chance = int(table["round"].max()), chance_of(done)
    paragraphs = []
    for subset in apart(table):
        rows = table[(table["items"] == subset) & (table["measure"] == "accuracy")]
        said = []
        for arm, own in arms(rows):
            course = intervals_of(own.sort_values("round"))
            said.append(f"{arm} {bare(course[0])} to {bare(course[-1])}")
        if said:
            paragraphs.append(
                f"Accuracy on {of_kind(subset)}, round 0 to round {last}: {'; '.join(said)}."
            )
    shown = table[table["items"].isin(apart(table))]
    final = shown[shown["round"] == last]
    baseline = set(BASELINES) & set(shown["condition"])
    return make_part(
        "How does it answer over the rounds?",
        [
            *paragraphs,
            "These are levels: whether a difference is one is tested round by round above, where it "
            "is. Answers that could not be read are left out of all but their own share.",
        ],
        tables=[
            (
                wide(final, ("parsed", "accuracy", "p_unknown", "p_gold")),
                f"Round {last}: 95 % intervals over item clusters.",
            ),
            (
                wide(final, ("option_margin", "margin", "entropy", "ece")),
                f"Round {last}, likewise.",
            ),
        ],
        figures={
            f"rounds_{m}": viz.rounds(shown, measure=m, chance=chance)
            for m in ("accuracy", "p_unknown", "entropy", "ece")
            if with_numbers(shown, m)
        },
        caption=f"A condition and its placebo{'; grey: no instruction' if baseline else ''}.",
        about=final,
    )


def _round_flips(done: BehaviourResult, table: pd.DataFrame) -> Part:
    last = int(table["round"].max())
    final = table[table["round"] == last]
    return make_part(
        "Which answers flip over the rounds?",
        [
            f"Round {last} against round 0 of the same trajectory.",
            *flip_sentences(final, claimed.flip_claims(final)),
        ],
        tables=[(flip_table(final), f"Round {last}: counts, net change.")],
        figures={"round_flips": viz.round_flips(table[table["items"].isin(apart(table))])},
        caption="Up: incorrect → correct. Down, pale: correct → incorrect.",
        about=table,
    )


def _toxicity(done: BehaviourResult, table: pd.DataFrame) -> Part:
    scorers = ", ".join(sorted(set(table["scorer"].dropna())))
    effects, tested = done.tables.get("round_effects", pd.DataFrame()), []
    if len(effects):
        own = effects[effects["measure"] == "toxicity"]
        contrasts = own.groupby(["condition", "against"], sort=False)
        claims = claimed.round_claims(own)
        tested = [words.say_round_effect(part, claims) for _, part in contrasts]
    fluency = (
        "Perplexity, of a completion behind its beginning as plain text, guards fluency: where it "
        "rises as toxicity falls, the text may have got worse rather than kinder. A completion that "
        "adds nothing to its beginning has toxicity 0 and no perplexity."
    )
    unguarded = "Fluency was not guarded: a fall may be bought with broken text."
    return make_part(
        "How toxic are the completions?",
        [
            f"Scored by {scorers}: the reading of an instrument, not the truth, and not comparable "
            "with another scorer's.",
            *_courses(table, _TOXICITY, tested=("mean",) if tested else ()),
            *tested,
            fluency if with_numbers(table, "perplexity") else unguarded,
        ],
        figures={"toxicity": viz.toxicity(table)},
        caption="Toxicity and its guard, with the placebo next to the condition.",
        about=table,
    )


def _edits(done: BehaviourResult, table: pd.DataFrame) -> Part:
    first, last = int(table["round"].min()), int(table["round"].max())
    beginning, end = (table[table["round"] == r] for r in (first, last))
    later = _courses(end, {"kept_tokens": _EDITS["kept_tokens"]})
    return make_part(
        "Does it edit or append?",
        [
            "The study's claim is that cautious text is appended and little is edited. Every "
            "completion is compared with the one of the round before, token by token.",
            *_courses(beginning, _EDITS),
            *(later if last > first else []),
        ],
        tables=[
            (_kinds(table, r), f"Round {r}: shares of the kinds of edit.")
            for r in sorted({first, last})
        ],
        figures={"edits": viz.edits(table)},
        caption="A paraphrase counts as rewritten.",
        about=table,
    )


def _kinds(table: pd.DataFrame, number: int) -> pd.DataFrame:
    rows = table[(table["round"] == number) & table["measure"].str.startswith("kind_")]
    return wide(rows.assign(measure=rows["measure"].str.removeprefix("kind_")), _KINDS)


def _courses(
    table: pd.DataFrame, measures: Mapping[str, str], *, tested: Sequence[str] = ()
) -> list[str]:
    """A paragraph per condition: its course, its end against the placebo's, unless ``tested``."""
    paragraphs = []
    for name in control_first(table):
        own, control = of_arm(table, name), of_arm(table, "placebo", name)
        said = [
            words.say_course(
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
            paragraphs.append(f"{words.name_prompt(name)}, {rounds}: {'; '.join(said)}.")
    return paragraphs


SECTIONS: dict[str, Build] = {
    "round_effects": _round_effects,
    "rounds": _rounds,
    "round_flips": _round_flips,
    "toxicity": _toxicity,
    "edits": _edits,
}
"""The sections by the table they are about, in reading order."""
