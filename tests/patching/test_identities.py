"""The identities of a pair, on a model where they must hold and on one where they break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.patching import identities, measure_identities
from interp.prompts import make_pair


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "neox"])
def test_identities_hold_on_equal_lengths(architecture: str, load_tiny: Callable[..., Any]) -> None:
    model = load_tiny(architecture)
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(2, model.cfg.d_vocab, (20,), generator=generator)
    b = torch.cat([a[:8], torch.randint(2, model.cfg.d_vocab, (12,), generator=generator)])
    frame = measure_identities(model, make_pair(model, a, b, target=(5, 9)))
    assert len(frame) == 3
    assert (frame["largest deviation"] < 1e-3).all()


def test_patching_everything_is_left_open_where_lengths_differ(tiny_model: Any) -> None:
    a, b = torch.arange(3, 20), torch.arange(3, 24).flip(0)
    frame = measure_identities(tiny_model, make_pair(tiny_model, a, b, target=(5, 9)))
    assert frame["largest deviation"].isna().tolist() == [False, False, True]


def test_a_run_that_differs_before_the_instruction_is_seen(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    real = identities.forward

    def noisy(*arguments: Any, **options: Any) -> Any:
        out = real(*arguments, **options)
        if next(calls) == 1:  # the second of the two runs that are compared
            for values in out.states.values():
                values += 0.01
        return out

    monkeypatch.setattr(identities, "forward", noisy)
    a = torch.arange(3, 20)
    b = torch.cat([a[:8], torch.arange(30, 39)])
    frame = measure_identities(tiny_model, make_pair(tiny_model, a, b, target=(5, 9)))
    assert frame["largest deviation"][0] > 1e-4
    assert np.isfinite(frame["largest deviation"][0])


def test_a_pair_without_a_target_has_no_margin_to_deviate(tiny_model: Any) -> None:
    with pytest.raises(InterpError, match="the pair has no target"):
        measure_identities(
            tiny_model, make_pair(tiny_model, torch.arange(3, 9), torch.arange(4, 10))
        )
