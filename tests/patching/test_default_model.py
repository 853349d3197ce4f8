"""On the real default model: random cells against TransformerLens's own function."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from analyses.benchmarks.machine import peak_memory
from analyses.benchmarks.patching import Case, bbq_pair, by_transformer_lens, whole_pair
from interp.patching import sweep

N_CELLS = 75


@pytest.mark.model
@pytest.mark.dataset
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "z"])
def test_random_cells_of_a_bbq_pair_equal_transformer_lens(default_model: Any, site: Any) -> None:
    """A third of the cells lies before the first difference, where the engine runs nothing."""
    pair = bbq_pair(default_model)
    case = Case("BBQ", pair, site)
    result = sweep(default_model, pair, site=site, positions="all", progress=False)
    values = result.values[..., 0]
    assert not result.notes
    generator = torch.Generator().manual_seed(1)
    s, t = case.lengths
    width = values.shape[1]
    columns = torch.randint(0, width, (N_CELLS,), generator=generator)
    if site != "z":
        early = torch.arange(N_CELLS) % 3 == 0
        columns = torch.where(early, columns % (s - t), s - t + columns % t)
        assert bool((values[:, : s - t] == result.baseline).all())
    layers = torch.randint(0, values.shape[0], (N_CELLS,), generator=generator)
    cells = pd.DataFrame({"layer": layers.numpy(), case.axis: columns.numpy()})
    expected = by_transformer_lens(default_model, case, cells, batch=1)
    spread = float(values.max() - values.min())
    assert spread > 0.1
    assert float((values[layers, columns] - expected).abs().max()) <= 1e-4 * spread


@pytest.mark.model
@pytest.mark.dataset
def test_memory_stays_within_the_budget(default_model: Any) -> None:
    """Unbudgeted, these 348 cells hold 47 MB of rows and 60 MB while a block runs.

    The kernel counts pages, and the allocator may take fresh ones while freed ones lie about: that
    only ever adds, so the least of three measurements is the nearest to what the sweep needs.
    """
    pair = whole_pair(default_model, 116)
    budget = 64 << 20
    sweep(default_model, pair, layers=[29], progress=False)  # load what is loaded once
    peaks = []
    for _ in range(3):
        with peak_memory() as peak:
            result = sweep(
                default_model, pair, layers=[0, 10, 20], max_bytes=budget, progress=False
            )
        assert not result.notes
        peaks.append(peak.n_bytes)
    assert min(peaks) <= budget
