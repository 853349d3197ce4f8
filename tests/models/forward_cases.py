"""What the tests of the packed forward share: prompts with a common beginning, and comparisons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interp.models import Outputs, Place

SITES = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z")
POST = "blocks.1.hook_resid_post"


def prompts(*tails: int, stem: int = 6, seed: int = 0) -> list[Tensor]:
    """Random prompts with a common beginning of ``stem`` tokens, then ``tails`` tokens each."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 400, (stem + sum(tails),), generator=generator)
    ends = torch.split(ids[stem:], tails)
    return [torch.cat([ids[:stem], end]) for end in ends]


def everywhere(sequences: list[Tensor]) -> list[Place]:
    return [(s, p) for s, ids in enumerate(sequences) for p in range(len(ids))]


def alone(model: Any, ids: Tensor, names: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        logits, cache = model.run_with_cache(ids[None], names_filter=lambda name: name in names)
    return logits[0].float(), {name: cache[name][0].float() for name in names}


def assert_close(value: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert value.shape == expected.shape
    assert (value - expected).abs().max() <= tolerance * expected.abs().max()


def assert_equal_outputs(first: Outputs, second: Outputs) -> None:
    assert_close(first.logits, second.logits)
    assert first.states.keys() == second.states.keys()
    for name, values in first.states.items():
        assert_close(values, second.states[name])


def attached_hooks(model: Any) -> dict[str, int]:
    return {
        name: len(point.fwd_hooks) for name, point in model.hook_dict.items() if point.fwd_hooks
    }
