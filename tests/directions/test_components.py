"""Components: every reading against the activations of a plain run, and what the hooks keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp.activations import stream
from interp.directions.components import (
    COSINE,
    DOT,
    STANDARDISED,
    Standardisation,
    component_reader,
    require_component,
)
from interp.directions.moments import read_moments
from interp.errors import InterpError

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

_QUICK = ("gpt2", "llama", "gemma2", "neox")
ARCHITECTURES = [
    pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow)
    for name in ("gpt2", "llama", "qwen2", "gemma", "gemma2", "gemma3", "neox", "opt", "phi")
]
IDS = torch.arange(10, 22)


def vectors(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(1))


def read(model: Any, one: Any, positions: str = "all") -> torch.Tensor:
    _, found = next(
        stream(model, [IDS], {one.hook: one.reduce}, positions=positions, progress=False)
    )
    return found[one.hook]


def head_outputs(model: Any, layer: int) -> torch.Tensor:
    """Every head's and the bias's addition to the residual stream ``[pos, head + 1, d_model]``."""
    _, cache = model.run_with_cache(IDS[None])
    block = model.blocks[layer]
    out = torch.einsum("phd,hdm->phm", cache[f"blocks.{layer}.attn.hook_z"][0], block.attn.W_O)
    bias = block.attn.b_O
    if bias is not None:
        out = torch.cat([out, bias.expand(len(out), 1, -1)], dim=1)
    if hasattr(block, "ln1_post"):  # the norm is linear once its own scale is taken as given
        whole = cache[f"blocks.{layer}.ln1_post.hook_in"][0]
        gain = cache[f"blocks.{layer}.hook_attn_out"][0] / whole
        out = out * gain[:, None]
    return out.detach()


@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_head_readings_equal_their_formed_outputs_and_add_up_to_the_attention(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode, random_vectors=True)
    v = vectors()
    found = read(model, component_reader(model, "head", 1, v))
    outputs = head_outputs(model, 1)
    dots = outputs @ v.T
    torch.testing.assert_close(found[:, :, DOT], dots, atol=2e-4, rtol=2e-4)
    sizes = outputs.norm(dim=-1, keepdim=True) * v.norm(dim=-1)
    there = sizes[..., 0] > 1e-6
    torch.testing.assert_close(
        found[:, :, COSINE][there], (dots / sizes)[there], atol=1e-4, rtol=1e-3
    )
    whole = read(model, component_reader(model, "attn_out", 1, v))[:, 0, DOT]
    error = (found[:, :, DOT].sum(1) - whole).abs() / found[:, :, DOT].abs().sum(1)
    assert float(error.max()) < 1e-5


def test_plain_components_equal_cached_activations(tiny_model: Any) -> None:
    _, cache = tiny_model.run_with_cache(IDS[None])
    v = vectors()
    for component in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"):
        states = cache[f"blocks.2.hook_{component}"][0]
        found = read(tiny_model, component_reader(tiny_model, component, 2, v))  # type: ignore[arg-type]
        assert found.shape == (len(IDS), 1, 2, 2)
        torch.testing.assert_close(found[:, 0, DOT], states @ v.T, atol=1e-4, rtol=1e-4)
        expected = torch.cosine_similarity(states[:, None], v[None], dim=-1)
        torch.testing.assert_close(found[:, 0, COSINE], expected, atol=1e-5, rtol=1e-4)
    embedding = read(tiny_model, component_reader(tiny_model, "embedding", 0, v))
    states = cache["blocks.0.hook_resid_pre"][0]
    torch.testing.assert_close(embedding[:, 0, DOT], states @ v.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("component", ["head", "attn_out", "resid_post"])
def test_nothing_of_the_models_width_leaves_a_hook(
    load_tiny: Callable[..., Any], component: str
) -> None:
    model = load_tiny("gemma2", random_vectors=True)
    one = component_reader(model, component, 1, vectors(1))  # type: ignore[arg-type]
    kept = []

    def spy(rows: torch.Tensor) -> torch.Tensor:
        out = one.reduce(rows)
        kept.append(out)
        return out

    next(stream(model, [IDS], {one.hook: spy}, positions="all", progress=False))
    assert kept
    for out in kept:
        assert out.shape == (len(IDS), len(one.parts), 2, 1)
        assert out.untyped_storage().nbytes() == out.numel() * 4  # not a view of something larger
        assert 32 not in out.shape


def test_the_standardised_cosine_by_hand(tiny_model: Any) -> None:
    mean, std, v = torch.arange(32.0) / 10, torch.linspace(0.5, 3, 32), vectors(1)
    std[5] = 0.0  # a dimension that does not vary says nothing
    one = component_reader(tiny_model, "mlp_out", 1, v, standard=Standardisation(mean, std))
    found = read(tiny_model, one, "last")[0, 0, STANDARDISED, 0]
    _, cache = tiny_model.run_with_cache(IDS[None])
    state = cache["blocks.1.hook_mlp_out"][0, -1]
    kept = [k for k in range(32) if k != 5]
    a = [(float(state[k]) - float(mean[k])) / float(std[k]) for k in kept]
    b = [float(v[0, k]) / float(std[k]) for k in kept]
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    expected = dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_moments_equal_those_of_all_states_at_once(tiny_model: Any) -> None:
    prompts = [torch.randint(5, 400, (n,), generator=torch.Generator().manual_seed(n))
               for n in (9, 9, 9)]  # fmt: skip
    found = read_moments(
        tiny_model, prompts, components=["resid_post", "embedding"], progress=False, layers=[0, 3]
    )
    caches = [tiny_model.run_with_cache(ids[None])[1] for ids in prompts]
    for component, hook in (("resid_post", "blocks.3.hook_resid_post"),
                            ("embedding", "blocks.0.hook_resid_pre")):  # fmt: skip
        states = torch.cat([cache[hook][0, 1:] for cache in caches]).double()  # not position 0
        here = found.at(component, 3)
        assert here is not None
        torch.testing.assert_close(here.mean.double(), states.mean(0), atol=1e-5, rtol=1e-5)
        spread = states.std(0, correction=0)
        torch.testing.assert_close(here.std.double(), spread, atol=1e-5, rtol=1e-5)
    assert (found.n_prompts, found.positions) == (3, "mean")


def test_moments_of_constant_states_survive_large_means(tiny_model: Any) -> None:
    found = read_moments(
        tiny_model, [IDS, IDS, IDS], components=["resid_post"], positions="last", progress=False
    )
    assert float(found.std["resid_post"].max()) < 1e-5


def test_special_tokens_are_left_out_of_the_mean(tiny_model: Any) -> None:
    special = torch.tensor(sorted(tiny_model.tokenizer.all_special_ids))[:1]
    ids = torch.cat([IDS[:4], special, IDS[4:]])
    found = read_moments(tiny_model, [ids], components=["resid_post"], progress=False)
    _, cache = tiny_model.run_with_cache(ids[None])
    states = cache["blocks.2.hook_resid_post"][0, [k for k in range(len(ids)) if k not in (0, 4)]]
    here = found.at("resid_post", 2)
    assert here is not None
    torch.testing.assert_close(here.mean, states.mean(0), atol=1e-5, rtol=1e-5)


def test_what_cannot_be_read_is_refused(load_tiny: Callable[..., Any], tiny_model: Any) -> None:
    v = vectors(1)
    with pytest.raises(InterpError, match="no component 'z'"):
        require_component("z")
    with pytest.raises(InterpError, match="layer 4 is outside"):
        component_reader(tiny_model, "head", 4, v)
    with pytest.raises(InterpError, match="read at layer 0"):
        component_reader(tiny_model, "embedding", 1, v)
    with pytest.raises(InterpError, match="parallel blocks have no resid_mid"):
        component_reader(load_tiny("neox"), "resid_mid", 0, v)
    with pytest.raises(InterpError, match="heads have no standardised"):
        component_reader(
            tiny_model, "head", 0, v, standard=Standardisation(torch.zeros(32), torch.ones(32))
        )
    with pytest.raises(InterpError, match="heads have no moments"):
        read_moments(tiny_model, [IDS], components=["head"], progress=False)
    moments = read_moments(tiny_model, [IDS], components=["mlp_out"], layers=[1], progress=False)
    with pytest.raises(InterpError, match="not at attn_out, layer 1"):
        moments.at("attn_out", 1)
    assert moments.at("head", 1) is None


def test_a_norm_after_attention_that_centres_is_refused(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("gemma2", random_vectors=True)
    monkeypatch.setattr(model.blocks[1].ln1_post, "_uses_rms_norm_override", False)
    with pytest.raises(InterpError, match="centres its input"):
        component_reader(model, "head", 1, vectors(1))
