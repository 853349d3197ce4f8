from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from interp.circuits import CircuitNode, circuit_nodes, mean_outputs, run_circuits
from interp.circuits.units import mask_of
from interp.data import load_items
from interp.errors import InterpError
from interp.prompts import make_pair
from tests.circuits.by_hand import TARGET, margin_of, means_of, pairs_of, prompts
from tests.known.interchange import answers_differ, known, pair_of, random_pairs

ARCHITECTURES = ["gpt2", "llama", "gemma2", "neox"]


def random_masks(n: int, n_nodes: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((n, n_nodes)) < 0.5


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_of_circuits_is_a_loop_of_hooks_over_every_node_and_position(
    load_tiny: Callable[..., Any], architecture: str, ablation: Any
) -> None:
    model = load_tiny(architecture)
    pairs, nodes = pairs_of(model, 2), circuit_nodes(model)
    masks = random_masks(3, len(nodes))
    runs = run_circuits(model, pairs, masks, ablation=ablation, batch_size=2, progress=False)
    mean = means_of(model, pairs)
    for row, mask in zip(runs.values, masks, strict=True):
        circuit = {node for node, kept in zip(nodes, mask, strict=True) if kept}
        expected = [margin_of(model, pair, circuit, ablation, mean) for pair in pairs]
        np.testing.assert_allclose(row, expected, atol=1e-4, rtol=1e-4)
    assert np.ptp(runs.values) > 0.1


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_empty_circuit_is_0_and_the_full_one_the_model_itself(
    load_tiny: Callable[..., Any], architecture: str, ablation: Any
) -> None:
    model = load_tiny(architecture)
    pairs, n = pairs_of(model), len(circuit_nodes(model))
    ends = np.stack([np.zeros(n, bool), np.ones(n, bool)])
    runs = run_circuits(model, pairs, ends, ablation=ablation, progress=False)
    assert runs.faithfulness().tolist() == [0.0, 1.0]
    assert np.array_equal(
        runs.faithfulness_per_pair(), np.repeat([[0.0], [1.0]], len(pairs), axis=1)
    )
    with torch.no_grad():
        logits = [model(pair.source.ids[None])[0, -1].float() for pair in pairs]
    expected = [float(row[TARGET[0]] - row[TARGET[1]]) for row in logits]
    np.testing.assert_allclose(runs.full, expected, atol=1e-4)


def test_ratios_are_of_means_and_of_every_pair(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    runs = run_circuits(model, pairs_of(model), random_masks(4, 20), progress=False)
    above, below = runs.values - runs.empty, runs.full - runs.empty
    np.testing.assert_allclose(runs.faithfulness(), above.mean(1) / below.mean())
    np.testing.assert_allclose(runs.faithfulness_per_pair(), above / below)
    level = replace(runs, full=runs.empty)
    assert np.isnan(level.faithfulness()).all()
    assert "contains 0" in level.interval().reason[0]
    falling = replace(runs, full=runs.empty - 1.0, values=runs.empty[None])
    assert not np.signbit(falling.faithfulness()).any()


def test_the_option_margin_ablates_nodes_under_the_options_too(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("llama")
    options = ([120, 130, 140], [121, 131])
    pair = make_pair(model, *prompts(8, 0), options=options)
    masks = random_masks(2, len(circuit_nodes(model)))
    runs = run_circuits(model, pair, masks, metric="option_margin", progress=False)
    nodes = circuit_nodes(model)
    for mask, found in zip(masks, runs.values[:, 0], strict=True):
        means = []
        for option in options:
            more = torch.tensor(option[:-1])
            long = make_pair(
                model, *(torch.cat([p.ids, more]) for p in (pair.source, pair.destination))
            )
            hooks = []
            _, cache = model.run_with_cache(long.destination.ids[None])
            for node, kept in zip(nodes, mask, strict=True):
                if kept:
                    continue
                site = "hook_mlp_out" if node.head is None else "attn.hook_z"

                def write(x: Any, hook: Any, node: CircuitNode = node, cache: Any = cache) -> Any:
                    x = x.clone()
                    where = (slice(None), slice(None), *(() if node.head is None else (node.head,)))
                    x[where] = cache[hook.name][where]
                    return x

                hooks.append((f"blocks.{node.layer}.{site}", write))
            with torch.no_grad():
                logits = model.run_with_hooks(long.source.ids[None], fwd_hooks=hooks)[0].float()
            rows = logits.log_softmax(-1)[len(pair.source) - 1 :]
            means.append(float(rows[torch.arange(len(option)), torch.tensor(option)].mean()))
        assert found == pytest.approx(means[0] - means[1], abs=1e-4)


def test_the_batch_size_changes_nothing_and_equal_circuits_are_equal(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("gpt2")
    pairs, masks = pairs_of(model, 1), random_masks(9, 20)
    masks = np.concatenate([masks, masks[:2]])
    found = [
        run_circuits(model, pairs, masks, batch_size=size, progress=False).values
        for size in (1, 4, 99)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)
    assert np.array_equal(found[1][:2], found[1][-2:])


def test_a_hook_of_the_users_that_addresses_a_row_acts_on_every_circuit(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("gpt2")
    pairs, masks = pairs_of(model, 1), random_masks(5, 20)

    def steer(activation: Any, hook: Any) -> Any:
        activation = activation.clone()
        activation[0, 2, 0] += 30.0
        return activation

    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", steer)]):
        found = run_circuits(model, pairs, masks, progress=False).values
        alone = [
            run_circuits(model, pairs, masks[k : k + 1], batch_size=1, progress=False).values[0]
            for k in range(5)
        ]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    plain = run_circuits(model, pairs, masks, progress=False).values
    assert np.abs(found - plain).max() > 0.01


def test_means_may_come_from_other_pairs(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    pairs, masks = pairs_of(model), random_masks(2, 20)
    means = mean_outputs(model, pairs)
    options: dict[str, Any] = {"ablation": "mean", "progress": False}
    own = run_circuits(model, pairs, masks, **options)
    one = run_circuits(model, pairs[0], masks, means=means, **options)
    np.testing.assert_allclose(own.values[:, :1], one.values, atol=1e-5)
    other = run_circuits(model, pairs[0], masks, **options)
    assert np.abs(other.values - one.values).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "variant"),
    [("detect_abc", "compiled"), ("early_rewrite", "rotated, noise"), ("relayed_flag", "rotated")],
)
def test_on_a_compiled_model_the_true_circuit_is_faithful_and_others_of_its_size_are_not(
    name: str, variant: str
) -> None:
    model, truth = known(name, variant)
    drawn = random_pairs(truth, 20, answers_differ(truth))
    pairs = [pair_of(model, truth, source, to) for source, to in drawn]
    nodes = circuit_nodes(model)
    own = mask_of([CircuitNode(node.layer, node.head) for node in truth.used_nodes], nodes)
    draw = np.random.default_rng(0)
    others = np.stack([draw.permutation(own) for _ in range(30)])
    others = others[(others != own).any(1)]
    runs = run_circuits(
        model, pairs, np.concatenate([own[None], ~own[None], others]), progress=False
    )
    faithful = runs.faithfulness()
    assert faithful[0] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(runs.values[0], runs.full, atol=1e-3)
    assert faithful[1] == pytest.approx(0, abs=1e-3)
    assert faithful[2:].max() < 0.8


def test_pairs_of_items_bring_their_clusters_and_wordings(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    items = load_items("bundled", limit=2, seed=0)
    pairs = [make_pair(model, item, "revealing", slot=k) for k, item in enumerate(items)]
    pairs = [pair for pair in pairs if pair.alignment.by_index] or pairs[:1]
    runs = run_circuits(model, pairs, random_masks(1, 20), ablation="mean", progress=False)
    assert runs.clusters == tuple(pair.item.cluster for pair in pairs if pair.item)
    assert runs.wordings == tuple(pair.wording for pair in pairs)


def test_what_cannot_be_run_is_refused_in_one_line(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the checks a user meets
    model = load_tiny("gpt2")
    pair, mask = pairs_of(model, 1)[0], np.ones((1, 20), bool)
    source, _ = prompts(8, 0)
    unequal = make_pair(model, source, source[:-1], target=TARGET)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (unequal, {}, "1 of 1 pairs are not aligned by index"),
        ([], {}, "no pairs"),
        (pair, {"ablation": "none"}, "no ablation 'none'; known: resample, mean, zero"),
        (pair, {"metric": ["margin", "log_prob"]}, "one metric, not 2"),
        (pair, {"batch_size": 0}, "batch_size is 0"),
        (replace(pair, target=None), {}, "no margin target"),
    ]
    for pairs, options, message in cases:
        with pytest.raises(InterpError, match=message) as caught:
            run_circuits(model, pairs, mask, progress=False, **options)
        assert "\n" not in str(caught.value)
    run_circuits(model, unequal, mask, ablation="zero", progress=False)
    for wrong in (mask[0], mask.astype(int), mask[:, :3]):
        with pytest.raises(InterpError, match=r"give booleans \[circuit, 20\]"):
            run_circuits(model, pair, wrong, progress=False)
    with pytest.raises(InterpError, match="the model has no node L9H0"):
        mask_of([CircuitNode(9, 0)], circuit_nodes(model))
