"""Attention patterns: probabilities, causal, equal to TransformerLens's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp.activations import AttentionPatterns, read_attention
from interp.errors import InterpError
from interp.prompts import TokenizedPrompt


def prompt_of(n: int, spans: dict[str, slice] | None = None) -> TokenizedPrompt:
    ids = torch.randint(2, 400, (n,), generator=torch.Generator().manual_seed(n))
    tokens = tuple(f"t{i}" for i in range(n))
    return TokenizedPrompt(ids, spans or {"prompt": slice(0, n)}, tokens, "".join(tokens), "six")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox"])
def test_rows_sum_to_one_are_causal_and_equal_the_cache(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model, prompt = load_tiny(architecture), prompt_of(9)
    values = read_attention(model, prompt).values
    assert values.shape == (4, 4, 9, 9)
    assert torch.allclose(values.sum(dim=-1), torch.ones(4, 4, 9), atol=1e-5)
    assert float(values.triu(1).abs().max()) == 0.0
    _, cache = model.run_with_cache(prompt.ids[None])
    for layer in range(4):
        expected = cache[f"blocks.{layer}.attn.hook_pattern"][0].detach()
        assert torch.allclose(values[layer], expected, atol=1e-6)


def test_chosen_layers_are_labelled_and_come_in_their_order(tiny_model: Any) -> None:
    prompt = prompt_of(5)
    everything, some = read_attention(tiny_model, prompt), read_attention(
        tiny_model, prompt, layers=[2, 0]
    )  # fmt: skip
    assert some.layers == (2, 0)
    assert torch.equal(some.values, everything.values[[2, 0]])


@pytest.fixture
def by_hand() -> AttentionPatterns:
    """One layer, one head, six positions; position i attends evenly to 0..i."""
    rows = torch.ones(6, 6).tril()
    prompt = prompt_of(6, {"start": slice(0, 2), "middle": slice(2, 4), "end": slice(4, 6)})
    return AttentionPatterns((rows / rows.sum(dim=1, keepdim=True))[None, None], (0,), prompt)


def test_mass_to_a_span_is_the_mean_over_later_positions(by_hand: AttentionPatterns) -> None:
    # positions 4 and 5 give 2/5 and 2/6 of their attention to the two middle positions
    assert by_hand.to_span("middle").item() == pytest.approx((2 / 5 + 2 / 6) / 2)
    # positions 2 to 5 give 2/3, 2/4, 2/5, 2/6 to the start
    assert by_hand.to_span("start").item() == pytest.approx((2 / 3 + 2 / 4 + 2 / 5 + 2 / 6) / 4)


def test_mass_to_a_span_can_be_read_at_chosen_positions(by_hand: AttentionPatterns) -> None:
    assert by_hand.to_span("middle", dest=slice(5, 6)).item() == pytest.approx(2 / 6)
    assert by_hand.to_span("end", dest=slice(0, 4)).item() == 0.0


def test_spans_without_later_positions_and_unknown_ones_are_refused(
    by_hand: AttentionPatterns,
) -> None:
    with pytest.raises(InterpError, match="no position comes after span 'end' of six"):
        by_hand.to_span("end")
    with pytest.raises(InterpError, match="no span 'instruction'; this prompt has start, middle"):
        by_hand.to_span("instruction")


@pytest.mark.parametrize("layers", [[0, 4], [-1], []])
def test_layers_the_model_does_not_have_are_refused(tiny_model: Any, layers: list[int]) -> None:
    with pytest.raises(InterpError, match=r"must be one or more of 0\.\.3"):
        read_attention(tiny_model, prompt_of(4), layers=layers)
