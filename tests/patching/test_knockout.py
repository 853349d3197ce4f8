"""Attention knockout: the edge-free run, by deletion, by hooks, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.data import load_items
from interp.errors import InterpError
from interp.patching import knockout
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import N_LAYERS, TARGET, own_margin, random_ids, tolerance, with_spans

MODELS = ["gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3", "neox", "opt", "phi"]
HOOKABLE = [name for name in MODELS if name != "opt"]
START, STOP, N = 4, 7, 14


def spanned_pair(model: Any) -> PromptPair:
    source, destination = random_ids(N, 0), random_ids(N, 0)
    source[START:STOP] = torch.tensor([50, 51, 52])
    spans = {
        "header": slice(0, START),
        "instruction": slice(START, STOP),
        "tail": slice(STOP, N - 2),
        "answer_prefix": slice(N - 2, N),
    }
    return with_spans(make_pair(model, source, destination, target=TARGET), spans, spans)


@torch.no_grad()
def margin_without(model: Any, ids: Tensor, start: int, stop: int) -> float:
    """The margin of the prompt with a span deleted and the other position ids kept."""
    kept = torch.tensor([p for p in range(len(ids)) if not start <= p < stop])
    causal = torch.full((len(kept), len(kept)), torch.finfo(torch.float32).min).triu(1)
    logits = model.original_model(
        input_ids=ids[kept][None],
        position_ids=kept[None],
        attention_mask=causal[None, None],
        use_cache=False,
    ).logits[0, -1]
    return float(logits[TARGET[0]] - logits[TARGET[1]])


@pytest.mark.slow
@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize("architecture", MODELS)
def test_blocking_everything_is_deleting_the_span_and_keeping_position_ids(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    pair = spanned_pair(model)
    result = knockout(model, pair, layers=[0], window=N_LAYERS, progress=False)
    expected = margin_without(model, pair.destination.ids, START, STOP)
    assert result.axis_labels == {"layer": [f"0-{N_LAYERS - 1}"]}
    assert abs(expected - float(result.baseline[0])) > 1e-2
    assert float(result.values[0, 0]) == pytest.approx(expected, abs=2e-4)
    assert float(result.source_baseline[0]) == pytest.approx(
        own_margin(model, pair, pair.source.ids), abs=1e-4
    )
    assert not result.notes


@pytest.mark.slow
@pytest.mark.parametrize("cells", ["layer", "layer_head", "layer_span"])
@pytest.mark.parametrize("architecture", HOOKABLE)
def test_every_cell_equals_one_forward_with_hooks(
    load_tiny: Callable[..., Any], architecture: str, cells: Any
) -> None:
    model = load_tiny(architecture)
    pair = spanned_pair(model)
    fast, slow = (
        knockout(model, pair, cells=cells, window=2, method=method, progress=False)
        for method in ("exact", "hooked")
    )
    assert fast.axis_labels == slow.axis_labels
    assert float((fast.values - slow.values).abs().max()) <= tolerance(slow.values)
    assert float(fast.effect().abs().max()) > 1e-2
    assert not fast.notes


def test_hooks_by_hand_on_the_scores_give_the_same(tiny_model: Any) -> None:
    pair = spanned_pair(tiny_model)
    result = knockout(
        tiny_model, pair, cells="layer_head", queries="answer_prefix", layers=[1], progress=False
    )
    for head in range(4):

        def block(scores: Tensor, hook: Any, *, head: int = head) -> Tensor:
            scores = scores.clone()
            scores[:, head, N - 2 :, START:STOP] = -1e9
            return scores

        with torch.no_grad():
            logits = tiny_model.run_with_hooks(
                pair.destination.ids[None],
                fwd_hooks=[("blocks.1.attn.hook_attn_scores", block)],
            )[0, -1]
        expected = float(logits[TARGET[0]] - logits[TARGET[1]])
        assert float(result.values[0, head, 0]) == pytest.approx(expected, abs=1e-4)


def test_columns_are_the_spans_after_the_blocked_one(tiny_model: Any) -> None:
    pair = spanned_pair(tiny_model)
    result = knockout(tiny_model, pair, cells="layer_span", window=N_LAYERS, progress=False)
    assert result.axis_labels["span"] == ["tail", "answer_prefix"]
    last = knockout(tiny_model, pair, queries="last", layers=[2], progress=False)
    by_hand = knockout(tiny_model, pair, queries=[N - 1], layers=[2], progress=False)
    assert torch.equal(last.values, by_hand.values)


def test_in_the_last_layer_only_the_last_position_matters(tiny_model: Any) -> None:
    pair = spanned_pair(tiny_model)
    later, last, tail = (
        knockout(tiny_model, pair, queries=who, layers=[3], progress=False)
        for who in ("later", "last", "tail")
    )
    assert torch.allclose(later.values, last.values, atol=1e-5)
    assert float(tail.effect().abs().max()) == 0.0


def test_the_control_blocks_as_many_positions_before_the_instruction(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("llama")
    item = load_items("bundled:choices", limit=1)[0]
    pair = make_pair(model, item, "instructed").swap()
    one, again, other = (
        knockout(model, pair, to="control", seed=seed, window=4, layers=[0], progress=False)
        for seed in (0, 0, 1)
    )
    real = knockout(model, pair, window=4, layers=[0], progress=False)
    assert torch.equal(one.values, again.values)
    assert not torch.equal(one.values, other.values)
    assert not torch.equal(one.values, real.values)
    assert torch.equal(one.baseline, real.baseline)


def test_several_pairs_and_metrics_at_once(tiny_model: Any) -> None:
    items = load_items("bundled:choices", limit=3)
    pairs = [make_pair(tiny_model, item, "instructed").swap() for item in items]
    result = knockout(
        tiny_model, pairs, layers=[0, 2], metric=("margin", "log_prob"), progress=False
    )
    assert result.values.shape == (2, 2, 3)
    alone = knockout(tiny_model, pairs[1], layers=[0, 2], progress=False)
    assert torch.allclose(result["margin"].values[:, 1], alone.values[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "nowhere"}, "no span 'nowhere'"),
        ({"to": "answer_prefix"}, "no later positions after"),
        ({"queries": "header"}, "no header positions after"),
        ({"queries": [99]}, "position 99 is outside the prompt"),
        ({"window": 0}, "window is 0"),
        ({"layers": [7]}, r"layer 7 is outside 0\.\.3"),
        ({"heads": [4]}, r"no head 4 at edges: heads are 0\.\.3"),
    ],
)
def test_what_cannot_be_blocked_is_refused(
    tiny_model: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterpError, match=message):
        knockout(tiny_model, spanned_pair(tiny_model), progress=False, **options)


def test_a_model_whose_attention_is_opaque_to_hooks_needs_the_exact_engine(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("opt")
    with pytest.raises(InterpError, match="edges cannot be set on this model"):
        knockout(model, spanned_pair(model), method="hooked", progress=False)


def test_a_token_id_outside_the_vocabulary_is_named(tiny_model: Any) -> None:
    pair = spanned_pair(tiny_model)
    ids = pair.destination.ids.clone()
    ids[-1] = 10**6
    broken = replace(pair, destination=replace(pair.destination, ids=ids))
    with pytest.raises(InterpError, match="token id 1000000 is outside the model's vocabulary"):
        knockout(tiny_model, broken, progress=False)
