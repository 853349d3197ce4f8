"""Steering and ablation: what the hooks write, where it reaches, and that nothing stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp.activations import SITES, Site, read_states
from interp.behaviour import score_options
from interp.behaviour.generation import complete
from interp.data import load_items, load_texts
from interp.directions import Direction, DirectionFacts, DirectionStack, fit_direction
from interp.errors import InterpError
from interp.models import forward, model_card
from interp.patching import sweep
from interp.prompts import make_pair
from tests.directions.made_up import noise

MODELS = [("gpt2", False), ("llama", False), ("llama", True), ("gemma2", False), ("neox", False)]
IDS = torch.randint(2, 400, (9,), generator=torch.Generator().manual_seed(3))


def direction_of(model: Any, site: Site, layer: int, *, scale: float = 2.0) -> Direction:
    """A random direction that says it belongs to the model."""
    card = model_card(model)
    facts = DirectionFacts("mean_difference", "made up", "h", 2, card.fingerprint, card.mode)
    vector = torch.nn.functional.normalize(noise(int(model.cfg.d_model), seed=layer), dim=0)
    return Direction(vector, scale, 0.7, layer, site, facts)


@torch.no_grad()
def caught(model: Any, ids: Tensor = IDS) -> dict[str, Tensor]:
    logits, cache = model.run_with_cache(ids[None])
    names = [name for name in cache if ".hook_resid" in name or name.endswith("_out")]
    return {"logits": logits[0], **{name: cache[name][0] for name in names}}


def hooks_on(model: Any) -> dict[str, int]:
    return {name: len(point.fwd_hooks) for name, point in model.hook_dict.items()}


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=2e-5 * float(other.abs().max()))


@pytest.fixture(params=MODELS, ids=lambda p: f"{p[0]}-{'compatibility' if p[1] else 'raw'}")
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    architecture, compatibility_mode = request.param
    return load_tiny(architecture, compatibility_mode=compatibility_mode)


def sites_of(model: Any) -> Iterator[Site]:
    for site in SITES:
        if not (site == "resid_mid" and model.cfg.parallel_attn_mlp):
            yield site  # type: ignore[misc]


@pytest.mark.slow
def test_apply_adds_strength_times_scale_of_the_vector_at_every_position(model: Any) -> None:
    before = caught(model)
    for site in sites_of(model):
        direction = direction_of(model, site, 1)
        with direction.apply(model, strength=-1.5):
            after = caught(model)
        name = f"blocks.1.hook_{site}"
        assert close(after[name], before[name] - 1.5 * 2.0 * direction.vector), site
        assert close(after["blocks.0.hook_resid_pre"], before["blocks.0.hook_resid_pre"])
        assert not close(after["logits"], before["logits"])


def test_apply_moves_the_residual_stream_and_not_one_branch_of_it(model: Any) -> None:
    """Also at resid_mid: what the MLP adds is added to the moved stream."""
    for site in sites_of(model):
        with direction_of(model, site, 1).apply(model, strength=3):
            after = caught(model)
        sums = [after[f"blocks.1.hook_{part}"] for part in ("resid_pre", "attn_out", "mlp_out")]
        if site == "resid_post":
            sums.append(3 * 2.0 * direction_of(model, site, 1).vector)
        assert close(after["blocks.1.hook_resid_post"], sum(sums)), site  # type: ignore[arg-type]
        assert close(after["blocks.2.hook_resid_pre"], after["blocks.1.hook_resid_post"])


def test_a_step_at_resid_mid_is_a_step_of_the_attentions_output(
    load_tiny: Callable[..., Any],
) -> None:
    for model in (load_tiny("gpt2"), load_tiny("llama")):
        before = caught(model)
        middle = direction_of(model, "resid_mid", 2)
        runs = []
        for direction in (middle, replace(middle, site="attn_out")):
            with direction.apply(model):
                runs.append(caught(model))
        step = 2.0 * middle.vector
        assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
        mid, post = "blocks.2.hook_resid_mid", "blocks.2.hook_resid_post"
        assert close(runs[0][mid], before[mid] + step)
        # the skip connection carries it on, beside what the MLP makes of it
        mlp = runs[0]["blocks.2.hook_mlp_out"] - before["blocks.2.hook_mlp_out"]
        assert close(runs[0][post], before[post] + step + mlp)


def test_strength_0_changes_no_bit_and_opposite_steps_cancel(model: Any) -> None:
    before = caught(model)["logits"]
    direction = direction_of(model, "resid_post", 1)
    with direction.apply(model, strength=0):
        assert torch.equal(caught(model)["logits"], before)
    with direction.apply(model, strength=2), direction.apply(model, strength=-2):
        assert close(caught(model)["logits"], before)
    with direction.apply(model, strength=1), direction.apply(model, strength=1):
        twice = caught(model)["logits"]
    with direction.apply(model, strength=2):
        assert close(caught(model)["logits"], twice)


def test_ablate_sets_the_component_to_the_offset_and_leaves_the_rest(model: Any) -> None:
    before = caught(model)
    for site in sites_of(model):
        direction = direction_of(model, site, 1)
        if site == "resid_mid":
            with (
                pytest.raises(InterpError, match="resid_mid cannot be set by a hook"),
                direction.ablate(model),
            ):
                pass
            continue
        name = f"blocks.1.hook_{site}"
        with direction.ablate(model):
            after = caught(model)[name]
        scale = float(before[name].abs().max())
        assert torch.allclose(
            after @ direction.vector, torch.full((len(IDS),), 0.7), atol=1e-5 * scale
        )
        moved = after - before[name]
        along = (moved @ direction.vector)[:, None] * direction.vector
        assert torch.allclose(moved, along, atol=1e-5 * scale)
        assert torch.allclose(direction.project(after), torch.zeros(len(IDS)), atol=1e-5 * scale)


def test_ablating_a_stack_sets_every_layer(tiny_model: Any) -> None:
    stack = fit_direction(
        tiny_model, load_texts("bundled:morality")[:40], n_shuffles=0, progress=False
    )
    with stack.ablate(tiny_model):
        states = read_states(tiny_model, [IDS, IDS[:4]], positions="last", progress=False)
        after = caught(tiny_model)
    assert torch.allclose(stack.project(states), torch.zeros(4, 2), atol=1e-4)
    for direction in stack:
        component = after[f"blocks.{direction.layer}.hook_resid_post"] @ direction.vector
        assert torch.allclose(component, torch.tensor(direction.offset), atol=1e-3)
    assert close(caught(tiny_model)["logits"], forward_logits(tiny_model))


def forward_logits(model: Any) -> Tensor:
    return forward(model, [IDS], logits_at=[(0, p) for p in range(len(IDS))]).logits


@pytest.mark.parametrize("method", ["apply", "ablate"])
def test_nothing_stays_after_the_context_nor_after_an_exception(
    tiny_model: Any, method: str
) -> None:
    before, counts = caught(tiny_model)["logits"], hooks_on(tiny_model)
    direction = direction_of(tiny_model, "resid_post", 1)
    context = getattr(direction, method)
    with context(tiny_model):
        assert hooks_on(tiny_model) != counts
    assert hooks_on(tiny_model) == counts
    with pytest.raises(RuntimeError, match="boom"), context(tiny_model):
        raise RuntimeError("boom")
    assert hooks_on(tiny_model) == counts
    assert torch.equal(caught(tiny_model)["logits"], before)


def test_the_callers_own_hooks_stay_on_and_act_beside_the_contexts(tiny_model: Any) -> None:
    seen: list[Tensor] = []

    def watch(activation: Tensor, hook: Any) -> None:
        seen.append(activation[0].clone())

    name = "blocks.1.hook_resid_post"
    outer, inner = direction_of(tiny_model, "resid_post", 1), direction_of(tiny_model, "mlp_out", 0)
    tiny_model.add_hook(name, watch)
    try:
        caught(tiny_model)
        with outer.apply(tiny_model):
            with inner.ablate(tiny_model):
                read_states(tiny_model, [IDS], progress=False)  # hooks of its own, inside
                caught(tiny_model)
            assert len(tiny_model.hook_dict[name].fwd_hooks) == 2
            steered = caught(tiny_model)[name]
        plain = caught(tiny_model)[name]
        assert close(steered, plain + 2.0 * outer.vector)
        assert len(tiny_model.hook_dict[name].fwd_hooks) == 1
        assert len(seen) == 5
    finally:
        tiny_model.reset_hooks()


@pytest.mark.slow
def test_packed_forwards_are_steered_as_single_ones_are(model: Any) -> None:
    direction = direction_of(model, "resid_post", 1)
    sequences = [torch.cat([IDS, tail]) for tail in torch.arange(5, 17).split([3, 5, 4])]
    places = [(k, len(ids) - 1) for k, ids in enumerate(sequences)]
    with direction.apply(model, strength=2):
        together = forward(model, sequences, logits_at=places).logits
        alone = torch.stack([caught(model, ids)["logits"][-1] for ids in sequences])
    assert close(together, alone)
    plain = forward(model, sequences, logits_at=places).logits
    assert not torch.allclose(together, plain, atol=1e-2)


def test_scores_are_those_of_the_steered_model(load_tiny: Callable[..., Any]) -> None:
    """The step is a bias: written into the weights it gives the same scores."""
    model = load_tiny("gpt2")
    items = load_items("bundled:choices", limit=1, seed=0)
    direction = direction_of(model, "mlp_out", 1)

    def margins() -> np.ndarray:
        scores = score_options(model, items, conditions=["clean"], progress=False)
        return scores.frame[["margin", "p_unknown"]].to_numpy()

    plain = margins()
    with direction.apply(model, strength=2):
        steered = margins()
    (bias,) = [
        value
        for name, value in model.original_model.named_parameters()
        if ".h.1." in name and "mlp" in name and "c_proj" in name and name.endswith("bias")
    ]
    kept = bias.detach().clone()
    try:
        bias.data += 2 * 2.0 * direction.vector
        written = margins()
    finally:
        bias.data.copy_(kept)
    assert np.allclose(steered, written, atol=1e-4)
    assert not np.allclose(steered, plain, atol=1e-2)
    assert np.allclose(margins(), plain, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("site", ["resid_pre", "mlp_out", "attn_out", "resid_post"])
@pytest.mark.parametrize("method", ["apply", "ablate"])
def test_a_sweep_patches_the_steered_model(tiny_model: Any, method: str, site: Site) -> None:
    """The exact engine against one forward per cell through hooks, both inside the context."""
    pair = make_pair(tiny_model, IDS, torch.cat([IDS[:5], IDS[5:].flip(0)]), target=(20, 90))
    direction = direction_of(tiny_model, site, 1)
    options: dict[str, Any] = {"site": site, "progress": False}
    plain = sweep(tiny_model, pair, **options)
    with getattr(direction, method)(tiny_model):
        exact = sweep(tiny_model, pair, **options)
        hooked = sweep(tiny_model, pair, method="hooked", **options)
    assert np.allclose(np.asarray(exact.values), np.asarray(hooked.values), atol=1e-3)
    assert not np.allclose(np.asarray(exact.values), np.asarray(plain.values), atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["apply", "ablate"])
def test_generation_with_a_cache_is_steered_at_every_token(model: Any, method: str) -> None:
    pair = make_pair(model, load_items("bundled:choices", limit=1, seed=0)[0], "clean",
                     against="instructed")  # fmt: skip
    prompt = pair.source
    direction = direction_of(model, "resid_post", 1, scale=20.0)
    plain = complete(model, prompt, max_new_tokens=8, stop_ids=())
    with getattr(direction, method)(model):
        steered = complete(model, prompt, max_new_tokens=8, stop_ids=())
        logits = caught(model, steered.ids)["logits"]
    new = steered.ids[len(prompt) :]
    assert torch.equal(logits[len(prompt) - 1 : -1].argmax(-1), new)
    assert steered.spans["generated"] == slice(len(prompt), len(prompt) + 8)
    if method == "apply":
        assert not torch.equal(plain.ids, steered.ids)


def test_other_weights_and_other_modes_are_refused_by_every_use(
    load_tiny: Callable[..., Any],
) -> None:
    raw, processed = load_tiny("llama"), load_tiny("llama", compatibility_mode=True)
    in_mode = direction_of(processed, "resid_post", 1)
    foreign = direction_of(load_tiny("gpt2"), "resid_post", 1)
    for direction, message in [
        (in_mode, "fitted in compatibility mode, the model is in raw mode: .* fit it again"),
        (foreign, "fitted on other weights .* fit it again on this model"),
    ]:
        for use in (direction.require, direction.apply, direction.ablate):
            with pytest.raises(InterpError, match=message):
                use(raw)
    assert hooks_on(raw) == hooks_on(load_tiny("llama"))


def test_a_stack_refuses_another_mode_too(load_tiny: Callable[..., Any], tmp_path: Path) -> None:
    texts = load_texts("bundled:morality")[:40]
    processed = load_tiny("llama", compatibility_mode=True)
    stack: DirectionStack = fit_direction(processed, texts, n_shuffles=0, progress=False)
    for use in (stack.require, stack.ablate, stack[1].apply):
        with pytest.raises(InterpError, match="fitted in compatibility mode"):
            use(load_tiny("llama"))
    stack.require(processed)
