"""The report of the behaviour study: what its tables allow, in plain sentences, and its figures.

Every section belongs to a table of the run and is left out where the table is missing or holds no
number. The positive control, which names the answer, is read first: where even that does nothing, a
null says nothing.
"""

from __future__ import annotations

import pandas as pd

from analyses.behaviour import claims as claimed
from analyses.behaviour import sentences as words
from analyses.behaviour.claims import apart
from analyses.behaviour.layout import (
    Build,
    Part,
    arms,
    cell,
    chance_of,
    control_first,
    flip_sentences,
    flip_table,
    make_part,
    wide,
    with_numbers,
)
from analyses.behaviour.story_prompts import SECTIONS as PROMPT_SECTIONS
from analyses.behaviour.story_rounds import SECTIONS as ROUND_SECTIONS
from analyses.behaviour.tables import BehaviourResult
from analyses.contrast import CONTROL, CONTROL_ARMS
from analyses.report.claims import Claim
from analyses.report.prose import of_kind
from analyses.report.sections import MARGIN, limits, read_sample, say_contrasts
from analyses.report.verdicts import read_control_arms
from analyses.study import Story
from interp import viz
from interp.behaviour.scores import PRIMARY
from interp.data import ChoiceItem
from interp.viz import Section
from interp.viz.behaviour import BASELINES, names_of

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
        headline=headline(done),
    )


def headline(done: BehaviourResult) -> str:
    """What the first instruction does: to single prompts, else in the last round that it is asked."""
    effects = _table(done, "effects")
    claims = claimed.effect_claims(effects) if len(effects) else {}
    if claims:
        own = [key for key in claims if key[1] not in CONTROL_ARMS] or list(claims)
        subset, name = own[0]
        return words.say_headline(subset, name, claims[own[0]])
    rounds = done.tables.get("round_effects", pd.DataFrame())
    if len(rounds):
        keys = ["items", "condition", "against", "measure"]
        told = rounds[rounds["items"].isin(apart(rounds)) | (rounds["measure"] == "toxicity")]
        _, first = next(iter(told.groupby(keys, sort=False)))
        return words.say_round_effect(first, claimed.round_claims(rounds))
    return "No instruction was contrasted with a placebo, so no effect was measured."


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
            f"{MARGIN} {say_contrasts(done.items)} + is better. The option "
            "margin is the same contrast in the options' full texts (mean log-likelihood per token, "
            "nats) and is what is claimed; the margin and P(a), the score of the better option, "
            "have to have its sign."
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
    claims, paragraphs = claimed.effect_claims(table), []
    if CONTROL not in set(rows["condition"]):
        paragraphs.append("No positive control was run: a null may also be a blunt instrument.")
    for subset in apart(rows):
        arms_here = {
            name: claims[subset, name] for name in CONTROL_ARMS if (subset, name) in claims
        }
        where = f" on {of_kind(subset)}"
        paragraphs.append(
            " ".join(
                read_control_arms(
                    arms_here, where=where, of="the option margin", unit=words.PER_TOKEN
                )
            )
        )
    for name in names_of(rows):
        if name not in CONTROL_ARMS:
            own = [(s, claims[s, name]) for s in apart(rows) if (s, name) in claims]
            paragraphs.append(" ".join(words.say_effect(s, name, claim) for s, claim in own))
    n_sets = {str(name).split(", ")[0] for name in apart(rows)} if len(apart(rows)) > 2 else set()
    if len(n_sets) > 1:
        paragraphs.append(
            "Data sets differ in their effects and are never pooled: each is its own row."
        )
    return make_part(
        "Does the instruction change the answer?",
        paragraphs,
        tables=[
            (
                _effect_table(table, claims),
                "Effects with 95 % intervals; wordings and clusters of items are random (CGM-t). Option "
                "margin in nats per token, margin in nats, P(a): score of the better option. p "
                "(Holm): of the option margin, over conditions and subsets. Against clean: the "
                "second reading, which holds length and position and supports no claim.",
            )
        ],
        figures={"effects": viz.effects_by_condition(table)} if len(rows) else {},
        caption="Right of 0: a better answer than with the placebo.",
        about=table,
    )


def _effect_table(table: pd.DataFrame, claims: claimed.Claims) -> pd.DataFrame:
    """A row per subset and contrast, metrics across."""
    records = []
    for (subset, contrast), own in table.groupby(["items", "contrast"], sort=False):
        by_metric = {row["metric"]: row for row in own.to_dict("records")}
        row = by_metric[PRIMARY]
        claim: Claim | None = None
        if row["against"] == "placebo":
            claim = claims.get((str(subset), row["condition"]))
        records.append(
            {
                "items": subset,
                "contrast": contrast,
                **{label: cell(by_metric[m]) for m, label in claimed.METRIC_NAMES.items()},
                "p (Holm)": None if claim is None else claim.p,
                "verdict": "" if claim is None else claim.verdict,
                "n": row["n"],
                "clusters": row["n_clusters"],
                "wordings": row["texts"],
                "token mismatch": row["token mismatch"],
            }
        )
    return pd.DataFrame(records).dropna(axis=1, how="all")


def _levels(done: BehaviourResult, table: pd.DataFrame) -> Part:
    found = {}
    for arm, rows in arms(table):
        by = {(row["items"], row["measure"]): row for row in rows.to_dict("records")}
        sets = [
            subset.removesuffix("ambiguous") for subset, _ in by if subset.endswith("ambiguous")
        ]
        for name in dict.fromkeys(s.removesuffix("dis") for s in sets):
            right = by.get((f"{name}ambiguous", "accuracy"))
            silent = by.get((f"{name}disambiguated", "over_abstention"))
            if right and silent:
                found[arm, name] = (right, silent)
    said = [
        words.say_abstention(
            f"{arm}, {name}".removesuffix(", "), pair, found.get((f"placebo of {arm}", name))
        )
        for (arm, name), pair in found.items()
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
                wide(table, ("option_margin", "margin", "accuracy", "p_unknown", "gold_rank")),
                "Option margin in nats per token, margin in nats, accuracy, "
                f"{'option score of the abstention, ' * with_numbers(table, 'p_unknown')}"
                "rank of gold (1 = best); 95 % intervals over item clusters, of the wordings asked.",
            ),
            (
                wide(table, ("entropy", "ece", "over_abstention")),
                "Uncertainty (nats), calibration error (less that of calibrated answers)"
                f"{' and over-abstention' * with_numbers(table, 'over_abstention')}, likewise.",
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
            *flip_sentences(table, claimed.flip_claims(table)),
        ],
        tables=[
            (
                flip_table(table),
                "Counts before → after, net change of accuracy with its 95 % interval and p "
                "(wordings and item clusters random, each row for itself).",
            )
        ],
        figures={"flips": viz.flips(table)},
        caption="What a placebo flips is what any change of the prompt flips.",
        about=table,
    )


def _rank_gain(done: BehaviourResult, table: pd.DataFrame) -> Part:
    gain, chance = table[table["measure"] == "gain"], chance_of(done)
    claims = claimed.rank_claims(table)
    return make_part(
        "Who gains?",
        [
            "The study's claim is that an instruction helps most where the right answer was on top "
            "before. The rank is read from the first order of the options, the gain over the placebo "
            "from the others: otherwise an item that ranks low by chance would gain by chance.",
            *(
                words.say_ranks(
                    name, subset, own[own["items"] == subset], claims.get((subset, name))
                )
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
        caption="Above: option margin against the placebo. Below: accuracy.",
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
        "p is corrected over all claims of a kind (conditions, subsets, categories, rounds), not "
        "over the kinds.",
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
        table = table[table["measure"] != "toxicity"]
    kinds = {item.context_condition for item in _choices(done)}
    if name == "categories" and len(table) and table["category"].nunique() < 3:
        return table.iloc[:0]  # one category and "all": the effect again
    if name == "option_forms" and kinds == {"plain"}:
        return table.iloc[:0]  # forms are those of options that name somebody
    if "items" in table and len(kinds) == 1:
        own = apart(table)  # what is said of all items is said of these
        table = table[table["items"].isin(own)]
    return table


def _choices(done: BehaviourResult) -> list[ChoiceItem]:
    return [item for item in done.items if isinstance(item, ChoiceItem)]


def _has_numbers(name: str, table: pd.DataFrame) -> bool:
    return bool(len(table) and table[_VALUE.get(name, "estimate")].notna().any())


SECTIONS: dict[str, Build] = {
    "effects": _effects,
    "levels": _levels,
    "flips": _flips,
    "rank_gain": _rank_gain,
    **PROMPT_SECTIONS,
    **ROUND_SECTIONS,
}
"""The sections by the table they are about, in reading order."""
