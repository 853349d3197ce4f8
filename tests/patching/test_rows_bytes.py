"""What the engine holds is what docs/gpu.md says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp.patching.blocks import record
from interp.patching.wavefront import row_bytes, working_bytes


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_bytes_of_a_recorded_prompt_and_of_rows(load_tiny: Callable[..., Any], name: str) -> None:
    model = load_tiny(name)
    cfg, s, b = model.cfg, 12, 4
    kv = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
    run = record(model, torch.arange(s), torch.tensor([s - 1]))
    held = s * ((cfg.n_layers + 1) * cfg.d_model + 2 * cfg.n_layers * kv * cfg.d_head)
    assert run.n_bytes == b * (held + s * s) + 4 * cfg.d_vocab
    assert row_bytes(model) == b * cfg.d_model
    work = b * (8 * cfg.d_model + 4 * cfg.d_mlp + 4 * cfg.n_heads * cfg.d_head)
    assert working_bytes(model, s) == work + 3 * cfg.n_heads * s * 4
