"""The card follows the weights: whatever changes them, and only that, renews it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.directions import Direction, DirectionFacts
from interp.errors import InterpError
from interp.models import load_model, model_card, weights_fingerprint
from interp.models.fingerprint import named_weights, weights_state
from tests.conftest import ARCHITECTURES

pytestmark = pytest.mark.slow  # left out of the everyday tests

Edit = Callable[[Any], object]


@pytest.fixture
def model(tiny_folder: Callable[..., Path]) -> Any:
    """A tiny Llama of this test alone, to be changed."""
    return load_model(tiny_folder("llama"))


def direction_of(model: Any) -> Direction:
    card = model_card(model)
    facts = DirectionFacts("mean_difference", "made up", "h", 2, card.fingerprint, card.mode)
    return Direction(torch.eye(32)[0], 1.0, 0.0, 1, "resid_post", facts)


def weight(model: Any) -> torch.Tensor:
    return model.blocks[2].mlp.out.weight


def swap_rows(model: Any) -> None:
    weight(model)[[3, 7]] = weight(model)[[7, 3]].clone()


def replace(model: Any) -> None:
    model.blocks[1].ln1.weight = torch.nn.Parameter(2 * model.blocks[1].ln1.weight)


EDITS: dict[str, Edit] = {
    "all of a weight": lambda model: weight(model).mul_(1.01),
    "one entry": lambda model: weight(model)[5, 3].add_(1.0),
    "one row": lambda model: weight(model)[5].zero_(),
    "two rows swapped": swap_rows,
    "through .data": lambda model: weight(model).data.mul_(1.5),
    "another parameter": replace,
    "a weight copied in": lambda model: weight(model).copy_(torch.ones_like(weight(model))),
    "the embedding": lambda model: model.embed.weight[7].zero_(),
    "a norm": lambda model: model.ln_final.weight[0].mul_(2),
    "loading a state": lambda model: (
        model.original_model.model.norm._original_component.load_state_dict(
            {"weight": 2 * torch.ones(32)}
        )
    ),
}


@pytest.mark.parametrize("mode", ["raw", "compatibility"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
@torch.no_grad()
def test_any_edit_gives_another_card_and_the_old_direction_is_refused(
    edit: Edit, mode: str, model: Any
) -> None:
    if mode == "compatibility":
        load_model(model, compatibility_mode=True)
    before = model_card(model)
    direction = direction_of(model)
    direction.require(model)
    if mode == "compatibility" and edit in (EDITS["a norm"], EDITS["loading a state"], replace):
        pytest.skip("norms are folded into other weights")
    edit(model)
    after = model_card(model)
    assert after.fingerprint == weights_fingerprint(model) != before.fingerprint
    assert (after.provenance, after.mode) == (before.provenance, mode)
    with pytest.raises(InterpError, match=r"fitted on other weights .* fit it again"):
        direction.require(model)
    with pytest.raises(InterpError, match="other weights"), direction.apply(model):
        pass
    if mode == "compatibility":  # nobody compared these weights with raw ones
        assert before.checks[-1].passed
        assert not after.checks[-1].passed


@pytest.mark.parametrize("mode", ["raw", "compatibility"])
@torch.no_grad()
def test_weights_put_back_are_the_model_that_they_were(mode: str, model: Any) -> None:
    if mode == "compatibility":
        load_model(model, compatibility_mode=True)
    before, direction = model_card(model), direction_of(model)
    kept = weight(model).clone()
    weight(model).zero_()
    assert model_card(model).fingerprint != before.fingerprint
    weight(model).copy_(kept)
    assert model_card(model) == before
    direction.require(model)


@torch.no_grad()
def test_an_edit_before_processing_is_not_hidden_by_it(model: Any) -> None:
    before = model_card(model)
    weight(model).mul_(1.5)
    load_model(model, compatibility_mode=True)
    assert model_card(model).fingerprint != before.fingerprint
    assert model_card(model).checks[-1].passed


@pytest.mark.parametrize(
    "convert",
    [
        lambda model: model.to(torch.bfloat16),
        lambda model: model.to(dtype=torch.bfloat16),
        lambda model: model.bfloat16(),
        lambda model: model.original_model.to(torch.bfloat16),
    ],
    ids=["to", "to(dtype=)", "bfloat16", "the wrapped model"],
)
def test_a_converted_model_has_a_card_of_its_dtype_and_the_same_weights(
    convert: Edit, model: Any
) -> None:
    before, direction = model_card(model), direction_of(model)
    convert(model)
    after = model_card(model)
    assert (before.dtype, after.dtype, model.cfg.dtype) == ("float32", "bfloat16", torch.bfloat16)
    assert after.fingerprint == before.fingerprint
    assert all(check.tolerance == 5e-2 for check in after.checks)
    direction.require(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_moved_model_has_a_card_of_its_device_and_the_same_weights(model: Any) -> None:
    before = model_card(model)
    model.to("cuda")
    after = model_card(model)
    assert after.device.startswith("cuda")
    assert after.fingerprint == before.fingerprint


@torch.no_grad()
def test_a_write_that_changes_nothing_and_a_forward_keep_the_card(model: Any) -> None:
    card = model_card(model)
    model(torch.tensor([[5, 9, 40]]))
    assert model_card(model) is card
    weight(model).mul_(1.0)
    assert model_card(model) == card


def test_a_model_loaded_in_inference_mode_has_a_card(tiny_folder: Callable[..., Path]) -> None:
    with torch.inference_mode():
        model = load_model(tiny_folder("llama"))
        card = model_card(model)
        assert model_card(model) is card
        weight(model).zero_()
        assert model_card(model).fingerprint != card.fingerprint


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_every_single_entry_counts_on_every_architecture(
    architecture: str, tiny_folder: Callable[..., Path]
) -> None:
    model = load_model(tiny_folder(architecture))
    fingerprint, state = weights_fingerprint(model), weights_state(model)
    for name, tensor in named_weights(model):
        entry = tensor[(-1,) * tensor.ndim]
        kept = entry.clone()
        entry.add_(1.0)
        assert weights_fingerprint(model) != fingerprint, name
        assert weights_state(model) != state, name
        entry.copy_(kept)
    assert weights_fingerprint(model) == fingerprint
