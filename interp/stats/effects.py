"""Effects of instructions: wordings and clusters of items are both random.

Intervals and tests are CGM-t: two-way cluster variance (:mod:`interp.stats.two_way`) with a Student
quantile at Satterthwaite's degrees of freedom. Test and interval agree: p < .05 where the 95 %
interval excludes 0.

Example::

    effect(corrected, placebo, clusters)  # each [texts, items]: 0.120 [0.050, 0.190]
    effect_gap(corrected, placebo, clusters, inside=ambiguous)
    pd.DataFrame(effects_by_context(corrected, placebo, clusters, contexts))
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from interp.errors import InterpError
from interp.stats.arrays import (
    FloatArray,
    blocks,
    check_array,
    check_binary,
    check_confidence,
    cluster_codes,
)
from interp.stats.columns import interval_columns
from interp.stats.interval import CellIntervals, Interval
from interp.stats.two_way import of_arms

_CELLS_AT_ONCE = 512


def effect(
    treated: npt.ArrayLike,
    control: npt.ArrayLike,
    clusters: Iterable[object],
    *,
    weights: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """mean(treated) - mean(control) with its CGM-t interval; ``p`` tests that it is 0.

    ``treated [*cells, n_treated_wordings, n_items]``, ``control`` with its own number of wordings on
    the same cells and items; both in the unit of the result (nats of margin), positive where the
    treated arm is higher. Arms may have unequal numbers of wordings: each has its own variance.
    An arm with one wording (a prompt without instruction, say) adds no variance, and with one a
    side the interval is a t interval over clusters that speaks of these two wordings alone, see
    ``texts``. An item undefined under a wording is left out of all. With ``weights [n_items]`` (>= 0;
    0 leaves an item out) the means over items are weighted. One cluster gives no interval, with a
    reason; two clusters give a very wide one.

    Raises:
        InterpError: arms on different items or cells, negative weights, unmatched clusters.
    """
    check_confidence(confidence)
    arms = check_arms(treated, control)
    n_items = arms[0].shape[-1]
    item_weights = np.ones(n_items) if weights is None else check_array("weights", weights)
    if item_weights.shape != (n_items,) or not (item_weights >= 0).all():
        raise InterpError(f"weights {list(item_weights.shape)}: give {n_items} numbers >= 0")
    codes, shape = cluster_codes(clusters, n_items), arms[0].shape[:-2]
    flat = [arm.reshape(math.prod(shape), *arm.shape[-2:]) for arm in arms]
    defined = ~(np.isnan(flat[0]).any(1) | np.isnan(flat[1]).any(1)) & (item_weights > 0)
    out = CellIntervals(len(defined))
    for cells, items in blocks(defined, _CELLS_AT_ONCE):
        inside = [arm[cells][..., items] for arm in flat]
        weight, here = item_weights[items], codes[items]
        out.count(cells, len(items), len(np.unique(here)))
        found = of_arms(inside, here, [weight])
        if found is None:
            means = [arm.mean(1) @ weight / weight.sum() for arm in inside]
            out.reason[cells] = "a single cluster: no interval"
            out.put(cells, estimate=means[0] - means[1])
        else:
            out.put_t(cells, found.estimate, found.variance, found.df, confidence)
    return out.interval(shape, confidence, "cgm_t", (arms[0].shape[-2], arms[1].shape[-2]))


def effect_gap(
    treated: npt.ArrayLike,
    control: npt.ArrayLike,
    clusters: Iterable[object],
    inside: npt.ArrayLike,
    *,
    undefined: str = "needs items inside the group and outside",
    confidence: float = 0.95,
) -> Interval:
    """Effect on the items ``inside`` a group minus the effect on the others, CGM-t.

    ``treated [n_treated_wordings, n_items]`` and ``control`` in nats of margin; ``inside [n_items]``
    holds 0 and 1 (NaN leaves an item out). Clusters may lie on both sides. An item undefined under a
    wording is left out. ``undefined`` is the reason where a side has no items; a side whose items
    are one cluster has no interval.

    Raises:
        InterpError: arms on different items, an ``inside`` of other length or values, unmatched
            clusters.
    """
    check_confidence(confidence)
    arms, member = check_arms(treated, control), check_binary("inside", inside)
    if arms[0].ndim != 2 or arms[0].shape[1:] != member.shape:
        shapes = ", ".join(str(list(array.shape)) for array in (*arms, member))
        raise InterpError(
            f"treated, control and inside are {shapes}: give [n_wordings, n_items] twice and [n_items]"
        )
    codes = cluster_codes(clusters, len(member))
    texts = (len(arms[0]), len(arms[1]))
    defined = ~(np.isnan(arms[0]).any(0) | np.isnan(arms[1]).any(0) | np.isnan(member))
    here, sides = codes[defined], [member[defined], 1.0 - member[defined]]
    out, cell = CellIntervals(1), np.zeros(1, dtype=np.intp)
    out.count(cell, int(defined.sum()), len(np.unique(here)))
    if not all(side.any() for side in sides):
        out.reason[:] = undefined
        return out.interval((), confidence, "cgm_t", texts)
    table = [arm[None][..., defined] for arm in arms]
    found = of_arms(table, here, sides)
    if found is None:
        difference = (table[0].mean(1) - table[1].mean(1))[0]
        means = [difference @ side / side.sum() for side in sides]
        out.put(cell, estimate=np.array([means[0] - means[1]]))
        out.reason[:] = "a single cluster on a side: no interval"
    else:
        out.put_t(cell, found.estimate, found.variance, found.df, confidence)
    return out.interval((), confidence, "cgm_t", texts)


def effects_by_context(
    treated: npt.ArrayLike,
    control: npt.ArrayLike,
    clusters: Sequence[object],
    contexts: Sequence[str],
    *,
    confidence: float = 0.95,
) -> list[dict[str, Any]]:
    """:func:`effect` over all items, then per context condition where there are several.

    ``contexts``: of every item, ``ambiguous`` or ``disambiguated``; ``all`` names them together.
    Per context its name in ``context`` and the columns of the interval
    (:mod:`interp.stats.columns`), its p among them.

    Raises:
        InterpError: see :func:`effect`; contexts that do not match the items.
    """
    arms = check_arms(treated, control)
    of = np.array(contexts)
    if of.shape != arms[0].shape[-1:]:
        raise InterpError(f"{of.size} contexts for {arms[0].shape[-1]} items: give one per item")
    rows, kinds = [], list(dict.fromkeys(contexts))
    for kind in ["all", *kinds] if len(kinds) > 1 else kinds:
        here = (of == kind) | (kind == "all")
        units = [cluster for cluster, kept in zip(clusters, here, strict=True) if kept]
        found = effect(arms[0][..., here], arms[1][..., here], units, confidence=confidence)
        rows.append({"context": kind, **interval_columns(found)})
    return rows


def check_arms(treated: npt.ArrayLike, control: npt.ArrayLike) -> list[FloatArray]:
    """Two arms on the same cells and items, or an error."""
    arms = [check_array("treated", treated, 2), check_array("control", control, 2)]
    if arms[0].shape[:-2] != arms[1].shape[:-2] or arms[0].shape[-1] != arms[1].shape[-1]:
        raise InterpError(
            f"treated {list(arms[0].shape)} and control {list(arms[1].shape)} differ outside the "
            "text axis: give [*cells, n_texts, n_items] on the same items"
        )
    if 0 in (arms[0].shape[-2], arms[1].shape[-2]):
        raise InterpError(
            f"treated {list(arms[0].shape)}, control {list(arms[1].shape)}: an arm has no text"
        )
    return arms
