"""Expected calibration error against the error that calibrated answers would show.

The error is a mean of absolute values, so that it is above 0 for perfectly calibrated answers too
(about .11 at 60 answers). Outcomes are therefore drawn anew from the stated probabilities: the mean
of the drawn errors is what noise adds, and the share of draws that reach the observed error is the p.
Source: Vaicenavicius et al., Evaluating model calibration in classification, AISTATS 2019.

Outcomes of one cluster may go together. Their correlation is estimated from the residuals, and the
drawn outcomes have it too (a Gaussian copula).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.arrays import (
    FloatArray,
    Groups,
    check_array,
    check_binary,
    cluster_codes,
    rng,
)

N_BINS = 10
"""Bins of equal width over 0..1."""


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error of some answers.

    ``raw``: mean over bins of |accuracy - mean confidence|, weighted by the bins' answers, 0 to 1.
    ``debiased``: ``sqrt(raw^2 - m^2)``, m the mean of calibrated answers (noise adds in squares);
    negative, ``-sqrt(m^2 - raw^2)``, where raw is below m: about 0 on average for calibrated answers,
    and .12 to .15 where the true error is .15 (24 to 600 answers).
    ``null_p95``: what calibrated answers exceed in 5 %. ``p``: share of calibrated draws at least as
    large as ``raw`` (the observed one counted). NaN without answers.
    """

    raw: float
    debiased: float
    null_p95: float
    p: float
    n: int
    n_clusters: int


def calibration_error(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    seed: int,
    n_draws: int = 1000,
    labels: Sequence[object] = (),
) -> CalibrationError:
    """Expected calibration error of ``confidence [n]`` (0 to 1) about ``correct [n]`` (0, 1).

    NaN in either leaves an answer out.

    Raises:
        InterpError: a confidence outside 0..1, an outcome other than 0 and 1, lengths that differ.
    """
    stated, outcome = check_array("confidence", confidence), check_binary("correct", correct)
    if stated.ndim != 1 or stated.shape != outcome.shape:
        raise InterpError(
            f"confidence {list(stated.shape)} and correct {list(outcome.shape)}: give [n] twice"
        )
    if ((stated < 0) | (stated > 1)).any() or n_draws < 1:
        raise InterpError("confidence lies outside 0..1, or n_draws below 1")
    codes = cluster_codes(clusters, len(stated))
    defined = ~np.isnan(stated) & ~np.isnan(outcome)
    nan, n = float("nan"), int(defined.sum())
    if not n:
        return CalibrationError(nan, nan, nan, nan, 0, 0)
    stated, outcome, groups = stated[defined], outcome[defined], Groups.of(codes[defined])
    raw = float(binned_error(stated, outcome[None])[0])
    drawn = _calibrated(
        stated,
        groups,
        _together(stated, outcome, groups),
        n_draws,
        rng(seed, "calibration", *labels),
    )
    null = binned_error(stated, drawn)
    p = (1 + int((null >= raw - 1e-12).sum())) / (n_draws + 1)
    excess = raw**2 - float(null.mean()) ** 2
    debiased = float(np.copysign(np.sqrt(abs(excess)), excess))
    return CalibrationError(raw, debiased, float(np.quantile(null, 0.95)), p, n, len(groups))


def binned_error(confidence: FloatArray, outcomes: FloatArray) -> FloatArray:
    """Expected calibration error ``[draws]`` of outcomes ``[draws, n]`` at ``confidence [n]``."""
    bins = np.minimum((confidence * N_BINS).astype(np.intp), N_BINS - 1)
    member = np.zeros((len(confidence), N_BINS))
    member[np.arange(len(confidence)), bins] = 1.0
    return np.abs((outcomes - confidence) @ member).sum(-1) / len(confidence)


def _together(stated: FloatArray, outcome: FloatArray, groups: Groups) -> float:
    """Correlation within clusters of the residuals around the stated probabilities, 0 to 1."""
    spread = np.sqrt(stated * (1 - stated))
    residual = np.divide(outcome - stated, spread, out=np.zeros_like(stated), where=spread > 0)
    pairs = float((groups.sizes * (groups.sizes - 1)).sum())
    if not pairs:
        return 0.0
    total = float((groups.sums(residual) ** 2).sum() - (residual**2).sum())
    return float(np.clip(total / pairs, 0.0, 1.0))


def _calibrated(
    stated: FloatArray,
    groups: Groups,
    together: float,
    n_draws: int,
    generator: np.random.Generator,
) -> FloatArray:
    """Outcomes ``[draws, n]`` of the stated probabilities, correlated within clusters."""
    if not together:
        return (generator.random((n_draws, len(stated))) < stated).astype(np.float64)
    from scipy.special import ndtri

    latent = np.sin(np.pi / 2 * together)  # of binary outcomes near one half
    shared = generator.standard_normal((n_draws, len(groups)))[:, groups.codes]
    own = generator.standard_normal((n_draws, len(stated)))
    z = np.sqrt(latent) * shared + np.sqrt(1 - latent) * own
    return (z < ndtri(stated)).astype(np.float64)
