from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from interp.circuits import CircuitNode, circuit_nodes, edge_auroc, node_auroc, node_scores
from interp.circuits.units import score_table
from interp.errors import InterpError
from interp.known import TruthEdge, names
from interp.known.registry import PROGRAMS
from tests.known.interchange import answers_differ, known, pair_of, random_pairs

ALL_USED = {
    "histogram", "count_of_a", "trend", "drop_duplicate", "late_rewrite", "instruction_ignored",
    "instruction_backfires",
}  # fmt: skip
"""Programs whose every head and MLP is used: they have no false node to tell from the true ones."""

SINGLE_ROUTE = [n for n in names() if not PROGRAMS[n].backups and n not in ALL_USED]
NODES = tuple(CircuitNode(0, head) for head in range(4))


@pytest.mark.parametrize("direction", ["denoising", "noising"])
@pytest.mark.parametrize(
    "name",
    ["copy_previous", *(pytest.param(n, marks=pytest.mark.slow) for n in SINGLE_ROUTE[1:])],
)
def test_exact_patching_of_a_program_without_back_up_has_an_auroc_of_1(
    name: str, direction: str
) -> None:
    model, truth = known(name, "rotated")
    drawn = random_pairs(truth, 12, answers_differ(truth))
    pairs = [pair_of(model, truth, source, to) for source, to in drawn]
    if direction == "noising":
        pairs = [pair.swap() for pair in pairs]
    # the margin of a program of numbers is value - zero, whichever answer is the larger
    scores = node_scores(model, pairs, method="exact", over_pairs="mean_absolute", progress=False)
    assert len(scores) == len(circuit_nodes(model)) > len(truth.used_nodes)
    assert node_auroc(scores, truth.used_nodes) == 1.0


def test_effects_that_cancel_over_pairs_count_by_their_size() -> None:
    model, truth = known("sum_of_routes")
    words = [("flip", "plain"), ("plain", "flip")]
    pairs = [
        pair_of(model, truth, *(truth.ids([w, "a", "b", "?"]) for w in couple)) for couple in words
    ]
    mean, size = (
        node_scores(model, pairs, method="exact", over_pairs=how, progress=False)  # type: ignore[arg-type]
        for how in ("mean", "mean_absolute")
    )
    assert mean["score"].abs().max() < 1e-3
    assert size.set_index("node")["score"]["L1H1"] > 0.2


def test_a_case_by_hand() -> None:
    scores = score_table(NODES, [0.1, -3.0, 2.0, 0.5])
    true = [CircuitNode(0, 1), CircuitNode(0, 3)]
    # of the four (true, false) couples by |score|: 3 > .1, 3 > 2, .5 > .1, but not .5 > 2
    assert node_auroc(scores, true) == 0.75
    assert node_auroc(scores, true, absolute=False) == 0.25
    assert node_auroc(score_table(NODES, [1, 1, 1, 1]), true) == 0.5


def test_edges_are_told_by_source_destination_and_input() -> None:
    edges = [("a", "b", "q"), ("a", "b", "v"), ("b", "c", "v")]
    scores = pd.DataFrame(edges, columns=["source", "destination", "input"]).assign(
        score=[-2.0, 0.5, 1.0]
    )
    true = [TruthEdge("a", "b", v, "q", used=True) for v in ("x", "y")]
    assert edge_auroc(scores, true) == 1.0
    assert edge_auroc(scores, true, absolute=False) == 0.0
    with pytest.raises(InterpError, match=r"no row for the true edge a -> c \(q\)"):
        edge_auroc(scores, [TruthEdge("a", "c", "x", "q", used=True)])
    with pytest.raises(InterpError, match=r"has a -> b \(q\) twice: give every edge"):
        edge_auroc(pd.concat([scores, scores]), true)


def test_the_edges_of_a_known_model_are_told_apart_by_their_own_truth() -> None:
    _, truth = known("detect_abc")
    used = [edge for edge in truth.edges if edge.used]
    rows = {(e.source, e.destination, e.input): 0.0 for e in truth.edges}
    rows |= {(e.source, e.destination, e.input): 1.0 for e in used}
    rows[("L0H0", "logits", "logits")] = 0.0
    table = pd.Series(rows).rename_axis(["source", "destination", "input"]).rename("score")
    assert edge_auroc(table.reset_index(), used) == 1.0


def test_what_has_no_area_is_refused() -> None:
    scores = score_table(NODES, [0.1, -3.0, 2.0, 0.5])
    cases: list[tuple[pd.DataFrame, list[Any], str]] = [
        (scores, [], "0 of 4 nodes are true"),
        (scores, list(NODES), "4 of 4 nodes are true"),
        (scores, [CircuitNode(3)], "no row for the true node L3 MLP"),
        (scores.assign(score=[1, 2, 3, float("nan")]), [NODES[0]], "1 of 4 nodes have no score"),
    ]
    for table, true, message in cases:
        with pytest.raises(InterpError, match=message):
            node_auroc(table, true)
