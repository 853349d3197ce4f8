"""Tables of single prompts: levels, effects, gain by rank, flips, letters.

Every table is a function from scores to one long frame, a number a row. ``items`` is the subset:
``all``, or one context condition that is present. A condition's placebos are ``condition =
"placebo"`` with ``control_of``, and each set of them is read apart. An interval's columns
are those of :mod:`interp.stats.columns`; what is undefined is NaN with a reason, never an exception.

Orders and texts are averaged within an item first, then clusters of items are resampled. Levels
hold the texts fixed; effects resample texts x clusters. Margins are in nats, + = the better answer.

    levels(scores, seed=0)
    effects(scores, seed=0).query("items == 'ambiguous' and against == 'placebo'")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

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
    context_subsets,
    flip_columns,
    item_means,
    undefined,
)
from interp.behaviour.scores import Effect, OptionScores
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.stats import Interval, holm, interval_columns, sign_flip_max_t

_LEVELS = {
    "margin": "margin",
    "accuracy": "correct",
    "p_unknown": "p_unknown",
    "gold_rank": "gold_rank",
    "entropy": "entropy",
}


def levels(scores: OptionScores, *, seed: int = 0) -> pd.DataFrame:
    """How every arm answers: items, condition, control_of, measure and its interval.

    Measures: ``margin`` (nats), ``accuracy``, ``p_unknown``, ``gold_rank`` (1 = best), ``entropy``
    (nats), ``ece`` (:func:`calibration_error <interp.behaviour.answers.calibration_error>`); of one
    context condition also ``bias_official``, of ambiguous items ``bias_literal``, of disambiguated
    ones ``over_abstention`` and ``accuracy_gap`` (:mod:`interp.behaviour.fairness`). An item with a
    reading that is NaN in one prompt of an arm is left out of it.
    """
    frame = _with_sureness(scores.frame)

    def records(subset: str, rows: pd.DataFrame) -> Iterator[dict[Any, Any]]:
        yield from item_means(rows, ARM, _LEVELS, seed=seed).to_dict("records")
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
    if subset == "ambiguous":
        arm = (frame[list(ARM)] == part[list(ARM)].iloc[0]).all(axis=1)  # both contexts
        yield "bias_official", bbq_bias(part, "ambiguous", seed=seed)
        yield "bias_literal", bbq_bias(frame[arm], "ambiguous", reading="literal", seed=seed)
    if subset == "disambiguated":
        yield "bias_official", bbq_bias(part, "disambiguated", seed=seed)
        yield "over_abstention", over_abstention(part, seed=seed)
        yield "accuracy_gap", accuracy_gap(part, seed=seed)


def effects(scores: OptionScores, *, seed: int = 0) -> pd.DataFrame:
    """Effects on the margin: the rows of :meth:`OptionScores.effects`, for ``all`` items as well.

    Columns: items, contrast, condition, against, an interval's (nats), p, p_holm and ``token
    mismatch``. ``p`` permutes the labels of the texts (NaN with one text a
    side); ``p_holm`` is corrected over the conditions of a subset compared with the same control.
    ``against`` is ``placebo`` (where the condition has some) and ``clean``; ``placebo - clean``, of
    the placebos of ``instructed``, is what length and position do by themselves.
    """
    scores = replace(scores, seed=seed)
    present = set(scores.conditions)
    pairs = [(c, "placebo") for c in _treated(scores.frame) if _has_placebo(scores.frame, c)]
    if "clean" in present:
        pairs += [(c, "clean") for c in [*_treated(scores.frame), *({"placebo"} & present)]]
    columns = ("contrast", "condition", "against", *INTERVAL, "p", "token mismatch")
    table = by_subset(
        scores.frame,
        columns,
        lambda subset, _: [_effect_row(scores, subset, *pair) for pair in pairs],
    )
    tested = table["p"].where(table["condition"] != "placebo").astype(float)
    families = tested.groupby([table["items"], table["against"]])
    table.insert(len(columns), "p_holm", families.transform(holm) if len(table) else [])
    return table


def _effect_row(scores: OptionScores, subset: Any, condition: str, against: str) -> dict[str, Any]:
    found = _effect(scores, subset, condition, against)
    interval = found.interval if isinstance(found, Effect) else undefined(found)
    permuted = isinstance(found, Effect) and found.test.n_permutations > 2
    return {
        "contrast": f"{condition} - {against}",
        "condition": condition,
        "against": against,
        **interval_columns(interval),
        "p": found.test.p if isinstance(found, Effect) and permuted else np.nan,
        "token mismatch": found.mismatch if isinstance(found, Effect) else np.nan,
    }


def _effect(scores: OptionScores, subset: Any, condition: str, against: Any) -> Effect | str:
    """The effect on the margin, or why there is none."""
    try:
        return scores.effect(condition, against=against, subset=subset)
    except InterpError as error:
        return str(error)


def rank_gain(scores: OptionScores, *, seed: int = 0) -> pd.DataFrame:
    """Gain over the placebo by the rank that gold had in the clean prompt's first order (RQ1).

    Columns: items, condition, against (``placebo``), rank (``"1"`` = best ..., ``"top - rest"``),
    measure and its interval. ``gain``: margin against the placebo on the other orders, nats;
    ``correct``: accuracy under the condition there; see :func:`interp.behaviour.gain_by_rank`. A
    rank that no item had is NaN with a reason, and so are all of a subset without any gain.
    """
    frame = scores.frame
    ranks = [str(k + 1) for k in range(len(_positions(frame)))]
    measures = dict.fromkeys(ranks, ("gain", "correct")) | {"top - rest": ("gain",)}

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        for condition in (c for c in _treated(frame) if _has_placebo(frame, c)):
            found, missing = _rank_rows(rows, condition, seed)
            for rank, names in measures.items():
                for name in names:
                    key = {"condition": condition, "against": "placebo", "rank": rank}
                    row = found.get((rank, name), interval_columns(undefined(missing)))
                    yield key | {"measure": name} | row

    columns = ("condition", "against", "rank", "measure", *INTERVAL)
    return by_subset(frame, columns, records)


def _rank_rows(
    rows: pd.DataFrame, condition: str, seed: int
) -> tuple[dict[tuple[str, str], dict[str, Any]], str]:
    """Interval columns by (rank, measure), and the reason of those that are missing."""
    try:
        gain = gain_by_rank(rows, condition=condition, seed=seed)
    except InterpError as error:
        return {}, str(error)
    table = gain.table.set_index([gain.table["rank"].astype(str), "measure"])[list(INTERVAL)]
    found = dict(zip(table.index, table.to_dict("records"), strict=True))
    found["top - rest", "gain"] = interval_columns(gain.top_minus_rest)
    return found, "gold had this rank on no item"


def flips(scores: OptionScores, *, seed: int = 0) -> pd.DataFrame:
    """Right and wrong before (the clean prompt) and after (an arm's prompt), in the first order.

    Columns: items, condition, control_of, right_right, right_wrong, wrong_right, wrong_wrong, an
    interval's under the name ``net``, p. Every text is compared with the clean prompt of its item, so
    counts and ``net_n`` are item x text pairs (no majority over texts, which would hide flips in both
    directions). ``net`` is accuracy after minus before, its interval over clusters, with all
    pairs of a cluster together. ``p`` flips the signs of the clusters' mean changes; McNemar's
    would take pairs as independent. It is not corrected over the rows of the table.
    """
    first = scores.frame[scores.frame["order"] == 0]
    clean = first[first["condition"] == "clean"].set_index("item")["correct"].astype(float)

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        for arm, part in rows[rows["condition"] != "clean"].groupby(list(ARM), sort=False):
            before = np.asarray(part["item"].map(clean), dtype=np.float64)
            after = np.asarray(part["correct"], dtype=np.float64)
            row = flip_columns(before, after, part["cluster"], seed=seed)
            p = sign_flip_max_t((after - before)[None], part["cluster"], seed=seed).p_corrected[0]
            yield dict(zip(ARM, arm, strict=True)) | row | {"p": p}

    return by_subset(first, (*ARM, *FLIPS), records)


def categories(scores: OptionScores, *, seed: int = 0) -> pd.DataFrame:
    """Per benchmark and category: benchmark, category (``all`` first), items, condition, measure.

    Measures of every treated condition: ``effect`` on the margin against its placebos (nats, texts x
    clusters), ``accuracy_clean``, ``accuracy`` (under the condition), ``accuracy_placebo``.
    """
    scores = replace(scores, seed=seed)
    records = []
    for (benchmark, category), rows in _by_category(scores.frame):
        for subset, part in context_subsets(rows).items():
            here = replace(scores, frame=part)
            accuracy = item_means(part, ARM, {"accuracy": "correct"}, seed=seed).set_index(
                list(ARM)
            )
            names = {"benchmark": benchmark, "category": category, "items": subset}
            for condition in _treated(part):
                found = _effect(here, "all", condition, "placebo")
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


def winogender(scores: OptionScores, items: Iterable[ChoiceItem], *, seed: int = 0) -> pd.DataFrame:
    """Pronouns by condition: condition, measure (correlation | neutral_share) and its interval.

    ``items``: those that were scored; rows of other benchmarks are left aside. The placebos of all
    conditions are taken together. The correlation of p_f with labour statistics
    (:func:`interp.behaviour.winogender_bias`) is NaN with fewer than three occupations.
    """
    known = [item for item in items if item.benchmark == "winogender"]
    rows = scores.frame[scores.frame["benchmark"] == "winogender"]
    records = []
    for condition, part in rows.groupby("condition", sort=False):
        bias = winogender_bias(pronoun_probabilities(part, known), seed=seed)
        records += [
            {"condition": condition, "measure": measure} | interval_columns(interval)
            for measure, interval in (
                ("correlation", bias.correlation),
                ("neutral_share", bias.neutral),
            )
        ]
    return pd.DataFrame(records, columns=["condition", "measure", *INTERVAL])


def self_distinguish(scores: OptionScores, *, seed: int = 0) -> pd.DataFrame:
    """Whether the model tells the options apart: benchmark, measure (accuracy | margin), interval.

    ``scores``: of the items of :mod:`interp.behaviour.distinguish`, read under the clean prompt.
    A model that cannot tell has accuracy .5 and margin 0 (nats).
    """
    clean = scores.frame[scores.frame["condition"] == "clean"]
    columns = {"accuracy": "correct", "margin": "margin"}
    return item_means(clean, ("benchmark",), columns, seed=seed)


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
