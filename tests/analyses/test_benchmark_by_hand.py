"""The sweep written by hand with Hugging Face is the engine's, cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from analyses.benchmarks.by_hand import (
    HandSite,
    HandSweep,
    is_supported,
    plain_model,
    time_by_hand,
)
from interp.errors import InterpError
from interp.patching import sweep
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import N_LAYERS, TARGET, random_ids, rough_model, tolerance

S, T = 11, 5
ARCHITECTURES = ["llama", "qwen2"]


def some_pair(model: Any, start: int) -> PromptPair:
    source = random_ids(S, 0)
    destination = source.clone()
    destination[start] = 77
    destination[S - 2] = 99
    return make_pair(model, source, destination, target=TARGET)


def hand_sweep(model: Any, pair: PromptPair, site: HandSite) -> HandSweep:
    return HandSweep.of(
        plain_model(model), pair.source.ids, pair.destination.ids, site=site, target=TARGET
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("site", get_args(HandSite))
@pytest.mark.parametrize("start", [S - T, 0], ids=["prefix", "from-the-first-token-on"])
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_every_cell_is_that_of_the_engine(
    load_tiny: Callable[..., Any], architecture: str, site: HandSite, start: int, batch: int
) -> None:
    model = rough_model(load_tiny, (architecture, False))
    pair = some_pair(model, start)
    hand = hand_sweep(model, pair, site)
    values = torch.stack([hand.layer(layer, batch) for layer in range(N_LAYERS)])
    expected = sweep(model, pair, site=site, progress=False).values[..., 0]
    assert values.shape == expected.shape
    assert torch.allclose(values, expected, rtol=0, atol=tolerance(expected))


def test_a_layer_computes_no_row_before_its_batch_and_no_block_below(tiny_model: Any) -> None:
    """Rows that each block sees: of layer 2's five cells, two, two and one at a time."""
    hand = hand_sweep(tiny_model, some_pair(tiny_model, S - T), "resid_pre")
    blocks = hand.model.model.layers
    seen: list[tuple[int, int, int]] = []
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(
            lambda module, inputs, number=number: seen.append((number, *inputs[0].shape[:2]))
        )
    hand.layer(2, 2)
    assert seen == [(2, 2, 5), (3, 2, 5), (2, 2, 3), (3, 2, 3), (2, 1, 1), (3, 1, 1)]
    assert hand.model.model.layers is blocks


def test_the_best_of_several_batches_is_timed_and_its_values_kept(tiny_model: Any) -> None:
    pair = some_pair(tiny_model, S - T)
    timing = time_by_hand(
        lambda: hand_sweep(tiny_model, pair, "mlp_out"), batches=[100, 2, 64], n_layers=2
    )
    assert list(timing.seconds) == [T, 2]  # a size above the number of cells is that number
    assert timing.layers == [1, 3]
    assert timing.best in timing.seconds
    assert min(timing.seconds.values()) > 0
    values: Tensor = sweep(tiny_model, pair, site="mlp_out", progress=False).values[[1, 3], :, 0]
    assert torch.allclose(timing.values, values, rtol=0, atol=tolerance(values))


def test_processed_weights_have_no_plain_copy(load_tiny: Callable[..., Any]) -> None:
    with pytest.raises(InterpError, match="load one"):
        plain_model(load_tiny("llama", compatibility_mode=True))


def test_the_script_knows_which_models_it_is_for(load_tiny: Callable[..., Any]) -> None:
    assert all(is_supported(plain_model(load_tiny(name))) for name in ARCHITECTURES)
    assert not is_supported(plain_model(load_tiny("gemma2")))
    assert not is_supported(plain_model(load_tiny("gpt2")))
