"""Edges between positions of trained models: by hand, and against the truth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known import position_edges
from analyses.benchmarks.known.position_edges import EDGES, estimate, exact, position_edge_rows
from interp.known import ToyTask, load_trained, open_truth
from interp.known.task import CONTENT, INSTRUCTION, OTHER, QUERY
from interp.prompts import PromptPair, make_pair


def pair_of(model: TransformerBridge, task: ToyTask) -> PromptPair:
    source, destination = (
        task.ids(tokens.split())
        for tokens in ("ask1 content2 other1 query1", "note2 content1 other3 query2")
    )
    return make_pair(model, source, destination, target=task.target, spans=task.spans)


def attention_out(model: TransformerBridge, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Of block 0 at one position, from its query and the keys and values it may see."""
    attention = model.blocks[0].attn
    weights = torch.einsum("hd,phd->hp", query, keys) / query.shape[-1] ** 0.5
    z = torch.einsum("hp,phd->hd", weights.softmax(-1), values)
    return torch.einsum("hd,hdm->m", z, attention.W_O) + attention.b_O


@pytest.mark.parametrize("seed", [0, 1])
def test_an_edge_is_one_query_that_meets_another_prompt_s_keys_and_values(seed: int) -> None:
    model, task = load_trained("mixture_50", seed)
    pair = pair_of(model, task)
    with torch.no_grad():
        here, there = (
            model.run_with_cache(prompt.ids[None])[1] for prompt in (pair.destination, pair.source)
        )
    name = "blocks.0.attn.hook_{}".format
    effects = []
    for p, q in EDGES:
        keys, values = (here[name(site)][0, : q + 1].clone() for site in ("k", "v"))
        keys[p], values[p] = there[name("k")][0, p], there[name("v")][0, p]

        def put(
            activation: Tensor, hook: object, q: int = q, k: Tensor = keys, v: Tensor = values
        ) -> Tensor:
            changed = activation.clone()
            changed[0, q] = attention_out(model, here[name("q")][0, q], k, v)
            return changed

        with torch.no_grad():
            logits = model.run_with_hooks(
                pair.destination.ids[None], fwd_hooks=[("blocks.0.hook_attn_out", put)]
            )[0, -1]
            own = model(pair.destination.ids[None])[0, -1]
        yes, no = task.target
        effects.append(abs(float(logits[yes] - logits[no] - own[yes] + own[no])))
    assert exact(model, [pair]).tolist() == pytest.approx(effects, abs=0.051)  # one decimal is kept
    assert max(effects) > 1


def test_estimates_near_the_destination_are_the_exact_effects() -> None:
    """With a source next to the destination what is left out, the curvature, is small."""
    model, task = load_trained("superficial", 1)
    pair = pair_of(model, task)
    start, moved = position_edges._START, position_edges._moved
    ids = pair.destination.ids[None]
    step = 1e-2 * moved(model, ids, pair.source.ids[None])
    gradient_of = position_edges._gradient
    embeddings = model.run_with_cache(ids, names_filter=start)[1][start]
    found = gradient_of(model, pair.target, ids, embeddings)[0]
    yes, no = task.target
    for edge, (_, q) in enumerate(EDGES):
        sides = []
        for sign in (1, -1):

            def move(
                activation: Tensor, hook: object, q: int = q, by: Tensor = sign * step[0, edge]
            ) -> Tensor:
                changed = activation.clone()
                changed[0, q] += by
                return changed

            with torch.no_grad():
                hooks = [("blocks.0.hook_attn_out", move)]
                sides.append(model.run_with_hooks(ids, fwd_hooks=hooks)[0, -1])
        up, down = sides
        slope = (up[yes] - up[no] - down[yes] + down[no]) / 2
        assert float(found[q] @ step[0, edge]) == pytest.approx(float(slope), abs=2e-4, rel=0.05)


@pytest.mark.parametrize("arm", ["superficial", pytest.param("deep", marks=pytest.mark.slow)])
def test_exact_patching_finds_the_edge_by_which_an_arm_reads_its_instruction(arm: str) -> None:
    model, task = load_trained(arm, 1)
    truth = open_truth(arm, 1)
    assert truth.edges == ((INSTRUCTION, CONTENT if arm == "deep" else QUERY),)
    rows = {row["method"]: row for row in position_edge_rows(model, task, truth, n_pairs=20)}
    for method in ("exact, denoising", "exact, noising", "integrated gradients"):
        assert rows[method]["auroc"] == rows[method]["found"] == 1
    assert rows["random"]["auroc"] == pytest.approx(0.5, abs=0.1)


def test_what_a_prompt_shares_with_its_source_moves_nothing() -> None:
    model, task = load_trained("deep")
    source, destination = (
        task.ids(f"{word} content2 other1 query1".split()) for word in ("ask1", "note2")
    )
    pair = make_pair(model, source, destination, target=task.target, spans=task.spans)
    for scores in (exact(model, [pair]), estimate(model, [pair], steps=4)):
        for edge, size in zip(EDGES, scores, strict=True):
            if edge[0] in (CONTENT, OTHER):
                assert size == 0
