"""All measurements over all compiled programs and variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.directions import direction_rows
from analyses.benchmarks.known.edges import edge_rows
from analyses.benchmarks.known.joint import joint_row
from analyses.benchmarks.known.nodes import node_rows
from interp.known import Truth, load_known
from interp.prompts import PromptPair, make_pair
from interp.stats import rng

KEPT = Path(__file__).parents[3] / "docs" / "rows" / "known"
"""The rows behind the tables of ``docs/validity.md``."""

NODES, EDGES, DIRECTIONS = "nodes.parquet", "edges.parquet", "directions.parquet"

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "compiled": {},
    "rotated, noise": {"rotated": True, "noise": 2.0},
}


def measure(
    programs: Sequence[str], *, n_pairs: int, progress: bool = True
) -> dict[str, pd.DataFrame]:
    """By file, rows of cells, edges and directions, each with ``program``, ``variant``, ``backup``."""
    rows: dict[str, list[dict[str, object]]] = {NODES: [], EDGES: [], DIRECTIONS: []}
    tasks = [(program, variant) for program in programs for variant in VARIANTS]
    for program, variant in tqdm(tasks, desc="known models", disable=not progress):
        model, truth = load_known(program, **VARIANTS[variant])
        pairs = [pair_of(model, truth, *both) for both in input_pairs(truth, n_pairs)]
        backup = bool(truth.program.backups)
        labels = {"program": program, "variant": variant, "backup": backup}
        joint = joint_row(model, truth, pairs) if backup else {}
        rows[NODES] += [labels | row | joint for row in node_rows(model, truth, pairs)]
        rows[EDGES] += [labels | row for row in edge_rows(model, truth, pairs)]
        rows[DIRECTIONS] += [labels | row for row in direction_rows(model, truth)]
    return {name: pd.DataFrame(found) for name, found in rows.items()}


def input_pairs(truth: Truth, n: int) -> list[tuple[Int[Tensor, " pos"], Int[Tensor, " pos"]]]:
    """``n`` pairs of inputs with different answers, or as many as there are.

    Of a program with back-up the source is instructed, the destination is not, and nothing else differs:
    both routes carry it.
    """
    inputs = truth.inputs()
    drawn = rng(0, "pairs", truth.name).permutation(len(inputs) ** 2)
    both = ((inputs[int(k) // len(inputs)], inputs[int(k) % len(inputs)]) for k in drawn)
    return list(islice((one for one in both if _tells(truth, *one)), n))


def pair_of(
    model: TransformerBridge,
    truth: Truth,
    source: Int[Tensor, " pos"],
    destination: Int[Tensor, " pos"],
) -> PromptPair:
    """The pair with the margin of its two answers."""
    target = truth.target(truth.answer(source), truth.answer(destination))
    return make_pair(model, source, destination, target=target, spans=truth.spans)


def mean_over_programs(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Means per variant and method, programs with back-up apart; ``n`` counts the rows of each."""
    by = rows.groupby(["variant", "backup", "method"], sort=False)
    return by[list(columns)].mean().assign(n=by.size()).reset_index()


def _tells(truth: Truth, source: Tensor, destination: Tensor) -> bool:
    if truth.answer(source) == truth.answer(destination):
        return False
    if not truth.program.backups:
        return True
    where = truth.program.layout.index("instruction")
    differ = (source != destination).nonzero()[:, 0].tolist()
    instruction = truth.program.inputs[where - 1][0]  # a BOS stands before the inputs
    return bool(differ == [where]) and truth.tokens[int(source[where])] == instruction
