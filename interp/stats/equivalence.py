"""Is an effect absent, present, or not known? Two one-sided tests.

Sources: Schuirmann (1987); Lakens, Equivalence tests, Social Psychological and Personality Science
2017. An interval that contains 0 says nothing about absence; a 90 % interval inside +-delta does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from interp.errors import InterpError
from interp.stats.interval import Interval, t_quantile
from interp.thresholds import ALPHA

Verdict: TypeAlias = Literal["effect", "no effect", "undetermined"]


@dataclass(frozen=True)
class Equivalence:
    """Reading of one interval at the bound ``delta`` (unit of the estimate).

    ``low``, ``high``: the interval at confidence 1 - 2 alpha (90 %). ``p``: the larger of the two
    one-sided tests that the effect lies beyond -delta or +delta. ``verdict``: ``effect`` where the
    interval at 1 - alpha (95 %) excludes 0, else ``no effect`` where ``p < alpha``, else
    ``undetermined``; ``half_width`` of the 95 % interval says how far. ``small``: an effect that is
    also within +-delta.
    """

    delta: float
    low: float
    high: float
    p: float
    verdict: Verdict
    small: bool
    half_width: float


def equivalence(interval: Interval, delta: float, *, alpha: float = ALPHA) -> Equivalence:
    """Two one-sided tests of an interval against +-``delta``, fixed before the data were seen.

    Without a standard error (NaN) the verdict is ``undetermined``.

    Raises:
        InterpError: a delta that is not a positive number, an interval over several cells.
    """
    if not 0.0 < delta < float("inf"):
        raise InterpError(f"delta is {delta}: give a positive number in the unit of the effect")
    if np.ndim(interval.estimate):
        raise InterpError("equivalence reads one cell: pick one with interval.at(...)")
    estimate, se, df = float(interval.estimate), float(interval.se), float(interval.df)
    nan = float("nan")
    if estimate != estimate or se != se:
        return Equivalence(delta, nan, nan, nan, "undetermined", False, nan)
    from scipy.special import stdtr

    degrees = np.asarray(df if df == df else np.inf)  # NaN: a Gaussian statistic
    narrow = float(t_quantile(degrees, 1 - 2 * alpha)) * se
    wide = float(t_quantile(degrees, 1 - alpha)) * se
    nearest = delta - abs(estimate)
    t = nearest / se if se else np.copysign(np.inf, nearest)
    p = float(stdtr(degrees, -t))
    present = abs(estimate) > wide
    verdict: Verdict = "effect" if present else "no effect" if p < alpha else "undetermined"
    small = present and p < alpha
    return Equivalence(delta, estimate - narrow, estimate + narrow, p, verdict, small, wide)
