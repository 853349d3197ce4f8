"""Checks on a map: overlap of its top cells, pairs moved the other way, interaction, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import interp
from interp.errors import InterpError
from interp.known import load_known
from interp.patching import SweepResult
from interp.patching.health import JACCARD_BAR, interaction, moved_against, top_overlap


def result_of(effects: Any, *, clusters: list[str] | None = None) -> SweepResult:
    """A sweep over layers with these effects ``[layer, pair]``, its destination at 0, source at 1."""
    values = torch.as_tensor(effects, dtype=torch.float32)
    labels = {"layer": [str(k) for k in range(len(values))]}
    n = values.shape[-1]
    return SweepResult(
        values=values,
        axis_names=["layer"],
        index_df=pd.MultiIndex.from_product(list(labels.values()), names=["layer"]).to_frame(
            index=False
        ),
        metric_names=["margin"],
        reduced=False,
        baseline=torch.zeros(n),
        source_baseline=torch.ones(n),
        axis_labels=labels,
        pair_labels=[f"pair {k}" for k in range(n)],
        clusters=clusters or [f"c{k}" for k in range(n)],
    )


def test_top_cells_that_every_item_shares_overlap_wholly() -> None:
    effects = np.repeat([[5.0], [4.0], [3.0], [0.1], [0.2]], 12, axis=1)
    assert top_overlap(result_of(effects), 3, seed=0) == 1.0


def test_top_cells_of_noise_overlap_less_than_those_of_a_signal() -> None:
    noise = np.random.default_rng(0).standard_normal((60, 8))
    few = top_overlap(result_of(noise), 10, seed=0)
    signal = noise + np.linspace(0, 40, 60)[:, None]
    assert few < JACCARD_BAR < top_overlap(result_of(signal), 10, seed=0)


def test_the_overlap_counts_shared_cells_over_all_named() -> None:
    """Two clusters, of which each names another cell second: by hand over the four resamples."""
    effects = [[10.0, 10.0], [4.0, 0.0], [0.0, 5.0]]
    found = top_overlap(result_of(effects), 2, n_resamples=20_000, seed=0)
    # whole sample: cells 0 and 2; the resample of the first pair alone (1 in 4) names 0 and 1
    assert found == pytest.approx(0.75 * 1 + 0.25 * (1 / 3), abs=0.01)


def test_cells_that_name_nothing_are_left_out_of_the_overlap() -> None:
    """The first two cells lead in every resample and hide that the others are noise."""
    noise = np.random.default_rng(0).standard_normal((40, 8))
    effects = np.concatenate([np.full((2, 8), 100.0), noise])
    among = np.arange(len(effects)) >= 2
    found = top_overlap(result_of(effects), 3, among=among, seed=0)
    assert found == top_overlap(result_of(noise), 3, seed=0)
    assert found < top_overlap(result_of(effects), 3, seed=0)


def test_pairs_moved_the_other_way_are_counted_among_those_moved() -> None:
    effects = [[1.0, 1.0, 1.0, -0.5], [-1.0, -1.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(moved_against(result_of(effects)), [0.25, 1 / 3, np.nan])


def test_interaction_is_what_both_ways_differ_by() -> None:
    denoising = result_of([[1.0, 0.8, 0.9], [0.5, 0.5, 0.5]])
    noising = result_of([[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]])  # patched: 1 less what is lost
    noising.baseline, noising.source_baseline = torch.ones(3), torch.zeros(3)
    found = interaction(denoising, noising)
    np.testing.assert_allclose(found.estimate, [0.9, 0.0], atol=1e-6)
    assert np.asarray(found.p)[0] < 0.01


def test_back_up_shows_as_interaction_on_a_model_that_has_it() -> None:
    model, truth = load_known("either_route", rotated=True)
    pairs = []
    for content in "ab":
        for other in "ab":
            source = truth.ids(["flip", content, other, "?"])
            to = truth.ids(["plain", content, other, "?"])
            target = truth.target(truth.answer(source), truth.answer(to))
            pairs.append(interp.make_pair(model, source, to, target=target, spans=truth.spans))
    options: dict[str, Any] = {"site": "z", "progress": False}
    restored = interp.sweep(model, pairs, **options)
    removed = interp.sweep(model, [pair.swap() for pair in pairs], **options)
    found = np.asarray(interaction(restored, removed).estimate)
    backed_up = [truth.node_of(name) for group in truth.program.backups for name in group]
    for node in backed_up:
        assert node.head is not None
        assert found[node.layer, node.head] > 1.0
    others = np.ones_like(found, dtype=bool)
    others[[node.layer for node in backed_up], [int(node.head or 0) for node in backed_up]] = False
    assert np.abs(found[others]).max() < 1e-3


def test_what_cannot_be_checked_is_refused() -> None:
    plain = result_of([[1.0, 2.0], [0.0, 1.0]])
    with pytest.raises(InterpError, match="k is 2, and there are 2 cells"):
        top_overlap(plain, 2)
    with pytest.raises(InterpError, match="single cluster"):
        top_overlap(result_of([[1.0, 2.0], [0.0, 1.0]], clusters=["a", "a"]), 1)
    with pytest.raises(InterpError, match="undefined for some pair"):
        top_overlap(result_of([[1.0, np.nan], [0.0, 1.0]]), 1)
    with pytest.raises(InterpError, match="other cells or pairs"):
        interaction(plain, result_of([[1.0, 2.0]]))
    with pytest.raises(InterpError, match="not of the first one's pairs swapped"):
        interaction(plain, plain)
