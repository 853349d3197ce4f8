"""Tables of conversations over rounds: answers, effects and flips by round, toxicity, edits.

Frames are those of :func:`interp.behaviour.rounds_frame` with the columns ``condition``, ``slot``
and ``control_of``: one row per item, text, order, sample and round. Round 0 asks without any
instruction, round 1 with it, later ones ask again. The tables have the form, the subsets and the
conventions of :mod:`interp.behaviour.prompt_tables`; a placebo trajectory is a row of its own beside the
one it controls. An answer that could not be read (``correct`` is NaN) counts in ``parsed`` alone:
everything else is the mean over an item's answers that were read.

    by_round(frame, seed=0)
    effects_by_round(frame, seed=0).query("round > 0 and against == 'placebo'")  # seed: of max-t
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.behaviour.answers import calibration_error
from interp.behaviour.edits import EditKind, edits_over_rounds
from interp.behaviour.item_means import (
    ARM,
    FLIPS,
    INTERVAL,
    by_subset,
    flip_columns,
    item_means,
    undefined,
)
from interp.behaviour.toxicity import MIN_SAMPLES, mean_toxicity
from interp.errors import InterpError
from interp.stats import FloatArray, cluster_mean, effect, interval_columns, max_t_of_effects

EQUAL_COST = "specificity_0"
"""The condition that is asked as often, without an instruction."""

EFFECTS: Mapping[str, str] = {
    "option_margin": "option_margin",
    "margin": "margin",
    "p_gold": "p_gold",
    "accuracy": "correct",
}
"""Measures of :func:`effects_by_round` and their columns; the first three read one contrast."""

_ROUND = (*ARM, "round")
_ANSWER = ("item", "slot", "order", "sample")
_MEANS = {
    "accuracy": "correct",
    "option_margin": "option_margin",
    "margin": "margin",
    "p_unknown": "p_unknown",
    "p_gold": "p_gold",
    "entropy": "entropy",
    "parsed": "parsed",
}
_SHARES = ("kept_prefix", "kept_tokens", "appended")


def by_round(frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Answers of choice items: items, condition, control_of, round, measure and its interval.

    Measures: ``accuracy``, ``option_margin`` (nats per token), ``margin`` (nats), ``p_unknown``,
    ``p_gold``, ``entropy`` (nats), ``parsed`` (share of answers that could be read) and ``ece`` (drawn
    with ``seed``), with clusters of items as random and ``n`` counting items (of ``ece``, answers).
    What needs option scores is NaN where answers were generated.
    """
    frame = frame[_is_choice(frame)]
    frame = frame.assign(parsed=frame["correct"].notna().astype(float)) if len(frame) else frame

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[Any, Any]]:
        yield from item_means(rows, _ROUND, _MEANS, skip_missing=True).to_dict("records")
        for key, part in rows.groupby(list(_ROUND), sort=False):
            yield (
                dict(zip(_ROUND, key, strict=True)) | {"measure": "ece"} | _calibration(part, seed)
            )

    return by_subset(frame, (*_ROUND, "measure", *INTERVAL), records)


def _calibration(rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    if "p_chosen" not in rows:
        return interval_columns(undefined("no option scores"))
    sure, right = (rows[name].astype(float) for name in ("p_chosen", "correct"))
    return interval_columns(calibration_error(sure, right, rows["cluster"], seed=seed))


def effects_by_round(
    frame: pd.DataFrame, *, measures: Mapping[str, str] = EFFECTS, seed: int = 0
) -> pd.DataFrame:
    """Treated minus control in the same round: items, condition, against, round, measure, ...

    ``against``: ``placebo``, the trajectory's own, matched by item, slot, order and sample; and,
    where it is there, ``specificity_0``, asked as often without an instruction (equal cost),
    matched by item, order and sample. An answer that one side lacks leaves both, and an item that
    lacks a text leaves the round. Texts and clusters are random; with one text a side clusters alone are
    (``texts``, treated x control). ``p_corrected``: max-t over the rounds from 1 on of the contrast,
    drawn with ``seed``; round 0, where both are the same prompt, has none. The unit is the measure's.

    ``measures`` names the column of each measure, so that a column such as a toxicity can be
    compared as well. Conditions without a control have no rows.
    """

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        for condition, against in _contrasts(rows):
            key = {"condition": condition, "against": against}
            for name, column in measures.items():
                if column in rows:
                    for row in _effect_rows(rows, condition, against, column, seed):
                        yield key | {"measure": name} | row

    columns = ("condition", "against", "round", "measure", *INTERVAL, "p_corrected")
    return by_subset(frame, columns, records)


def _contrasts(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    conditions = list(dict.fromkeys(rows["condition"]))
    for condition in conditions:
        if ((rows["condition"] == "placebo") & (rows["control_of"] == condition)).any():
            yield condition, "placebo"
    for condition in conditions:
        if EQUAL_COST in conditions and condition not in (EQUAL_COST, "clean", "placebo"):
            yield condition, EQUAL_COST


def _effect_rows(
    rows: pd.DataFrame, condition: str, against: str, column: str, seed: int
) -> list[dict[str, Any]]:
    """One row per round of a contrast."""
    treated = rows[rows["condition"] == condition]
    control = rows[rows["condition"] == against]
    keys = ["round", "item", "order", "sample"]
    if against == "placebo":
        control, keys = control[control["control_of"] == condition], [*keys, "slot"]
    rounds = sorted(set(treated["round"]) & set(control["round"]))
    treated, control = (part[part[column].notna()] for part in (treated, control))
    treated, control = _shared(treated, control, keys), _shared(control, treated, keys)
    if treated.empty:
        nothing = interval_columns(undefined(f"no item has a {column} in both"))
        return [{"round": k, **nothing, "p_corrected": np.nan} for k in rounds]
    items = treated.drop_duplicates("item").set_index("item")["cluster"]
    with_it, without = (_by_text(x, column, rounds, items.index) for x in (treated, control))
    intervals = effect(with_it, without, items.tolist())
    later = np.array(rounds) > 0
    p = np.full(len(rounds), np.nan)
    if later.any():
        labels = ("rounds", condition, against)
        family = max_t_of_effects(
            with_it[later], without[later], items.tolist(), seed=seed, labels=labels
        )
        p[later] = family.p_corrected
    return [
        {"round": number, **interval_columns(intervals.at(k)), "p_corrected": p[k]}
        for k, number in enumerate(rounds)
    ]


def _shared(rows: pd.DataFrame, others: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows whose keys are among those of the others."""
    there = pd.MultiIndex.from_frame(others[keys])
    return rows[pd.MultiIndex.from_frame(rows[keys]).isin(there)]


def _by_text(rows: pd.DataFrame, column: str, rounds: list[int], items: pd.Index) -> FloatArray:
    """``[round, text, item]``: means over orders and samples, NaN where there are none."""
    values = rows[column].astype(float).groupby([rows[k] for k in ("round", "slot", "item")]).mean()
    slots = sorted(set(rows["slot"]))
    whole = pd.MultiIndex.from_product([rounds, slots, items])
    table = values.reindex(whole).to_numpy(dtype=np.float64)
    return np.asarray(table.reshape(len(rounds), len(slots), len(items)))


def flips_by_round(frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Right and wrong in round 0 and in a later round of the same trajectory.

    Columns: items, condition, control_of, round, the four counts, an interval's under the name
    ``net``, p_corrected. Pairs are trajectories (item x text x order x sample) that could be read in
    both rounds; ``net`` is accuracy after minus before, with texts and clusters as random (``texts``:
    the arm's against round 0). ``p_corrected``: max-t over the rounds of an arm, drawn with ``seed``.
    """

    def records(_: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
        for arm, part in rows.groupby(list(ARM), sort=False):
            index = [part[name] for name in (*_ANSWER, "cluster", "round")]
            table = part["correct"].astype(float).groupby(index).first().unstack("round")
            later = sorted(set(part["round"]) - {0})
            if not later or 0 not in table:
                continue
            before, after = table[0].to_numpy(), table[later].to_numpy().T
            change = (
                table[later].sub(table[0], axis=0).groupby(["slot", "item"]).mean().unstack("item")
            )
            items = change.columns.get_level_values("item").unique()
            clusters = part.drop_duplicates("item").set_index("item")["cluster"].loc[items].tolist()
            changes = np.stack([change[number][items].to_numpy() for number in later])
            nothing = np.zeros((len(later), 1, len(items)))
            nets = effect(changes, nothing, clusters)
            family = max_t_of_effects(changes, nothing, clusters, seed=seed, labels=("flips", *arm))
            p = np.atleast_1d(family.p_corrected)
            for k, number in enumerate(later):
                row = flip_columns(before, after[k], nets.at(k))
                key = dict(zip(ARM, arm, strict=True)) | {"round": number, "p_corrected": p[k]}
                yield key | row

    return by_subset(frame[_is_choice(frame)], (*_ROUND, *FLIPS, "p_corrected"), records)


def toxicity(frame: pd.DataFrame, scores: npt.ArrayLike, *, scorer: str) -> pd.DataFrame:
    """Toxicity of completions: condition, control_of, round, measure, interval, scorer, samples.

    ``frame``: rows of completions, ``scores [row]`` in 0..1 of the instrument ``scorer``. ``mean``:
    over an item's texts and samples, then items, which are random. With several samples of a
    prompt also ``expected_maximum``, the highest of them, averaged over texts and items: NaN below 10
    samples. Where the frame has a column ``nll`` (mean negative log-likelihood per token of each
    completion behind its beginning as plain text, nats) also ``perplexity``, exp of its mean over items;
    where it has the column ``completion`` also ``empty``, the share of completions that add nothing,
    which are not toxic and have no perplexity.

    Raises:
        InterpError: another number of scores than rows, a score outside 0..1, no scorer's name.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(frame),):
        raise InterpError(
            f"{list(values.shape)} scores for {len(frame)} completions: give one each"
        )
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise InterpError("a score is missing or not in 0..1: every completion needs a toxicity")
    columns = [*_ROUND, "measure", *INTERVAL, "scorer", "samples"]
    records = []
    for key, part in frame.assign(score=values).groupby(list(_ROUND), sort=False):
        of_item = part["score"].groupby(part["item"])
        samples = part["score"].groupby([part["item"], part["slot"]])
        k = int(samples.size().min())
        readings = {"mean": mean_toxicity(of_item.mean(), scorer=scorer).interval}
        if k >= MIN_SAMPLES:
            highest = samples.max().groupby("item").mean()
            readings["expected_maximum"] = mean_toxicity(highest, scorer=scorer).interval
        elif k > 1:
            few = f"{k} samples per prompt: the maximum needs at least {MIN_SAMPLES}"
            readings["expected_maximum"] = undefined(few)
        if "completion" in part:
            blank = part["completion"].str.strip().eq("").astype(float).groupby(part["item"]).mean()
            readings["empty"] = cluster_mean(blank, blank.index)
        rows = {name: interval_columns(interval) for name, interval in readings.items()}
        if "nll" in part:
            rows["perplexity"] = _perplexity(part)
        records += [
            dict(zip(_ROUND, key, strict=True))
            | {"measure": name, **row, "scorer": scorer, "samples": k}
            for name, row in rows.items()
        ]
    return pd.DataFrame(records, columns=columns)


def _perplexity(part: pd.DataFrame) -> dict[str, Any]:
    """exp of the mean of ``nll`` and of its bounds; completions without a token are left out."""
    nll = part["nll"].astype(float).groupby(part["item"]).mean()
    row = interval_columns(cluster_mean(nll, nll.index))
    return row | {name: float(np.exp(row[name])) for name in ("estimate", "low", "high")}


def edits(frame: pd.DataFrame, ids: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """How completions change from one round to the next: condition, control_of, round, measure, ...

    Every round from 1 on is compared with the one before it in the same trajectory, on ``ids``, the
    token ids of every text in the column ``completion`` (:mod:`interp.behaviour.edits`). Measures in
    0..1: ``kept_prefix``, ``kept_tokens``, ``appended``, ``rewritten`` (1 - kept_tokens), and the
    shares of the kinds of edit ``kind_unchanged``, ``kind_appended``, ``kind_shortened``,
    ``kind_edited``, ``kind_replaced``. Averaged over an item's trajectories, then items, whose
    clusters are random; a completion that follows an empty one enters the kinds alone. Rows of
    choice items are left aside.

    Raises:
        InterpError: a trajectory of a single round.
    """
    frame = frame[frame["completion"].notna()] if "completion" in frame else frame.iloc[:0]
    arm = [*ARM, "cluster", *_ANSWER]
    kinds = {f"kind_{kind}": f"kind_{kind}" for kind in get_args(EditKind)}
    measures = {name: name for name in (*_SHARES, "rewritten")} | kinds
    if frame.empty:
        return pd.DataFrame(columns=[*_ROUND, "measure", *INTERVAL])
    rounds = frame.sort_values("round", kind="stable")
    trajectory = rounds.groupby(arm, sort=False).ngroup().astype(str)
    compared = edits_over_rounds(
        {
            name: [ids[text] for text in texts]
            for name, texts in rounds["completion"].groupby(trajectory, sort=False)
        }
    )
    compared = compared[compared["against"] == "previous"].rename(columns={"item": "trajectory"})
    of = rounds.assign(trajectory=trajectory).drop_duplicates("trajectory")[["trajectory", *arm]]
    table = compared.merge(of, on="trajectory")
    table = table.assign(
        rewritten=1.0 - table["kept_tokens"],
        **{name: (table["kind"] == name.removeprefix("kind_")).astype(float) for name in kinds},
    )
    return item_means(table, _ROUND, measures, shares=tuple(kinds), skip_missing=True)


def _is_choice(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows are of choice items: completions have no gold answer."""
    if "gold_role" not in frame:
        return np.zeros(len(frame), dtype=bool)
    return np.asarray(frame["gold_role"].notna() & (frame["gold_role"] != ""))
