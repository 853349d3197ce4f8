"""The claims of one kind that a report makes, corrected once.

Example::

    family = Family.of("effects", {("behave", row.subset, row.model): interval, ...})
    family.p_holm["behave", "ambiguous", "default"]
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from interp.display import short_repr
from interp.errors import InterpError
from interp.stats.arrays import FloatArray, check_array
from interp.stats.interval import Interval
from interp.thresholds import ALPHA


@dataclass(frozen=True)
class Family:
    """Named claims (rows x subsets x models x layers) with p-values, Holm-corrected over all of them.

    ``p`` and ``p_holm`` by key; NaN where nothing was measured, which does not count as a test.
    """

    name: str
    p: Mapping[Any, float]
    p_holm: Mapping[Any, float]

    __repr__ = short_repr

    @classmethod
    def of(cls, name: str, claims: Mapping[Any, Interval | float]) -> Family:
        """The family of these claims: an interval with its ``p``, or a p-value.

        Raises:
            InterpError: an interval over several cells, a p-value outside 0..1.
        """
        p: dict[Hashable, float] = {}
        for key, claim in claims.items():
            value = claim.p if isinstance(claim, Interval) else claim
            if np.ndim(value):
                raise InterpError(
                    f"family {name!r}: claim {key!r} has several cells; give each its key"
                )
            p[key] = float(value)
        corrected = holm(np.array(list(p.values()), dtype=np.float64))
        return cls(name, p, dict(zip(p, corrected.tolist(), strict=True)))

    def __len__(self) -> int:
        """The tests in it: claims with a p-value."""
        return sum(value == value for value in self.p.values())

    def claimed(self, key: Hashable, *, alpha: float = ALPHA) -> bool:
        """Whether this claim may be made: its corrected p is at most ``alpha``.

        Raises:
            InterpError: a key that was not declared.
        """
        if key not in self.p_holm:
            raise InterpError(
                f"{key!r} is not in the family {self.name!r} of {len(self.p)} claims: declare it "
                "before anything is claimed"
            )
        return bool(self.p_holm[key] <= alpha)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p-values over all entries, in the shape given; NaN stays NaN.

    A NaN (a row that was not measured) does not count as a test. Source: Holm (1979); equal to
    ``statsmodels.stats.multitest.multipletests``, which collects all garbage at every call: up to a
    second and a half in a process that holds a model.

    Raises:
        InterpError: a p-value outside 0..1.
    """
    p = check_array("p_values", p_values, min_axes=0)
    if ((p < 0) | (p > 1)).any():
        raise InterpError(f"p-value {p[(p < 0) | (p > 1)].flat[0]} is outside 0..1")
    adjusted, tested = np.full(p.shape, np.nan), ~np.isnan(p)
    own = p[tested]
    order = np.argsort(own, kind="stable")
    own[order] = np.maximum.accumulate(own[order] * np.arange(len(own), 0, -1)).clip(max=1)
    adjusted[tested] = own
    return adjusted
