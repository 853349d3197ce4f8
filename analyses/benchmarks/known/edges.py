"""Scores of edges against those along which a program's variables pass.

The truth has no positions, and neither have these edges. The embedding's edges carry tokens and
positions together. A position is the same in both prompts of a pair, so that no exchange between two
prompts can show an edge that carries it alone: such an edge counts as false.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.scored import DECIMALS, Scores, by_method, scored_rows
from interp.circuits import CircuitEdge, edge_scores
from interp.known import Truth
from interp.patching.sites import AttributionMethod
from interp.prompts import PromptPair


def exact(model: TransformerBridge, pairs: Sequence[PromptPair]) -> pd.DataFrame:
    """Every edge alone from the source run into the destination (denoising)."""
    return edge_scores(model, pairs, method="exact", over_pairs="mean_absolute", progress=False)


def estimate(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    method: AttributionMethod = "gradient",
    steps: int = 1,
) -> pd.DataFrame:
    """Edge attribution patching (EAP), or the same with RelP's coefficients."""
    return edge_scores(
        model, pairs, method="attribution" if method == "gradient" else method, steps=steps,
        over_pairs="mean_absolute", progress=False,
    )  # fmt: skip


def edge_rows(
    model: TransformerBridge, truth: Truth, pairs: Sequence[PromptPair]
) -> list[dict[str, object]]:
    """One row per method, over all edges of the model; ``missed`` names the true ones that score 0."""
    tables = by_method(model, pairs, exact=exact, estimate=estimate)
    found = {name: _by_label(table) for name, table in tables.items()}
    used = true_edges(truth)
    true = pd.Series({label: label in used for label in next(iter(found.values())).index})
    rows = scored_rows(truth.name, found, true)
    for row in rows:
        scores = found.get(str(row["method"]))
        missed = [] if scores is None else [k for k in true.index[true] if scores[k] == 0]
        row["missed"] = ", ".join(missed)
    return rows


def true_edges(truth: Truth) -> set[str]:
    """Labels of the edges that carry a used variable which can differ between two prompts."""
    return {
        CircuitEdge(edge.source, edge.destination, edge.input).label
        for edge in truth.edges
        if edge.used and edge.source != "pos_embed"
    }


def _by_label(scores: pd.DataFrame) -> Scores:
    return scores.set_index("edge")["score"].round(DECIMALS)
