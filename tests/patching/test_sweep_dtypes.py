"""bfloat16 models (and CUDA where there is one): the exact engine keeps to the dtype's rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.models import load_model
from interp.patching import sweep
from interp.prompts import make_pair
from tests.patching.by_hand import TARGET, random_ids

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

N = 12


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("site", ["resid_pre", "z"])
def test_in_bfloat16_cells_equal_hooked_runs_up_to_its_rounding(
    tiny_folder: Callable[..., Path], architecture: str, site: Any
) -> None:
    model = load_model(tiny_folder(architecture), dtype="bfloat16")
    source, destination = random_ids(N, 0), random_ids(N, 0)
    source[4], source[7] = 60, 61
    pair = make_pair(model, source, destination, target=TARGET)
    fast, slow = (
        sweep(model, pair, site=site, method=method, progress=False)
        for method in ("exact", "hooked")
    )
    assert not fast.notes
    spread = float(slow.values.max() - slow.values.min())
    assert spread > 0.1
    # rounding to 8 bits at every one of 4 layers, on logits far larger than the margin
    assert float((fast.values - slow.values).abs().mean()) <= 0.1 * spread
    in_float32 = load_model(tiny_folder(architecture))
    exact = sweep(in_float32, pair, site=site, progress=False)
    assert float((fast.values - exact.values).abs().mean()) <= 0.3 * spread


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_cells_equal_those_on_the_cpu(tiny_folder: Callable[..., Path]) -> None:
    on_cpu, on_cuda = (load_model(tiny_folder("llama"), device=d) for d in ("cpu", "cuda"))
    source, destination = random_ids(N, 0), random_ids(N, 0)
    source[4] = 60
    results = [
        sweep(model, make_pair(model, source, destination, target=TARGET), progress=False)
        for model in (on_cpu, on_cuda)
    ]
    assert torch.allclose(results[0].values, results[1].values, atol=1e-3)
