"""Every site of nine architectures: each cell against TransformerLens's own patching functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import patching

from interp.errors import InterpError
from interp.models.verdicts import forget
from interp.patching import ALL, Cell, Part, Patch, PatchedRuns, PatchSite, SweepResult, sweep
from interp.prompts import PromptPair
from tests.patching.by_hand import (
    EVERY_ARCHITECTURE,
    N_LAYERS,
    TARGET,
    activations,
    name_of,
    rough_model,
    rough_pair,
    tolerance,
    with_spans,
)

pytestmark = pytest.mark.slow  # every architecture; make test runs it

BY_POSITION: dict[str, Callable[..., Tensor]] = {
    "resid_pre": patching.get_act_patch_resid_pre,
    "attn_out": patching.get_act_patch_attn_out,
    "mlp_out": patching.get_act_patch_mlp_out,
    "resid_post": lambda *args: patching.generic_activation_patch(
        *args,
        patch_setter=patching.layer_pos_patch_setter,
        activation_name="resid_post",
        index_axis_names=("layer", "pos"),
    ),
}
BY_HEAD: dict[str, Callable[..., Tensor]] = {
    "z": patching.get_act_patch_attn_head_out_all_pos,
    "q": patching.get_act_patch_attn_head_q_all_pos,
    "k": patching.get_act_patch_attn_head_k_all_pos,
    "v": patching.get_act_patch_attn_head_v_all_pos,
    "pattern": patching.get_act_patch_attn_head_pattern_all_pos,
}


@dataclass(frozen=True)
class Case:
    """A model, a pair, and what TransformerLens's functions need of it."""

    model: Any
    pair: PromptPair
    clean: Any
    scale: float
    """Standard deviation of the destination's logits."""

    def by_transformer_lens(self, function: Callable[..., Tensor]) -> Tensor:
        def metric(logits: Tensor) -> Tensor:
            return logits[0, -1, TARGET[0]] - logits[0, -1, TARGET[1]]

        with torch.no_grad():
            return function(self.model, self.pair.destination.ids[None], self.clean, metric)

    def require_equal(
        self, result: SweepResult, expected: Tensor, *, at_least: float = 0.1
    ) -> None:
        """Equal cells, effects that are far above rounding, and the fast way."""
        values = result.values[..., 0]
        assert values.shape == expected.shape
        assert float((values - expected).abs().max()) <= tolerance(expected)
        assert float(result.effect().abs().max()) >= at_least * self.scale
        require_fast(result)


def require_fast(result: SweepResult) -> None:
    assert not any("one forward per cell" in note for note in result.notes)


def require_refused(case: Case) -> None:
    with pytest.raises(InterpError, match="parallel blocks have no resid_mid"):
        sweep(case.model, case.pair, site="resid_mid", progress=False)


FEW = [("gemma3", False), ("neox", False), ("gemma2", True)]
"""For what hooks of this project's own are compared with: they share the models above."""


@pytest.fixture(params=EVERY_ARCHITECTURE, ids=name_of, scope="module")
def case(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Case:
    return make_case(load_tiny, request.param)


@pytest.fixture(params=FEW, ids=name_of, scope="module")
def few(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Case:
    return make_case(load_tiny, request.param)


def make_case(load_tiny: Callable[..., Any], parameter: tuple[str, bool]) -> Case:
    model = rough_model(load_tiny, parameter)
    pair = rough_pair(model)
    with torch.no_grad():
        _, clean = model.run_with_cache(pair.source.ids[None])
        scale = float(model(pair.destination.ids[None])[0, -1].std())
    return Case(model, pair, clean, scale)


@pytest.mark.parametrize("site", BY_POSITION)
def test_every_layer_and_position_equals_transformer_lens(case: Case, site: PatchSite) -> None:
    result = sweep(case.model, case.pair, site=site, positions="all", progress=False)
    assert result.axis_names == ["layer", "pos"]
    case.require_equal(result, case.by_transformer_lens(BY_POSITION[site]))
    first = case.pair.alignment.first_difference
    assert bool((result.effect()[:, :first] == 0).all())  # known, not measured


@pytest.mark.parametrize("site", BY_HEAD)
def test_every_head_equals_transformer_lens(case: Case, site: PatchSite) -> None:
    if case.model.cfg.architecture == "OPTForCausalLM" and site == "pattern":
        # its hooks cannot edit the pattern: another test compares by way of z
        with pytest.raises(InterpError, match="pattern cannot be set on this model"):
            sweep(case.model, case.pair, site=site, method="hooked", progress=False)
        return
    result = sweep(case.model, case.pair, site=site, positions="all", progress=False)
    assert result.axis_names == ["layer", "head"]
    expected = case.by_transformer_lens(BY_HEAD[site])
    case.require_equal(result, expected, at_least=0.04 if site == "q" else 0.1)


def test_every_head_and_position_of_z_equals_transformer_lens(case: Case) -> None:
    result = sweep(
        case.model, case.pair, site="z", cells="layer_head_pos", positions="all", progress=False
    )
    by_position = case.by_transformer_lens(patching.get_act_patch_attn_head_out_by_pos)
    case.require_equal(result, by_position.transpose(1, 2))  # there [layer, pos, head]


def test_default_positions_are_those_from_the_first_difference_on(case: Case) -> None:
    """Values before it are equal in both runs, so that "all" gives no other effect by head."""
    some, every = (
        sweep(case.model, case.pair, site="z", positions=positions, progress=False).values
        for positions in ("aligned", "all")
    )
    assert float((some - every).abs().max()) <= tolerance(every)


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "attn_out", "mlp_out"])
def test_windows_of_layers_equal_hooks(few: Case, site: PatchSite) -> None:
    if site == "resid_mid" and few.model.cfg.parallel_attn_mlp:
        require_refused(few)
        return
    require_hooked(few, site=site, window=2, positions=[4, 8])


def test_resid_mid_equals_hooks_and_resid_post(few: Case) -> None:
    if few.model.cfg.parallel_attn_mlp:
        require_refused(few)
        return
    mid = require_hooked(few, site="resid_mid")
    post = sweep(few.model, few.pair, site="resid_post", progress=False)
    assert float((mid.values - post.values).abs().max()) <= tolerance(post.values)


@pytest.mark.parametrize("site", ["z", "q", "k", "v", "pattern"])
def test_subsets_of_heads_equal_hooks(few: Case, site: PatchSite) -> None:
    require_hooked(few, site=site, heads=[1, 0], layers=[0, 3])
    require_hooked(few, site=site, cells="layer_pos", heads=[0, 1], window=2, positions=[4, 8])


@pytest.mark.parametrize("kind", ["along", "orthogonal"])
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "mlp_out"])
def test_parts_along_and_orthogonal_to_a_direction_equal_hooks(
    few: Case, site: PatchSite, kind: str
) -> None:
    if site == "resid_mid" and few.model.cfg.parallel_attn_mlp:
        require_refused(few)
        return
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(N_LAYERS, few.model.cfg.d_model, generator=generator)
    part = Part(kind, vectors / vectors.norm(dim=-1, keepdim=True))  # type: ignore[arg-type]
    require_hooked(few, site=site, part=part, spans=["p3", "p5", ALL], window=2)


def test_several_metrics_of_pairs_of_unequal_lengths_equal_hooks(few: Case) -> None:
    def first_logit(logits: Tensor, pair: PromptPair) -> Tensor:
        return logits[:, 0]

    pairs = unequal_pairs(few)
    metrics = {"margin": _margin, "first": first_logit}
    for site in ("resid_pre", "k"):
        options: dict[str, Any] = {"site": site, "metric": metrics, "cells": "layer_span"}
        exact, hooked = (
            sweep(few.model, pairs, spans=["header", "tail", "ends"], method=m, progress=False,
                  **options)
            for m in ("exact", "hooked")
        )  # fmt: skip
        require_fast(exact)
        assert exact.values.shape == (2, N_LAYERS, 3, len(pairs))
        assert bool((exact.values.isnan() == hooked.values.isnan()).all())
        for name in metrics:
            expected = hooked[name].values
            deviation = (exact[name].values - expected).nan_to_num().abs().max()
            assert float(deviation) <= tolerance(expected[~expected.isnan()])
            assert torch.allclose(exact[name].source_baseline, hooked[name].source_baseline)


def test_log_prob_and_margin_by_name_equal_hooks(few: Case) -> None:
    several = require_hooked(few, site="attn_out", metric=["margin", "log_prob"], layers=[0, 3])
    logits = few.model(few.pair.destination.ids[None])[0, -1].detach().log_softmax(-1)
    margin, log_prob = several["margin"].baseline, several["log_prob"].baseline
    assert margin is not None
    assert log_prob is not None
    assert float(margin[0]) == pytest.approx(float(logits[20] - logits[90]), abs=1e-5)
    assert float(log_prob[0]) == pytest.approx(float(logits[20]), abs=1e-5)


def test_a_pattern_patch_on_an_opaque_attention_equals_its_effect_on_z(
    load_tiny: Callable[..., Any],
) -> None:
    """The source's pattern over the destination's values, set as z through TransformerLens."""
    model = rough_model(load_tiny, ("opt", False))
    pair = rough_pair(model)
    result = sweep(model, pair, site="pattern", progress=False)
    require_fast(result)
    patterns = activations(model, pair.source.ids, "pattern")  # [pos, head, key]
    values = activations(model, pair.destination.ids, "v")
    expected = torch.empty(N_LAYERS, model.cfg.n_heads)
    for layer in range(N_LAYERS):
        z = torch.einsum("qhk,khd->qhd", patterns[layer], values[layer])
        for head in range(model.cfg.n_heads):

            def patch(rows: Tensor, hook: Any, *, z: Tensor = z, head: int = head) -> Tensor:
                rows = rows.clone()
                rows[0, :, head] = z[:, head]
                return rows

            hooks = [(f"blocks.{layer}.attn.hook_z", patch)]
            with torch.no_grad():
                logits = model.run_with_hooks(pair.destination.ids[None], fwd_hooks=hooks)[0, -1]
            expected[layer, head] = logits[TARGET[0]] - logits[TARGET[1]]
    assert float((result.values[..., 0] - expected).abs().max()) <= tolerance(expected)


def test_removed_edges_equal_the_pattern_without_them(few: Case) -> None:
    """A cell that removes edges before the softmax, against the pattern renormalised by hand."""
    n = len(few.pair.destination)
    positions = torch.tensor([5, n - 1])
    gone = torch.zeros(2, 2, n, dtype=torch.bool)
    gone[0, 0, 2:4] = gone[1, 1, n - 2] = True
    own = activations(few.model, few.pair.destination.ids, "pattern")[2][positions][:, [1, 3]]
    kept = own.masked_fill(gone, 0.0)
    kept = kept / kept.sum(-1, keepdim=True)
    cells = [
        Cell(0, (Patch(2, "edges", positions, gone, (1, 3)),)),
        Cell(0, (Patch(2, "pattern", positions, kept, (1, 3)),)),
    ]
    runs = PatchedRuns(few.model, [few.pair.destination.ids], [torch.tensor([n - 1])])
    found: dict[int, Tensor] = {}
    runs.run(cells, lambda at, logits: found.update(zip(at, logits, strict=True)))
    assert not runs.notes
    scale = float(runs.logits[0].abs().max())
    assert float((found[0] - found[1]).abs().max()) <= 1e-4 * scale
    assert float((found[0] - runs.logits[0]).abs().max()) > 1e-3 * scale


def test_the_soft_caps_and_the_window_matter(load_tiny: Callable[..., Any]) -> None:
    """Otherwise equality above would not show that they are computed."""
    model = rough_model(load_tiny, ("gemma2", False))
    ids = rough_pair(model).destination.ids
    with torch.no_grad():
        logits = model(ids[None])[0, -1]
        _, cache = model.run_with_cache(ids[None])
    raw = 5.0 * torch.atanh(logits / 5.0)  # the final cap taken back
    assert float((raw - logits).abs().max()) > 0.1
    pattern = cache["blocks.0.attn.hook_pattern"][0]
    scores = cache["blocks.1.attn.hook_attn_scores"][0]
    assert float(scores[scores > -1e4].abs().max()) > 2.5  # tanh bends there
    assert float(pattern[:, -1, : len(ids) - 6].abs().max()) == 0.0
    assert float(cache["blocks.1.attn.hook_pattern"][0, :, -1, : len(ids) - 6].max()) > 1e-3


@pytest.fixture
def unchecked(load_tiny: Callable[..., Any]) -> Iterator[Any]:
    """A model of which nothing is known, and of which nothing will be known afterwards."""
    model = load_tiny("llama", random_vectors=True)
    forget(model)
    yield model
    forget(model)


@pytest.mark.parametrize("site", ["resid_pre", "k", "pattern"])
def test_where_the_engine_is_wrong_the_self_check_notices_and_hooks_are_used(
    unchecked: Any, site: PatchSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = rough_pair(unchecked)
    expected = sweep(unchecked, pair, site=site, method="hooked", progress=False)
    with monkeypatch.context() as patch:
        # as if the model's attention scaled its queries and keys in a way that is not known
        patch.setattr("interp.patching.attend.apply_rotary", lambda x, embeddings: x)
        result = sweep(unchecked, pair, site=site, progress=False)
    assert torch.equal(result.values, expected.values)
    (note,) = result.notes
    assert note.startswith("one forward per cell: the exact engine does not apply (layer 0 with")
    assert not expected.notes  # slow by request is no news


def test_attention_that_adds_a_bias_is_refused_by_the_engine_before_anything_runs(
    unchecked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp.patching import blocks

    def biased(mask: Any, n: int, model: Any) -> Tensor:
        raise blocks.NotFastError("its attention mask adds a bias to the scores")

    pair = rough_pair(unchecked)
    monkeypatch.setattr(blocks, "_additive", biased)
    result = sweep(unchecked, pair, progress=False)
    assert result.notes == (
        "one forward per cell: the exact engine does not apply (its attention mask adds a bias to "
        "the scores)",
    )
    expected = sweep(unchecked, pair, method="hooked", progress=False)
    assert torch.equal(result.values, expected.values)


def require_hooked(case: Case, **options: Any) -> SweepResult:
    """The exact sweep, after comparing every cell with one forward per cell."""
    exact, hooked = (
        sweep(case.model, case.pair, method=method, progress=False, **options)
        for method in ("exact", "hooked")
    )
    assert exact.values.shape == hooked.values.shape
    assert float((exact.values - hooked.values).abs().max()) <= tolerance(hooked.values)
    assert bool((hooked.effect() != 0).any())
    require_fast(exact)
    return exact


def unequal_pairs(case: Case) -> list[PromptPair]:
    """Three pairs of other lengths: 2 or 3 tokens more or less in the middle, and none.

    The span ``ends`` is two stretches of the aligned positions with a gap between them.
    """
    from interp.prompts import make_pair
    from tests.patching.by_hand import random_ids

    pairs = []
    for k, (one, other) in enumerate([(2, 5), (6, 4), (3, 3)]):
        head, tail = random_ids(4, 2 * k), random_ids(9, 2 * k + 1)
        # positions 3 differ, so that the header is not without effect
        heads = [torch.cat([head[:2], torch.tensor([t]), head[3:]]) for t in (60, 61)]
        middles = [torch.arange(70, 70 + one), torch.arange(80, 80 + other)]
        ids = [torch.cat([h, m, tail]) for h, m in zip(heads, middles, strict=True)]
        spans = [
            {
                "header": slice(0, 4),
                "ends": slice(3, 4 + n + 4),  # around the middle, which is not aligned
                "tail": slice(4 + n, 13 + n),
            }
            for n in (one, other)
        ]
        pairs.append(with_ends(make_pair(case.model, *ids, target=TARGET), *spans))
    return pairs


def with_ends(
    pair: PromptPair, source: dict[str, slice], destination: dict[str, slice]
) -> PromptPair:
    """Aligned by header and tail alone; ``ends`` only names positions."""
    names = ("header", "tail")
    aligned = with_spans(
        pair, {n: source[n] for n in names}, {n: destination[n] for n in names}
    ).alignment
    return replace(
        pair,
        source=replace(pair.source, spans=source),
        destination=replace(pair.destination, spans=destination),
        alignment=aligned,
    )


def _margin(logits: Tensor, pair: PromptPair) -> Tensor:
    return logits[:, TARGET[0]] - logits[:, TARGET[1]]


def test_a_hook_or_weight_changed_between_two_sweeps_is_noticed(
    load_tiny: Callable[..., Any],
) -> None:
    """A hook that knows positions means something else on the engine's flat rows."""
    model = rough_model(load_tiny, ("llama", False))
    pair = rough_pair(model)

    def at_one_position(activation: Tensor, hook: Any) -> Tensor:
        activation = activation.clone()
        activation[:, 4] += 1.0
        return activation

    plain = sweep(model, pair, progress=False)
    assert not plain.notes
    with model.hooks(fwd_hooks=[("blocks.2.hook_resid_pre", at_one_position)]):
        hooked = sweep(model, pair, progress=False)
        slow = sweep(model, pair, method="hooked", progress=False)
    assert any("one forward per cell" in note for note in hooked.notes)
    assert torch.equal(hooked.values, slow.values)
    assert not torch.allclose(hooked.values, plain.values, atol=1e-3)
    assert not sweep(model, pair, progress=False).notes
