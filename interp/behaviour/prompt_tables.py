"""Tables of single prompts: levels, effects, gain by rank, flips, letters.

Every table is a function from scores to one long frame, a number a row. ``items`` is the subset:
``all``, or one context condition that is present. A condition's placebos are ``condition =
"placebo"`` with ``control_of``, and each set of them is read apart. An interval's columns
are those of :mod:`interp.stats.columns`; what is undefined is NaN with a reason, never an exception.

Orders and texts are averaged within an item first. In levels clusters of items are random and the texts
those asked; in effects texts and clusters are both random. Option margins are in nats per token, margins
in nats, + = the better answer. Items of several data sets are never pooled.

    levels(scores, seed=0)
    effects(scores).query("items == 'ambiguous' and against == 'placebo' and metric == 'option_margin'")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pandas as pd

from interp.behaviour.answers import calibration_error, gain_by_rank, option_entropy
from interp.behaviour.fairness import (
    accuracy_gap,
    bbq_bias,
    over_abstention,
    pronoun_probabilities,
    winogender_bias,
)
from interp.behaviour.item_means import (
    ARM,
    FLIPS,
    INTERVAL,
    by_subset,
    context_of,
    context_subsets,
    flip_columns,
    item_means,
    undefined,
)
from interp.behaviour.scores import AnswerMetric, Effect, OptionScores, text_table
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.stats import Interval, effect, interval_columns

_LEVELS = {
    "option_margin": "option_margin",
    "margin": "margin",
    "accuracy": "correct",
    "p_unknown": "p_unknown",
    "gold_rank": "gold_rank",
    "entropy": "entropy",
}

_GAINS: Mapping[str, AnswerMetric] = {"gain": "option_margin", "gain_margin": "margin"}
"""Measures of :func:`rank_gain` and their metrics, the primary one first."""


def levels(scores: OptionScores, *, seed: int = 0) -> pd.DataFrame:
    """How every arm answers: items, condition, control_of, measure and its interval.

    Measures: ``option_margin`` (nats per token), ``margin`` (nats), ``accuracy``, ``p_unknown``,
    ``gold_rank`` (1 = best), ``entropy`` (nats), ``ece``
    (:func:`calibration_error <interp.behaviour.answers.calibration_error>`; drawn with ``seed``); of one
    context condition also ``bias_official``, of ambiguous items ``bias_literal``, of disambiguated
    ones ``over_abstention`` and ``accuracy_gap`` (:mod:`interp.behaviour.fairness`). An item with a
    reading that is NaN in one prompt of an arm is left out of it.
    """
    frame = _with_sureness(scores.frame)

    def records(subset: str, rows: pd.DataFrame) -> Iterator[dict[Any, Any]]:
        yield from item_means(rows, ARM, _LEVELS).to_dict("records")
        for key, part in rows.groupby(list(ARM), sort=False):
            for measure, interval in _answer_levels(frame, part, subset, seed):
                arm = dict(zip(ARM, key, strict=True))
                yield arm | {"measure": measure} | interval_columns(interval)

    return by_subset(frame, (*ARM, "measure", *INTERVAL), records)


def _answer_levels(
    frame: pd.DataFrame, part: pd.DataFrame, subset: str, seed: int
) -> Iterator[tuple[str, Interval]]:
    """The measures of an arm that are no means over items."""
    yield "ece", calibration_error(part["p_chosen"], part["correct"], part["cluster"], seed=seed)
    if context_of(subset) == "ambiguous":
        same = frame["benchmark"] == part["benchmark"].iloc[0]
        arm = (frame[list(ARM)] == part[list(ARM)].iloc[0]).all(axis=1)  # both contexts
        yield "bias_official", bbq_bias(part, "ambiguous")
        yield "bias_literal", bbq_bias(frame[arm & same], "ambiguous", reading="literal")
    if context_of(subset) == "disambiguated":
        yield "bias_official", bbq_bias(part, "disambiguated")
        yield "over_abstention", over_abstention(part)
        yield "accuracy_gap", accuracy_gap(part)


def effects(scores: OptionScores) -> pd.DataFrame:
    """Effects in every metric: the rows of :meth:`OptionScores.effects`, for ``all`` items as well.

    Columns: items, contrast, condition, against, metric (``option_margin``, nats per token, first;
    ``margin``, nats; ``p_gold``), an interval's with its p, and ``token mismatch``. ``against`` is
    ``placebo`` (where the condition has some) and ``clean``; ``placebo - clean``, of the placebos of
    ``instructed``, is what length and position do by themselves.
    """
    present = set(scores.conditions)
    pairs = [(c, "placebo") for c in _treated(scores.frame) if _has_placebo(scores.frame, c)]
    if "clean" in present:
        pairs += [(c, "clean") for c in [*_treated(scores.frame), *({"placebo"} & present)]]
    columns = ("contrast", "condition", "against", "metric", *INTERVAL, "token mismatch")

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        here = replace(scores, frame=rows)
        for pair in pairs:
            for metric in get_args(AnswerMetric):
                yield _effect_row(here, *pair, metric)

    return by_subset(scores.frame, columns, records)


def _effect_row(
    scores: OptionScores, condition: str, against: str, metric: AnswerMetric
) -> dict[str, Any]:
    found = _effect(scores, condition, against, metric)
    interval = found.interval if isinstance(found, Effect) else undefined(found)
    return {
        "contrast": f"{condition} - {against}",
        "condition": condition,
        "against": against,
        "metric": metric,
        **interval_columns(interval),
        "token mismatch": found.mismatch if isinstance(found, Effect) else np.nan,
    }


def _effect(
    scores: OptionScores, condition: str, against: Any, metric: AnswerMetric
) -> Effect | str:
    """The effect on a metric, or why there is none."""
    try:
        return scores.effect(condition, against=against, metric=metric)
    except InterpError as error:
        return str(error)


def rank_gain(scores: OptionScores) -> pd.DataFrame:
    """Gain over the placebo by the rank that gold had in the clean prompt's first order (RQ1).

    Columns: items, condition, against (``placebo``), rank (``"1"`` = best ..., ``"top - rest"``),
    measure and its interval. ``gain``: option margin against the placebo on the other orders, nats per
    token; ``gain_margin``: the same of the margin, nats; ``correct``: accuracy under the condition
    there; see :func:`interp.behaviour.gain_by_rank`. A rank that no item had is NaN with a reason, and
    so are all of a subset without any gain.
    """
    frame = scores.frame
    ranks = [str(k + 1) for k in range(len(_positions(frame)))]
    measures = dict.fromkeys(ranks, (*_GAINS, "correct")) | {"top - rest": tuple(_GAINS)}

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        for condition in (c for c in _treated(frame) if _has_placebo(frame, c)):
            found, missing = _rank_rows(rows, condition)
            for rank, names in measures.items():
                for name in names:
                    key = {"condition": condition, "against": "placebo", "rank": rank}
                    row = found.get((rank, name), interval_columns(undefined(missing)))
                    yield key | {"measure": name} | row

    columns = ("condition", "against", "rank", "measure", *INTERVAL)
    return by_subset(frame, columns, records)


def _rank_rows(
    rows: pd.DataFrame, condition: str
) -> tuple[dict[tuple[str, str], dict[str, Any]], str]:
    """Interval columns by (rank, measure), and the reason of those that are missing."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, metric in _GAINS.items():
        try:
            gain = gain_by_rank(rows, condition=condition, metric=metric)
        except InterpError as error:
            return {}, str(error)
        for row in gain.table.to_dict("records"):
            measure = name if row["measure"] == "gain" else row["measure"]
            found[str(row["rank"]), measure] = {column: row[column] for column in INTERVAL}
        found["top - rest", name] = interval_columns(gain.top_minus_rest)
    return found, "gold had this rank on no item"


def flips(scores: OptionScores) -> pd.DataFrame:
    """Right and wrong before (the clean prompt) and after (an arm's prompt), in the first order.

    Columns: items, condition, control_of, right_right, right_wrong, wrong_right, wrong_wrong, an
    interval's under the name ``net``. Every text is compared with the clean prompt of its item, so
    counts are item x text pairs (no majority over texts, which would hide flips in both directions).
    ``net`` is accuracy after minus before, with texts and clusters as random; McNemar's test would take
    pairs as independent.
    """
    first = scores.frame[scores.frame["order"] == 0]
    answers = first[first["condition"] == "clean"].set_index("item")
    clean = answers["correct"].astype(float)

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        for arm, part in rows[rows["condition"] != "clean"].groupby(list(ARM), sort=False):
            before = np.asarray(part["item"].map(clean), dtype=np.float64)
            after = np.asarray(part["correct"], dtype=np.float64)
            table, clusters = text_table(part, "correct")
            items = sorted(set(part["item"]))  # in the order of the table
            net = effect(table, clean.reindex(items).to_numpy()[None], clusters)
            yield dict(zip(ARM, arm, strict=True)) | flip_columns(before, after, net)

    return by_subset(first, (*ARM, *FLIPS), records)


def categories(scores: OptionScores) -> pd.DataFrame:
    """Per benchmark and category: benchmark, category (``all`` first), items, condition, measure.

    Measures of every treated condition: ``effect`` on the option margin against its placebos (nats per
    token), ``accuracy_clean``, ``accuracy`` (under the condition), ``accuracy_placebo``.
    """
    records = []
    for (benchmark, category), rows in _by_category(scores.frame):
        for subset, part in context_subsets(rows).items():
            here = replace(scores, frame=part)
            accuracy = item_means(part, ARM, {"accuracy": "correct"}).set_index(list(ARM))
            names = {"benchmark": benchmark, "category": category, "items": subset}
            for condition in _treated(part):
                found = _effect(here, condition, "placebo", "option_margin")
                effect = found.interval if isinstance(found, Effect) else undefined(found)
                arms = {
                    "_clean": ("clean", ""),
                    "": (condition, ""),
                    "_placebo": ("placebo", condition),
                }
                key = names | {"condition": condition}
                records.append(key | {"measure": "effect"} | interval_columns(effect))
                records += [
                    key | {"measure": f"accuracy{end}"} | _row_of(accuracy, arm)
                    for end, arm in arms.items()
                ]
    columns = ["benchmark", "category", "items", "condition", "measure", *INTERVAL]
    return pd.DataFrame(records, columns=columns)


def option_forms(scores: OptionScores) -> pd.DataFrame:
    """Effects against the placebo by the form of the option that names somebody: a covariate.

    Columns: items, option_form (``name``, ``the`` or ``other``), condition, against, metric, an
    interval's with its p, and ``single_token``: the share of items whose two options are one token each,
    where margin and option margin are one. A subset with a single form has no rows.
    """

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        forms = list(dict.fromkeys(rows["option_form"])) if "option_form" in rows else []
        for form in forms if len(forms) > 1 else []:
            part = rows[rows["option_form"] == form]
            here, single = replace(scores, frame=part), float(part["single_token"].mean())
            for condition in (c for c in _treated(part) if _has_placebo(part, c)):
                for metric in get_args(AnswerMetric):
                    row = _effect_row(here, condition, "placebo", metric)
                    yield {"option_form": form, **row, "single_token": single}

    columns = ("option_form", "condition", "against", "metric", *INTERVAL, "single_token")
    return by_subset(scores.frame, columns, records)


def _by_category(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for benchmark, rows in frame.groupby("benchmark", sort=False):
        yield (str(benchmark), "all"), rows
        for category, part in rows.groupby("category", sort=False):
            yield (str(benchmark), str(category)), part


def _row_of(table: pd.DataFrame, arm: tuple[str, str]) -> dict[str, Any]:
    if arm not in table.index:
        return interval_columns(undefined(f"{' of '.join(filter(None, arm))} was not scored"))
    return {name: table.at[arm, name] for name in INTERVAL}


def letters(scores: OptionScores) -> pd.DataFrame:
    """Preferred letters and positions: condition, letter, share, option_chosen, probability, n.

    ``share``: of prompts, how often that letter is the most probable one; ``option_chosen``: share
    of prompts whose chosen option stands at that position; ``probability``: mean probability of the
    letter. All are 1/k without a preference. ``n``: prompts. The placebos of all conditions are
    taken together.
    """
    pooled = replace(scores, frame=scores.frame.assign(control_of=""))
    table = pooled.position_bias().rename(
        columns={
            "position": "letter",
            "letter chosen": "share",
            "chosen": "option_chosen",
            "letter": "probability",
        }
    )
    n = table["condition"].map(scores.frame["condition"].value_counts())
    columns = ["condition", "letter", "share", "option_chosen", "probability", "n"]
    return table.assign(n=n)[columns]


def winogender(scores: OptionScores, items: Iterable[ChoiceItem]) -> pd.DataFrame:
    """Pronouns by condition: condition, measure (correlation | neutral_share) and its interval.

    ``items``: those that were scored; rows of other benchmarks are left aside. The placebos of all
    conditions are taken together. The correlation of p_f with labour statistics
    (:func:`interp.behaviour.winogender_bias`) is NaN with fewer than three occupations.
    """
    known = [item for item in items if item.benchmark == "winogender"]
    rows = scores.frame[scores.frame["benchmark"] == "winogender"]
    records = []
    for condition, part in rows.groupby("condition", sort=False):
        bias = winogender_bias(pronoun_probabilities(part, known))
        records += [
            {"condition": condition, "measure": measure} | interval_columns(interval)
            for measure, interval in (
                ("correlation", bias.correlation),
                ("neutral_share", bias.neutral),
            )
        ]
    return pd.DataFrame(records, columns=["condition", "measure", *INTERVAL])


def self_distinguish(scores: OptionScores) -> pd.DataFrame:
    """Whether the model tells the options apart: benchmark, measure (accuracy | a margin), interval.

    ``scores``: of the items of :mod:`interp.behaviour.distinguish`, read under the clean prompt.
    A model that cannot tell has accuracy .5, and option margin (nats per token) and margin (nats) 0.
    """
    clean = scores.frame[scores.frame["condition"] == "clean"]
    columns = {"accuracy": "correct", "option_margin": "option_margin", "margin": "margin"}
    return item_means(clean, ("benchmark",), columns)


def _with_sureness(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``p_chosen``, the score of the chosen option, and the options' ``entropy``."""
    options = frame[_positions(frame)]
    return frame.assign(p_chosen=options.max(axis=1), entropy=option_entropy(options.to_numpy()))


def _positions(frame: pd.DataFrame) -> list[str]:
    return [name for name in map(str, frame) if name.startswith("p_position_")]


def _treated(frame: pd.DataFrame) -> list[str]:
    return [c for c in dict.fromkeys(frame["condition"]) if c not in ("clean", "placebo")]


def _has_placebo(frame: pd.DataFrame, condition: str) -> bool:
    return bool(((frame["condition"] == "placebo") & (frame["control_of"] == condition)).any())
