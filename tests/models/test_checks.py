from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import InterpError
from interp.models import Check, load_model, model_card, run_checks
from tests.conftest import ARCHITECTURES
from tests.matrix.measure import build_folder

checks = importlib.import_module("interp.models.checks")

LOGITS = "logits equal the wrapped model's"
SUM = r"resid_pre \+ attn_out \+ mlp_out = resid_post"
NO_OP = "a hook that changes nothing"
SELF_PATCH = "patching a run with itself"
PACKED = "packed prompts = separate prompts"


@pytest.fixture
def model(tiny_folder: Callable[..., Path]) -> Any:
    """A tiny Llama of this test alone, to be broken."""
    return load_model(tiny_folder("llama"))


def hook_forever(model: Any, name: str, change: Callable[[Tensor], Tensor]) -> None:
    model.hook_dict[name].add_hook(lambda activation, hook: change(activation), is_permanent=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_identity_holds_on_every_architecture(
    architecture: str,
    dtype: Any,
    tiny_folder: Callable[..., Path],
    load_tiny: Callable[..., Any],
) -> None:
    if dtype == "float32":
        found = run_checks(load_tiny(architecture))
    else:
        found = model_card(load_model(tiny_folder(architecture), dtype=dtype)).checks
    assert len(found) == 6
    assert all(check.passed for check in found)
    assert [check.required for check in found] == [True] * 4 + [False] * 2
    if dtype == "float32":
        assert all(check.deviation < 1e-5 for check in found)


def test_a_check_that_is_not_a_number_has_not_passed() -> None:
    assert Check("x", 1e-4, 1e-4).passed
    assert not Check("x", 1.1e-4, 1e-4).passed
    assert not Check("x", float("nan"), 1e-4).passed


def test_a_shifted_residual_stream_breaks_the_sum(model: Any) -> None:
    hook_forever(model, "blocks.1.hook_resid_post", lambda activation: activation + 0.5)
    with pytest.raises(InterpError, match=f"self-check failed: {SUM} \\(deviation") as caught:
        run_checks(model)
    assert "\n" not in str(caught.value)


def test_noise_makes_two_equal_runs_differ(model: Any) -> None:
    hook_forever(model, "blocks.1.hook_resid_post", lambda activation: activation + torch.randn(32))
    with pytest.raises(InterpError, match=f"self-check failed: {LOGITS}"):
        run_checks(model)


def test_a_corrupted_mlp_out_breaks_the_sum(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model.run_with_cache

    def corrupted(*arguments: Any, **options: Any) -> Any:
        logits, cache = run(*arguments, **options)
        cache.cache_dict["blocks.3.hook_mlp_out"] = 1.5 * cache["blocks.3.hook_mlp_out"]
        return logits, cache

    monkeypatch.setattr(model, "run_with_cache", corrupted)
    with pytest.raises(InterpError, match=SUM):
        run_checks(model)


def test_an_activation_that_is_not_a_number_in_any_layer_is_noticed(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = model.run_with_cache

    def corrupted(*arguments: Any, **options: Any) -> Any:
        logits, cache = run(*arguments, **options)
        cache.cache_dict["blocks.3.hook_attn_out"] = cache["blocks.3.hook_attn_out"] * float("nan")
        return logits, cache

    monkeypatch.setattr(model, "run_with_cache", corrupted)
    with pytest.raises(InterpError, match=rf"{SUM} \(deviation nan"):
        run_checks(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", [NO_OP, SELF_PATCH])
def test_hooks_that_change_the_run_by_being_there_are_noticed(
    name: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = model.run_with_hooks
    wanted = 4 if name == NO_OP else 1  # the first hooks every layer, the second one layer

    def corrupted(*arguments: Any, fwd_hooks: list[Any], **options: Any) -> Tensor:
        logits = run(*arguments, fwd_hooks=fwd_hooks, **options)
        return 1.1 * logits if len(fwd_hooks) == wanted else logits

    monkeypatch.setattr(model, "run_with_hooks", corrupted)
    with pytest.raises(InterpError, match=f"self-check failed: {name}"):
        run_checks(model)


def test_a_model_that_cannot_be_packed_is_still_accepted(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "packing_error", lambda *measured: float("inf"))
    monkeypatch.setattr(checks, "cached_prefix_error", lambda *measured: float("nan"))
    packed, on_stem = run_checks(model)[-2:]
    assert (packed.name, packed.passed, packed.required) == (PACKED, False, False)
    assert (on_stem.passed, on_stem.required) == (False, False)


@pytest.mark.slow
def test_a_weight_that_is_not_finite_is_named_before_anything_runs(model: Any) -> None:
    with torch.no_grad():
        model.blocks[2].mlp.out.weight[3, 5] = float("inf")
    with pytest.raises(InterpError, match=r"weight .*layers\.2.* not finite"):
        run_checks(model)


def test_checks_leave_no_hook_and_no_gradient_setting_behind(model: Any) -> None:
    run_checks(model)
    assert not [name for name, point in model.hook_dict.items() if point.fwd_hooks]
    assert torch.is_grad_enabled()


# Classes that cannot be run


@pytest.mark.slow
@pytest.mark.parametrize("compatibility_mode", [False, True])
def test_a_class_that_fails_in_one_type_is_refused_with_the_type_and_the_remedy(
    compatibility_mode: bool, tmp_path: Path
) -> None:
    build_folder("Olmo2ForCausalLM", tmp_path)
    load_model(tmp_path)
    with pytest.raises(InterpError, match=r"cannot run Olmo2ForCausalLM in bfloat16") as caught:
        load_model(tmp_path, dtype="bfloat16", compatibility_mode=compatibility_mode)
    assert str(caught.value).endswith("; try dtype='float32'")
    assert "\n" not in str(caught.value)


def test_a_hook_that_mixes_positions_is_no_fault_of_the_model(model: Any) -> None:
    hook_forever(model, "blocks.1.hook_resid_post", lambda a: a + a.mean(1, keepdim=True))
    checks.require_decoder(model)


def test_a_forward_that_gives_other_rows_of_logits_than_asked_is_refused(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = model.original_model.forward

    def all_rows(*arguments: Any, logits_to_keep: Any = 0, **options: Any) -> Any:
        return run(*arguments, **options)

    monkeypatch.setattr(model.original_model, "forward", all_rows)
    with pytest.raises(InterpError, match="LlamaForCausalLM: asked for the logits of 2 positions"):
        run_checks(model)
