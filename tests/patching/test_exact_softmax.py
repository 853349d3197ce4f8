"""The exact softmax at q and k: the pattern of the patched run times the derivative by the pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.errors import InterpError
from interp.patching import attribute, plan_sweep, sweep
from interp.patching.exact_softmax import SoftmaxEffects, _Attention
from interp.prompts import PromptPair, make_pair
from tests.models.native import native, native_pair
from tests.patching.by_hand import N_LAYERS, TARGET, random_ids
from tests.patching.test_attribution import close_to, effects, equal_length_pair, unequal_pair

pytestmark = pytest.mark.slow  # every architecture; make test runs it

ARCHITECTURES = ("gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3", "neox", "phi")


def by_hand(model: Any, pair: PromptPair, site: str, metric: Callable[[Tensor], Tensor]) -> Tensor:
    """``[layer, head]``: a run per cell gives its pattern, a backward the derivative by the pattern."""
    last = torch.zeros(0)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(N_LAYERS)]
    kept: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: Any) -> Tensor:
        kept[hook.name] = activation.clone()
        return kept[hook.name]

    hooks = [(name, keep) for name in names]
    last = model.run_with_hooks(pair.destination.ids[None], fwd_hooks=hooks)[0, -1]
    gradients = torch.autograd.grad(metric(last), [kept[name] for name in names])
    plan = plan_sweep(model, pair, site=site)  # type: ignore[arg-type]
    found = torch.zeros(plan.shape)
    with torch.no_grad():
        _, source = model.run_with_cache(pair.source.ids[None])
        _, own = model.run_with_cache(pair.destination.ids[None])
        for cell in plan.to_run:
            layer = cell.layers[0]
            name = f"blocks.{layer}.attn.hook_{site}"

            def patch(activation: Tensor, hook: Any, cell: Any = cell, name: str = name) -> Tensor:
                patched = activation.clone()
                for head in cell.heads:
                    patched[0, cell.destination, head] = source[name][0, cell.source, head]
                return patched

            with model.hooks(fwd_hooks=[(name, patch)]):
                _, there = model.run_with_cache(pair.destination.ids[None])
            moved = there[names[layer]] - own[names[layer]]
            found[cell.index] = (moved * gradients[layer]).sum()
    return found


def margin(logits: Tensor) -> Tensor:
    return logits[TARGET[0]] - logits[TARGET[1]]


@pytest.mark.parametrize("site", ["q", "k"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_estimate_is_the_patched_pattern_times_its_derivative(
    load_tiny: Callable[..., Any], architecture: str, site: Any
) -> None:
    model = load_tiny(architecture)
    for pair in (equal_length_pair(model), unequal_pair(model)):
        found = attribute(model, pair, sites=[site], exact_softmax=True, progress=False)[site]
        expected = by_hand(model, pair, site, margin)
        assert torch.allclose(effects(found), expected, atol=close_to(expected), rtol=0)
        assert float(expected.abs().max()) > 1e-4
        assert "the pattern's change exact" in found.notes[0]


def test_it_is_nearer_to_exact_patching_than_the_softmaxs_gradient(
    load_tiny: Callable[..., Any],
) -> None:
    """Mean correlation with the exact sweep over architectures; a single one may lose."""
    correlations: dict[bool, list[float]] = {False: [], True: []}
    for architecture in ARCHITECTURES:
        model = load_tiny(architecture)
        pairs = [equal_length_pair(model, seed) for seed in (0, 1, 2)]
        exact = {site: sweep(model, pairs, site=site, progress=False) for site in ("q", "k")}  # type: ignore[arg-type]
        for how, found in correlations.items():
            maps = attribute(model, pairs, sites=["q", "k"], exact_softmax=how, progress=False)
            for site, estimate in maps.items():
                both = np.stack([r.effect().numpy().ravel() for r in (exact[site], estimate)])
                found.append(float(np.corrcoef(both)[0, 1]))
    assert np.mean(correlations[True]) > np.mean(correlations[False]) + 0.1
    better = np.array(correlations[True]) >= np.array(correlations[False]) - 0.02
    assert better.mean() > 0.75


def test_where_a_softmax_is_saturated_the_gradient_sees_nothing_and_this_does() -> None:
    """Scores 60 apart have a slope of 0 in float32; another first key turns the pattern over."""
    before, after = torch.tensor([[[60.0, 0.0]]]), torch.tensor([[[-60.0, 5.0]]])
    of_second = torch.tensor([[[[0.0, 1.0]]]])
    layer = _Attention(before, after, of_second)
    found = SoftmaxEffects({("k", 0): [layer]}, 1)
    first, second = (found.of(("k", 0), (0,), torch.tensor([key])) for key in (0, 1))
    assert float(first) == pytest.approx(1.0, abs=1e-6)
    assert float(second) == pytest.approx(0.0, abs=1e-6)


def test_single_positions_and_relp_go_together_with_it(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    options: dict[str, Any] = {"sites": ["q", "k", "z"], "exact_softmax": True, "progress": False}
    cells: dict[str, Any] = {"cells": "layer_head_pos"}
    by_position = attribute(tiny_model, pair, **options, **cells)
    whole = attribute(tiny_model, pair, **options)
    # every query has a softmax of its own; keys share one
    expected = effects(whole["q"])
    summed = effects(by_position["q"]).sum(-1)
    assert torch.allclose(summed, expected, atol=close_to(expected), rtol=0)
    assert not torch.allclose(effects(by_position["k"]).sum(-1), effects(whole["k"]), rtol=0.05)
    plain = attribute(tiny_model, pair, sites=["z"], progress=False)["z"]
    assert torch.equal(plain.values, whole["z"].values)
    relp = attribute(tiny_model, pair, **options, method="relp")
    assert bool((effects(relp["q"]) != effects(whole["q"])).any())
    assert relp["q"].notes[0].startswith("RelP")


def test_option_margins_see_the_options_own_queries(tiny_model: Any) -> None:
    """An option of one token behind the prompt is the margin; longer ones read the prompt's keys too."""
    prompts = equal_length_pair(tiny_model)
    ids = (prompts.source.ids, prompts.destination.ids)
    options: dict[str, Any] = {
        "sites": ["q", "k"], "exact_softmax": True, "metric": "option_margin", "progress": False,
    }  # fmt: skip
    single = make_pair(tiny_model, *ids, options=([TARGET[0]], [TARGET[1]]))
    margins = attribute(tiny_model, single, sites=["q", "k"], exact_softmax=True, progress=False)
    for site, found in attribute(tiny_model, single, **options).items():
        assert torch.allclose(effects(found), effects(margins[site]), atol=1e-5)
    pair = make_pair(tiny_model, *ids, options=([70, 71, 72], [80, 81]))
    found = attribute(tiny_model, pair, **options)
    # in the last layer the margin's row alone would see 10 keys; the options' rows read them too
    assert bool((effects(found["k"])[-1] != 0).all())


def test_what_it_does_not_fit_is_refused(load_tiny: Callable[..., Any], tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)

    def refused(message: str, model: Any, pair: PromptPair, **options: Any) -> None:
        with pytest.raises(InterpError, match=message):
            attribute(model, pair, exact_softmax=True, progress=False, **options)

    refused("is for the sites q and k, not z, v", tiny_model, pair, sites=["z", "v"])
    refused("not steps=3", tiny_model, pair, sites=["q"], steps=3)
    opaque = load_tiny("opt")
    refused("no hook of OPTForCausalLM shows", opaque, equal_length_pair(opaque), sites=["k"])
    own = native()
    refused("no hook of NativeModel shows", own, native_pair(own), sites=["k"])
    ids = random_ids(10, 0)
    same = make_pair(tiny_model, ids, ids, target=TARGET)
    nothing = attribute(tiny_model, same, sites=["q"], exact_softmax=True, progress=False)["q"]
    assert bool((nothing.effect() == 0).all())
