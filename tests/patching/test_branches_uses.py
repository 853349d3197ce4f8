"""Knockout, attribution, screening and identities of the option margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.errors import InterpError
from interp.patching import attribute, knockout, measure_identities, plan_sweep, sweep
from interp.patching.hooked import run_reading
from interp.patching.metrics import METRICS, evaluate_metrics, reading_of
from interp.patching.sites import PatchSite, SweepMethod
from interp.patching.source import patches_of, read_sources
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import N_LAYERS, random_ids, rough_model, tolerance, with_spans
from tests.patching.options_by_hand import OPTIONS, full_texts, mean_log_prob, option_pair

METHODS: tuple[SweepMethod, ...] = ("exact", "hooked")
ONE = {"option_margin": METRICS["option_margin"]}
START, STOP, N = 4, 7, 14


def spanned_pair(model: Any) -> PromptPair:
    """An instruction of three tokens; the options share one token, which ends the prompts."""
    source, destination = random_ids(N, 0), random_ids(N, 0)
    source[START:STOP] = torch.tensor([50, 51, 52])
    pair = make_pair(model, source, destination, options=OPTIONS)
    spans = {
        "header": slice(0, START),
        "instruction": slice(START, STOP),
        "tail": slice(STOP, N - 2),
        "answer_prefix": slice(N - 2, N + 1),
    }
    return with_spans(pair, spans, spans)


@torch.no_grad()
def option_margin_without(model: Any, pair: PromptPair, start: int, stop: int) -> float:
    """With a span deleted from both full texts and the other position ids kept."""
    values = []
    for fed, ids in full_texts(pair, pair.destination.ids):
        kept = torch.tensor([p for p in range(len(fed)) if not start <= p < stop])
        causal = torch.full((len(kept), len(kept)), torch.finfo(torch.float32).min).triu(1)
        logits = model.original_model(
            input_ids=fed[kept][None],
            position_ids=kept[None],
            attention_mask=causal[None, None],
            use_cache=False,
        ).logits[0]
        values.append(float(mean_log_prob(logits, ids)))
    return values[0] - values[1]


@torch.no_grad()
def option_margin_with_scores(
    model: Any, pair: PromptPair, layer: int, queries: slice, head: int | None = None
) -> float:
    """The scores of some queries on the span set to the lowest number, in either full text."""
    heads = slice(None) if head is None else slice(head, head + 1)

    def block(scores: Tensor, hook: Any) -> Tensor:
        scores = scores.clone()
        scores[:, heads, queries, START:STOP] = torch.finfo(scores.dtype).min
        return scores

    name = f"blocks.{layer}.attn.hook_attn_scores"
    values = [
        float(mean_log_prob(model.run_with_hooks(fed[None], fwd_hooks=[(name, block)])[0], ids))
        for fed, ids in full_texts(pair, pair.destination.ids)
    ]
    return values[0] - values[1]


# Knockout


@pytest.mark.slow
@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize(
    "architecture",
    ["gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3", "neox", "opt", "phi"],
)
def test_blocking_everything_is_deleting_the_span_from_both_full_texts(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    pair = spanned_pair(model)
    result = knockout(
        model, pair, layers=[0], window=N_LAYERS, metric="option_margin", progress=False
    )
    expected = option_margin_without(model, pair, START, STOP)
    assert not result.notes
    assert float(result.values) == pytest.approx(expected, abs=2e-5)
    assert abs(float(result.effect())) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3", "neox"])
def test_every_knockout_equals_hooks_by_hand_on_both_full_texts(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    """Rows of the options are blocked with the last position, and not without it."""
    model = load_tiny(architecture)
    pair = spanned_pair(model)
    last = len(pair.destination) - 1
    cases: list[tuple[Any, slice]] = [
        ("later", slice(STOP, None)),
        ("last", slice(last, None)),
        ("answer_prefix", slice(N - 2, None)),
        ("tail", slice(STOP, N - 2)),
        ([STOP, last], slice(None)),
    ]
    for queries, rows in cases[:4]:
        result = knockout(model, pair, queries=queries, metric="option_margin", progress=False)
        expected = torch.tensor(
            [option_margin_with_scores(model, pair, layer, rows) for layer in range(N_LAYERS)]
        )
        assert not result.notes
        assert float((result.values[:, 0] - expected).abs().max()) <= tolerance(expected)
    by_head = knockout(model, pair, cells="layer_head", metric="option_margin", progress=False)
    expected = torch.tensor(
        [
            [
                option_margin_with_scores(model, pair, layer, slice(STOP, None), head)
                for head in range(4)
            ]
            for layer in range(N_LAYERS)
        ]
    )
    assert float((by_head.values[..., 0] - expected).abs().max()) <= tolerance(expected)


@pytest.mark.slow
@pytest.mark.parametrize("cells", ["layer", "layer_head", "layer_span"])
def test_knockouts_by_both_methods_and_of_both_metrics_agree(
    load_tiny: Callable[..., Any], cells: Any
) -> None:
    model = rough_model(load_tiny, ("gemma2", False))
    pair = spanned_pair(model)
    names = ["margin", "option_margin"]
    fast, slow = (
        knockout(model, pair, cells=cells, metric=names, method=method, progress=False)
        for method in METHODS
    )
    assert not fast.notes
    assert float((fast.values - slow.values).abs().max()) <= 1e-5
    for name in names:
        alone = knockout(model, pair, cells=cells, metric=name, progress=False)
        assert float((fast[name].values - alone.values).abs().max()) <= 1e-5


# Attribution


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3", "neox", "phi"])
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "z", "v", "pattern"])
def test_an_estimate_is_the_derivative_towards_the_source(
    load_tiny: Callable[..., Any], architecture: str, site: PatchSite
) -> None:
    """Central differences of the option margin, two full forwards each (OPT's ReLU has kinks)."""
    model = rough_model(load_tiny, (architecture, False))
    pair = option_pair(model)
    plan = plan_sweep(model, pair, site=site, metric="option_margin")
    result = attribute(model, pair, sites=[site], metric="option_margin", progress=False)[site]
    source = read_sources(model, pair.source.ids, [plan], 0)[plan.site]
    own = replace(plan, cells=tuple(replace(cell, source=cell.destination) for cell in plan.cells))
    destination = read_sources(model, pair.destination.ids, [own], 0)[plan.site]
    reading = reading_of(pair.destination.ids, pair, ONE)
    step = 1e-3
    expected, found = [], []
    for cell, self_cell in list(zip(plan.to_run, own.to_run, strict=True))[::5]:
        values = []
        for sign in (1, -1):
            patches = [
                replace(there, values=here.values + sign * step * (there.values - here.values))
                for there, here in zip(
                    patches_of(site, cell, source, None),
                    patches_of(site, self_cell, destination, None),
                    strict=True,
                )
            ]
            logits = run_reading(model, reading, patches)
            values.append(float(evaluate_metrics(ONE, logits[None].double(), pair)))
        expected.append((values[0] - values[1]) / (2 * step))
        found.append(float(result.effect()[(*cell.index, 0)]))
    scale = max(abs(value) for value in expected)
    assert scale > 1e-3
    assert np.abs(np.array(found) - np.array(expected)).max() <= 0.02 * scale + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "opt"])
def test_along_the_path_the_estimates_add_up_to_source_minus_destination(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = rough_model(load_tiny, (architecture, False))
    pair = option_pair(model)
    names = ["margin", "option_margin"]
    both = attribute(
        model, pair, sites=["resid_pre"], layers=[0], steps=150, metric=names, progress=False
    )["resid_pre"]
    for name in names:
        result = both[name]
        total = float(result.source_baseline - result.baseline)
        assert float(result.effect().sum()) == pytest.approx(total, rel=0.01, abs=2e-3)
        assert result.baseline.tolist() == pytest.approx(
            sweep(model, pair, layers=[0], metric=name, progress=False).baseline.tolist(), abs=1e-5
        )


@pytest.mark.slow
def test_metrics_attributed_together_equal_each_alone(load_tiny: Callable[..., Any]) -> None:
    model = rough_model(load_tiny, ("llama", False))
    pair, names = option_pair(model), ["margin", "option_margin"]
    together = attribute(model, pair, metric=names, progress=False)
    for name in names:
        alone = attribute(model, pair, metric=name, progress=False)
        for site, result in alone.items():
            gap = (together[site][name].values - result.values).abs().max()
            assert float(gap) <= 1e-5


@pytest.mark.slow
def test_a_screened_sweep_runs_its_cells_exactly(load_tiny: Callable[..., Any]) -> None:
    model = rough_model(load_tiny, ("llama", False))
    pair = option_pair(model)
    options: dict[str, Any] = {"site": "z", "metric": "option_margin", "progress": False}
    whole = sweep(model, pair, **options)
    result = sweep(model, pair, method="screened", k=2, recall=0.5, **options)
    there = ~result.values.isnan()
    assert int(there.sum()) >= 2
    assert float((result.values - whole.values)[there].abs().max()) <= 1e-5


# Identities


@pytest.mark.parametrize("options", [OPTIONS, ([20], [90])])
def test_identities_hold_for_the_option_margin(tiny_model: Any, options: Any) -> None:
    frame = measure_identities(tiny_model, option_pair(tiny_model, options), metric="option_margin")
    assert (frame["largest deviation"] <= 1e-4).all()
    assert frame["unit"].tolist()[1:] == ["nats of option margin"] * 2


def test_identities_of_a_pair_without_a_margin_are_those_of_the_option_margin(
    tiny_model: Any,
) -> None:
    pair = option_pair(tiny_model, ([20, 7], [20, 7, 9]))
    assert pair.target is None
    frame = measure_identities(tiny_model, pair, metric="option_margin")
    assert (frame["largest deviation"] <= 1e-4).all()
    with pytest.raises(InterpError, match="the pair has no target"):
        measure_identities(tiny_model, pair)
