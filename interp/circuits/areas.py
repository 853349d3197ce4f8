"""CPR and CMD: the areas under and beside a curve of faithfulness.

MIB (arXiv 2504.13151, section 3) keeps the share k of a model's edges (or nodes) with the largest
scores and runs the model with all others ablated. Faithfulness is
``f(k) = (m(circuit) - m(empty)) / (m(full) - m(empty))``. Over k from .001 to 1, by the trapezoidal
rule:

* CPR, the integrated circuit performance ratio, is the area under f. Higher is better, and it may be
  above 1: a circuit may outdo the model.
* CMD, the integrated circuit-model distance, is the area of |1 - f|. 0 is best.

MIB evaluates f at :data:`MIB_SHARES` and rounds the number of edges down. Here a point stands at the
share that its circuit really has, which differs where a model has few nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats import FloatArray

Points: TypeAlias = npt.ArrayLike | Sequence[float]
"""Numbers, one per point of a curve."""

MIB_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of edges or nodes at which MIB evaluates faithfulness."""

FIRST_SHARE, LAST_SHARE = MIB_SHARES[0], MIB_SHARES[-1]


def cpr(shares: Points, faithfulness: Points) -> float:
    """Area under a curve of faithfulness, over shares from .001 to 1 (trapezoid).

    Args:
        shares: of nodes or edges that are kept ``[point]``, ascending, from .001 or less to 1. Between
            two points, and so at .001, the curve is the straight line.
        faithfulness: at each of them.

    Raises:
        InterpError: shares that do not ascend or do not reach from .001 to 1, or of another number.

    Example:
        >>> round(cpr([0, 0.5, 1], [0, 1, 1]), 4)
        0.75
    """
    x, f = _points(shares, faithfulness)
    return float(np.trapezoid(f, x))


def cmd(shares: Points, faithfulness: Points) -> float:
    """Area between a curve of faithfulness and 1, over shares from .001 to 1; see :func:`cpr`.

    |1 - f| is taken at the points, as MIB does, also where the curve crosses 1 between two of them.

    Example:
        >>> round(cmd([0, 0.5, 1], [0, 1.5, 1]), 4)
        0.4985
    """
    x, f = _points(shares, faithfulness)
    return float(np.trapezoid(np.abs(1 - f), x))


def area_weights(shares: Points) -> FloatArray:
    """Weights ``[point]`` whose sum with faithfulness is :func:`cpr`."""
    unit = np.eye(np.size(shares))
    return np.array([cpr(shares, row) for row in unit])


def _points(shares: Points, faithfulness: Points) -> tuple[FloatArray, FloatArray]:
    """The curve from .001 on, with a point there."""
    x, f = (np.asarray(values, dtype=np.float64) for values in (shares, faithfulness))
    if x.ndim != 1 or x.shape != f.shape:
        raise InterpError(f"{x.shape} shares and {f.shape} values: give one of each per point")
    if not len(x) or (np.diff(x) <= 0).any():
        raise InterpError(f"shares {x.tolist()} do not ascend: give every circuit's share once")
    if x[0] > FIRST_SHARE or x[-1] != LAST_SHARE:
        raise InterpError(
            f"shares run from {x[0]:g} to {x[-1]:g}: areas are over {FIRST_SHARE:g} to {LAST_SHARE:g}, "
            "so give the empty circuit (0) and the full one (1) too"
        )
    at_first = np.interp(FIRST_SHARE, x, f)
    after = x > FIRST_SHARE
    return np.append(FIRST_SHARE, x[after]), np.append(at_first, f[after])
