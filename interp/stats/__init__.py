"""Estimates with intervals, tests over families, equivalence: second edition, see ``docs/methods.md``.

**Idea.** A result keeps one number per item; this module turns such numbers into a claim. Items
that share a template are not independent, so that the unit is the *cluster*, never the item. The
paraphrases of an instruction are a random effect too: the effect of an instruction has a two-way
standard error, over wordings and over clusters. Many cells (layers, heads, rounds) are one family
and are corrected together; so are the claims of one report.

============================ =======================================================================
:func:`effect`               treated minus control wordings; two-way cluster variance, t (CGM-t)
:func:`effect_gap`           the effect inside a group of items minus that outside
:func:`cluster_mean`         mean over items; t over clusters, jackknife-t where sizes differ
:func:`success_rate`         proportion
:func:`share`                ratio of two means, Fieller
:func:`of_sums`              function of sums (bias score, gap of accuracies), jackknife-t
:func:`correlation`          Pearson, Fisher's z
:func:`corrected_cv`         scores of repeated cross-validation, Nadeau and Bengio's t
:func:`calibration_error`    against the null of calibrated answers
:func:`max_t_of_effects`,    which cells of a family differ from 0, two-way studentised max-t
:func:`max_t`
:func:`equivalence`          no effect, an effect, or undetermined
:class:`Family`, :func:`holm` the claims of one kind, corrected once
============================ =======================================================================

**Conventions.** Items are the last axis, ``[*cells, n_items]``, wordings the one before; with
leading axes every field of a result is an array ``[*cells]``. NaN marks an undefined item: it is
left out and ``n`` counts what remains. Items that are their own clusters are written
``clusters=range(n)``. Effects keep the unit of the values (nats of margin, the logit difference)
and are positive when the treated arm is higher.

**Randomness.** Only families and calibration draw anything: ``seed`` and ``labels`` name a stream
(:func:`rng`); equal arguments give equal bytes.

**Few units.** Two clusters or two wordings give wide intervals; one cluster gives none (NaN, with a
``reason``).

Example::

    clusters = [item.cluster for item in items]
    print(effect(corrected, placebo, clusters))  # each [texts, items]: 0.120 [0.050, 0.190]
    layers = max_t_of_effects(shift, placebo_shift, clusters, seed=0)  # [layers, texts, items]
    print(layers.p_corrected)
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.stats.arrays import FloatArray, IntArray, PerCell, rng
    from interp.stats.calibration import CalibrationError, calibration_error
    from interp.stats.columns import (
        interval_column_names,
        interval_columns,
        interval_of,
        intervals_of,
        require_columns,
    )
    from interp.stats.correlation import correlation
    from interp.stats.cross_validation import corrected_cv
    from interp.stats.effects import effect, effect_gap, effects_by_context
    from interp.stats.equivalence import Equivalence, equivalence
    from interp.stats.family import Family, holm
    from interp.stats.interval import Interval
    from interp.stats.max_t import MaxT, max_t, max_t_of_effects
    from interp.stats.means import cluster_mean, random_wordings, success_rate
    from interp.stats.score_sums import of_sums
    from interp.stats.shares import share
    from interp.thresholds import ALPHA, EQUIVALENCE_SHARE, MIN_CLUSTERS, MIN_WORDINGS

__all__ = [
    "ALPHA",
    "EQUIVALENCE_SHARE",
    "MIN_CLUSTERS",
    "MIN_WORDINGS",
    "CalibrationError",
    "Equivalence",
    "Family",
    "FloatArray",
    "IntArray",
    "Interval",
    "MaxT",
    "PerCell",
    "calibration_error",
    "cluster_mean",
    "corrected_cv",
    "correlation",
    "effect",
    "effect_gap",
    "effects_by_context",
    "equivalence",
    "holm",
    "interval_column_names",
    "interval_columns",
    "interval_of",
    "intervals_of",
    "max_t",
    "max_t_of_effects",
    "of_sums",
    "random_wordings",
    "require_columns",
    "rng",
    "share",
    "success_rate",
]

attach(__name__)
