"""Several metrics and several pairs share one pass over the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.activations.sites import Site
from interp.patching import sweep, wavefront
from interp.prompts import PromptPair
from tests.patching.by_hand import N_LAYERS, tolerance
from tests.patching.options_by_hand import option_pair


@dataclass
class Cost:
    """Calls of a block and the rows they compute, and forwards of the whole model."""

    calls: int = 0
    rows: int = 0
    forwards: int = 0


@pytest.fixture
def cost_of(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``cost_of(pairs, site=..., metric=...)``: a sweep's result and what it cost, warmed up."""
    cost = Cost()

    def counted(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(model: Any, layer: int, hidden: Tensor, *rest: Any) -> Tensor:
            cost.calls, cost.rows = cost.calls + 1, cost.rows + len(hidden)
            return real(model, layer, hidden, *rest)

        return call

    whole = type(tiny_model.original_model)

    def forward(*arguments: Any, real: Any = whole.forward, **options: Any) -> Any:
        cost.forwards += 1
        return real(*arguments, **options)

    for name in ("run_block", "run_last_block"):
        monkeypatch.setattr(wavefront, name, counted(getattr(wavefront, name)))
    monkeypatch.setattr(whole, "forward", forward)  # a hook would send the sweep the slow way

    def measure(pairs: Sequence[PromptPair], **options: Any) -> tuple[Any, Cost]:
        sweep(tiny_model, pairs, cells="layer_span", progress=False, **options)  # its self-checks
        cost.calls = cost.rows = cost.forwards = 0
        result = sweep(tiny_model, pairs, cells="layer_span", progress=False, **options)
        return result, Cost(cost.calls, cost.rows, cost.forwards)

    return measure


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "z"])
@pytest.mark.parametrize("one", ["margin", "option_margin"])
def test_two_metrics_of_two_pairs_cost_what_one_metric_costs(
    tiny_model: Any, cost_of: Callable[..., Any], site: Site, one: str
) -> None:
    pairs = [option_pair(tiny_model, seed=seed) for seed in (0, 1)]
    alone, cost = cost_of(pairs, site=site, metric=one)
    together, both = cost_of(pairs, site=site, metric=[one, "log_prob"])
    assert both == cost
    assert torch.equal(together[one].values, alone.values)
    assert together.values.shape == (2, *alone.values.shape)


@pytest.mark.parametrize("site", ["resid_pre", "attn_out"])
def test_two_pairs_share_every_call_of_a_block(
    tiny_model: Any, cost_of: Callable[..., Any], site: Site
) -> None:
    pairs = [option_pair(tiny_model, seed=seed) for seed in (0, 1)]
    together, both = cost_of(pairs, site=site)
    single = [cost_of([pair], site=site) for pair in pairs]
    # one call per layer, and one more for the first layer of patches that stay at their rows
    assert both.calls == single[0][1].calls <= 2 * N_LAYERS
    assert both.rows == sum(cost.rows for _, cost in single)
    for k, (result, _) in enumerate(single):
        values = result.values[..., 0]
        assert torch.allclose(
            together.values[..., k], values, rtol=0, atol=tolerance(values), equal_nan=True
        )
