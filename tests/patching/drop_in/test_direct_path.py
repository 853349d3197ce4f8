"""Direct path patching: unmeasured layers, refusals, and models beyond TransformerLens's fork."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import transformer_lens.patching as upstream
from torch import Tensor

import interp.patching as ours
from interp.errors import InterpError
from interp.patching.drop_in import direct_path
from tests.patching.drop_in.both_ways import assert_close, both, margin, tokens

ONE, ALL = "get_act_patch_direct_path", "get_act_patch_direct_path_all_sources"


def arguments(model: Any, batch: int = 1, n: int = 7) -> tuple[Any, ...]:
    clean, corrupted = tokens(batch, n)
    with torch.no_grad():
        caches = [model.run_with_cache(each)[1] for each in (clean, corrupted)]
    return (model, corrupted, *caches, margin)


@pytest.mark.parametrize("component", ["q", "k", "v"])
@pytest.mark.parametrize("compatibility_mode", [False, True])
def test_queries_keys_and_values_of_gpt2(
    load_tiny: Callable[..., Any], component: str, compatibility_mode: bool
) -> None:
    model = load_tiny("gpt2", random_vectors=True, compatibility_mode=compatibility_mode)
    found, expected = both(model, ONE, margin, 0, 3, n=7, component=component, verbose=False)
    assert_close(found, expected)
    assert float(expected[1:].max() - expected[1:].min()) > 1e-2


def test_layers_that_no_path_leads_to_are_zero_or_nan(tiny_model: Any) -> None:
    given = arguments(tiny_model)
    zeros = ours.get_act_patch_direct_path_all_sources(*given, verbose=False)
    told = ours.get_act_patch_direct_path_all_sources(*given, verbose=False, padding=float("nan"))
    source, layer = torch.arange(4)[:, None, None, None], torch.arange(4)[None, None, :, None]
    missing = (layer <= source).expand_as(told)
    assert torch.equal(told.isnan(), missing)
    assert bool((zeros[missing] == 0).all())
    one = ours.get_act_patch_direct_path(*given, 1, 2, verbose=False)
    assert torch.allclose(one, zeros[1, 2], atol=1e-6)


def test_a_source_that_writes_the_same_in_both_runs_changes_nothing(tiny_model: Any) -> None:
    model, corrupted, _, own, _ = arguments(tiny_model)
    found = ours.get_act_patch_direct_path(model, corrupted, own, own, margin, 0, 0, verbose=False)
    with torch.no_grad():
        value = margin(model(corrupted))
    assert torch.allclose(found[1:], value.expand_as(found[1:]), atol=1e-6)


def test_what_transformer_lens_refuses_is_refused_in_its_words(
    load_tiny: Callable[..., Any], tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    run = partial(ours.get_act_patch_direct_path, verbose=False)
    given = arguments(tiny_model)
    with pytest.raises(InterpError, match=r"component='k' is unsupported here.*GQA"):
        run(*given, 0, 0, component="k")
    with pytest.raises(InterpError, match="component is 'z': choose q, k, v"):
        run(*given, 0, 0, component="z")
    with pytest.raises(InterpError, match=r"no head 4 at layer 0: layers are 0\.\.3"):
        run(*given, 0, 4)
    with pytest.raises(InterpError, match="normalized or scaled before the residual add"):
        run(*arguments(load_tiny("gemma2")), 0, 0)
    with pytest.raises(InterpError, match=r"a cache has no blocks\.0\.attn\.hook_z"):
        run(*given[:2], {}, *given[3:], 0, 0)
    with pytest.raises(InterpError, match="give both runs the same shape"):
        run(tiny_model, given[1][:, :-1], *given[2:], 0, 0)


def test_a_model_without_transformer_lenss_fork_is_patched_too(
    load_tiny: Callable[..., Any],
) -> None:
    """OPT's attention has no ``hook_q_input``; the query is set by hand, one edge at a time."""
    model = load_tiny("opt", random_vectors=True)
    _, corrupted, clean, own, _ = given = arguments(model)
    with pytest.raises(NotImplementedError):
        upstream.get_act_patch_direct_path(*given, 0, 1, verbose=False)
    found = ours.get_act_patch_direct_path(*given, 0, 1, verbose=False)
    z, block = "blocks.0.attn.hook_z", model.blocks[2]
    with torch.no_grad():
        step = (clean[z] - own[z])[:, :, 1] @ model.blocks[0].attn.W_O[1]
        queries = block.attn.q(block.ln1(own["blocks.2.hook_resid_pre"] + step))

    def query(activation: Tensor, hook: Any, head: int) -> Tensor:
        activation = activation.clone()
        activation[:, :, head] = queries.view_as(activation)[:, :, head]
        return activation

    for head in range(4):
        hooks = [("blocks.2.attn.hook_q", partial(query, head=head))]
        with torch.no_grad():
            expected = margin(model.run_with_hooks(corrupted, fwd_hooks=hooks))
        assert float(found[2, head]) == pytest.approx(float(expected), abs=1e-5)


def test_blocks_that_project_more_than_a_norm_go_to_transformer_lens(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ours.get_act_patch_direct_path(*arguments(tiny_model), 1, 0, verbose=False)
    monkeypatch.setattr(direct_path, "_streams", lambda *_: None)
    found = ours.get_act_patch_direct_path(
        *arguments(tiny_model), 1, 0, verbose=False, padding=float("nan")
    )
    assert bool(found[:2].isnan().all())
    assert_close(found[2:], expected[2:])
