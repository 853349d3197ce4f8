"""Intervals, permutation tests and multiple-testing corrections on per-item numbers.

**Idea.** A result keeps one number per item; this module turns such numbers into a claim. Items
that share a template are not independent, so the unit of resampling is the *cluster*, never the
item. The paraphrases of an instruction are a random effect too: an effect of instructions is
bootstrapped over texts and item clusters at once, and tested by permuting the labels of the texts.

**Conventions.** Items are the last axis, ``[*cells, n_items]``; with leading axes every field of a
result is an array ``[*cells]``. NaN marks an undefined item: it is left out and ``n`` counts what
remains. Items that are their own clusters are written ``clusters=range(n)``. Effects keep the unit
of the values (nats of margin, the logit difference) and are positive when the treated arm is
higher.

**Randomness.** ``seed`` and ``labels`` name a stream (:func:`rng`); equal arguments give equal
bytes. Cluster resamples depend on the seed, the labels and the sorted cluster names alone, so calls
on the same clusters and seed are paired.

**Limits.** Percentile intervals are narrow below about 20 clusters, and a point where values do not
vary; one cluster gives no interval (NaN, with a ``reason``). Time grows with ``n_resamples *
n_clusters * n_cells``; memory is about ``16 * n_resamples * min(n_cells, 4096)`` bytes.

Example::

    clusters = [item.cluster for item in items]
    effect = two_way_bootstrap(corrected, placebo, clusters, seed=0)  # each [texts, items]
    test = permute_texts(corrected.mean(1), placebo.mean(1), seed=0)
    print(effect, test.p)  # 0.120 [0.050, 0.190] 0.0043
    layers = sign_flip_max_t(shift, clusters, seed=0)  # shift [layers, items]
"""

from interp.stats.columns import (
    interval_column_names,
    interval_columns,
    interval_of,
    intervals_of,
    require_columns,
)
from interp.stats.effects import text_effects
from interp.stats.intervals import (
    Interval,
    auc_interval,
    cluster_bootstrap,
    ratio_bootstrap,
    success_rate,
    two_way_bootstrap,
)
from interp.stats.permutation import (
    ALPHA,
    MaxT,
    PermutationTest,
    holm,
    permute_texts,
    sign_flip_max_t,
)
from interp.stats.resampling import FloatArray, IntArray, PerCell, rng

__all__ = [
    "ALPHA",
    "FloatArray",
    "IntArray",
    "Interval",
    "MaxT",
    "PerCell",
    "PermutationTest",
    "auc_interval",
    "cluster_bootstrap",
    "holm",
    "interval_column_names",
    "interval_columns",
    "interval_of",
    "intervals_of",
    "permute_texts",
    "ratio_bootstrap",
    "require_columns",
    "rng",
    "sign_flip_max_t",
    "success_rate",
    "text_effects",
    "two_way_bootstrap",
]
