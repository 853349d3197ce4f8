from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import interp
from interp.circuits import CircuitNode, circuit_nodes, edge_scores, node_scores
from interp.data import load_items
from interp.errors import InterpError
from interp.patching import ALL
from interp.prompts import make_pair
from tests.circuits.by_hand import TARGET, pairs_of, prompts


@pytest.mark.parametrize("method", ["exact", "attribution", "relp"])
def test_scores_are_the_mean_effects_of_heads_and_mlps(
    load_tiny: Callable[..., Any], method: Any
) -> None:
    model = load_tiny("llama")
    pairs = [
        make_pair(model, item, "instructed") for item in load_items("bundled", limit=2, seed=0)
    ]
    scores = node_scores(model, pairs, method=method, progress=False)
    assert scores["node"].tolist()[:5] == ["L0H0", "L0H1", "L0H2", "L0H3", "L0 MLP"]
    assert list(scores.columns) == ["node", "layer", "head", "score"]
    if method == "exact":
        heads = interp.sweep(model, pairs, site="z", progress=False)
        mlps = interp.sweep(model, pairs, site="mlp_out", spans=[ALL], progress=False)
    else:
        how: Any = {"method": "relp" if method == "relp" else "gradient", "progress": False}
        heads = interp.attribute(model, pairs, sites=["z"], **how)["z"]
        mlps = interp.attribute(model, pairs, sites=["mlp_out"], spans=[ALL], **how)["mlp_out"]
    of_head = scores[scores["head"].notna()]["score"].to_numpy().reshape(4, 4)
    np.testing.assert_allclose(of_head, heads.effect().mean(-1), atol=1e-4)
    of_mlp = scores[scores["head"].isna()]["score"]
    np.testing.assert_allclose(of_mlp, mlps.effect()[:, 0].mean(-1), atol=1e-4)


@pytest.mark.parametrize("method", ["attribution", "relp"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "neox", "gemma2"])
def test_the_edges_out_of_a_node_add_up_to_the_node(
    load_tiny: Callable[..., Any], architecture: str, method: Any
) -> None:
    """Whoever reads a node reads it linearly: every receiver's share, with what follows it."""
    model = load_tiny(architecture)
    pairs = pairs_of(model, 1)
    edges = edge_scores(model, pairs, method=method, progress=False)
    nodes = node_scores(model, pairs, method=method, progress=False).set_index("node")["score"]
    summed = edges.groupby("source")["score"].sum().reindex(nodes.index).fillna(0)
    largest = nodes.abs().max()
    assert largest > 1e-2
    np.testing.assert_allclose(summed, nodes, atol=1e-4 * largest)


def test_relevance_and_gradients_score_edges_differently(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("llama")
    by_method = [
        edge_scores(model, pairs_of(model, 1), method=method, progress=False)["score"]  # type: ignore[arg-type]
        for method in ("attribution", "relp")
    ]
    assert not np.allclose(*by_method, rtol=0.1)


def test_a_model_has_a_node_for_every_head_and_mlp(load_tiny: Callable[..., Any]) -> None:
    nodes = circuit_nodes(load_tiny("llama"))
    assert len(nodes) == 4 * (4 + 1)
    assert [str(node) for node in nodes[3:6]] == ["L0H3", "L0 MLP", "L1H0"]
    assert nodes[4] == CircuitNode(0)


def test_what_cannot_be_scored_is_refused(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # the checks a user meets
    model = load_tiny("gpt2")
    pair = pairs_of(model, 1)[0]
    same = make_pair(model, prompts(8, 0)[0], prompts(8, 0)[0], target=TARGET)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ([], {}, "no pairs"),
        (pair, {"method": "guess"}, "no method 'guess'; known: attribution, relp, exact"),
        (pair, {"over_pairs": "sum"}, "over_pairs is 'sum'"),
        (pair, {"method": "exact", "steps": 3}, "steps is for method='attribution'"),
        (pair, {"method": "relp", "steps": 3}, "steps is for method='attribution': 'relp' takes"),
    ]
    for pairs, options, message in cases:
        with pytest.raises(InterpError, match=message):
            node_scores(model, pairs, progress=False, **options)
    for method in ("exact", "attribution"):
        with pytest.raises(InterpError, match="prompts"):
            node_scores(model, same, method=method, progress=False)  # type: ignore[arg-type]
