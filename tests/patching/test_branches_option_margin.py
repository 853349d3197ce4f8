"""The option margin: every cell against two full forwards through TransformerLens's hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.patching import ALL, Cell, Part, Patch, PatchedRuns, PatchSite, plan_sweep, sweep
from interp.patching.metrics import option_margin, reading_of
from interp.patching.sites import HEAD_SITES, KEY_VALUE_SITES, SweepMethod
from interp.prompts import PromptPair, make_pair
from tests.patching.by_hand import (
    EVERY_ARCHITECTURE,
    N_LAYERS,
    activations,
    name_of,
    rough_model,
    tolerance,
)
from tests.patching.options_by_hand import (
    full_texts,
    mean_log_prob,
    option_pair,
    own_option_margin,
    patched_option_margin,
)
from tests.patching.test_sweep_sites import require_fast

pytestmark = pytest.mark.slow

FEW = [("gemma3", False), ("neox", False), ("qwen2", False), ("gpt2", True)]
"""For what does not need every architecture."""
METHODS: tuple[SweepMethod, ...] = ("exact", "hooked")
SITES: tuple[PatchSite, ...] = (
    "resid_pre", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    model: Any
    pair: PromptPair


@pytest.fixture(params=EVERY_ARCHITECTURE, ids=name_of, scope="module")
def case(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Case:
    model = rough_model(load_tiny, request.param)
    return Case(model, option_pair(model))


@pytest.fixture(params=FEW, ids=name_of, scope="module")
def few(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Case:
    model = rough_model(load_tiny, request.param)
    return Case(model, option_pair(model))


@pytest.fixture(scope="module")
def one(load_tiny: Callable[..., Any]) -> Case:
    """A model with windows, scaled scores and soft caps."""
    model = rough_model(load_tiny, ("gemma2", False))
    return Case(model, option_pair(model))


def is_opaque(case: Case, site: str) -> bool:
    """OPT's hooks cannot edit the pattern."""
    return site == "pattern" and case.model.cfg.architecture == "OPTForCausalLM"


def hook(site: str, layer: int) -> str:
    inside = "attn." if site in (*HEAD_SITES, *KEY_VALUE_SITES) else ""
    return f"blocks.{layer}.{inside}hook_{site}"


@pytest.mark.parametrize("site", SITES)
def test_every_cell_equals_two_full_forwards_with_hooks(case: Case, site: PatchSite) -> None:
    """By position; at sites with heads by head, at the prompt's positions."""
    if is_opaque(case, site):
        return
    model, pair = case.model, case.pair
    n = len(pair.destination)
    result = sweep(model, pair, site=site, metric="option_margin", positions="all", progress=False)
    expected = torch.empty(result.values.shape[:2])
    for layer in range(N_LAYERS):
        for k in range(expected.shape[1]):

            def write(activation: Tensor, clean: Tensor, k: int = k) -> None:
                if site == "pattern":
                    activation[0, k, :n] = clean[0, k, :n]
                elif result.axis_names[1] == "head":
                    activation[0, :n, k] = clean[0, :n, k]
                else:
                    activation[0, k] = clean[0, k]

            expected[layer, k] = patched_option_margin(model, pair, hook(site, layer), write)
    require_fast(result)
    values = result.values[..., 0]
    assert float((values - expected).abs().max()) <= tolerance(expected)
    assert float(result.effect().abs().max()) >= 0.05
    own = own_option_margin(model, pair, pair.destination.ids)
    assert float(result.baseline) == pytest.approx(own, abs=1e-5)
    source = own_option_margin(model, pair, pair.source.ids)
    assert float(result.source_baseline) == pytest.approx(source, abs=1e-5)


def test_a_patch_of_resid_mid_is_one_of_the_layers_output(few: Case) -> None:
    if few.model.cfg.architecture in ("GPTNeoXForCausalLM", "PhiForCausalLM"):
        return  # parallel blocks have none
    options: dict[str, Any] = {"metric": "option_margin", "progress": False}
    mid, post = (
        sweep(few.model, few.pair, site=site, **options) for site in ("resid_mid", "resid_post")
    )
    require_fast(mid)
    assert float((mid.values - post.values).abs().max()) <= 1e-4


def test_patching_the_whole_prompt_before_the_first_layer_gives_the_sources_option_margin(
    few: Case,
) -> None:
    """At later layers the options' rows keep what they read of the unpatched prompt below."""
    result = sweep(few.model, few.pair, spans=[ALL], metric="option_margin", progress=False)
    require_fast(result)
    gaps = (result.values - result.source_baseline).abs().flatten()
    assert float(gaps[0]) <= 1e-5
    assert float(gaps[1:].min()) > 1e-3
    share = result.effect()[0] / (result.source_baseline - result.baseline)
    assert float(share) == pytest.approx(1.0, abs=1e-3)


def test_with_options_of_one_token_the_ceiling_holds_at_every_layer(few: Case) -> None:
    pair = option_pair(few.model, ([20], [90]))
    result = sweep(few.model, pair, spans=[ALL], metric="option_margin", progress=False)
    assert float((result.values - result.source_baseline).abs().max()) <= 1e-5


@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "z", "k", "pattern"])
def test_writing_a_runs_own_states_back_changes_nothing(few: Case, site: PatchSite) -> None:
    if is_opaque(few, site):
        return
    reading = reading_of(few.pair.destination.ids, few.pair, {"o": option_margin})
    n = len(reading.prompt)
    runs = PatchedRuns(few.model, [reading.prompt], [reading.read], branches=[reading.branches])
    states = activations(few.model, reading.prompt, site)
    heads = tuple(range(states[0].shape[1])) if states[0].ndim == 3 else ()
    cells = [
        Cell(0, (Patch(layer, site, torch.arange(start, n), rows[start:], heads),))
        for layer, rows in enumerate(states)
        for start in (0, 5, n - 1)
    ]
    worst = []

    def take(indices: list[int], logits: Tensor) -> None:
        worst.append(float((logits - runs.logits[0]).abs().max()))

    runs.run(cells, take)
    assert not runs.notes
    assert max(worst) <= 2e-4


def test_equal_prompts_have_nothing_to_patch(few: Case) -> None:
    ids = few.pair.destination.ids
    same = make_pair(few.model, ids, ids, options=([20, 7, 9, 11], [90, 33]))
    plan = plan_sweep(few.model, same, positions="all", metric="option_margin")
    assert {cell.state for cell in plan.cells} == {"zero"}
    result = sweep(few.model, same, positions="all", metric="option_margin", progress=False)
    assert bool((result.effect() == 0).all())
    assert bool((result.source_baseline == result.baseline).all())


def test_cells_before_the_first_difference_are_known_to_be_zero(few: Case) -> None:
    result = sweep(few.model, few.pair, metric="option_margin", positions="all", progress=False)
    first = few.pair.alignment.first_difference
    assert first
    assert bool((result.effect()[:, :first] == 0).all())


@pytest.mark.parametrize("site", ["attn_out", "mlp_out", "z", "resid_post"])
def test_the_last_layer_reaches_the_rows_that_read_shared_tokens(
    few: Case, site: PatchSite
) -> None:
    """There the margin depends on the last position alone, the option margin on one more."""
    options: dict[str, Any] = {"site": site, "layers": [N_LAYERS - 1], "positions": "all"}
    cells = "layer_head_pos" if site == "z" else "layer_pos"
    plan, short = (
        plan_sweep(few.model, few.pair, cells=cells, metric=metric, **options)
        for metric in ("option_margin", "margin")
    )
    n = len(few.pair.destination)

    def reached(found: Any) -> set[int]:
        return {int(cell.destination) for cell in found.to_run}

    assert reached(plan) == {n - 2, n - 1}
    assert reached(short) == {n - 1}
    metrics: dict[str, Any] = {"metric": ["margin", "option_margin"], "progress": False}
    fast, slow = (
        sweep(few.model, few.pair, cells=cells, method=method, **options, **metrics)
        for method in METHODS
    )
    assert float((fast.values - slow.values).abs().max()) <= 1e-5
    assert bool((fast["margin"].effect()[..., n - 2, 0] == 0).all())


@pytest.mark.parametrize("site", ["resid_pre", "z", "k"])
def test_several_metrics_share_the_runs_and_equal_each_alone(few: Case, site: PatchSite) -> None:
    names = ["margin", "option_margin", "log_prob"]
    together = sweep(few.model, few.pair, site=site, metric=names, progress=False)
    for name in names:
        alone = sweep(few.model, few.pair, site=site, metric=name, progress=False)
        allowed = tolerance(alone.values)
        assert float((together[name].values - alone.values).abs().max()) <= allowed
        for side in ("baseline", "source_baseline"):
            gap = getattr(together[name], side) - getattr(alone, side)
            assert float(gap.abs().max()) <= allowed


def test_on_options_of_one_token_it_is_the_margin(few: Case) -> None:
    pair = option_pair(few.model, ([20], [90]))
    assert pair.options is not None
    assert pair.options.single_token
    plan = plan_sweep(few.model, pair, metric="option_margin")
    assert plan.token_layers == plan_sweep(few.model, pair).token_layers  # and costs the same
    result = sweep(few.model, pair, metric=["margin", "option_margin"], progress=False)
    gap = (result["margin"].values - result["option_margin"].values).abs().max()
    assert float(gap) <= 5e-6


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("kind", ["along", "orthogonal"])
def test_parts_and_windows_equal_one_forward_per_branch(one: Case, kind: Any, window: int) -> None:
    generator = torch.Generator().manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(N_LAYERS, 32, generator=generator), dim=-1)
    both = [
        sweep(
            one.model,
            one.pair,
            metric="option_margin",
            part=Part(kind, vectors),
            window=window,
            method=method,
            progress=False,
        )
        for method in METHODS
    ]
    require_fast(both[0])
    assert float((both[0].values - both[1].values).abs().max()) <= 1e-5


def test_several_pairs_of_other_lengths_and_options_equal_each_alone(one: Case) -> None:
    """Branches, one branch and none in one call."""
    choices = [([5, 20, 7, 9, 11], [5, 90, 33]), ([20], [90]), ([20, 7, 8], [90])]
    pairs = [option_pair(one.model, o, 12 + k, seed=k) for k, o in enumerate(choices)]
    spans = [ALL, "p3", "p4"]
    together = sweep(one.model, pairs, spans=spans, metric="option_margin", progress=False)
    require_fast(together)
    for k, pair in enumerate(pairs):
        alone = sweep(one.model, pair, spans=spans, metric="option_margin", progress=False)
        assert float((together.values[..., k] - alone.values[..., 0]).abs().max()) <= 1e-5


def test_prompts_of_different_length_take_the_aligned_positions(one: Case) -> None:
    source, destination = one.pair.source.ids, one.pair.destination.ids
    longer = torch.cat([source[:6], torch.tensor([301, 302]), source[6:-1]])
    pair = make_pair(one.model, longer, destination[:-1], options=([5, 20, 7], [5, 90]))
    both = [
        sweep(
            one.model, pair, metric="option_margin", positions="all", method=method, progress=False
        )
        for method in METHODS
    ]
    require_fast(both[0])
    gap = (both[0].values - both[1].values).nan_to_num().abs().max()
    assert float(gap) <= 1e-5
    own = own_option_margin(one.model, pair, pair.source.ids)
    assert float(both[0].source_baseline) == pytest.approx(own, abs=1e-5)


def test_by_hand_the_means_are_over_each_options_own_tokens(one: Case) -> None:
    """5 tokens against 3: the oracle itself, from log-probabilities one by one."""
    pair = one.pair
    totals = []
    for fed, ids in full_texts(pair, pair.destination.ids):
        rows = one.model(fed[None])[0].detach().double().log_softmax(-1)
        start = len(fed) - len(ids)
        each = [float(rows[start + k, token]) for k, token in enumerate(ids.tolist())]
        assert sum(each) / len(each) == pytest.approx(
            float(mean_log_prob(one.model(fed[None])[0].detach(), ids))
        )
        totals.append(sum(each) / len(each))
    own = own_option_margin(one.model, pair, pair.destination.ids)
    assert own == pytest.approx(totals[0] - totals[1], abs=1e-9)
