"""What changes between two rounds of answers, and how sure and how lopsided they are.

- :func:`flip_matrix`: correct -> incorrect and incorrect -> correct (arXiv 2310.01798), with McNemar's
  test.
- :func:`calibration`: expected calibration error over equal-width bins (arXiv 1706.04599);
  :func:`interp.stats.calibration_error` tests it against calibrated answers.
- :func:`option_entropy`: uncertainty over the options, in nats.
- :func:`gain_by_rank`: where an instruction helps (arXiv 2407.15286, RQ1).
- :func:`letter_bias`: whether one letter is answered whatever it stands for.

**Regression to the mean.** An item whose gold ranks low in some prompt by chance will look better
in the next one without any instruction. So the rank is read from the first cyclic order alone and
the gain from the other orders, whose noise is not that of the rank.

Example::

    flips = flip_matrix(before["correct"], after["correct"], before["cluster"])
    print(flips.right_wrong, flips.wrong_right, flips.p)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import entr
from scipy.stats import binomtest

from interp import stats
from interp.behaviour.scores import AnswerMetric, text_table
from interp.errors import InterpError
from interp.stats import FloatArray, Interval, cluster_mean, effect_gap, interval_columns
from interp.stats.arrays import check_array, check_binary
from interp.stats.columns import require_columns


@dataclass(frozen=True)
class FlipMatrix:
    """Counts of items by correctness before and after; ``right_wrong`` is correct -> incorrect.

    ``p``: McNemar's exact two-sided p, a binomial test that incorrect -> correct is as frequent as
    correct -> incorrect (1 without changes). It takes items as independent. ``net`` is accuracy
    after minus accuracy before, + = better, with an interval over clusters.
    """

    right_right: int
    right_wrong: int
    wrong_right: int
    wrong_wrong: int
    p: float
    net: Interval

    @property
    def n(self) -> int:
        """Items compared."""
        return self.right_right + self.right_wrong + self.wrong_right + self.wrong_wrong

    def to_dataframe(self) -> pd.DataFrame:
        """The 2x2 counts: rows before, columns after."""
        return pd.DataFrame(
            [[self.right_right, self.right_wrong], [self.wrong_right, self.wrong_wrong]],
            index=pd.Index(["right", "wrong"], name="before"),
            columns=pd.Index(["right", "wrong"], name="after"),
        )


def flip_matrix(
    before: npt.ArrayLike, after: npt.ArrayLike, clusters: Iterable[object]
) -> FlipMatrix:
    """How correctness changed: ``before`` and ``after`` are ``[n_items]`` of 0/1 or False/True.

    Raises:
        InterpError: no items, arrays of different length, or values other than 0 and 1.
    """
    first, second = check_binary("before", before), check_binary("after", after)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise InterpError(
            f"before {list(first.shape)} and after {list(second.shape)}: give one value per item, "
            "for the same items"
        )
    if np.isnan(first).any() or np.isnan(second).any():
        raise InterpError("an item has no correctness (NaN): leave it out of both rounds")
    counts = Counter(zip(first.astype(int).tolist(), second.astype(int).tolist(), strict=True))
    to_incorrect, to_correct = counts[1, 0], counts[0, 1]
    changed = to_incorrect + to_correct
    return FlipMatrix(
        right_right=counts[1, 1],
        right_wrong=to_incorrect,
        wrong_right=to_correct,
        wrong_wrong=counts[0, 0],
        p=float(binomtest(to_correct, changed, 0.5).pvalue) if changed else 1.0,
        net=cluster_mean(second - first, clusters),
    )


@dataclass(frozen=True, eq=False)
class Calibration:
    """``error``: expected calibration error in 0..1, the mean over answers of |accuracy -
    confidence| of the answer's bin. ``bins``: low, high, n, confidence, accuracy (NaN where empty).
    """

    error: float
    n: int
    bins: pd.DataFrame


def calibration(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, n_bins: int = 10
) -> Calibration:
    """Expected calibration error over ``n_bins`` bins (low, high] of equal width; 0 is in the first.

    ``confidence [n]``: the probability given to the chosen option; ``correct [n]``: 0/1. The error
    is biased upwards for few answers, also of calibrated ones: see :func:`calibration_error`.

    Raises:
        InterpError: no answers, confidences outside 0..1, arrays of different length, no bins.
    """
    given, right = check_array("confidence", confidence), check_binary("correct", correct)
    if n_bins < 1:
        raise InterpError(f"n_bins is {n_bins}: give at least 1")
    if given.shape != right.shape or given.ndim != 1 or not given.size or np.isnan(right).any():
        raise InterpError(
            f"confidence {list(given.shape)} and correct {list(right.shape)}: give both for every "
            "answer, and at least one answer"
        )
    outside = given[~((given >= 0.0) & (given <= 1.0))]
    if outside.size:
        raise InterpError(f"confidence {outside[0]:g} is outside 0..1")
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    bin_of = _bin_of(given, n_bins)
    counts = np.bincount(bin_of, minlength=n_bins)
    filled = np.where(counts > 0, counts, np.nan)
    means = [np.bincount(bin_of, x, minlength=n_bins) / filled for x in (given, right)]
    gaps = np.nan_to_num(np.abs(means[1] - means[0]))
    bins = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": counts,
            "confidence": means[0],
            "accuracy": means[1],
        }
    )
    return Calibration(float((gaps * counts).sum() / counts.sum()), int(counts.sum()), bins)


def calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, clusters: Iterable[object], *, seed: int = 0
) -> Interval:
    """The expected calibration error, less what calibrated answers would show, and its test.

    Few answers bias the error of :func:`calibration` upwards, so it is compared with that of outcomes
    drawn from the stated confidences (:func:`interp.stats.calibration_error`): ``estimate`` is the error
    less the mean of those, which may fall below 0, and ``p`` the share of them that reach it. There are
    no bounds. An answer whose confidence or correctness is NaN is left out; without any the error is NaN
    with a reason.

    Raises:
        InterpError: as in :func:`calibration`, or clusters that do not match.
    """
    given, right = check_array("confidence", confidence), check_binary("correct", correct)
    names = list(clusters)
    if not given.shape == right.shape == (len(names),):
        raise InterpError(
            f"confidence {list(given.shape)}, correct {list(right.shape)} and {len(names)} clusters: "
            "give one of each per answer"
        )
    kept = ~np.isnan(given) & ~np.isnan(right)
    nan = float("nan")
    if not kept.any():
        return Interval(nan, nan, nan, 0, 0, reason="no answer with a confidence")
    calibration(given[kept], right[kept])  # refuses what is no probability
    of_kept = [name for name, k in zip(names, kept, strict=True) if k]
    found = stats.calibration_error(given[kept], right[kept], of_kept, seed=seed)
    return Interval(
        found.debiased,
        nan,
        nan,
        found.n,
        found.n_clusters,
        reason="a calibration error is tested against calibrated answers and has no bounds",
        method="calibrated_null",
        p=found.p,
    )


def _bin_of(confidence: FloatArray, n_bins: int) -> npt.NDArray[np.intp]:
    return np.searchsorted(np.linspace(0.0, 1.0, n_bins + 1)[1:-1], confidence)


def option_entropy(probabilities: npt.ArrayLike) -> FloatArray:
    """Entropy in nats of ``probabilities [*cells, n_options]``, per cell; 0 to log(n_options).

    NaN marks an option that an item does not have; without any option the entropy is NaN.

    Raises:
        InterpError: a negative probability, or probabilities that do not sum to 1 (to 1e-4).
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if not p.ndim or (p < 0).any():
        raise InterpError("probabilities: give [..., n_options], each at least 0")
    absent = np.isnan(p).all(axis=-1)
    totals = np.nansum(p, axis=-1)
    wrong = totals[~absent & (np.abs(totals - 1.0) > 1e-4)]
    if wrong.size:
        raise InterpError(f"probabilities of an item sum to {wrong[0]:g}, not 1")
    return np.where(absent, np.nan, np.nansum(entr(p), axis=-1))


@dataclass(frozen=True, eq=False)
class RankGain:
    """Gain of an instruction by the rank that gold had before it.

    ``table``: rank (1 = best), measure and an interval's columns (:mod:`interp.stats.columns`). The
    measure ``gain`` is the metric under the condition minus that under ``against`` (nats per token of
    ``option_margin``, nats of ``margin``), ``correct`` the condition's accuracy: P(correct after | rank
    before). ``top_minus_rest``: gain at rank 1 minus gain at the other ranks; + = the instruction helps
    most where the answer was already on top. Texts and clusters are random in the intervals of gains,
    clusters alone in those of ``correct`` (these texts).
    """

    condition: str
    against: str
    table: pd.DataFrame
    top_minus_rest: Interval


def gain_by_rank(
    frame: pd.DataFrame,
    *,
    condition: str = "instructed",
    against: str = "placebo",
    metric: AnswerMetric = "option_margin",
) -> RankGain:
    """Rank of gold in the clean prompt's first order, against gain and accuracy in the others.

    ``frame``: rows of :class:`~interp.behaviour.OptionScores` that hold ``clean``, ``condition``
    and ``against``. Items without the metric, or with a single order, are left out of the gain.

    Raises:
        InterpError: a missing column, a condition that was not scored, or no item with a rank and
            a gain.
    """
    needed = (
        "condition", "control_of", "order", "item", "slot", "cluster", "gold_rank", metric, "correct",
    )  # fmt: skip
    require_columns(frame, needed, "the frame of scores")
    ranked = frame[(frame["condition"] == "clean") & (frame["order"] == 0)].set_index("item")
    if ranked.empty:
        raise InterpError(
            "'clean' was not scored in its first order: the rank before is read there"
        )
    before = ranked["gold_rank"].dropna()
    later = frame[(frame["order"] > 0) & frame["item"].isin(before.index)]
    arms = [_of_condition(later, condition, ""), _of_condition(later, against, condition)]
    both = set(arms[0]["item"]) & set(arms[1]["item"])
    arms = [rows[rows["item"].isin(both)] for rows in arms]
    treated, clusters = text_table(arms[0], metric)
    control, _ = text_table(arms[1], metric)
    correct = text_table(arms[0], "correct")[0].mean(0)
    defined = ~(np.isnan(treated).any(0) | np.isnan(control).any(0))
    if not defined.any():
        raise InterpError("no item has both a rank before and a gain on its other orders")
    rank = before[sorted(both)].to_numpy()  # in the order of the tables
    records = []
    for value in np.unique(rank[defined]):
        gain = stats.effect(treated, control, clusters, weights=(rank == value).astype(float))
        of_rank = defined & (rank == value)
        share = cluster_mean(correct[of_rank], clusters[of_rank])
        records += [
            {"rank": int(value), "measure": measure} | interval_columns(interval)
            for measure, interval in (("gain", gain), ("correct", share))
        ]
    contrast = effect_gap(treated, control, clusters, rank == 1)
    if np.isnan(contrast.estimate):
        contrast = replace(contrast, reason="needs items at rank 1 and at other ranks")
    return RankGain(condition, against, pd.DataFrame(records), contrast)


def _of_condition(rows: pd.DataFrame, condition: str, control_of: str) -> pd.DataFrame:
    """The rows of a condition; of the placebos, those matched with the treated condition."""
    if condition not in set(rows["condition"]):
        raise InterpError(f"{condition!r} was not scored beyond its first order")
    found = rows[rows["condition"] == condition]
    if condition == "placebo" and control_of:
        found = found[found["control_of"] == control_of]
    if found.empty:
        raise InterpError(f"{condition!r} was not scored beyond its first order")
    return found


@dataclass(frozen=True)
class LetterBias:
    """Which letters are answered. ``shares`` sum to 1, in the order of ``letters``.

    ``top`` is the most frequent letter (the first of equals) and ``max_share`` its share; over all
    cyclic orders an unbiased reader has 1/k. ``entropy`` of the shares is in nats, at most
    ``max_entropy`` = log k.
    """

    letters: tuple[str, ...]
    shares: tuple[float, ...]
    n: int

    @property
    def max_share(self) -> float:
        """Share of the most frequent letter, in 1/k..1."""
        return max(self.shares)

    @property
    def top(self) -> str:
        """The most frequent letter."""
        return self.letters[self.shares.index(self.max_share)]

    @property
    def entropy(self) -> float:
        """Entropy of the shares, in nats: 0 = always one letter."""
        return float(option_entropy(np.array(self.shares)))

    @property
    def max_entropy(self) -> float:
        """Entropy of equal shares, in nats."""
        return float(np.log(len(self.letters)))


def letter_bias(answered: Iterable[str], letters: Sequence[str]) -> LetterBias:
    """Shares of the answered letters; ``letters`` are those that could be answered.

    Raises:
        InterpError: no answers, or an answer that is none of the letters.
    """
    counts = Counter(answered)
    strange = sorted(set(counts) - set(letters))
    if strange or not counts:
        raise InterpError(
            f"answer {strange[0]!r} is none of {', '.join(letters)}"
            if strange
            else "no answered letters"
        )
    total = counts.total()
    return LetterBias(tuple(letters), tuple(counts[x] / total for x in letters), total)
