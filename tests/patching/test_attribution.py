"""Attribution: the derivative of the exact patch, sums that have to come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from transformer_lens.tools.analysis.attribution_patching import attribution_patch

from interp.errors import InterpError
from interp.patching import ALL, PatchSite, plan_sweep, sweep
from interp.patching.attribution import attribute
from interp.patching.hooked import run_cell, supports_hook
from interp.patching.plan import SweepPlan
from interp.patching.source import patches_of, read_sources
from interp.prompts import PromptPair, make_pair
from tests.conftest import ARCHITECTURES
from tests.patching.by_hand import N_LAYERS, TARGET, name_of, own_margin, random_ids, with_spans

pytestmark = pytest.mark.slow  # every architecture; make test runs it

N, FIRST = 10, 3
SITES = tuple(site for site in get_args(PatchSite) if site != "edges")
EVERY = [(architecture, mode) for architecture in ARCHITECTURES for mode in (False, True)]
ADDITIVE = [one for one in EVERY if one[0] not in ("gemma2", "gemma3")]
"""Models whose attention output is a linear function of z (no norm after it)."""


@pytest.fixture(params=EVERY, ids=name_of)
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    architecture, compatibility_mode = request.param
    return load_tiny(architecture, compatibility_mode=compatibility_mode)


def equal_length_pair(model: Any, seed: int = 0) -> PromptPair:
    """Ten tokens that differ at positions 3, 4 and 6, one span per position."""
    source = random_ids(N, seed)
    destination = source.clone()
    for position in (FIRST, 4, 6):
        destination[position] = (source[position] + 17) % 300 + 50
    pair = make_pair(model, source, destination, target=TARGET)
    spans = {f"p{i}": slice(i, i + 1) for i in range(N)}
    return with_spans(pair, spans, spans)


def unequal_pair(model: Any) -> PromptPair:
    """A header of 4, an instruction of 3 or 5 tokens without a common token, a tail of 3."""
    head, tail = random_ids(4, 0), random_ids(3, 1)
    ids = [
        torch.cat([head, middle, tail]) for middle in (torch.arange(50, 53), torch.arange(60, 65))
    ]
    spans = [
        {"header": slice(0, 4), "instruction": slice(4, 4 + n), "tail": slice(4 + n, 7 + n)}
        for n in (3, 5)
    ]
    return with_spans(make_pair(model, *ids, target=TARGET), *spans)


def sites_of(model: Any) -> list[PatchSite]:
    has_mid = not model.cfg.parallel_attn_mlp
    return [s for s in SITES if supports_hook(model, s) and (s != "resid_mid" or has_mid)]


def effects(result: Any) -> Tensor:
    return result.effect()[..., 0]


def close_to(values: Tensor) -> float:
    """2e-5 of the largest value, and never below float32's rounding of a margin."""
    return 2e-5 * float(values.abs().max()) + 2e-5


def hook_counts(model: Any) -> tuple[int, int]:
    points = model.hook_dict.values()
    return (
        sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in points),
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
    )


def derivative(model: Any, pair: PromptPair, plan: SweepPlan, *, every: int) -> dict[Any, float]:
    """Central difference of the exact patch that goes a small part of the way to the source.

    Every patched run is a full forward through hooks, for each ``every``-th cell of the plan.
    """
    small = 1e-3
    chosen = plan.to_run[::every]
    own = tuple(replace(cell, source=cell.destination) for cell in plan.cells)
    source = read_sources(model, pair.source.ids, [plan], 0)[plan.site]
    destination = read_sources(model, pair.destination.ids, [replace(plan, cells=own)], 0)[
        plan.site
    ]
    last = torch.tensor([len(pair.destination) - 1])
    found = {}
    for cell in chosen:
        there = patches_of(plan.site, cell, source, None)
        here = patches_of(plan.site, replace(cell, source=cell.destination), destination, None)
        margins = []
        for way in (small, -small):
            patches = [
                replace(a, values=a.values + way * (b.values - a.values))
                for a, b in zip(here, there, strict=True)
            ]
            logits = run_cell(model, pair.destination.ids, patches, last)[0].double()
            margins.append(float(logits[TARGET[0]] - logits[TARGET[1]]))
        found[cell.index] = (margins[0] - margins[1]) / (2 * small)
    return found


def test_every_site_is_the_derivative_of_the_exact_patch(model: Any) -> None:
    pair = equal_length_pair(model)
    sites = sites_of(model)
    maps = attribute(model, pair, sites=sites, progress=False)
    assert list(maps) == sites
    for site in sites:
        estimated = effects(maps[site])
        expected = derivative(model, pair, plan_sweep(model, pair, site=site), every=4)
        scale = float(estimated.abs().max())
        assert scale > 1e-2
        for index, value in expected.items():
            assert float(estimated[index]) == pytest.approx(value, abs=5e-3 * scale), (site, index)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "opt"])
def test_unequal_prompts_are_attributed_at_their_aligned_positions(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    pair = unequal_pair(model)
    spans = ["header", "instruction", "tail", ALL]
    for site in ("resid_pre", "mlp_out"):
        result = attribute(model, pair, sites=[site], spans=spans, progress=False)[site]
        estimated = effects(result)
        plan = plan_sweep(model, pair, site=site, spans=spans)
        scale = float(estimated[:, 2].abs().max())
        for index, value in derivative(model, pair, plan, every=1).items():
            assert float(estimated[index]) == pytest.approx(value, abs=5e-3 * scale)
        assert bool((estimated[:, 0] == 0).all())  # before the first difference
        assert bool(estimated[:, 1].isnan().all())  # nothing aligned to copy
        assert any(note.startswith("1 of 1 pairs are not aligned") for note in result.notes)


@pytest.mark.parametrize("compatibility_mode", [False, True])
def test_node_estimates_equal_those_of_transformer_lens(
    load_tiny: Callable[..., Any], compatibility_mode: bool
) -> None:
    model = load_tiny("gpt2", compatibility_mode=compatibility_mode)
    pair = equal_length_pair(model)

    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, TARGET[0]] - logits[0, -1, TARGET[1]]

    scores = attribution_patch(
        model, pair.source.ids[None], pair.destination.ids[None], metric
    ).node_scores
    by_head = attribute(
        model, pair, sites=["z"], cells="layer_head_pos", positions="all", progress=False
    )["z"]
    by_layer = attribute(model, pair, sites=["mlp_out"], positions="all", progress=False)["mlp_out"]
    z, mlp = effects(by_head), effects(by_layer)
    largest = max(abs(score) for score in scores.values())
    compared = 0
    for node, score in scores.items():
        if node.kind == "attn_head_out":
            mine = float(z[node.layer, node.head, node.position])
        elif node.kind == "mlp_out":
            mine = float(mlp[node.layer, node.position])
        else:
            continue
        compared += 1
        assert mine == pytest.approx(score, rel=1e-4, abs=1e-5 * largest)
    assert compared == N_LAYERS * N * (4 + 1)


@pytest.mark.parametrize("parameter", ADDITIVE, ids=name_of)
def test_the_heads_of_z_add_up_to_the_attention_output(
    load_tiny: Callable[..., Any], parameter: tuple[str, bool]
) -> None:
    model = load_tiny(parameter[0], compatibility_mode=parameter[1])
    pair = equal_length_pair(model)
    by_head = attribute(model, pair, sites=["z"], progress=False)["z"]
    whole = attribute(model, pair, sites=["attn_out"], spans=[ALL], progress=False)["attn_out"]
    expected = effects(whole)[:, 0]
    assert torch.allclose(effects(by_head).sum(-1), expected, atol=close_to(expected), rtol=0)


def test_positions_add_up_to_all_positions_at_every_site(model: Any) -> None:
    pair = equal_length_pair(model)
    sites = sites_of(model)
    one_by_one = attribute(
        model, pair, sites=sites, cells="layer_span", spans=list(pair.destination.spans),
        progress=False,
    )  # fmt: skip
    together = attribute(model, pair, sites=sites, cells="layer_span", spans=[ALL], progress=False)
    for site in sites:
        expected = effects(together[site])[:, 0]
        summed = effects(one_by_one[site]).sum(-1)
        assert torch.allclose(summed, expected, atol=close_to(expected), rtol=0)


def test_all_of_resid_post_equals_all_of_the_next_resid_pre(model: Any) -> None:
    pair = equal_length_pair(model)
    maps = attribute(model, pair, sites=["resid_pre", "resid_post"], spans=[ALL], progress=False)
    before, after = effects(maps["resid_pre"])[1:], effects(maps["resid_post"])[:-1]
    assert torch.allclose(after, before, atol=close_to(before), rtol=0)


def test_the_grid_and_both_baselines_are_those_of_the_exact_sweep(tiny_model: Any) -> None:
    pairs = [equal_length_pair(tiny_model, seed) for seed in (0, 1)]
    for site in ("mlp_out", "k"):
        estimate = attribute(tiny_model, pairs, sites=[site], progress=False)[site]
        exact = sweep(tiny_model, pairs, site=site, progress=False)
        assert estimate.axis_labels == exact.axis_labels
        assert estimate.pair_labels == exact.pair_labels
        assert estimate.values.shape == exact.values.shape
        assert torch.allclose(estimate.baseline, exact.baseline, atol=1e-5)
        assert torch.allclose(estimate.source_baseline, exact.source_baseline, atol=1e-5)
        same = exact.effect() == 0  # by causality
        assert torch.equal(estimate.effect()[same], exact.effect()[same])
        assert estimate.title.endswith(f"{site}, attribution")
        assert any("first-order" in note for note in estimate.notes)
    # two key/value heads serve four query heads
    assert estimate.axis_labels["head"] == ["0", "1"]


def test_several_metrics_are_those_of_one_call_each(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    both = attribute(tiny_model, pair, sites=["z"], metric=["margin", "log_prob"], progress=False)
    for name in ("margin", "log_prob"):
        alone = attribute(tiny_model, pair, sites=["z"], metric=name, progress=False)["z"]
        assert torch.allclose(both["z"][name].values, alone.values, atol=1e-6)

    def halved(logits: Tensor, pair: PromptPair) -> Tensor:
        return (logits[:, TARGET[0]] - logits[:, TARGET[1]]) / 2

    half = attribute(tiny_model, pair, sites=["z"], metric=halved, progress=False)["z"]
    assert torch.allclose(2 * half.effect(), both["z"]["margin"].effect(), atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "steps"),
    [("gpt2", 64), ("llama", 128), ("gemma", 256), ("gemma2", 64), ("neox", 64), ("opt", 64)],
)
def test_integrated_gradients_add_up_to_source_minus_destination(
    load_tiny: Callable[..., Any], architecture: str, steps: int
) -> None:
    model = load_tiny(architecture)
    pair = equal_length_pair(model)
    total = own_margin(model, pair, pair.source.ids) - own_margin(model, pair, pair.destination.ids)
    options: dict[str, Any] = {"sites": ["resid_pre"], "layers": [0], "progress": False}
    result = attribute(model, pair, steps=steps, **options)["resid_pre"]
    once = attribute(model, pair, **options)["resid_pre"]
    assert float(effects(result).sum()) == pytest.approx(total, rel=1e-2)
    assert float(effects(once).sum()) != pytest.approx(total, rel=5e-2)
    assert any(f"{steps} steps" in note for note in result.notes)


def test_integrated_gradients_of_later_layers_are_the_mean_over_the_path(tiny_model: Any) -> None:
    """Two steps by hand: gradients with the embeddings a quarter and three quarters of the way."""
    pair = equal_length_pair(tiny_model)
    result = attribute(tiny_model, pair, sites=["mlp_out"], layers=[2], steps=2, progress=False)
    name = "blocks.2.hook_mlp_out"
    with torch.no_grad():
        _, source = tiny_model.run_with_cache(pair.source.ids[None])
        _, destination = tiny_model.run_with_cache(pair.destination.ids[None])
    embeddings = [run["blocks.0.hook_resid_pre"] for run in (source, destination)]
    gradients = []
    for share in (0.25, 0.75):
        offset = torch.zeros_like(source[name], requires_grad=True)
        hooks = [
            ("blocks.0.hook_resid_pre", lambda a, hook, s=share: torch.lerp(*embeddings[::-1], s)),
            (name, lambda a, hook, o=offset: a + o),
        ]
        logits = tiny_model.run_with_hooks(pair.destination.ids[None], fwd_hooks=hooks)[0, -1]
        gradients += torch.autograd.grad(logits[TARGET[0]] - logits[TARGET[1]], offset)
    expected = ((source[name] - destination[name]) * sum(gradients) / 2).sum(-1)[0, FIRST:]
    assert torch.allclose(effects(result["mlp_out"])[0], expected, atol=close_to(expected))


def test_nothing_is_left_behind_and_no_grad_makes_no_difference(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    wanted = {name: p.requires_grad for name, p in tiny_model.named_parameters()}
    before = hook_counts(tiny_model)
    outside = attribute(tiny_model, pair, sites=["z"], progress=False)["z"]
    with torch.no_grad():
        inside = attribute(tiny_model, pair, sites=["z"], progress=False)["z"]
        assert not torch.is_grad_enabled()
    assert torch.equal(outside.values, inside.values)
    assert not outside.values.requires_grad
    with pytest.raises(InterpError, match="has no gradient"):
        attribute(
            tiny_model, pair, metric=lambda logits, pair: logits.detach()[:, 0], progress=False
        )
    assert hook_counts(tiny_model) == before
    for name, parameter in tiny_model.named_parameters():
        assert parameter.grad is None
        assert parameter.requires_grad == wanted[name]


def test_equal_prompts_have_no_attribution(tiny_model: Any) -> None:
    ids = random_ids(N, 0)
    pair = make_pair(tiny_model, ids, ids, target=TARGET)
    for steps in (1, 2):
        result = attribute(tiny_model, pair, sites=["z"], steps=steps, progress=False)["z"]
        assert bool((result.effect() == 0).all())


def test_refusals_name_the_remedy(load_tiny: Callable[..., Any], tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)

    def refused(
        message: str, model: Any = tiny_model, pair: PromptPair = pair, **options: Any
    ) -> None:
        with pytest.raises(InterpError, match=message):
            attribute(model, pair, progress=False, **options)

    refused(r"use knockout", sites=["edges"])
    refused(r"list is empty", sites=[])
    refused(r"give \['z'\]", sites="z")
    refused(r"steps is 0", steps=0)
    refused(r"use steps=1", pair=unequal_pair(tiny_model), steps=4)
    opaque = load_tiny("opt")
    refused(r"use z or v", model=opaque, pair=equal_length_pair(opaque), sites=["pattern"])
