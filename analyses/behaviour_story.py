"""The report of the behaviour study: what its tables allow, in plain sentences, and its figures.

Every section belongs to a table of the run and is left out where the table is missing or holds no
number. The positive control, which names the answer, is read first: where even that does nothing, a
null says nothing. Sentences come from :mod:`analyses.behaviour_words`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analyses import behaviour_words as words
from analyses.behaviour_rows import (
    Build,
    Figures,
    apart,
    arms,
    cell,
    chance_of,
    control_first,
    draw,
    flip_sentences,
    flip_table,
    tables,
    wide,
)
from analyses.behaviour_story_rounds import SECTIONS as ROUND_SECTIONS
from analyses.page import write_page
from analyses.patch_tables import CONTROL
from analyses.readings import MIN_CLUSTERS, count
from interp import viz
from interp.data import ChoiceItem, CompletionItem
from interp.runs import Run
from interp.viz import Section
from interp.viz.behaviour import BASELINES

if TYPE_CHECKING:
    from analyses.behaviour import BehaviourRun

TITLE = "What does a self-correction instruction do to the answers?"
_MARGIN = (
    "The margin, in nats, is how much the better answer's logit exceeds the worse one's where their "
    "texts first differ: on ambiguous items the abstention over the stereotyped answer, on "
    "disambiguated ones the right answer over the other group's. + is better."
)
_SMALL = 1_000_000_000
_VALUE = {"flips": "net", "round_flips": "net", "letters": "option_chosen"}


def write_story(folder: Run, done: BehaviourRun) -> None:
    """Write ``report.html``, every figure as HTML, and as PNG where that was asked for."""
    figures: Figures = {}
    sections = [_question(done)]
    for name, build in (_SECTIONS | ROUND_SECTIONS).items():
        table = _table(done, name)
        if _has_numbers(name, table):
            sections.append(build(done, table, figures))
    sections.append(_limits(done))
    write_page(folder, sections, figures, title=TITLE, card=done.card, png=done.config.png)


def _question(done: BehaviourRun) -> Section:
    config = done.config
    kinds = pd.Series([_kind(item) for item in done.items]).value_counts()
    sample = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    asked = [name for name in config.conditions if name not in ("placebo", *BASELINES)]
    paragraphs = [
        "Every item is asked without an instruction (clean), with each instruction "
        f"({', '.join(asked)}), and with a placebo in place of each: a neutral sentence of as nearly "
        "the same number of tokens as the bank allows. The effect of an instruction is what it does "
        "beyond its placebo.",
        f"The sample: {count(len(done.items), 'item')} ({sample}).",
    ]
    if any(isinstance(item, ChoiceItem) for item in done.items):
        paragraphs.append(_MARGIN)
    if done.scores is not None:
        paragraphs.append(words.read_texts(done.scores.frame, "Single prompts"))
    if len(done.rounds):
        again = ", every later round asks again in the same conversation" * (config.rounds > 1)
        paragraphs.append(
            f"Over rounds (0 to {config.rounds}): round 0 asks the question alone, round 1 gives the "
            f"instruction{again}. " + words.read_texts(done.rounds, "Trajectories")
        )
    return Section("What was done", paragraphs=[text for text in paragraphs if text])


def _effects(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    rows = table[table["against"] == "placebo"]
    paragraphs = []
    for name in control_first(rows):
        read = words.read_control if name == CONTROL else words.read_effect
        own = rows[(rows["condition"] == name) & rows["items"].isin(apart(rows))]
        paragraphs.append(" ".join(read(row) for row in own.to_dict("records")))
    if CONTROL not in set(rows["condition"]):
        paragraphs.insert(0, "No positive control was run: a null may also be a blunt instrument.")
    columns = ["items", "contrast", "p", "p_holm", "n", "n_clusters", "texts"]
    shown = table[[c for c in (*columns, "token mismatch") if c in table]].copy()
    effects = [cell(row) for row in table.to_dict("records")]
    shown.insert(2, "effect (nats)", pd.Series(effects, index=table.index, dtype=object))
    names = {"p_holm": "p (Holm)", "n_clusters": "clusters"}
    return Section(
        "Does the instruction change the answer?",
        paragraphs=paragraphs,
        tables=[
            (
                shown.rename(columns=names).dropna(axis=1, how="all"),
                "Effects on the margin, 95 % intervals over texts and item clusters; p: labels of the "
                "texts permuted. Against clean: the second reading, which holds length and position.",
            )
        ],
        figures=draw(
            figures,
            {"effects": viz.effects_by_condition(table)} if len(rows) else {},
            "Right of 0: a better answer than with the placebo.",
        ),
        note=words.reasons(table),
    )


def _levels(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    found = {}
    for arm, rows in arms(table):
        by = {(row["items"], row["measure"]): row for row in rows.to_dict("records")}
        pair = by.get(("ambiguous", "accuracy")), by.get(("disambiguated", "over_abstention"))
        if pair[0] and pair[1]:
            found[arm] = (pair[0], pair[1])
    said = [
        words.read_abstention(arm, pair, found.get(f"placebo of {arm}"))
        for arm, pair in found.items()
        if not arm.startswith("placebo")
    ]
    paragraphs = ["How each prompt is answered, before any difference is taken."]
    if said:
        paragraphs += [
            "Accuracy on ambiguous items, where “unknown” is right, beside over-abstention, the share "
            "of disambiguated items answered “unknown” though there is an answer. An instruction that "
            "raises both has made the model abstain, not answer better.",
            " ".join(said),
        ]
    drawn = {} if done.scores is None else {"levels": viz.levels(done.scores)}
    return Section(
        "How does it answer?",
        paragraphs=paragraphs,
        tables=tables(
            (wide(table, ("margin", "accuracy", "p_unknown", "gold_rank")), _LEVELS),
            (wide(table, ("entropy", "ece", "over_abstention")), "Uncertainty (nats), calibration "
             "error and over-abstention, likewise."),
            (wide(table, ("bias_official", "bias_literal", "accuracy_gap")), "BBQ's bias scores in "
             "both readings (+ follows the stereotype), and accuracy where gold follows it minus "
             "where it does not."),
        ),
        figures=draw(figures, drawn, "The placebo's row is that of the instruction."),
        note=words.reasons(table),
    )  # fmt: skip


_LEVELS = (
    "Margin in nats, accuracy, option score of the abstention, rank of gold (1 = best); 95 % intervals "
    "over item clusters, texts fixed."
)


_FLIPS = "Counts before → after, net change of accuracy and its 95 % interval over item clusters."


def _flips(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    return Section(
        "Which answers flip?",
        paragraphs=[
            "A gain in accuracy can hide as many answers spoilt as mended. Every answer is compared "
            "with that of the clean prompt, in the first order of the options.",
            *flip_sentences(table),
        ],
        tables=tables(
            (flip_table(table), _FLIPS),
        ),
        figures=draw(
            figures,
            {"flips": viz.flips(table)},
            "What a placebo flips is what any change of the prompt flips.",
        ),
        note=words.reasons(table),
    )


def _rank_gain(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    gain = table[table["measure"] == "gain"]
    paragraphs = [
        "The study's claim is that an instruction helps most where the right answer was on top before. "
        "The rank is read from the first order of the options, the gain over the placebo from the "
        "others: otherwise an item that ranks low by chance would gain by chance.",
    ]
    for name in control_first(gain):
        own = gain[gain["condition"] == name]
        paragraphs += [
            words.read_ranks(name, subset, own[own["items"] == subset]) for subset in apart(own)
        ]
    chance = chance_of(done)
    drawn = {
        f"rank_{subset}": viz.gain_by_rank(table, items=subset, chance=chance)
        for subset in apart(table)
        if table.loc[table["items"] == subset, "estimate"].notna().any()
    }
    return Section(
        "Who gains?",
        paragraphs=paragraphs,
        figures=draw(figures, drawn, "Above: margin against the placebo. Below: accuracy."),
        note=words.reasons(table),
    )


def _categories(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    rows = table[(table["measure"] == "effect") & (table["category"] != "all")]
    sentences = [
        words.read_categories(
            name, subset, rows[(rows["condition"] == name) & (rows["items"] == subset)]
        )
        for name in control_first(rows)
        for subset in apart(rows)
    ]
    read = [
        *filter(None, sentences),
        "One category at a time and uncorrected: about one in twenty would exclude 0 by chance.",
    ]
    few = f"No category has an interval and {MIN_CLUSTERS} clusters of items: shown, and not read."
    return Section(
        "In which categories?",
        paragraphs=read if any(sentences) else [few],
        figures=draw(
            figures,
            {"categories": viz.categories(table)} if rows["estimate"].notna().any() else {},
            "Treated minus its placebo. Open: no interval.",
        ),
        note=words.reasons(rows),
    )


def _letters(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    shown = table.rename(
        columns={
            "share": "most probable letter",
            "option_chosen": "option chosen",
            "probability": "mean probability of the letter",
            "n": "prompts",
        }
    )
    first = table[table["condition"] == table["condition"].iloc[0]]
    return Section(
        "Does it prefer a letter?",
        paragraphs=[
            words.read_letters(first),
            "All readings of this report average over cyclic orders, in which every option stands at "
            "every letter equally often.",
        ],
        tables=tables(
            (shown, "Shares of the prompts, over all orders, items and texts."),
        ),
        figures=draw(figures, {"letters": viz.letters(table)}, "Shares of prompts; dashed: even."),
    )


def _winogender(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    said = []
    for name, rows in table.groupby("condition", sort=False):
        by = {row["measure"]: words.interval_of(row) for row in rows.to_dict("records")}
        if {"correlation", "neutral_share"} <= set(by):
            said.append(words.read_pronouns(str(name), by["correlation"], by["neutral_share"]))
    return Section(
        "Which pronouns? (Winogender)",
        paragraphs=[
            "Does the model's choice of pronoun follow how many women work in an occupation?",
            " ".join(said),
        ],
        tables=[
            (
                wide(table, ("correlation", "neutral_share")),
                "Correlation of P(feminine) with labour statistics, and mean score of the neutral "
                "pronoun; 95 % intervals over occupations.",
            )
        ],
        note=words.reasons(table),
    )


def _self_distinguish(done: BehaviourRun, table: pd.DataFrame, figures: Figures) -> Section:
    said = []
    for name, rows in table.groupby("benchmark", sort=False):
        by = {row["measure"]: words.interval_of(row) for row in rows.to_dict("records")}
        if "margin" in by:
            said.append(words.read_telling(str(name), by.get("accuracy"), by["margin"]))
    return Section(
        "Can it tell the answer to avoid?",
        paragraphs=[
            "Two answers are shown, and the model is asked which of them follows a stereotype, or which "
            "completion is the less toxic, and the opposite as well: one that ignores the question is "
            "right in half of them.",
            *said,
        ],
        note=words.reasons(table),
    )


def _limits(done: BehaviourRun) -> Section:
    checks = pd.DataFrame(
        [(c.name, c.deviation, c.tolerance) for c in done.card.checks],
        columns=["self-check of the model", "relative deviation", "tolerance"],
    )
    paragraphs = [
        f"They speak of one model: {done.card.one_line}.",
        *([_SMALL_MODELS] if done.card.n_params < _SMALL else []),
        "Behaviour says what changes, not where inside or why. An answer that changes as much under a "
        "placebo has not been corrected by the instruction.",
        "p is corrected within a family that its table names, not over the sections. With fewer than "
        f"{MIN_CLUSTERS} clusters of items nothing is claimed.",
    ]
    for name in _SECTIONS | ROUND_SECTIONS:
        table = _table(done, name)
        if len(table) and not _has_numbers(name, table):
            why = [str(r) for r in table.get("reason", pd.Series(dtype=str)).dropna() if r]
            paragraphs.append(f"Not measured: {name}, {why[0] if why else 'no number'}.")
    return Section(
        "What these numbers can and cannot say",
        paragraphs=paragraphs,
        tables=tables((checks, "Self-checks at load.")),
    )


_SMALL_MODELS = (
    "A model of less than a billion parameters can show whether a sentence moves its answers beyond "
    "what any sentence does, and which way. It cannot show what larger ones do: below that size "
    "instructions to correct oneself are reported to hurt often (arXiv 2410.23496), and answers can "
    "follow the letter or the wording rather than the question."
)


def _table(done: BehaviourRun, name: str) -> pd.DataFrame:
    """The table of a section, without rows where it is missing."""
    table = done.tables.get(name, pd.DataFrame())
    if name == "round_effects" and len(table):  # toxicity has a section of its own
        return table[table["measure"] != "toxicity"]
    return table


def _has_numbers(name: str, table: pd.DataFrame) -> bool:
    return bool(len(table) and table[_VALUE.get(name, "estimate")].notna().any())


def _kind(item: ChoiceItem | CompletionItem) -> str:
    if isinstance(item, ChoiceItem):
        return f"{item.benchmark}, {item.context_condition}"
    return f"{item.benchmark}, to complete"


_SECTIONS: dict[str, Build] = {
    "effects": _effects,
    "levels": _levels,
    "flips": _flips,
    "rank_gain": _rank_gain,
    "categories": _categories,
    "letters": _letters,
    "winogender": _winogender,
    "self_distinguish": _self_distinguish,
}
"""The sections by the table they are about, in reading order; those over rounds follow."""
