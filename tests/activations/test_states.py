"""Reads of many prompts: equal to reading each prompt alone through TransformerLens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.activations import SITES, read_sites, read_states
from interp.activations.sites import Site
from interp.data import load_items
from interp.errors import InterpError
from interp.models import load_model
from interp.prompts import make_pair

N_TOKENS = 400


def prompts(lengths: Sequence[int], *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, N_TOKENS, (n,), generator=generator) for n in lengths]


def one_by_one(
    model: Any, sequences: Sequence[Tensor], positions: Sequence[int], site: str
) -> Tensor:
    columns = []
    for ids, position in zip(sequences, positions, strict=True):
        _, cache = model.run_with_cache(ids[None])
        rows = [
            cache[f"blocks.{n}.hook_{site}"][0, position].detach()
            for n in range(model.cfg.n_layers)
        ]
        columns.append(torch.stack(rows))
    return torch.stack(columns, dim=1)


def assert_equal_states(values: Tensor, expected: Tensor) -> None:
    assert values.shape == expected.shape
    scale = expected.abs().amax(dim=(1, 2), keepdim=True)
    assert float(((values - expected) / scale).abs().max()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox", "opt"])
def test_states_equal_single_runs_at_the_last_position(
    load_tiny: Callable[..., Any], architecture: str, site: Site
) -> None:
    if architecture == "neox" and site == "resid_mid":
        pytest.skip("parallel blocks have no resid_mid")
    model = load_tiny(architecture)
    sequences = prompts([5, 9, 3, 7])
    states = read_states(model, sequences, site=site, progress=False)
    assert_equal_states(states.values, one_by_one(model, sequences, [-1] * 4, site))
    assert (states.layers, states.site) == ((0, 1, 2, 3), site)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "phi"])
def test_states_equal_single_runs_at_given_positions(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture, compatibility_mode=architecture == "llama")
    sequences = prompts([5, 9, 3, 7])
    positions = [0, 4, -1, 6]
    states = read_states(model, sequences, site="mlp_out", positions=positions, progress=False)
    assert_equal_states(states.values, one_by_one(model, sequences, positions, "mlp_out"))


def test_shared_beginnings_and_repeated_prompts_keep_the_order_of_the_prompts(
    tiny_model: Any,
) -> None:
    stem, tails = prompts([6])[0], prompts([2, 5, 1] * 7, seed=1)
    sequences = [torch.cat([stem, tail]) for tail in tails] + [stem, stem]
    states = read_states(tiny_model, sequences, progress=False)
    expected = one_by_one(tiny_model, sequences, [-1] * len(sequences), "resid_post")
    assert_equal_states(states.values, expected)
    assert torch.equal(states.values[:, -1], states.values[:, -2])


def test_chosen_layers_come_in_the_order_asked_for(tiny_model: Any) -> None:
    sequences = prompts([4, 6])
    everything = read_states(tiny_model, sequences, progress=False)
    chosen = read_states(tiny_model, sequences, layers=[3, 1], progress=False)
    assert chosen.layers == (3, 1)
    assert torch.equal(chosen.values, everything.values[[3, 1]])


def test_several_sites_come_from_one_run_per_prompt_and_equal_single_reads(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences, sites = prompts([5, 9, 3]), ["mlp_out", "resid_pre", "resid_post"]
    alone = {site: read_states(tiny_model, sequences, site=site, progress=False) for site in sites}
    module, asked = import_module("interp.activations.stream"), []
    forward = module.forward

    def spy(model: Any, given: Sequence[Tensor], **options: Any) -> Any:
        asked.extend(given)
        return forward(model, given, **options)

    monkeypatch.setattr(module, "forward", spy)
    together = read_sites(tiny_model, sequences, sites=sites, progress=False)
    assert len(asked) == 3
    assert list(together) == sites
    for site in sites:
        assert together[site].site == site
        assert_equal_states(together[site].values, alone[site].values)


def test_a_span_is_read_as_its_mean_and_a_small_budget_changes_nothing(tiny_model: Any) -> None:
    item = load_items("bundled:choices", limit=1, seed=0)[0]
    pair = make_pair(tiny_model, item, "instructed")
    both = [pair.source, pair.destination]
    read = {"sites": ["resid_post"], "positions": "instruction", "progress": False}
    states = read_sites(tiny_model, both, **read)["resid_post"].values
    for column, prompt in enumerate(both):
        _, cache = tiny_model.run_with_cache(prompt.ids[None])
        for layer in range(4):
            rows = cache[f"blocks.{layer}.hook_resid_post"][0, prompt.span("instruction")]
            assert torch.allclose(states[layer, column], rows.mean(0).detach(), atol=1e-4)
    small = read_sites(tiny_model, both, max_bytes=1, **read)["resid_post"].values
    assert_equal_states(small, states)


def test_sites_and_single_places_are_asked_for(tiny_model: Any) -> None:
    with pytest.raises(InterpError, match="no layers or sites to read"):
        read_sites(tiny_model, prompts([4]), sites=[], progress=False)
    with pytest.raises(InterpError, match="positions 'all' are several per prompt"):
        read_sites(tiny_model, prompts([4]), sites=["mlp_out"], positions="all", progress=False)
    single = read_sites(
        tiny_model, prompts([1]), sites=["mlp_out"], positions="all", progress=False
    )
    assert single["mlp_out"].values.shape == (4, 1, 32)


def test_what_comes_back_is_float32_without_gradients(tiny_model: Any) -> None:
    values = read_states(tiny_model, prompts([4]), progress=False).values
    assert values.dtype == torch.float32
    assert values.device.type == "cpu"
    assert not values.requires_grad


def test_reading_leaves_no_hooks(tiny_model: Any) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in tiny_model.modules())

    before = hooks()
    read_states(tiny_model, prompts([4, 5]), progress=False)
    assert hooks() == before


def test_resid_mid_of_parallel_blocks_is_refused(load_tiny: Callable[..., Any]) -> None:
    with pytest.raises(InterpError, match="parallel blocks have no resid_mid"):
        read_states(load_tiny("phi"), prompts([4]), site="resid_mid", progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "resid"}, "no site 'resid'"),
        ({"layers": [4]}, "layer 4 is outside 0..3"),
        ({"layers": []}, "no layers or sites to read"),
        ({"positions": [0]}, "1 positions for 2 prompts"),
        ({"positions": [0, 6]}, r"position 6 is outside prompt 1, 0\.\.5"),
        ({"positions": [-5, 0]}, r"position -5 is outside prompt 0, 0\.\.3"),
    ],
)
def test_wrong_requests_say_what_was_wrong(
    tiny_model: Any, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the checks a user meets
    with pytest.raises(InterpError, match=message):
        read_states(tiny_model, prompts([4, 6]), progress=False, **options)


def test_empty_and_too_long_prompts_are_named(tiny_model: Any) -> None:
    with pytest.raises(InterpError, match="no prompts to read"):
        read_states(tiny_model, [], progress=False)
    with pytest.raises(InterpError, match="prompt 18 has 0 tokens, must be 1 to 1024"):
        read_states(tiny_model, prompts([3] * 18 + [0]), progress=False)
    with pytest.raises(InterpError, match="prompt 1 has 1025 tokens, must be 1 to 1024"):
        read_states(tiny_model, prompts([3, 1025]), progress=False)


@pytest.fixture
def fragile(tiny_folder: Callable[..., Path]) -> Any:
    """A model of its own, to damage."""
    return load_model(tiny_folder("llama"))


def weight(model: Any, *parts: str) -> Tensor:
    named = model.original_model.named_parameters()
    (found,) = [value for name, value in named if all(part in name for part in parts)]
    return found


def test_a_nan_of_one_prompt_names_that_prompt_and_the_first_hook(fragile: Any) -> None:
    sequences = prompts([4] * 20)
    sequences[17][2] = N_TOKENS + 1
    with torch.no_grad():
        weight(fragile, "embed_tokens")[N_TOKENS + 1] = float("nan")
    with pytest.raises(
        InterpError, match=r"^blocks\.0\.hook_resid_post of prompt 17 is not finite"
    ):
        read_states(fragile, sequences, progress=False)


@pytest.mark.parametrize("site", ["resid_post", "mlp_out"])
def test_a_nan_of_one_layer_names_that_layer(fragile: Any, site: Site) -> None:
    with torch.no_grad():
        weight(fragile, "layers.2.", "down_proj")[3, 3] = float("nan")
    message = rf"^blocks\.2\.hook_{site} of prompt 0 is not finite"
    with pytest.raises(InterpError, match=message):
        read_states(fragile, prompts([4, 5]), site=site, progress=False)


def test_a_nan_outside_what_was_asked_for_is_still_refused(fragile: Any) -> None:
    with torch.no_grad():
        weight(fragile, "layers.3.", "down_proj")[3, 3] = float("nan")
    with pytest.raises(InterpError, match=r"logits .* not finite"):
        read_states(fragile, prompts([4, 5]), layers=[0], progress=False)
