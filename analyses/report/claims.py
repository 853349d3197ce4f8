"""The one rule for what a report may say of an effect: its verdict.

A :class:`Claim` holds an effect and everything that decides its verdict, tried in this order:

- ``too few clusters`` or ``too few wordings`` (fewer than :data:`MIN_CLUSTERS` clusters of items, or
  :data:`MIN_WORDINGS` wordings on a side): the number is shown, and speaks of this sample alone.
- ``metric-dependent``: the readings of the same contrast (option margin, margin, P(a)) have different
  signs, or another of them has an effect where the one that is claimed has none.
- ``effect``: the interval excludes 0, and p, corrected over the family of the claim, is below .05.
- ``no effect``: the 90 % interval lies inside +-delta, that is two one-sided tests reject an effect of
  that size. delta is :data:`~analyses.config.EQUIVALENCE_SHARE` of what naming the answer does, a rule
  that stands in the manifest before anything is run.
- ``undetermined``: none of these; the half-width of the interval says how much is not known.

Only ``effect`` is told with a verb of effect.

    claim = Claim(effect(treated, placebo, clusters), p_holm, delta=delta_of(control))
    claim.verdict, claim.why
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from analyses.config import EQUIVALENCE_SHARE, MIN_CLUSTERS, MIN_WORDINGS
from analyses.report.prose import count
from interp.stats import ALPHA, Interval, equivalence
from interp.viz.report import format_interval

Verdict: TypeAlias = Literal[
    "effect",
    "no effect",
    "undetermined",
    "metric-dependent",
    "too few wordings",
    "too few clusters",
]

NAN = float("nan")


@dataclass(frozen=True)
class Claim:
    """An effect (treated minus control), and what decides what may be said of it.

    Args:
        effect: its estimate and interval; 0 is no effect.
        p: corrected over the family that the claim belongs to; NaN: the interval's own.
        delta: the size below which an effect counts as none, in the unit of the effect; NaN where there
            is no control to take it from.
        others: the same contrast in other metrics, by their names.
        fixed_control: the control arm is one prompt without a text (clean), not a sample of wordings.
    """

    effect: Interval
    p: float = NAN
    delta: float = NAN
    others: Mapping[str, Interval] = field(default_factory=dict)
    fixed_control: bool = False

    @property
    def verdict(self) -> Verdict:
        """One of the six; see the module."""
        if too_few_clusters(self.effect):
            return "too few clusters"
        if too_few_wordings(self.effect, fixed_control=self.fixed_control):
            return "too few wordings"
        if self._readings_disagree():
            return "metric-dependent"
        if self._differs_from_zero():
            return "effect"
        return "no effect" if self._is_equivalent() else "undetermined"

    @property
    def is_effect(self) -> bool:
        """Whether the verdict is ``effect``."""
        return self.verdict == "effect"

    @property
    def is_small(self) -> bool:
        """An effect, and one inside +-delta."""
        return self.is_effect and self._is_equivalent()

    @property
    def why(self) -> str:
        """The verdict with its reason, to follow a number; empty for an effect."""
        return "" if self.is_effect else _REASONS[self.verdict](self)

    def _differs_from_zero(self) -> bool:
        p = self.effect.p if np.isnan(self.p) else self.p
        return bool(self.effect.excludes(0) and not p >= ALPHA)

    def _is_equivalent(self) -> bool:
        if not self.delta > 0 or np.isnan(self.effect.se):
            return False
        return bool(equivalence(self.effect, self.delta).p < ALPHA)

    def _readings_disagree(self) -> bool:
        others = [one for one in self.others.values() if not np.isnan(one.estimate)]
        if self._differs_from_zero():
            return any(one.estimate * self.effect.estimate <= 0 for one in others)
        return any(one.excludes(0) for one in others)


def corrected_for(table: pd.DataFrame, k: int) -> pd.DataFrame:
    """The table with its p, and those over a family, corrected for ``k`` families (Bonferroni).

    A report with several kinds of claims, each corrected within its own family, would otherwise print
    something in more than one of twenty nulls.
    """
    columns = [name for name in ("p_raw", "p_corrected") if name in table]
    return table.assign(**{name: (table[name] * k).clip(upper=1.0) for name in columns})


def delta_of(control: Claim) -> float:
    """delta, from the control that names the answer; NaN where that shows no effect."""
    works = control.is_effect and control.effect.estimate > 0
    return EQUIVALENCE_SHARE * float(control.effect.estimate) if works else NAN


def too_few_clusters(effect: Interval) -> bool:
    """Whether the clusters of items allow no claim."""
    return bool(effect.n_clusters < MIN_CLUSTERS)


def too_few_wordings(effect: Interval, *, fixed_control: bool = False) -> bool:
    """Whether the wordings of an arm allow no claim; an effect without arms has none to count."""
    return wordings_of(effect, fixed_control=fixed_control) < MIN_WORDINGS


def wordings_of(effect: Interval, *, fixed_control: bool = False) -> float:
    """Wordings on the side that has fewer; infinite without arms of texts."""
    if effect.texts is None:
        return np.inf
    return effect.texts[0] if fixed_control else min(effect.texts)


def _few_clusters(claim: Claim) -> str:
    why = f" ({claim.effect.reason})" if claim.effect.reason else ""
    n = int(claim.effect.n_clusters)
    return f"too few clusters, {n} of items where {MIN_CLUSTERS} are needed{why}"


def _few_wordings(claim: Claim) -> str:
    n = int(wordings_of(claim.effect, fixed_control=claim.fixed_control))
    these = "this wording" if n == 1 else "these wordings"
    return (
        f"too few wordings, {count(n, 'wording')} a side where {MIN_WORDINGS} are needed, so the number "
        f"speaks of {these} alone"
    )


def _metric_dependent(claim: Claim) -> str:
    readings = "; ".join(
        f"{name} {format_interval(one)}"
        for name, one in claim.others.items()
        if not np.isnan(one.estimate)
    )
    return f"metric-dependent, so it supports no claim ({readings})"


def _no_effect(claim: Claim) -> str:
    share = f"{EQUIVALENCE_SHARE:.0%}".replace("%", " %")
    return (
        f"no effect, its 90 % interval lies inside ±{claim.delta:.3g} ({share} of what naming the "
        "answer does)"
    )


def _undetermined(claim: Claim) -> str:
    effect = claim.effect
    if np.isnan(effect.low):
        return f"undetermined, {effect.reason or 'there is no interval'}"
    half = f"undetermined, the half-width is ±{(effect.high - effect.low) / 2:.2g}"
    if effect.excludes(0):
        return f"{half} and the interval excludes 0, but not once the family of claims is corrected for"
    if claim.delta > 0:
        return f"{half}, and “no effect” would need a 90 % interval inside ±{claim.delta:.2g}"
    return half


_REASONS = {
    "too few clusters": _few_clusters,
    "too few wordings": _few_wordings,
    "metric-dependent": _metric_dependent,
    "no effect": _no_effect,
    "undetermined": _undetermined,
}
