"""Sites: names of hooks, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.activations import SITES, hook_name
from interp.errors import InterpError


@pytest.mark.parametrize("site", SITES)
def test_a_site_is_a_hook_that_the_model_has(tiny_model: Any, site: str) -> None:
    name = hook_name(tiny_model, site, 3)
    assert name == f"blocks.3.hook_{site}"
    assert name in tiny_model.hook_dict


@pytest.mark.parametrize("architecture", ["neox", "phi"])
def test_parallel_blocks_refuse_resid_mid_and_keep_the_other_sites(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    with pytest.raises(InterpError, match="parallel blocks have no resid_mid"):
        hook_name(model, "resid_mid", 0)
    for site in set(SITES) - {"resid_mid"}:
        assert hook_name(model, site, 0) in model.hook_dict


def test_unknown_sites_name_the_known_ones(tiny_model: Any) -> None:
    with pytest.raises(InterpError, match="no site 'residual'; known: resid_pre, resid_mid"):
        hook_name(tiny_model, "residual", 0)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_the_model_does_not_have_is_refused(tiny_model: Any, layer: int) -> None:
    with pytest.raises(InterpError, match=f"layer {layer} is outside 0..3"):
        hook_name(tiny_model, "resid_pre", layer)


@torch.no_grad()
def run_with_shift(
    model: Any, layer: int, site: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The block's sites without and with 1 added at one of them, at every position."""
    ids = torch.arange(5, 14)[None]
    _, plain = model.run_with_cache(ids)
    caught: dict[str, Tensor] = {}

    def read(name: str) -> tuple[str, Callable[..., None]]:
        def hook_function(activation: Tensor, hook: Any) -> None:
            caught[name] = activation.clone()

        return f"blocks.{layer}.hook_{name}", hook_function

    def write(activation: Tensor, hook: Any) -> Tensor:
        return activation + 1.0

    names = [s for s in SITES if f"blocks.{layer}.hook_{s}" in model.hook_dict]
    hooks = [(hook_name(model, site, layer), write), *(read(name) for name in names)]
    model.run_with_hooks(ids, fwd_hooks=hooks)
    return {name: plain[f"blocks.{layer}.hook_{name}"] for name in names}, caught


@pytest.mark.slow
@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize(
    "architecture", ["gpt2", "llama", "gemma2", "gemma3", "neox", "opt", "phi"]
)
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "resid_post"])
def test_a_write_at_a_site_reaches_the_residual_stream(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool, site: str
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    before, after = run_with_shift(model, 1, site)
    assert torch.allclose(after[site], before[site] + 1.0, atol=1e-5)
    total = after["resid_pre"] + after["attn_out"] + after["mlp_out"]
    if site == "resid_post":
        total = total + 1.0
    assert torch.allclose(after["resid_post"], total, atol=1e-4)
    assert not torch.allclose(after["resid_post"], before["resid_post"], atol=1e-2)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt"])
def test_a_write_at_resid_mid_misses_the_skip_connection(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    """What the module warns of. When this fails, TransformerLens has mended it: patch it directly."""
    before, after = run_with_shift(load_tiny(architecture), 1, "resid_mid")
    assert torch.allclose(after["resid_mid"], before["resid_mid"] + 1.0, atol=1e-5)
    unpatched_skip = before["resid_mid"] + after["mlp_out"]
    assert torch.allclose(after["resid_post"], unpatched_skip, atol=1e-4)
