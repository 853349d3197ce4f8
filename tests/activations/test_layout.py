from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from interp.activations.layout import require_layout
from interp.directions import Direction, DirectionFacts, decompose
from interp.errors import InterpError
from interp.models import load_model, model_card
from interp.patching import attribute, knockout, sweep
from interp.patching.drop_in import (
    get_act_patch_attn_head_out_all_pos,
    get_act_patch_resid_pre,
)
from interp.prompts import PromptPair, make_pair
from tests.matrix.measure import build_folder

Z = "blocks.0.attn.hook_z"


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A DeepSeek-V3: attention with compressed keys, its hooks laid out in another way."""
    return load_model(build_folder("DeepseekV3ForCausalLM", tmp_path_factory.mktemp("deepseek")))


def pair_of(model: Any) -> PromptPair:
    ids = torch.arange(10, 22)
    return make_pair(model, ids, torch.cat([ids[:9], ids[9:] + 40]), target=(3, 4))


def direction_of(model: Any) -> Direction:
    card = model_card(model)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    facts = DirectionFacts("mean_difference", "s", "h", 1, card.fingerprint, card.mode)
    return Direction(vector / vector.norm(), 1.0, 0.0, 3, "resid_post", facts)


def test_hooks_with_the_layout_that_is_read_pass(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    require_layout(model, [Z], lambda n: (1, n, 4, 8), "")
    require_layout(model, [Z], lambda n: (1, n, 4, 0), "")


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (Z, r"hook_z of LlamaForCausalLM has the shape \[1, 5, 4, 8\] on 5 tokens, not \[1, 4"),
        ("blocks.0.hook_nothing", "hook_nothing never fires on this model: choose z"),
        ("blocks.0.attn.hook_result", "hook_result never fires on this model: choose z"),
    ],
)
def test_other_layouts_and_missing_hooks_are_named(
    hook: str, message: str, load_tiny: Callable[..., Any]
) -> None:
    with pytest.raises(InterpError, match=message):
        require_layout(load_tiny("llama"), [hook], lambda n: (1, 4, n, 8), "choose z")


@pytest.mark.parametrize("site", ["z", "q", "k", "v"])
def test_heads_that_are_none_are_not_patched(site: Any, compressed: Any) -> None:
    pair = pair_of(compressed)
    for run in (
        lambda: sweep(compressed, pair, site=site, progress=False),
        lambda: sweep(compressed, pair, site=site, method="hooked", progress=False),
        lambda: attribute(compressed, pair, sites=[site], progress=False),
    ):
        with pytest.raises(InterpError, match=rf"hook_{site} of DeepseekV3ForCausalLM has the sha"):
            run()


def test_heads_that_are_none_are_not_decomposed(compressed: Any) -> None:
    with pytest.raises(InterpError, match="heads cannot be read on it; read attn_out instead"):
        decompose(compressed, pair_of(compressed), direction_of(compressed), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out"])
def test_a_sweep_that_the_engine_cannot_start_goes_the_slow_way_with_a_note(
    site: Any, compressed: Any
) -> None:
    pair = pair_of(compressed)
    found = sweep(compressed, pair, site=site, progress=False)
    slow = sweep(compressed, pair, site=site, method="hooked", progress=False)
    assert torch.equal(found.values, slow.values)
    assert "one forward per cell" in found.notes[-1]
    assert "DeepseekV3ForCausalLM" in found.notes[-1]
    assert slow.notes == ()


def test_a_knockout_that_the_engine_cannot_start_goes_the_slow_way_with_a_note(
    compressed: Any,
) -> None:
    from dataclasses import replace

    pair = pair_of(compressed)
    spans = {"instruction": slice(3, 9)}
    pair = replace(pair, destination=replace(pair.destination, spans=spans))
    found = knockout(compressed, pair, progress=False)
    slow = knockout(compressed, pair, method="hooked", progress=False)
    assert torch.equal(found.values, slow.values)
    assert "one forward per cell" in found.notes[-1]


def test_transformer_lens_patching_functions_go_the_slow_way_too(compressed: Any) -> None:
    pair = pair_of(compressed)
    clean, corrupted = pair.source.ids[None], pair.destination.ids[None]
    _, cache = compressed.run_with_cache(clean)
    found = get_act_patch_resid_pre(
        compressed, corrupted, cache, lambda logits: logits[0, -1, 3] - logits[0, -1, 4],
        progress=False,
    )  # fmt: skip
    slow = sweep(compressed, pair, method="hooked", positions="all", progress=False)
    assert isinstance(found, torch.Tensor)
    assert torch.allclose(found, slow.values[..., 0], atol=1e-3)


def test_transformer_lens_patching_functions_do_not_patch_heads_that_are_none(
    compressed: Any,
) -> None:
    ids = pair_of(compressed).source.ids[None]
    _, cache = compressed.run_with_cache(ids)
    with pytest.raises(InterpError, match="hook_z of DeepseekV3ForCausalLM has the shape"):
        get_act_patch_attn_head_out_all_pos(
            compressed, ids, cache, lambda logits: logits[0, -1, 3], progress=False
        )


def test_a_users_hook_beyond_the_few_tokens_does_not_stop_a_sweep(
    tiny_folder: Callable[..., Path],
) -> None:
    model = load_model(tiny_folder("llama"))
    pair = pair_of(model)

    def steer(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        activation[:, 11] += 1.0
        return activation

    model.add_hook("blocks.1.hook_resid_post", steer)
    found = sweep(model, pair, progress=False)
    slow = sweep(model, pair, method="hooked", progress=False)
    assert torch.allclose(found.values, slow.values, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_blocks_that_scale_their_outputs_are_not_decomposed_in_any_type(
    dtype: Any, tmp_path: Path
) -> None:
    model = load_model(build_folder("GraniteForCausalLM", tmp_path), dtype=dtype)
    with pytest.raises(InterpError, match="blocks do not simply add their outputs"):
        decompose(model, pair_of(model), direction_of(model), progress=False)


def test_half_precision_is_decomposed_where_parts_add_up(tmp_path: Path) -> None:
    model = load_model(build_folder("Gemma3ForCausalLM", tmp_path), dtype="bfloat16")
    parts = decompose(model, pair_of(model), direction_of(model), progress=False)
    assert parts.error() < 0.05
    assert model.cfg.dtype == torch.bfloat16
