"""One row of the scorecard: a number, what it is a number of, and what allows it to be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.display import short_repr
from interp.stats import Interval, interval_columns


@dataclass(frozen=True)
class HealthCheck:
    """A condition without which a row is shown but not interpreted.

    ``value`` was measured; ``passed`` says whether it is within the bound; ``says`` is the line that a
    reader sees.
    """

    name: str
    value: float
    passed: bool
    says: str


@dataclass(frozen=True, eq=False)
class Finding:
    """A row of the scorecard, computed from saved measurements alone.

    Attributes:
        name: one of the row names of :mod:`interp.superficiality.rows`.
        statistic: what the number is, with its unit.
        interval: the number with its 95 % interval; NaN with a reason where it is not defined.
        p_value: of the row's null hypothesis, not corrected; NaN where the row tests nothing.
        null: that hypothesis, in words.
        n: items (pairs of prompts in causal rows) that the number rests on.
        reading: the sentence that the number supports.
        table: what the row is made of, tidy; its first rows are shown with the card.
        health: what was checked before the row is read.
    """

    name: str
    statistic: str
    interval: Interval
    p_value: float
    null: str
    n: int
    reading: str
    table: pd.DataFrame
    health: tuple[HealthCheck, ...] = ()

    __repr__ = short_repr

    @property
    def is_read(self) -> bool:
        """Whether the number is defined and every health check passed."""
        return not np.isnan(self.interval.estimate) and all(check.passed for check in self.health)

    @property
    def why_not(self) -> str:
        """Why the row is not read; empty where it is."""
        failed = [check.says for check in self.health if not check.passed]
        if np.isnan(self.interval.estimate):
            failed.insert(0, str(self.interval.reason) or "not measured")
        return "; ".join(failed)

    @property
    def checks(self) -> str:
        """Every check with what was measured: ``ceiling 2e-06; moved the other way 0.12``."""
        return "; ".join(
            check.name if np.isnan(check.value) else f"{check.name} {check.value:.2g}"
            for check in self.health
        )

    def columns(self) -> dict[str, object]:
        """The row of :meth:`interp.superficiality.Scorecard.to_dataframe`, without the corrected p."""
        return {
            "row": self.name,
            "statistic": self.statistic,
            **interval_columns(self.interval),
            "null": self.null,
            "is_read": self.is_read,
            "reading": self.reading,
            "health": self.why_not,
            "checks": self.checks,
        }
