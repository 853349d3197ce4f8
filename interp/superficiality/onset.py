"""Depth of an effect: by which layer the states behind the instruction hold it.

Taking the stream before layer l from the corrected run at *all* positions from the first difference on
gives the corrected run at every l, which says nothing. Here only the rows *behind* the instruction are
taken. Before layer 0 they are embeddings of equal tokens, so nothing changes, D(0) = 0; behind the last
layer they are what is unembedded, so D(L) = 1. In between D(l) says how much of the effect has passed
from the instruction's words into what stands behind them, and nothing is read off the words any more.

Cost per pair: two full runs, two unpatched ones and L + 1 patched ones that begin at their layer.

Example:
    >>> runs = measure_onset(model, [pair])                                  # doctest: +SKIP
    >>> onset_finding(runs).interval                                          # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.patching.cells import Patch
from interp.patching.patched import MAX_BYTES
from interp.patching.sites import SweepMethod
from interp.prompts import PromptPair
from interp.superficiality.routes import MeasuredRuns, prepare
from interp.superficiality.sides import CONTENT_SPANS, residual_states


def measure_onset(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """The metrics of both unpatched runs and of the run ``behind`` at every layer from 0 to L.

    Columns and arguments as of :func:`interp.superficiality.routes.measure_routes`.

    Raises:
        InterpError: what :func:`interp.superficiality.sides.sides_of` refuses.
    """
    taken = [prepare(model, pair, content) for pair in pairs]
    runs = MeasuredRuns(model, taken, clusters, method=method, max_bytes=max_bytes)
    n_layers = int(model.cfg.n_layers)
    for number, sides in enumerate(taken):
        states, rows = residual_states(model, sides.corrected), sides.behind
        for layer in range(n_layers):
            patch = Patch(layer, "resid_pre", rows, states[layer, rows])
            runs.add(2 * number, "behind", [patch], layer)
        last = Patch(n_layers - 1, "resid_post", rows, states[n_layers, rows])
        runs.add(2 * number, "behind", [last], n_layers)
    return runs.measure()
