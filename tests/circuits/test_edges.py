from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import native

import interp
from interp.circuits import (
    CircuitEdge,
    circuit_edges,
    circuit_nodes,
    edge_scores,
    run_circuits,
)
from interp.circuits.ablation import record_outputs
from interp.circuits.streams import Streams
from interp.circuits.units import mask_of
from interp.errors import InterpError
from interp.patching import ALL
from interp.prompts import PromptPair, make_pair
from tests.circuits.by_hand import TARGET, edge_margin_of, means_of, pairs_of, prompts
from tests.known.interchange import answers_differ, known, pair_of, random_pairs

ABLATIONS = ["resample", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mean", "zero"))]
ARCHITECTURES = ["gpt2", "llama", "qwen2", "gemma2", "gemma3", "neox", "phi", "opt"]
"""With positions in the embedding, grouped queries, biases, post-norms, head norms, parallel blocks."""


def random_masks(n: int, n_edges: int, share: float = 0.5) -> Any:
    return np.random.default_rng(0).random((n, n_edges)) < share


def known_pairs(name: str, n: int = 4) -> tuple[TransformerBridge, list[PromptPair]]:
    model, truth = known(name, "rotated")
    drawn = random_pairs(truth, n, answers_differ(truth))
    return model, [pair_of(model, truth, *both) for both in drawn]


def native_model(**fields: Any) -> TransformerBridge:
    """A small random model of TransformerLens's own, with norms."""
    torch.manual_seed(0)
    settings = {
        "n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "n_ctx": 16,
        "d_vocab": 400, "act_fn": "gelu", "normalization_type": "LN", "init_weights": False,
    }  # fmt: skip
    model = native.boot(settings | fields, model_name="tests")
    with torch.no_grad():
        for parameter in model.original_model.parameters():
            parameter.normal_(std=0.4)
    model.eval()
    return model


# The graph


def test_the_edges_of_a_model_with_grouped_queries(load_tiny: Callable[..., Any]) -> None:
    edges = circuit_edges(load_tiny("llama"))
    assert edges[0] == CircuitEdge("embed", "L0H0", "q")
    # by layer 4 q, 2 k and 2 v of l * 5 + 1 senders, an MLP of 4 more; the logits read all 21
    assert len(edges) == sum(8 * (5 * k + 1) + 5 * k + 5 for k in range(4)) + 21
    assert len(set(edges)) == len(edges)
    assert {e.destination for e in edges if e.input == "k"} == {
        f"L{k}KV{h}" for k in range(4) for h in range(2)
    }
    assert {str(e) for e in edges if e.destination == "L0 MLP"} == {
        "embed -> L0 MLP (mlp)", *(f"L0H{h} -> L0 MLP (mlp)" for h in range(4))
    }  # fmt: skip


def test_heads_do_not_feed_a_parallel_mlp(load_tiny: Callable[..., Any]) -> None:
    edges = circuit_edges(load_tiny("neox"))
    assert CircuitEdge("L0H0", "L0 MLP", "mlp") not in edges
    assert CircuitEdge("L0H0", "L1 MLP", "mlp") in edges
    assert {e.destination for e in edges if e.input == "v"} == {
        f"L{k}H{h}" for k in range(4) for h in range(4)
    }


# What a circuit of edges is


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox"])
def test_a_circuit_of_edges_is_a_run_for_every_receiver(
    load_tiny: Callable[..., Any], architecture: str, ablation: Any
) -> None:
    model = load_tiny(architecture)
    pairs, edges = pairs_of(model, 2), circuit_edges(model)
    masks = random_masks(2, len(edges), 0.7)
    runs = run_circuits(
        model, pairs, masks, unit="edges", ablation=ablation, batch_size=2, progress=False
    )
    mean = means_of(model, pairs)
    for mask, found in zip(masks, runs.values[:, 0], strict=True):
        circuit = {edge for edge, kept in zip(edges, mask, strict=True) if kept}
        expected = edge_margin_of(model, pairs[0], circuit, ablation, mean)
        assert found == pytest.approx(expected, abs=2e-4, rel=2e-4)
    assert np.ptp(runs.values) > 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_edges_are_the_placebo_and_all_the_model_itself(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    pairs = pairs_of(model)
    n = len(circuit_edges(model))
    ends = np.stack([np.zeros(n, bool), np.ones(n, bool)])
    runs = run_circuits(model, pairs, ends, unit="edges", progress=False)
    assert runs.faithfulness().tolist() == [0.0, 1.0]
    for found, side in ((runs.full, "source"), (runs.empty, "destination")):
        with torch.no_grad():
            logits = [model(getattr(pair, side).ids[None])[0, -1].float() for pair in pairs]
        expected = [float(row[TARGET[0]] - row[TARGET[1]]) for row in logits]
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "native"])
def test_all_edges_out_of_some_nodes_are_the_circuit_of_these_nodes(
    load_tiny: Callable[..., Any], architecture: str, ablation: Any
) -> None:
    model = native_model() if architecture == "native" else load_tiny(architecture)
    nodes, edges = circuit_nodes(model), circuit_edges(model)
    of_nodes = random_masks(3, len(nodes))
    kept = [{"embed"} | {str(n) for n, k in zip(nodes, m, strict=True) if k} for m in of_nodes]
    of_edges = np.array([[edge.source in names for edge in edges] for names in kept])
    first, second = (
        run_circuits(
            model, pairs_of(model, 2), masks, unit=unit, ablation=ablation, progress=False
        ).values
        for unit, masks in (("nodes", of_nodes), ("edges", of_edges))  # type: ignore[attr-defined]
    )
    # where all heads of a layer are zero, a norm behind them enlarges the rounding that is left
    atol = 2e-3 if ablation == "zero" and architecture.startswith("gemma") else 1e-4
    np.testing.assert_allclose(first, second, atol=atol, rtol=1e-4)
    # edges into nodes that are left out lead nowhere
    inside = [
        [e.source in names and (e.destination in names or e.input in "kv" or e.input == "logits")
         for e in edges]
        for names in kept
    ]  # fmt: skip
    third = run_circuits(
        model, pairs_of(model, 2), np.array(inside), unit="edges", ablation=ablation, progress=False
    )
    np.testing.assert_allclose(third.values, second, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "native"])
def test_leaving_out_one_sender_is_patching_it(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = native_model() if architecture == "native" else load_tiny(architecture)
    pair, edges = pairs_of(model, 1)[0], circuit_edges(model)
    nodes = [node for node in circuit_nodes(model) if node.head in (1, None)]
    masks = np.array([[edge.source != node.label for edge in edges] for node in nodes])
    found = run_circuits(model, pair, masks, unit="edges", progress=False).values[:, 0]
    back = pair.swap()
    heads = interp.sweep(model, back, site="z", heads=[1], progress=False).values[:, 0, 0]
    mlps = interp.sweep(model, back, site="mlp_out", spans=[ALL], progress=False).values[:, 0, 0]
    expected = torch.stack([heads, mlps], dim=1).flatten()
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_edges_under_the_options_and_in_batches(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    pair = make_pair(model, *prompts(8, 0), options=([120, 130, 140], [121, 131]))
    masks = random_masks(5, len(circuit_edges(model)), 0.8)
    found = [
        run_circuits(
            model, pair, masks, unit="edges", metric="option_margin", batch_size=n, progress=False
        ).values
        for n in (1, 4)
    ]
    np.testing.assert_allclose(*found, atol=1e-5)
    nodes = circuit_nodes(model)
    out = np.array([edge.source != "L1H2" for edge in circuit_edges(model)])
    by_node = run_circuits(
        model, pair, np.array([[str(node) != "L1H2" for node in nodes]]), metric="option_margin",
        progress=False,
    )  # fmt: skip
    by_edge = run_circuits(
        model, pair, out[None], unit="edges", metric="option_margin", progress=False
    )
    np.testing.assert_allclose(by_node.values, by_edge.values, atol=1e-5)


# Scores


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox", "native"])
def test_attribution_is_the_derivative_by_what_the_receiver_reads(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = native_model() if architecture == "native" else load_tiny(architecture)
    pair = pairs_of(model, 1)[0]
    scores = edge_scores(model, pair, progress=False)["score"].to_numpy()
    there, here = (record_outputs(model, p.ids) for p in (pair.source, pair.destination))
    order = np.argsort(-np.abs(scores))
    for edge in order[[0, 1, 5, 20]]:
        values = []
        for size in (2e-2, -2e-2, 1e-2, -1e-2):
            gone = torch.zeros(1, len(scores))
            gone[0, edge] = size
            streams = Streams(model, gone, there.minus(here), fixed=True)
            with torch.no_grad(), model.hooks(fwd_hooks=streams.hooks()):
                logits = model(pair.destination.ids[None])[0, -1].double()
            values.append(float(logits[TARGET[0]] - logits[TARGET[1]]))
        slopes = (values[0] - values[1]) / 4e-2, (values[2] - values[3]) / 2e-2
        slope = (4 * slopes[1] - slopes[0]) / 3  # without the third order
        assert scores[edge] == pytest.approx(slope, rel=1e-2, abs=5e-3)


def test_exact_scores_are_runs_with_one_edge_from_the_source(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("llama")
    pair, edges = pairs_of(model, 1)[0], circuit_edges(model)
    scores = edge_scores(model, pair, method="exact", progress=False)
    assert list(scores.columns) == ["edge", "source", "destination", "input", "score"]
    assert scores["edge"].tolist() == [str(edge) for edge in edges]
    back = pair.swap()
    full = edge_margin_of(model, back, edges, "resample")
    for k in scores["score"].abs().nlargest(4).index[[0, 3]]:
        one = edge_margin_of(model, back, set(edges) - {edges[k]}, "resample")
        assert scores["score"][k] == pytest.approx(one - full, abs=2e-4)


def test_on_a_linear_model_every_score_is_exact_and_they_add_up() -> None:
    model = native_model(normalization_type=None)
    with torch.no_grad():
        for name, parameter in model.original_model.named_parameters():
            # attention that is equal everywhere, and MLPs that add a constant
            plain = name.replace("_original_component.", "")
            if any(part in plain for part in ("attn.q.", "attn.k.", "mlp.fc_in")):
                parameter.zero_()
    pair = pairs_of(model, 1)[0]
    exact, estimated, integrated = (
        edge_scores(model, pair, progress=False, **how)
        for how in ({"method": "exact"}, {}, {"steps": 4})
    )  # type: ignore[arg-type]
    np.testing.assert_allclose(exact["score"], estimated["score"], atol=1e-4)
    np.testing.assert_allclose(integrated["score"], estimated["score"], atol=1e-4)
    runs = run_circuits(model, pair, np.ones((1, len(exact)), bool), unit="edges", progress=False)
    total = float(runs.full[0] - runs.empty[0])
    assert abs(total) > 0.1
    for column, name in (("destination", "logits"), ("source", "embed")):
        added = estimated.loc[estimated[column] == name, "score"].sum()
        assert added == pytest.approx(total, abs=1e-4)


def test_integrated_gradients_take_the_mean_of_the_gradient_on_the_way(
    load_tiny: Callable[..., Any],
) -> None:
    model = load_tiny("gpt2")
    pair = pairs_of(model, 1)[0]
    scores = edge_scores(model, pair, steps=3, progress=False)
    # out of all nodes, summed over receivers: the estimates of nodes on the same path
    nodes = interp.attribute(model, pair, sites=["mlp_out"], spans=[ALL], steps=3, progress=False)
    by_edge = scores.groupby("source")["score"].sum()
    found = [by_edge[f"L{layer} MLP"] for layer in range(4)]
    np.testing.assert_allclose(found, nodes["mlp_out"].effect()[:, 0, 0], atol=1e-3)


# What is refused


def test_what_has_no_edges_is_refused(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the checks a user meets
    model = load_tiny("gpt2")
    pair, n = pairs_of(model, 1)[0], len(circuit_edges(model))
    masks = np.ones((1, n), bool)
    with pytest.raises(InterpError, match=rf"booleans \[circuit, {n}\]"):
        run_circuits(model, pair, masks[:, 1:], unit="edges", progress=False)
    with pytest.raises(InterpError, match="unit is 'paths'; known: nodes, edges"):
        run_circuits(model, pair, masks, unit="paths", progress=False)  # type: ignore[arg-type]
    with pytest.raises(InterpError, match="no edge embed -> L0H0 "):
        mask_of([CircuitEdge("embed", "L0H0", "x")], circuit_edges(model))
    cases: list[tuple[str, Any, str]] = [
        ("blocks.1.attn.hook_q", lambda x, hook: 2 * x, "at q of layer 1"),
        ("blocks.2.hook_attn_out", lambda x, hook: x + 1, "at the MLP's input of layer 2"),
    ]
    for name, change, message in cases:
        hooked = model.hooks(fwd_hooks=[(name, change)])
        with hooked, pytest.raises(InterpError, match=message):
            edge_scores(model, pair, progress=False)


def test_a_compiled_model_has_edges_of_its_own_truth() -> None:
    model, pairs = known_pairs("relayed_flag", 12)
    scores = edge_scores(model, pairs, method="exact", over_pairs="mean_absolute", progress=False)
    found = set(scores.loc[scores["score"] > 1e-3, "edge"])
    assert found == {
        "embed -> L0H0 (v)", "embed -> L0H1 (v)", "L0H1 -> L1H0 (v)", "L0H0 -> L1 MLP (mlp)",
        "L1H0 -> L1 MLP (mlp)", "L1 MLP -> logits (logits)",
    }  # fmt: skip
