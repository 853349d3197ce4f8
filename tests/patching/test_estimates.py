"""First-order terms of planned cells and the size of what they leave out, against plain sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp.patching.estimates import estimate_pairs, plan_sites
from interp.patching.gradients import differentiate, read_states
from interp.patching.grid import Grid
from interp.patching.metrics import named_metrics, reading_of
from tests.patching.test_attribution import equal_length_pair


def test_terms_and_curvature_are_those_of_the_difference_and_the_gradient(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("llama")
    pair = equal_length_pair(model)
    metrics, _ = named_metrics("margin")
    plans = plan_sites(model, [pair], ["mlp_out", "z"], Grid(), metrics)
    (found,) = estimate_pairs(model, [pair], plans, metrics, progress=False)
    rows = torch.arange(len(pair.destination))
    nodes = [("mlp_out", 0), ("z", 0)]
    run = differentiate(model, pair, nodes, rows, metrics)
    source, _ = read_states(model, reading_of(pair.source.ids, pair, metrics), nodes, rows)
    for site in ("mlp_out", "z"):
        own, gradient = run.states[site, 0], run.gradients[site, 0][0]
        moved = source[site, 0] - own
        bend = gradient.norm(dim=-1) * moved.square().sum(-1) / own.norm(dim=-1)
        for cell in [cell for cell in found.cells[site] if cell.layers == (0,)]:
            at = cell.destination
            terms, bends = (gradient * moved).sum(-1)[at], bend[at]
            if cell.heads:
                terms, bends = terms[:, list(cell.heads)], bends[:, list(cell.heads)]
            assert float(found.of(site, cell)[0]) == pytest.approx(float(terms.sum()), abs=1e-5)
            assert found.curvature_of(site, cell) == pytest.approx(float(bends.sum()), rel=1e-4)


def test_the_sources_that_were_read_are_those_that_the_cells_copy(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    metrics, _ = named_metrics("margin")
    plans = plan_sites(tiny_model, [pair], ["z"], Grid(), metrics)
    (found,) = estimate_pairs(tiny_model, [pair], plans, metrics, progress=False)
    cell = found.cells["z"][0]
    wanted, _ = read_states(
        tiny_model, reading_of(pair.source.ids, pair, metrics), [("z", cell.layers[0])], cell.source
    )
    copied = found.runs["z"].at(cell.layers[0], cell.source)
    torch.testing.assert_close(copied, wanted["z", cell.layers[0]])
