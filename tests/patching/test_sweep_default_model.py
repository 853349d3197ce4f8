"""On the real default model: random cells against TransformerLens's own function."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest
import torch

from analyses.benchmarks.patching import Case, bbq_pair, by_transformer_lens
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


N_OPTION_CELLS = 25


@pytest.mark.model
@pytest.mark.dataset
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "z"])
def test_random_cells_of_the_option_margin_equal_transformer_lens(
    default_model: Any, site: Any
) -> None:
    """A hundred cells in all, each by two full forwards through TransformerLens's hooks."""
    pair = bbq_pair(default_model)
    assert pair.options is not None
    assert not pair.options.single_token
    case = Case("BBQ", pair, site, "option_margin")
    result = sweep(default_model, pair, site=site, metric="option_margin", progress=False)
    values = result.values[..., 0]
    assert not result.notes
    generator = torch.Generator().manual_seed(2)
    layers, columns = (
        torch.randint(0, size, (N_OPTION_CELLS,), generator=generator) for size in values.shape
    )
    s, t = case.lengths
    first = s - t if case.axis == "pos" else 0
    cells = pd.DataFrame({"layer": layers.numpy(), case.axis: (first + columns).numpy()})
    expected = by_transformer_lens(default_model, case, cells, batch=1)
    spread = float(values.max() - values.min())
    assert spread > 0.05
    assert float((values[layers, columns] - expected).abs().max()) <= 1e-4 * spread


MEASURE_PEAKS = """
from analyses.benchmarks.machine import peak_memory
from analyses.benchmarks.patching import whole_pair
from interp.models import load_model
from interp.patching import sweep

model = load_model()
pair = whole_pair(model, 116)
sweep(model, pair, layers=[29], progress=False)  # load what is loaded once
for budget in (64 << 20, 1 << 30):
    with peak_memory() as peak:
        result = sweep(model, pair, layers=[0, 10, 20], max_bytes=budget, progress=False)
    assert not result.notes, result.notes
    print("peak", peak.n_bytes)
"""


@pytest.mark.model
@pytest.mark.dataset
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's high-water mark is Linux's")
def test_memory_stays_within_the_budget(default_model: Any) -> None:
    """In a process of its own: the heap of one that ran other tests has holes, which count too.

    Tensors get pages of their own, so that the kernel counts what is held and not what the
    allocator keeps back. Without a budget that binds, the same cells take more.
    """
    finished = subprocess.run(
        [sys.executable, "-c", MEASURE_PEAKS],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(64 << 10)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [line.split() for line in finished.stdout.splitlines() if line.startswith("peak")]
    budgeted, unbudgeted = (float(number) for _, number in lines)
    assert budgeted <= 64 << 20 < unbudgeted
