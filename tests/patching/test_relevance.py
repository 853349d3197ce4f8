"""RelP: equal to its rules written out, conserved where they conserve, refused where none applies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.errors import InterpError
from interp.patching import PatchSite, attribute
from interp.patching.gradients import Derivatives, differentiate
from interp.patching.metrics import METRICS
from interp.patching.relevance import relevance_rules, require_relevance
from interp.prompts import PromptPair, make_pair
from tests.conftest import ARCHITECTURES
from tests.models.native import native, native_pair
from tests.patching.by_hand import TARGET, random_ids
from tests.patching.relp_by_hand import coefficients, run
from tests.patching.relp_decoders import decoder_of
from tests.patching.test_attribution import (
    FIRST,
    N,
    close_to,
    effects,
    equal_length_pair,
    hook_counts,
    sites_of,
    unequal_pair,
)

pytestmark = pytest.mark.slow  # every architecture; make test runs it

BY_HAND = ("gpt2", "llama", "qwen2", "gemma2", "gemma3", "neox")
WITHOUT_BIASES = ("llama", "gemma", "gemma2", "gemma3")
CAPS = {"gemma2": {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}}
"""Soft caps that the tiny models' scores and logits reach."""


def relp(model: Any, pair: PromptPair, sites: list[PatchSite], **options: Any) -> dict[str, Tensor]:
    maps = attribute(model, pair, sites=sites, method="relp", progress=False, **options)
    return {site: effects(result) for site, result in maps.items()}


def propagated(model: Any, pair: PromptPair, *sites: str) -> Derivatives:
    """Activations and coefficients of every layer and position."""
    nodes = [(site, layer) for layer in range(model.cfg.n_layers) for site in sites]
    rows = torch.arange(len(pair.destination))
    margin = {"margin": METRICS["margin"]}
    return differentiate(model, pair, nodes, rows, margin, method="relp")


def relevance(found: Derivatives, site: str, layer: int) -> Tensor:
    """By position, coefficient times activation."""
    products = found.gradients[site, layer][0] * found.states[site, layer]
    return products.flatten(1).double().sum(1)


@pytest.mark.parametrize("architecture", BY_HAND)
@pytest.mark.parametrize("compatibility_mode", [False, True])
def test_every_site_equals_the_rules_written_out(
    load_tiny: Callable[..., Any],
    tiny_folder: Callable[..., Path],
    architecture: str,
    compatibility_mode: bool,
) -> None:
    options = {"random_vectors": True, **CAPS.get(architecture, {})}
    model = load_tiny(architecture, compatibility_mode=compatibility_mode, **options)
    plain = decoder_of(tiny_folder(architecture, **options), architecture, N)
    pair = equal_length_pair(model)
    source, destination = (run(plain, p.ids) for p in (pair.source, pair.destination))
    expected = coefficients(plain, destination, TARGET)
    sites = sites_of(model)
    if compatibility_mode:
        # the processed weights have other activations inside a head, and streams around another mean
        sites = [site for site in sites if site in ("z", "pattern")]
    by_position = [site for site in sites if site.startswith("resid") or site.endswith("out")]
    found = relp(model, pair, by_position) if by_position else {}
    by_head = [site for site in sites if site not in by_position]
    found |= relp(model, pair, by_head, cells="layer_head_pos")
    for site in sites:
        terms = [
            (expected[site, layer] * (source.sites[site, layer] - destination.sites[site, layer]))
            for layer in range(len(plain.layers))
        ]
        by_hand = torch.stack([term.sum(-1) for term in terms])[:, FIRST:]
        by_hand = by_hand.transpose(1, 2) if site in by_head else by_hand
        mine = found[site].double()
        assert mine.shape == by_hand.shape
        largest = float(by_hand.abs().max())
        assert largest > 1e-3
        # what causality knows is 0 in both
        assert torch.allclose(mine, by_hand, atol=1e-4 * largest, rtol=0), site


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_forward_under_the_rules_is_the_models_own_to_the_bit(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    ids = random_ids(N, 0)[None]
    with torch.no_grad():
        plain = model.original_model(input_ids=ids).logits
    before = hook_counts(model)
    with torch.enable_grad(), relevance_rules(model) as met:
        logits = model.original_model(input_ids=ids).logits
    assert torch.equal(logits, plain)
    assert met["norm"] > 0
    assert met["activation"] >= model.cfg.n_layers
    assert hook_counts(model) == before
    with pytest.raises(ZeroDivisionError), relevance_rules(model):
        _ = 1 / 0
    assert hook_counts(model) == before


@pytest.mark.parametrize("architecture", WITHOUT_BIASES)
def test_without_biases_an_mlp_conserves_relevance_at_every_position(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    """What leaves the skip connection and the MLP came into both."""
    model = load_tiny(architecture, **CAPS.get(architecture, {}))
    pair = equal_length_pair(model)
    found = propagated(model, pair, "resid_mid", "resid_post")
    for layer in range(model.cfg.n_layers):
        after = relevance(found, "resid_post", layer)
        before = relevance(found, "resid_mid", layer)
        scale = float(after.abs().max())
        assert torch.allclose(before, after, atol=1e-4 * scale, rtol=0)
    margin = found.logits[0, TARGET[0]] - found.logits[0, TARGET[1]]
    assert float(after.sum()) == pytest.approx(float(margin), abs=1e-4 * scale)


@pytest.mark.parametrize("architecture", WITHOUT_BIASES)
def test_attention_conserves_relevance_but_for_what_its_queries_and_keys_get(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture, **CAPS.get(architecture, {}))
    pair = equal_length_pair(model)
    found = propagated(model, pair, "resid_pre", "resid_mid", "q", "k")
    for layer in range(model.cfg.n_layers):
        parts = {site: relevance(found, site, layer) for site in ("resid_mid", "q", "k")}
        before = relevance(found, "resid_pre", layer)
        scale = max(float(part.abs().max()) for part in (before, *parts.values()))
        expected = float(sum(part.sum() for part in parts.values()))
        assert float(before.sum()) == pytest.approx(expected, abs=1e-3 * scale)
        assert scale > 1e-3


@pytest.mark.parametrize("architecture", WITHOUT_BIASES)
def test_of_one_token_the_relevance_at_every_layer_is_the_margin(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    """A softmax over one key is constant, so that nothing is left that does not conserve."""
    model = load_tiny(architecture, **CAPS.get(architecture, {}))
    pair = make_pair(model, torch.tensor([70]), torch.tensor([90]), target=TARGET)
    found = propagated(model, pair, "resid_pre")
    margin = float(found.logits[0, TARGET[0]] - found.logits[0, TARGET[1]])
    assert abs(margin) > 1e-2
    for layer in range(model.cfg.n_layers):
        # its coefficients are those of the same run, so that the whole metric is spread over it
        assert float(relevance(found, "resid_pre", layer).sum()) == pytest.approx(margin, abs=1e-3)


@pytest.mark.parametrize("options", [{"attn_only": True}, {}])
def test_without_norms_and_curved_activations_relp_is_attribution_patching(options: Any) -> None:
    """ReLU's ratio is its slope: what is left is attention, whose gradient RelP propagates."""
    model = native(**options)
    pair = native_pair(model)
    sites: list[PatchSite] = ["resid_pre", "attn_out", "z", "q", "k", "v", "pattern"]
    maps = attribute(model, pair, sites=sites, progress=False)
    found = relp(model, pair, sites)
    for site in sites:
        expected = effects(maps[site])
        assert torch.allclose(found[site], expected, atol=close_to(expected), rtol=0)
    assert float(expected.abs().max()) > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"normalization_type": "LN", "gated_mlp": True, "act_fn": "silu"},
        {"normalization_type": "RMS", "act_fn": "gelu_new", "output_logits_soft_cap": 3.0},
        {"normalization_type": "LNPRE", "act_fn": "gelu"},
    ],
)
def test_native_models_have_rules(options: Any) -> None:
    model = native(**options)
    pair = native_pair(model)
    expected = effects(attribute(model, pair, sites=["resid_pre"], progress=False)["resid_pre"])
    found = relp(model, pair, ["resid_pre"])["resid_pre"]
    assert bool((found != expected).any())
    assert bool(found.isfinite().all())


def test_option_margins_are_propagated_through_both_options(tiny_model: Any) -> None:
    """By hand: a forward and backward of either option's text, and the sum of what both give."""
    prompts = equal_length_pair(tiny_model)
    options = ([70, 71, 72], [80, 81])
    pair = make_pair(tiny_model, prompts.source.ids, prompts.destination.ids, options=options)
    metric: dict[str, Any] = {"metric": "option_margin"}
    found = relp(tiny_model, pair, ["mlp_out"], **metric)["mlp_out"]
    names = [f"blocks.{layer}.hook_mlp_out" for layer in range(tiny_model.cfg.n_layers)]
    states = [tiny_model.run_with_cache(p.ids[None])[1] for p in (pair.source, pair.destination)]
    expected = torch.zeros(len(names), N)
    for sign, option in zip((1, -1), options, strict=True):
        kept: dict[str, Tensor] = {}

        def keeper(name: str, kept: dict[str, Tensor] = kept) -> Callable[..., Tensor]:
            def keep(activation: Tensor, hook: Any) -> Tensor:
                kept[name] = activation.clone()
                return kept[name]

            return keep

        ids = torch.cat([pair.destination.ids, torch.tensor(option)])
        hooks = [(name, keeper(name)) for name in names]
        with relevance_rules(tiny_model):
            logits = tiny_model.run_with_hooks(ids[None], fwd_hooks=hooks)
        rows = logits[0, N - 1 : -1].log_softmax(-1)
        mean = rows[torch.arange(len(option)), torch.tensor(option)].mean()
        gradients = torch.autograd.grad(sign * mean, [kept[name] for name in names])
        for layer, (name, gradient) in enumerate(zip(names, gradients, strict=True)):
            difference = states[0][name] - states[1][name]
            expected[layer] += (difference * gradient[:, :N]).sum(-1)[0].detach()
    expected = expected[:, FIRST:]
    assert torch.allclose(found, expected, atol=close_to(expected), rtol=0)
    assert float(expected.abs().max()) > 1e-2


def test_what_cannot_change_the_reading_has_no_relevance(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    found = relp(tiny_model, pair, ["mlp_out", "resid_post"], positions="all")
    assert bool((found["mlp_out"][:, :FIRST] == 0).all())  # before the first difference
    assert bool((found["mlp_out"][-1, :-1] == 0).all())  # nothing reads them any more
    unequal = unequal_pair(tiny_model)
    spans = ["header", "instruction", "tail"]
    by_span = relp(tiny_model, unequal, ["resid_pre"], spans=spans)["resid_pre"]
    assert bool((by_span[:, 0] == 0).all())
    assert bool(by_span[:, 1].isnan().all())
    ids = random_ids(N, 0)
    same = make_pair(tiny_model, ids, ids, target=TARGET)
    assert bool((relp(tiny_model, same, ["z"])["z"] == 0).all())


def test_an_activation_at_zero_counts_with_its_slope(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("gpt2")
    (act,) = {
        module for module in model.original_model.modules() if "GELU" in type(module).__name__
    } & {model.blocks[0].mlp.original_component.act}
    x = torch.tensor([0.0, 1.0, -2.0], requires_grad=True)
    with relevance_rules(model):
        y = act(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    ratio = (y / x).detach()
    assert torch.allclose(slope, torch.tensor([0.5, float(ratio[1]), float(ratio[2])]))


def test_what_has_no_rule_is_refused_in_one_line(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = equal_length_pair(load_tiny("llama"))
    with pytest.raises(InterpError, match=r"steps=4 averages gradients: method='relp' takes none"):
        attribute(load_tiny("llama"), pair, method="relp", steps=4, progress=False)
    solu = native(act_fn="solu")
    with pytest.raises(InterpError, match="no rule for the SoLU of NativeModel"):
        attribute(solu, native_pair(solu), method="relp", progress=False)
    model = native(act_fn="relu", normalization_type="RMS")
    mlp = model.blocks[0].mlp.original_component
    monkeypatch.setattr(mlp, "act", lambda x: torch.relu(x).exp())
    with pytest.raises(
        InterpError, match="no rule for torch's exp between the site and the logits"
    ):
        attribute(model, native_pair(model), sites=["resid_pre"], method="relp", progress=False)
    # where no relevance has to pass it, it is of no matter
    last = relp(model, native_pair(model), ["mlp_out"], layers=[1])["mlp_out"]
    assert bool((last != 0).any())


def test_a_forward_that_the_rules_would_change_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = native(act_fn="relu", normalization_type="RMS")
    mlp = model.blocks[0].mlp.original_component

    def other(x: Tensor) -> Tensor:
        return x * (2.0 if x.requires_grad else 1.0)

    monkeypatch.setattr(mlp, "act", other)
    with pytest.raises(InterpError, match="other logits than the model"):
        require_relevance(model, torch.arange(5))


def test_a_part_that_the_rules_do_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = native(act_fn="relu", normalization_type="RMS")

    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return gradients[0]

    monkeypatch.setattr(model.blocks[1].mlp.original_component, "act", Hidden.apply)
    with pytest.raises(InterpError, match="rules for 1 of 2 activations of NativeModel"):
        require_relevance(model, torch.arange(5))
