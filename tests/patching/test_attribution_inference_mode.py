"""Every study of a pair inside ``torch.inference_mode``: the numbers of outside, also gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import interp
from interp.errors import InterpError


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("inside", ["call", "call and pair"])
def test_attribution_under_inference_mode_equals_that_outside(
    tiny_model: Any, inside: str, steps: int
) -> None:
    def make() -> Any:
        ids = torch.tensor([5, 6, 7]), torch.tensor([5, 8, 7])
        return interp.make_pair(tiny_model, *ids, target=(3, 4))

    pair = make()
    options: dict[str, Any] = {"sites": ["z", "resid_pre"], "steps": steps, "progress": False}
    expected = interp.attribute(tiny_model, pair, **options)
    with torch.inference_mode():
        found = interp.attribute(tiny_model, pair if inside == "call" else make(), **options)
    for site in expected:
        assert torch.equal(expected[site].values, found[site].values)


def test_a_metric_without_gradient_is_still_blamed(tiny_model: Any) -> None:
    ids = torch.tensor([5, 6, 7]), torch.tensor([5, 8, 7])
    pair = interp.make_pair(tiny_model, *ids, target=(3, 4))
    with torch.inference_mode(), pytest.raises(InterpError, match=r"metric .* has no gradient"):
        interp.attribute(
            tiny_model, pair, sites=["z"], metric=lambda lg, p: lg[..., 3].detach(), progress=False
        )


def test_sweeps_and_knockouts_under_inference_mode_equal_those_outside(tiny_model: Any) -> None:
    ids = torch.tensor([5, 6, 7]), torch.tensor([5, 8, 7])
    pair = interp.make_pair(tiny_model, *ids, target=(3, 4))
    expected = interp.sweep(tiny_model, pair, progress=False)
    with torch.inference_mode():
        found = interp.sweep(tiny_model, pair, progress=False)
    torch.testing.assert_close(expected.values, found.values)
