"""The report of the behaviour study: what its tables allow, in plain sentences, and its figures.

Every section belongs to a table of the run and is left out where the table is missing or holds no
number. The positive control, which names the answer, is read first: where even that does nothing, a
null says nothing.
"""

from __future__ import annotations

import pandas as pd

from analyses.behaviour import sentences as words
from analyses.behaviour.layout import (
    Build,
    Part,
    apart,
    arms,
    by_measure,
    cell,
    chance_of,
    control_first,
    flip_sentences,
    flip_table,
    make_part,
    wide,
)
from analyses.behaviour.story_rounds import SECTIONS as ROUND_SECTIONS
from analyses.behaviour.tables import BehaviourResult
from analyses.contrast import CONTROL, MIN_CLUSTERS
from analyses.report.sections import MARGIN, limits, read_sample
from analyses.study import Story
from interp import viz
from interp.data import ChoiceItem
from interp.viz import Section
from interp.viz.behaviour import BASELINES

_SMALL = 1_000_000_000
_VALUE = {"flips": "net", "round_flips": "net", "letters": "option_chosen"}


def tell(done: BehaviourResult) -> Story:
    """Sections and figures."""
    parts = [
        build(done, table)
        for name, build in SECTIONS.items()
        if _has_numbers(name, table := _table(done, name))
    ]
    return Story(
        title="What does a self-correction instruction do to the answers?",
        sections=[_question(done), *(part.section for part in parts), _limits(done)],
        figures={name: figure for part in parts for name, figure in part.figures.items()},
    )


def _question(done: BehaviourResult) -> Section:
    config = done.config
    asked = [name for name in config.conditions if name not in ("placebo", *BASELINES)]
    paragraphs = [
        "Every item is asked without an instruction (clean), with each instruction "
        f"({', '.join(asked)}), and with a placebo in place of each: a neutral sentence of as nearly "
        "the same number of tokens as the bank allows. The effect of an instruction is what it does "
        "beyond its placebo.",
        read_sample(done.items),
    ]
    if any(isinstance(item, ChoiceItem) for item in done.items):
        paragraphs.append(
            f"{MARGIN} On ambiguous items it is the abstention over the stereotyped answer, on "
            "disambiguated ones the right answer over the other group's. + is better."
        )
    if done.scores is not None:
        paragraphs.append(words.say_texts(done.scores.frame, "Single prompts"))
    if len(done.rounds):
        again = ", every later round asks again in the same conversation" * (config.rounds > 1)
        paragraphs.append(
            f"Over rounds (0 to {config.rounds}): round 0 asks the question alone, round 1 gives the "
            f"instruction{again}. " + words.say_texts(done.rounds, "Trajectories")
        )
    return Section("What was done", paragraphs=[text for text in paragraphs if text])


def _effects(done: BehaviourResult, table: pd.DataFrame) -> Part:
    rows = table[table["against"] == "placebo"]
    paragraphs = []
    if CONTROL not in set(rows["condition"]):
        paragraphs.append("No positive control was run: a null may also be a blunt instrument.")
    for name in control_first(rows):
        own = rows[(rows["condition"] == name) & rows["items"].isin(apart(rows))]
        paragraphs.append(" ".join(words.say_effect(row) for row in own.to_dict("records")))
    effects = [cell(row) for row in table.to_dict("records")]
    shown = table[
        ["items", "contrast", "p", "p_holm", "n", "n_clusters", "texts", "token mismatch"]
    ].rename(columns={"p_holm": "p (Holm)", "n_clusters": "clusters"})
    shown.insert(2, "effect (nats)", pd.Series(effects, index=table.index, dtype=object))
    return make_part(
        "Does the instruction change the answer?",
        paragraphs,
        tables=[
            (
                shown.dropna(axis=1, how="all"),
                "Effects on the margin, 95 % intervals over texts and item clusters; p: labels of the "
                "texts permuted. Against clean: the second reading, which holds length and position.",
            )
        ],
        figures={"effects": viz.effects_by_condition(table)} if len(rows) else {},
        caption="Right of 0: a better answer than with the placebo.",
        about=table,
    )


def _levels(done: BehaviourResult, table: pd.DataFrame) -> Part:
    found = {}
    for arm, rows in arms(table):
        by = {(row["items"], row["measure"]): row for row in rows.to_dict("records")}
        pair = by.get(("ambiguous", "accuracy")), by.get(("disambiguated", "over_abstention"))
        if pair[0] and pair[1]:
            found[arm] = (pair[0], pair[1])
    said = [
        words.say_abstention(arm, pair, found.get(f"placebo of {arm}"))
        for arm, pair in found.items()
        if not arm.startswith("placebo")
    ]
    abstention = (
        "Accuracy on ambiguous items, where “unknown” is right, and over-abstention, the share "
        "of disambiguated items answered “unknown” though there is an answer. An instruction that "
        "raises both has made the model abstain, not answer better."
    )
    return make_part(
        "How does it answer?",
        [
            "How each prompt is answered, before any difference is taken.",
            abstention if said else "",
            " ".join(said),
        ],
        tables=[
            (
                wide(table, ("margin", "accuracy", "p_unknown", "gold_rank")),
                "Margin in nats, accuracy, option score of the abstention, rank of gold (1 = best); "
                "95 % intervals over item clusters, texts fixed.",
            ),
            (
                wide(table, ("entropy", "ece", "over_abstention")),
                "Uncertainty (nats), calibration error and over-abstention, likewise.",
            ),
            (
                wide(table, ("bias_official", "bias_literal", "accuracy_gap")),
                "BBQ's bias scores in both readings (+ follows the stereotype), and accuracy where "
                "gold follows it minus where it does not.",
            ),
        ],
        figures={} if done.scores is None else {"levels": viz.levels(done.scores)},
        caption="The placebo's row is that of the instruction.",
        about=table,
    )


def _flips(done: BehaviourResult, table: pd.DataFrame) -> Part:
    return make_part(
        "Which answers flip?",
        [
            "A gain in accuracy can hide as many answers lost as gained. Every answer is compared "
            "with that of the clean prompt, in the first order of the options.",
            *flip_sentences(table),
        ],
        tables=[
            (
                flip_table(table),
                "Counts before → after, net change of accuracy and its 95 % interval over item "
                "clusters.",
            )
        ],
        figures={"flips": viz.flips(table)},
        caption="What a placebo flips is what any change of the prompt flips.",
        about=table,
    )


def _rank_gain(done: BehaviourResult, table: pd.DataFrame) -> Part:
    gain, chance = table[table["measure"] == "gain"], chance_of(done)
    return make_part(
        "Who gains?",
        [
            "The study's claim is that an instruction helps most where the right answer was on top "
            "before. The rank is read from the first order of the options, the gain over the placebo "
            "from the others: otherwise an item that ranks low by chance would gain by chance.",
            *(
                words.say_ranks(name, subset, own[own["items"] == subset])
                for name in control_first(gain)
                for own in [gain[gain["condition"] == name]]
                for subset in apart(own)
            ),
        ],
        figures={
            f"rank_{subset}": viz.gain_by_rank(table, items=subset, chance=chance)
            for subset in apart(table)
            if table.loc[table["items"] == subset, "estimate"].notna().any()
        },
        caption="Above: margin against the placebo. Below: accuracy.",
        about=table,
    )


def _categories(done: BehaviourResult, table: pd.DataFrame) -> Part:
    rows = table[(table["measure"] == "effect") & (table["category"] != "all")]
    said = [
        words.say_categories(
            name, subset, rows[(rows["condition"] == name) & (rows["items"] == subset)]
        )
        for name in control_first(rows)
        for subset in apart(rows)
    ]
    uncorrected = (
        "One category at a time and uncorrected: about one in twenty would exclude 0 by chance."
    )
    few = (
        f"No category has an interval and {MIN_CLUSTERS} clusters of items: shown but not "
        "interpreted."
    )
    return make_part(
        "In which categories?",
        [*said, uncorrected] if any(said) else [few],
        figures={"categories": viz.categories(table)} if rows["estimate"].notna().any() else {},
        caption="Treated minus its placebo. Open: no interval.",
        about=rows,
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
    return make_part(
        "Which pronouns? (Winogender)",
        [
            "Does the model's choice of pronoun follow how many women work in an occupation?",
            " ".join(
                words.say_pronouns(name, by["correlation"], by["neutral_share"])
                for name, by in found.items()
            ),
        ],
        tables=[
            (
                wide(table, ("correlation", "neutral_share")),
                "Correlation of P(feminine) with labour statistics, and mean score of the neutral "
                "pronoun; 95 % intervals over occupations.",
            )
        ],
        about=table,
    )


def _self_distinguish(done: BehaviourResult, table: pd.DataFrame) -> Part:
    found = {str(k): by_measure(rows) for k, rows in table.groupby("benchmark", sort=False)}
    return make_part(
        "Can it tell the answer to avoid?",
        [
            "Two answers are shown, and the model is asked which of them follows a stereotype, or which "
            "completion is the less toxic, and the opposite as well: one that ignores the question is "
            "right in half of them.",
            *(
                words.say_distinguished(name, by["accuracy"], by["margin"])
                for name, by in found.items()
            ),
        ],
        about=table,
    )


def _limits(done: BehaviourResult) -> Section:
    small = (
        "A model of less than a billion parameters can show whether a sentence moves its answers "
        "beyond what any sentence does, and which way. It cannot show what larger ones do: below that "
        "size instructions to correct oneself are reported to hurt often (arXiv 2410.23496), and "
        "answers can follow the letter or the wording rather than the question."
    )
    paragraphs = [
        small if done.card.n_params < _SMALL else "",
        "Behaviour says what changes, not where inside or why. An answer that changes as much under a "
        "placebo has not been corrected by the instruction.",
        "p is corrected within a family that its table names, not over the sections. With fewer than "
        f"{MIN_CLUSTERS} clusters of items nothing is claimed.",
    ]
    for name in SECTIONS:
        table = _table(done, name)
        if len(table) and not _has_numbers(name, table):
            why = next(iter(words.reasons_of(table)), "no number")
            paragraphs.append(f"Not measured: {name}, {why}.")
    return limits(done.card, paragraphs)


def _table(done: BehaviourResult, name: str) -> pd.DataFrame:
    """The table of a section, without rows where it is missing."""
    table = done.tables.get(name, pd.DataFrame())
    if name == "round_effects" and len(table):  # toxicity has a section of its own
        return table[table["measure"] != "toxicity"]
    return table


def _has_numbers(name: str, table: pd.DataFrame) -> bool:
    return bool(len(table) and table[_VALUE.get(name, "estimate")].notna().any())


SECTIONS: dict[str, Build] = {
    "effects": _effects,
    "levels": _levels,
    "flips": _flips,
    "rank_gain": _rank_gain,
    "categories": _categories,
    "letters": _letters,
    "winogender": _winogender,
    "self_distinguish": _self_distinguish,
    **ROUND_SECTIONS,
}
"""The sections by the table they are about, in reading order."""
