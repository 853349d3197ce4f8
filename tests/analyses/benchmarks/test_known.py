"""The benchmark on known models: its own scores where the answer is plain, and what it writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analyses.benchmarks.known.__main__ import main
from analyses.benchmarks.known.edges import edge_rows
from analyses.benchmarks.known.joint import joint_row
from analyses.benchmarks.known.measure import (
    DIRECTIONS,
    EDGES,
    NODES,
    input_pairs,
    measure,
    pair_of,
)
from analyses.benchmarks.known.nodes import exact, true_cells
from interp.known import load_known


def test_exact_patching_scores_the_true_cells_and_no_other() -> None:
    model, truth = load_known("late_rewrite", rotated=True, noise=2.0)
    pairs = [pair_of(model, truth, *both) for both in input_pairs(truth, 6)]
    scores = exact(model, pairs)
    true = true_cells(truth, scores)
    assert len(scores) == len(truth.program.layout) * int(model.cfg.n_layers) * (
        int(model.cfg.n_heads) + 1
    )
    assert scores[true].min() > 0.1
    assert scores[~true].max() < 1e-3


def test_an_edge_that_carries_positions_alone_counts_as_false() -> None:
    model, truth = load_known("copy_previous")
    pairs = [pair_of(model, truth, *both) for both in input_pairs(truth, 4)]
    rows = pd.DataFrame(edge_rows(model, truth, pairs)).set_index("method")
    # of q, k and v, the MLP's two and the logits' three inputs: values, and the head to the logits
    assert (rows["true"] == 2).all()
    assert (rows["scored"] == 8).all()
    assert rows.loc["exact, noising", "auroc"] == rows.loc["attribution", "auroc"] == 1.0
    assert set(rows["missed"]) == {""}


def test_pairs_of_a_program_with_back_up_differ_in_the_instruction_alone() -> None:
    model, truth = load_known("either_route")
    both = input_pairs(truth, 50)
    where = truth.program.layout.index("instruction")
    for source, destination in both:
        assert (source != destination).nonzero().flatten().tolist() == [where]
        assert truth.tokens[int(source[where])] == "flip"
    pairs = [pair_of(model, truth, *one) for one in both]
    row = joint_row(model, truth, pairs)
    assert row["largest_single"] < 1e-3
    assert row["sum_of_singles"] < 1e-3
    assert row["joint"] == pytest.approx(2, abs=1e-2)  # the margin turns over: from 1 to -1


@pytest.mark.slow
def test_rows_of_all_methods_with_the_truth_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = ["--programs", "late_rewrite", "either_route", "--pairs", "3"]
    arms = ["--arms", "deep", "--seeds", "1", "--arm-pairs", "2"]
    main([*programs, *arms, "--into", str(tmp_path)])
    printed = capsys.readouterr().out
    nodes, edges, directions = (
        pd.read_parquet(tmp_path / name) for name in (NODES, EDGES, DIRECTIONS)
    )
    for name in ("exact, denoising", "exact, noising", "attribution", "integrated gradients"):
        assert name in printed
    for rows in (nodes, edges):
        plain = rows[~rows["backup"]].set_index(["variant", "method"])["auroc"]
        for variant in ("compiled", "rotated, noise"):
            assert plain[variant, "exact, denoising"] == plain[variant, "exact, noising"] == 1.0
            assert 0.3 < plain[variant, "random"] < 0.7
    hidden = nodes[nodes["backup"] & (nodes["method"] == "exact, noising")]
    assert (hidden["found"] < 1).all()
    assert (hidden["joint"] > 1.9).all()
    true = directions[directions["method"] == "true direction"]
    assert (true["agreement"] == 1).all()
    assert (true["cosine"] > 1 - 1e-5).all()
    assert (directions["exchanged"] > 0).all()


@pytest.mark.slow
def test_measuring_again_gives_the_same_rows() -> None:
    first, again = (measure(["copy_previous"], n_pairs=3, progress=False) for _ in range(2))
    assert list(first) == [NODES, EDGES, DIRECTIONS]
    for name, rows in first.items():
        pd.testing.assert_frame_equal(rows, again[name])
