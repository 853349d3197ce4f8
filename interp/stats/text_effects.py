"""The effect of a treated arm of texts over its control, with the test that stands beside it.

Paraphrases are a random effect: the interval resamples texts and clusters of items at once, and the
test permutes the texts' labels. Items of several contexts are read together and apart.

    rows = text_effects(treated, control, clusters, contexts, seed=0, labels=("lens", "instructed"))
    pd.DataFrame(rows)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from interp.stats.columns import interval_columns
from interp.stats.intervals import two_way_bootstrap
from interp.stats.permutation import ALPHA, permute_texts


def text_effects(
    treated: Float64[np.ndarray, "texts item"],
    control: Float64[np.ndarray, "control_texts item"],
    clusters: Sequence[str],
    contexts: Sequence[str],
    *,
    seed: int,
    labels: Sequence[object],
) -> list[dict[str, Any]]:
    """mean(treated) - mean(control) over all items, then per context condition where there are several.

    Args:
        treated: one number per text and item, in nats of margin; + is the better answer.
        control: the same of the texts it is compared with; one row for a prompt without a text.
        clusters: of every item.
        contexts: of every item, ``ambiguous`` or ``disambiguated``; ``all`` names them together.
        seed: of the resampling; ``labels`` name its stream.

    Returns:
        Per context its name in ``context``, the columns of an interval over texts and clusters of
        items, and ``p_texts``: permutation of the texts' labels, NaN with a single text on a side or
        so few that it could not fall below .05.
    """
    of, rows = np.array(contexts), []
    kinds = list(dict.fromkeys(contexts))
    for kind in ["all", *kinds] if len(kinds) > 1 else kinds:
        here = (of == kind) | (kind == "all")
        above, below = treated[:, here], control[:, here]
        units = [cluster for cluster, kept in zip(clusters, here, strict=True) if kept]
        interval = two_way_bootstrap(above, below, units, seed=seed, labels=labels)
        test = permute_texts(above.mean(1), below.mean(1), seed=seed)
        testable = min(len(above), len(below)) > 1 and 2 / test.n_permutations < ALPHA
        rows.append(
            {
                "context": kind,
                **interval_columns(interval),
                "p_texts": test.p if testable else float("nan"),
            }
        )
    return rows
