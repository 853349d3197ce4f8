from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import InterpError
from interp.models import Write, forward, load_model
from tests.models.forward_cases import (
    POST,
    SITES,
    alone,
    assert_close,
    assert_equal_outputs,
    attached_hooks,
    everywhere,
    prompts,
)

packed_forward = importlib.import_module("interp.models.forward")


# Writes


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "neox"])
@pytest.mark.parametrize("site", SITES)
def test_writing_a_prompts_own_activations_changes_nothing(
    site: str, architecture: str, load_tiny: Callable[..., Any]
) -> None:
    model = load_tiny(architecture)
    sequences, hook = prompts(5, 9), f"blocks.2.{site}"
    places = everywhere(sequences)
    positions = torch.arange(6, 11)
    own = forward(model, sequences, read={hook: [(0, int(p)) for p in positions]}).states[hook]
    plain = forward(model, sequences, logits_at=places, read={POST: places})
    write = Write(hook, 0, positions, own)
    written = forward(
        model, sequences, logits_at=places, read={POST: places}, writes=[write], share_until=6
    )
    assert_equal_outputs(written, plain)


@pytest.mark.parametrize("max_nodes", [1, 1000])
@pytest.mark.parametrize("site", SITES)
def test_writing_other_values_equals_hooks_written_by_hand(
    site: str, max_nodes: int, tiny_model: Any
) -> None:
    sequences, hook = prompts(5, 9, 5), f"blocks.1.{site}"
    sequences[2] = sequences[0].clone()  # a copy that is not written stays as it was
    positions = torch.tensor([9, 7])
    shape = tuple(alone(tiny_model, sequences[0], [hook])[1][hook].shape[1:])
    values = 3 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    out = forward(
        tiny_model,
        sequences,
        logits_at=everywhere(sequences),
        read={hook: [(0, 9), (0, 7)]},
        writes=[Write(hook, 0, positions, values), Write(hook, 1, torch.tensor([14]), values[:1])],
        share_until=6,
        max_nodes=max_nodes,
    )

    def by_hand(ids: Tensor, where: list[int], what: Tensor) -> Tensor:
        def hook_function(activation: Tensor, hook: Any) -> Tensor:
            for position, row in zip(where, what, strict=True):
                activation[0, position] = row
            return activation

        with torch.no_grad():
            return tiny_model.run_with_hooks(ids[None], fwd_hooks=[(hook, hook_function)])[0]

    expected = [
        by_hand(sequences[0], [9, 7], values),
        by_hand(sequences[1], [14], values[:1]),
        alone(tiny_model, sequences[2], [])[0],
    ]
    assert_close(out.logits, torch.cat(expected))
    assert (expected[0] - expected[2]).abs().max() > 1e-2
    assert_close(out.states[hook], values)  # a read sees what was written


def test_a_later_write_meets_the_effect_of_an_earlier_one(tiny_model: Any) -> None:
    (ids,) = prompts(4)
    early, late = "blocks.0.hook_resid_post", "blocks.2.hook_resid_post"
    ones = torch.ones(1, tiny_model.cfg.d_model)
    writes = [Write(late, 0, torch.tensor([9]), -ones), Write(early, 0, torch.tensor([8]), ones)]
    out = forward(tiny_model, [ids], logits_at=[(0, 9)], writes=writes, share_until=8)

    def set_row(position: int, value: float) -> Callable[..., Tensor]:
        def hook_function(activation: Tensor, hook: Any) -> Tensor:
            activation[0, position] = value
            return activation

        return hook_function

    hooks = [(early, set_row(8, 1.0)), (late, set_row(9, -1.0))]
    with torch.no_grad():
        assert_close(out.logits[0], tiny_model.run_with_hooks(ids[None], fwd_hooks=hooks)[0, 9])


# Refusals


ROW = torch.zeros(1, 32)


def test_without_share_until_nothing_is_shared_from_the_first_write_on(tiny_model: Any) -> None:
    ids = torch.arange(3, 14)
    request = {"logits_at": [(0, 10), (1, 10)], "writes": [Write(POST, 0, torch.tensor([6]), ROW)]}
    default = forward(tiny_model, [ids, ids], **request)
    explicit = forward(tiny_model, [ids, ids], share_until=6, **request)
    assert torch.equal(default.logits, explicit.logits)
    assert not torch.allclose(default.logits[0], default.logits[1])  # the copy is left alone


def test_a_write_needs_one_row_per_position(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the check a user meets
    write = Write(POST, 0, torch.tensor([6, 7]), ROW)
    with pytest.raises(InterpError, match="1 rows for 2 positions"):
        forward(tiny_model, [torch.arange(3, 14)], writes=[write], share_until=6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequences": []}, "the list of sequences is empty"),
        ({"sequences": [torch.tensor([3]), torch.tensor([], dtype=torch.long)]}, "prompt 1 has no"),
        ({"sequences": [torch.zeros(1025, dtype=torch.long)]}, "1025 tokens, .* context is 1024"),
        ({"logits_at": [(2, 0)]}, "there is no prompt 2, only 0..1"),
        ({"logits_at": [(0, 11)]}, "position 11 is outside prompt 0, 0..10"),
        ({"read": {POST: [(1, -1)]}}, f"{POST}: position -1 is outside prompt 1"),
        ({"read": {"blocks.9.hook_resid_post": [(0, 0)]}}, "no hook 'blocks.9.hook_resid_post'"),
        ({"read": {"blocks.0.attn.hook_pattern": [(0, 0)]}}, r"no axis \[batch, pos"),
        ({"read": {"blocks.0.attn.hook_result": [(0, 0)]}}, "use_attn_result is False"),
        (
            {"writes": [Write(POST, 0, torch.tensor([5]), ROW)], "share_until": 6},
            "needs share_until <= 5, is 6: otherwise other prompts would share",
        ),
        (
            {
                "writes": [Write("blocks.1.hook_resid_mid", 0, torch.tensor([6]), ROW)],
                "share_until": 6,
            },
            "not the residual stream: write to blocks.1.hook_resid_post",
        ),
        (
            {"writes": [Write(POST, 2, torch.tensor([6]), ROW)], "share_until": 6},
            "there is no prompt 2",
        ),
        (
            {"writes": [Write(POST, 0, torch.tensor([11]), ROW)], "share_until": 6},
            "position 11 is outside prompt 0",
        ),
        (
            {
                "writes": [Write(POST, 0, torch.tensor([6]), ROW[:, :31])],
                "share_until": 6,
                "logits_at": [(0, 7)],
            },
            r"needs values \[pos, ...\] with \[32\] per position, not \[1, 31\]",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    arguments: dict[str, Any], message: str, tiny_model: Any
) -> None:
    with pytest.raises(InterpError, match=message) as caught:
        forward(tiny_model, arguments.pop("sequences", prompts(5, 9)), **arguments)
    assert "\n" not in str(caught.value)
    assert not attached_hooks(tiny_model)


def test_a_value_that_is_not_finite_names_its_hook_and_its_prompt(tiny_model: Any) -> None:
    sequences = prompts(5, 9, 3)
    places = [(s, len(ids) - 1) for s, ids in enumerate(sequences)]
    bad = Write(POST, 1, torch.tensor([8]), ROW * float("nan"))
    late = "blocks.2.hook_resid_post"
    with pytest.raises(InterpError, match=f"{late} of prompt 1 is not finite") as caught:
        forward(tiny_model, sequences, read={late: places}, writes=[bad], share_until=6)
    assert "\n" not in str(caught.value)
    with pytest.raises(InterpError, match="the logits of prompt 1 are not finite"):
        forward(tiny_model, sequences, logits_at=places, writes=[bad], share_until=6)
    untouched = [place for place in places if place[0] != 1]  # 0 * NaN must not reach these
    out = forward(tiny_model, sequences, logits_at=untouched, writes=[bad], share_until=6)
    assert_close(out.logits, forward(tiny_model, sequences, logits_at=untouched).logits)


def test_weights_that_are_not_finite_are_refused(tiny_folder: Callable[..., Path]) -> None:
    model = load_model(tiny_folder("llama"))
    with torch.no_grad():
        model.blocks[2].mlp.out.weight[0, 0] = float("nan")
    with pytest.raises(InterpError, match="the logits of prompt 0 are not finite"):
        forward(model, prompts(3, 4), logits_at=[(0, 8), (1, 9)])


# What is left behind


@pytest.mark.filterwarnings("ignore:one forward per prompt")
@pytest.mark.parametrize("max_nodes", [1, 1000])
def test_no_hook_stays_after_an_exception_and_the_callers_own_hooks_do(
    max_nodes: int, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*request: Any) -> Callable[..., None]:
        def read(activation: Tensor, hook: Any) -> None:
            raise RuntimeError("boom")

        return read

    sequences = prompts(3, 4)
    with monkeypatch.context() as patch:
        patch.setattr(packed_forward, "_reader", explode)
        with pytest.raises(RuntimeError, match="boom"):
            forward(tiny_model, sequences, read={POST: [(0, 0)]}, max_nodes=max_nodes)
    assert not attached_hooks(tiny_model)
    seen = []
    with tiny_model.hooks(fwd_hooks=[(POST, lambda activation, hook: seen.append(1))]):
        forward(tiny_model, sequences, read={POST: [(0, 0)]}, max_nodes=max_nodes)
        assert len(attached_hooks(tiny_model)) > 0
    assert seen
    assert not attached_hooks(tiny_model)


def test_forward_keeps_no_graph(tiny_model: Any) -> None:
    out = forward(tiny_model, prompts(3, 4), logits_at=[(0, 8)], read={POST: [(1, 2)]})
    assert not out.logits.requires_grad
    assert not out.states[POST].requires_grad


# Prompts that are none


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_token_id_outside_the_vocabulary_is_named_with_its_prompt(
    token: int, tiny_model: Any
) -> None:
    ids = torch.tensor([1, 2, token, 3])
    with pytest.raises(InterpError, match=rf"prompt 1: token id {token} is outside the model's"):
        forward(tiny_model, [torch.tensor([1, 2]), ids], logits_at=[(0, 1)])


def test_the_last_id_of_the_vocabulary_is_a_token(tiny_model: Any) -> None:
    last = int(tiny_model.cfg.d_vocab) - 1
    assert forward(tiny_model, [torch.tensor([0, last])], logits_at=[(0, 1)]).logits.shape[0] == 1
    with pytest.raises(InterpError, match=f"token id {last + 1} is outside"):
        forward(tiny_model, [torch.tensor([0, last + 1])], logits_at=[(0, 1)])
