"""Sweeps: identities that hold exactly, and every cell against a hook on the full prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens.patching import generic_activation_patch

from interp.activations import SITES
from interp.activations.sites import Site
from interp.errors import InterpError
from interp.patching import ALL, sweep
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import (
    MODELS,
    N_LAYERS,
    SEQUENTIAL,
    TARGET,
    name_of,
    own_margin,
    random_ids,
    tolerance,
    with_spans,
)

N, FIRST = 10, 3


@pytest.fixture(params=MODELS, ids=name_of)
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    architecture, compatibility_mode = request.param
    return load_tiny(architecture, compatibility_mode=compatibility_mode)


@pytest.fixture(params=SEQUENTIAL, ids=name_of)
def sequential(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
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


def by_transformer_lens(model: Any, pair: PromptPair, site: str) -> Tensor:
    """TransformerLens's own sweep over [layer, pos]: one full forward per cell."""

    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, TARGET[0]] - logits[0, -1, TARGET[1]]

    def copy_position(activation: Tensor, index: Sequence[int], clean: Tensor) -> Tensor:
        patched = activation.clone()
        patched[:, index[1]] = clean[:, index[1]]
        return patched

    with torch.no_grad():
        _, cache = model.run_with_cache(pair.source.ids[None])
        return generic_activation_patch(
            model,
            pair.destination.ids[None],
            cache,
            metric,
            copy_position,
            site,
            index_axis_names=("layer", "pos"),
        )


def hook_counts(model: Any) -> tuple[int, int]:
    points = model.hook_dict.values()
    return (
        sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in points),
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
    )


@pytest.mark.slow
@pytest.mark.parametrize("site", [site for site in SITES if site != "resid_mid"])
def test_every_cell_equals_transformer_lens_on_the_full_prompts(model: Any, site: Site) -> None:
    pair = equal_length_pair(model)
    positions = [f"p{i}" for i in range(N)]
    result = sweep(model, pair, site=site, spans=positions, progress=False)
    expected = by_transformer_lens(model, pair, site)
    assert result.values.shape == (N_LAYERS, N, 1)
    difference = (result.values[..., 0] - expected).abs().max()
    assert float(difference) <= tolerance(expected)
    # cells before the first difference are not measured: they are the destination itself
    assert bool((result.effect()[:, :FIRST] == 0).all())
    assert bool((result.effect()[:, FIRST:-1].abs().amax(dim=(0, 1)) > 1e-3).all())


def test_equal_prompts_change_nothing_exactly(model: Any) -> None:
    ids = random_ids(N, 0)
    pair = make_pair(model, ids, ids, target=TARGET)
    result = sweep(model, pair, spans=["prompt", ALL], progress=False)
    assert bool((result.effect() == 0).all())
    assert torch.equal(result.values, result.baseline.expand_as(result.values))
    assert float(result.baseline[0]) == pytest.approx(own_margin(model, pair, ids), abs=1e-5)
    by_span = sweep(model, pair, cells="layer_span", progress=False)
    assert by_span.axis_labels["span"] == [ALL]
    with pytest.raises(InterpError, match="nothing to patch"):
        sweep(model, pair, progress=False)


@pytest.mark.slow
def test_all_from_the_first_difference_gives_the_source_run(model: Any) -> None:
    pair = equal_length_pair(model)
    first = sweep(model, pair, site="resid_pre", spans=[ALL], progress=False)
    last = sweep(model, pair, site="resid_post", spans=[ALL], progress=False)
    source = own_margin(model, pair, pair.source.ids)
    destination = own_margin(model, pair, pair.destination.ids)
    assert float(first.source_baseline[0]) == pytest.approx(source, abs=1e-5)
    assert float(first.baseline[0]) == pytest.approx(destination, abs=1e-5)
    allowed = tolerance([source, destination])
    assert first.values[:, 0, 0].tolist() == pytest.approx([source] * N_LAYERS, abs=allowed)
    assert last.values[:, 0, 0].tolist() == pytest.approx([source] * N_LAYERS, abs=allowed)


@pytest.mark.slow
def test_every_resid_mid_cell_equals_the_attention_output_that_brings_it_about(
    sequential: Any,
) -> None:
    """Written as attn_out = source's resid_mid - destination's resid_pre, on the full prompt, so
    that both the MLP and the skip connection see the source's resid_mid."""
    pair = equal_length_pair(sequential)
    spans = [f"p{i}" for i in range(FIRST, N)]
    result = sweep(sequential, pair, site="resid_mid", spans=spans, progress=False)
    with torch.no_grad():
        _, source = sequential.run_with_cache(pair.source.ids[None])
        _, destination = sequential.run_with_cache(pair.destination.ids[None])
    expected = torch.empty(N_LAYERS, len(spans))
    for layer in range(N_LAYERS):
        wanted = source[f"blocks.{layer}.hook_resid_mid"]
        wanted = wanted - destination[f"blocks.{layer}.hook_resid_pre"]
        for column, position in enumerate(range(FIRST, N)):

            def patch(
                activation: Tensor, hook: Any, *, p: int = position, rows: Tensor = wanted
            ) -> Tensor:
                patched = activation.clone()
                patched[0, p] = rows[0, p]
                return patched

            hooks = [(f"blocks.{layer}.hook_attn_out", patch)]
            with torch.no_grad():
                logits = sequential.run_with_hooks(pair.destination.ids[None], fwd_hooks=hooks)
            expected[layer, column] = logits[0, -1, TARGET[0]] - logits[0, -1, TARGET[1]]
    assert float((result.values[..., 0] - expected).abs().max()) <= tolerance(expected)


@pytest.mark.slow
def test_mid_post_and_the_next_layers_pre_coincide_in_sequential_blocks(sequential: Any) -> None:
    """One position patched at resid_mid[l], resid_post[l] or resid_pre[l + 1] is one and the same:
    the MLP of that position is computed anew from the source's resid_mid."""
    pair = equal_length_pair(sequential)
    spans = [f"p{i}" for i in range(FIRST, N)]
    mid, post, pre = (
        sweep(sequential, pair, site=site, spans=spans, progress=False).values
        for site in ("resid_mid", "resid_post", "resid_pre")
    )
    allowed = tolerance(post)
    assert float((mid - post).abs().max()) <= allowed
    assert float((post[:-1] - pre[1:]).abs().max()) <= allowed


def test_post_and_the_next_layers_pre_coincide_in_parallel_blocks(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("neox")
    pair = equal_length_pair(model)
    spans = [f"p{i}" for i in range(FIRST, N)]
    post, pre = (
        sweep(model, pair, site=site, spans=spans, progress=False).values
        for site in ("resid_post", "resid_pre")
    )
    assert float((post[:-1] - pre[1:]).abs().max()) <= tolerance(post)


def test_the_last_layers_output_matters_at_the_last_position_only(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    spans = [f"p{i}" for i in range(N)]
    values = sweep(
        tiny_model, pair, site="resid_post", layers=[3], spans=spans, progress=False
    ).effect()
    assert float(values[0, :-1].abs().max()) <= 5e-6
    source_minus_destination = own_margin(tiny_model, pair, pair.source.ids) - own_margin(
        tiny_model, pair, pair.destination.ids
    )
    assert float(values[0, -1, 0]) == pytest.approx(source_minus_destination, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("max_bytes", [250_000, 400_000])
def test_the_budget_does_not_change_values(model: Any, max_bytes: int) -> None:
    pair = equal_length_pair(model)
    spans = ["p3", "p5", "p9", ALL]
    one = sweep(model, pair, site="attn_out", spans=spans, progress=False)
    other = sweep(model, pair, site="attn_out", spans=spans, max_bytes=max_bytes, progress=False)
    assert torch.allclose(one.values, other.values, atol=1e-5)
    assert torch.allclose(one.baseline, other.baseline, atol=1e-5)


def test_chosen_layers_and_spans_are_rows_and_columns_of_the_whole_map(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    whole = sweep(tiny_model, pair, cells="layer_span", progress=False)
    assert whole.axis_labels["span"] == [*(f"p{i}" for i in range(FIRST, N)), ALL]
    part = sweep(tiny_model, pair, layers=[2, 0], spans=[ALL, "p6"], progress=False)
    assert part.axis_labels == {"layer": ["2", "0"], "span": [ALL, "p6"]}
    columns = [whole.axis_labels["span"].index(name) for name in (ALL, "p6")]
    assert torch.allclose(part.values, whole.values[[2, 0]][:, columns], atol=1e-5)


def test_no_pairs_no_target_and_unknown_names_are_refused(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the checks a user meets
    pair = equal_length_pair(tiny_model)
    no_target = replace(pair, target=None)
    with pytest.raises(InterpError, match="no pairs to patch between"):
        sweep(tiny_model, [], progress=False)
    with pytest.raises(InterpError, match="source -> destination: no margin target"):
        sweep(tiny_model, no_target, progress=False)
    with pytest.raises(InterpError, match="no span 'instruction'; this prompt has p0, p1"):
        sweep(tiny_model, pair, spans=["instruction"], progress=False)
    with pytest.raises(InterpError, match="no site 'residual'"):
        sweep(tiny_model, pair, site="residual", progress=False)  # type: ignore[arg-type]
    with pytest.raises(InterpError, match=r"layer 9 is outside 0\.\.3"):
        sweep(tiny_model, pair, layers=[9], progress=False)
    with pytest.raises(InterpError, match="no metric 'loss'; known: margin, log_prob"):
        sweep(tiny_model, pair, metric="loss", progress=False)  # type: ignore[arg-type]


def test_unknown_spans_are_refused_also_between_equal_prompts(tiny_model: Any) -> None:
    ids = random_ids(N, 0)
    pair = make_pair(tiny_model, ids, ids, target=TARGET)
    with pytest.raises(InterpError, match="no span 'nowhere'; this prompt has prompt"):
        sweep(tiny_model, pair, spans=["nowhere"], progress=False)


def test_parallel_blocks_refuse_resid_mid(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("neox")
    with pytest.raises(InterpError, match="parallel blocks have no resid_mid"):
        sweep(model, equal_length_pair(model), site="resid_mid", progress=False)


def test_no_hook_is_left_behind_also_after_an_exception(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = equal_length_pair(tiny_model)
    before = hook_counts(tiny_model)
    sweep(tiny_model, pair, progress=False)
    assert hook_counts(tiny_model) == before

    inside = []

    def fail(**_: Any) -> None:
        inside.append(hook_counts(tiny_model))
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(tiny_model.original_model, "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            sweep(tiny_model, pair, progress=False)
    assert inside[0] != before
    assert hook_counts(tiny_model) == before
