"""The decomposition: parts that add up on every architecture, and terms equal to formed outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from interp.data import load_items
from interp.directions import Direction, DirectionFacts, decompose
from interp.directions.decompose import relative_error, require_sums
from interp.errors import InterpError
from interp.models import model_card
from interp.prompts import PromptPair, TokenizedPrompt, make_pair

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

_QUICK = ("gpt2", "llama", "gemma2", "neox")
ARCHITECTURES = [
    pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow)
    for name in ("gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3", "neox", "opt", "phi")
]
IDS = torch.arange(10, 22)


def direction_of(model: Any, site: str = "resid_post", layer: int = 3) -> Direction:
    card = model_card(model)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    facts = DirectionFacts("mean_difference", "s", "h", 1, card.fingerprint, card.mode)
    return Direction(vector / vector.norm(), 1.0, 0.0, layer, site, facts)  # type: ignore[arg-type]


def prompt_of(ids: torch.Tensor) -> TokenizedPrompt:
    tokens = tuple(str(k) for k in ids.tolist())
    return TokenizedPrompt(ids, {"prompt": slice(0, len(ids))}, tokens, "", "a prompt")


@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parts_add_up_to_the_residual_stream_at_every_site_and_position(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode, random_vectors=True)
    _, cache = model.run_with_cache(IDS[None])
    sites = ["resid_pre", "resid_post"]
    sites += [] if model.cfg.parallel_attn_mlp else ["resid_mid"]
    for site, layer in [*((site, 2) for site in sites), ("resid_pre", 0), ("resid_post", 3)]:
        direction = direction_of(model, site, layer)
        parts = decompose(model, [prompt_of(IDS)], direction, positions="all", progress=False)
        stream = cache[f"blocks.{layer}.hook_{site}"][0] @ direction.vector
        np.testing.assert_allclose(parts.totals, stream.numpy(), atol=1e-4, rtol=1e-4)
        assert parts.error() <= 1e-3  # measured: 2e-7
        error = np.abs(parts.values.sum(1) - stream.numpy()) / np.abs(parts.values).sum(1)
        assert float(error.max()) <= 1e-3
    n_bias = 4 if model.blocks[0].attn.b_O is not None else 0
    assert len(parts.parts) == 1 + 4 * 4 + 4 + n_bias
    assert parts.rows["position"].tolist() == list(range(len(IDS)))


def test_mlp_and_embedding_terms_are_their_activations(tiny_model: Any) -> None:
    direction = direction_of(tiny_model)
    frame = decompose(tiny_model, prompt_of(IDS), direction, progress=False).to_dataframe()
    _, cache = tiny_model.run_with_cache(IDS[None])
    dots = frame.set_index("label")["dot"]
    for label, hook in (
        ("embedding", "blocks.0.hook_resid_pre"),
        ("L2 MLP", "blocks.2.hook_mlp_out"),
    ):
        expected = float(cache[hook][0, -1] @ direction.vector)
        assert dots[label] == pytest.approx(expected, rel=1e-4)
    head = cache["blocks.1.attn.hook_z"][0, -1, 2] @ tiny_model.blocks[1].attn.W_O[2]
    assert dots["L1H2"] == pytest.approx(float(head @ direction.vector), rel=1e-4)
    assert frame["position"].eq(len(IDS) - 1).all()


def test_span_means_decompose_too(tiny_model: Any) -> None:
    pair = make_pair(tiny_model, load_items("bundled:choices", limit=1, seed=0)[0], "instructed")
    direction = direction_of(tiny_model)
    mean = decompose(tiny_model, pair.source, direction, positions="question", progress=False)
    each = decompose(tiny_model, pair.source, direction, positions="question:all", progress=False)
    np.testing.assert_allclose(mean.values[0], each.values.mean(0), atol=1e-5)
    assert mean.error() < 1e-5
    assert mean.rows["position"].tolist() == [-1]


@pytest.fixture
def pairs(tiny_model: Any) -> list[PromptPair]:
    items = load_items("bundled:choices", limit=3, seed=0)
    return [make_pair(tiny_model, item, "instructed") for item in items]


def test_the_contrast_is_source_minus_destination_and_top_ranks_by_its_mean_size(
    tiny_model: Any, pairs: list[PromptPair]
) -> None:
    direction = direction_of(tiny_model)
    parts = decompose(tiny_model, pairs, direction, progress=False)
    sources = decompose(tiny_model, [p.source for p in pairs], direction, progress=False)
    others = decompose(tiny_model, [p.destination for p in pairs], direction, progress=False)
    contrast = parts.contrast()
    np.testing.assert_allclose(contrast, sources.values - others.values, atol=1e-4)
    top = parts.top(5)
    sizes = np.abs(contrast).mean(0)
    assert top["size"].tolist() == sorted(sizes, reverse=True)[:5]
    k = parts.parts["label"].tolist().index(top["label"][0])
    assert top["mean"][0] == pytest.approx(contrast[:, k].mean())
    plain = sources.top(3)
    largest = sorted(np.abs(sources.values.astype(float)).mean(0), reverse=True)[:3]
    assert plain["size"].tolist() == pytest.approx(largest)
    assert "L" in parts._repr_html_()
    with pytest.raises(InterpError, match="needs pairs"):
        sources.contrast()


def test_what_is_no_sum_over_layers_is_refused(
    load_tiny: Callable[..., Any], tiny_model: Any
) -> None:
    with pytest.raises(InterpError, match="only the residual stream is a sum"):
        decompose(tiny_model, prompt_of(IDS), direction_of(tiny_model, "mlp_out"), progress=False)
    neox = load_tiny("neox", random_vectors=True)
    with pytest.raises(InterpError, match="parallel blocks have no resid_mid"):
        decompose(neox, prompt_of(IDS), direction_of(neox, "resid_mid"), progress=False)
    with pytest.raises(InterpError, match="other weights"):
        decompose(load_tiny("gpt2", random_vectors=True), prompt_of(IDS), direction_of(tiny_model))


def test_parts_that_miss_the_stream_are_refused(tiny_model: Any) -> None:
    values = np.array([[1.0, 2.0, -1.0]])
    require_sums(tiny_model, values, np.array([2.0001]))
    with pytest.raises(InterpError, match="do not simply add"):
        require_sums(tiny_model, values, np.array([2.5]))
    assert relative_error(values, np.array([2.5])) == pytest.approx(0.125)
