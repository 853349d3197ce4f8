from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

import interp
from interp.errors import InterpError
from interp.known import Truth, TruthNode, Variable, names
from interp.known.causal import BOS
from interp.known.registry import PROGRAMS
from interp.patching import ALL
from tests.known.interchange import (
    QUICK,
    VARIANTS,
    answers_differ,
    interchanged,
    known,
    last_logits,
    of_programs,
    pair_of,
    random_pairs,
)

N_PAIRS = 60
N_SWEPT = 20
CLOSE = 5e-4
"""A rotation rounds weights of up to 10^4 in float32."""

EVERY = of_programs(["compiled", "rotated, noise"])
TWO_ROUTES = [name for name in names() if PROGRAMS[name].backups]


def stacked(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])


def predicted(
    truth: Truth, pairs: list[tuple[Tensor, Tensor]], variables: Any, positions: Any = None
) -> Tensor:
    """The program's logits for destinations with variables from the sources."""
    return torch.stack([
        truth.logits(truth.answer(to, source=source, variables=variables, positions=positions))
        for source, to in pairs
    ])  # fmt: skip


# Where the variables are


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_every_variable_can_be_read_off_the_stream_at_every_position(
    name: str, variant: str
) -> None:
    model, truth = known(name, variant)
    inputs = truth.inputs(40)
    _, cache = model.run_with_cache(torch.stack(inputs))
    for node in truth.nodes:
        for variable in (truth.variables[v] for v in node.variables):
            hook = "hook_resid_post" if variable.erased_by is None else "hook_resid_mid"
            states = cache[f"blocks.{node.layer}.{hook}"] @ variable.vectors.T
            values = [truth.run(ids).values[variable.name] for ids in inputs]
            for row, own in zip(states, values, strict=True):
                for position in range(1, len(own)):
                    expected = variable.state(own[position]) @ variable.vectors.T
                    assert torch.allclose(row[position], expected, atol=CLOSE), variable.name


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_directions_are_unit_vectors_of_values_apart(name: str, variant: str) -> None:
    _, truth = known(name, variant)
    for variable in truth.variables.values():
        if variable.is_number:
            v = variable.direction()
        else:
            plus, minus = variable.values[:2]
            v = variable.direction(plus, minus)
            moved = variable.state(plus) - variable.state(minus)
            assert float(moved @ v) == pytest.approx(math.sqrt(2), abs=1e-4)
        assert float(v.norm()) == pytest.approx(1, abs=1e-5)
        assert float((truth.noise_vectors @ v).abs().sum()) < 1e-4


# What the nodes do


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_an_interchange_at_a_node_gives_what_the_program_predicts(name: str, variant: str) -> None:
    model, truth = known(name, variant)
    pairs = random_pairs(truth, N_PAIRS)
    sources, destinations = stacked(pairs)
    everywhere = range(1, destinations.shape[1])
    own = last_logits(model, destinations)
    for node in truth.nodes:
        found = interchanged(model, destinations, sources, [node], everywhere)
        expected = predicted(truth, pairs, node.variables, everywhere)
        assert torch.allclose(found, expected, atol=CLOSE), node.label
        # and it acts at the positions that the truth names, and at no others
        there = interchanged(model, destinations, sources, [node], node.positions)
        assert torch.allclose(there, found, atol=CLOSE), node.label
        elsewhere = [p for p in everywhere if p not in node.positions]
        if elsewhere:
            rest = interchanged(model, destinations, sources, [node], elsewhere)
            assert torch.allclose(rest, own, atol=CLOSE), node.label
        changed = bool(((found - own).abs() > 0.1).any())
        assert changed == node.used, node.label


@pytest.mark.parametrize("name", of_programs())
def test_interchanges_of_several_nodes_are_predicted_too(name: str) -> None:
    model, truth = known(name, "rotated")
    pairs = random_pairs(truth, N_PAIRS)
    sources, destinations = stacked(pairs)
    everywhere = range(1, destinations.shape[1])
    for k, first in enumerate(truth.nodes):
        for second in truth.nodes[k + 1 :]:
            found = interchanged(model, destinations, sources, [first, second], everywhere)
            variables = (*first.variables, *second.variables)
            assert torch.allclose(
                found, predicted(truth, pairs, variables, everywhere), atol=CLOSE
            ), (first.label, second.label)


# Edges


def reading_weight(model: TransformerBridge, node: str, kind: str) -> tuple[Tensor, slice]:
    """The weight with which a node reads, and its rows."""
    parameters = {
        key.replace("_original_component.", ""): parameter
        for key, parameter in model.original_model.named_parameters()
    }
    if node == "logits":
        return parameters["head.weight"], slice(None)
    layer, _, head = node[1:].removesuffix(" MLP").partition("H")
    if not head:
        return parameters[f"layers.{layer}.mlp.fc_in.weight"], slice(None)
    size = int(model.cfg.d_head)
    rows = slice(int(head) * size, (int(head) + 1) * size)
    return parameters[f"layers.{layer}.attn.{kind}.weight"], rows


@torch.no_grad()
def misread(
    model: TransformerBridge, ids: Tensor, node: str, kind: str, variable: Variable, step: int
) -> Tensor:
    """Last logits where one node takes each value of a variable for another (a number for 0)."""
    weight, rows = reading_weight(model, node, kind)
    # the BOS is no value of the program: Tracr lets heads rest on it
    own = [k for k, value in enumerate(variable.values) if value != BOS]
    kept, vectors = (
        weight.clone(),
        variable.vectors if variable.is_number else variable.vectors[own],
    )
    others = torch.zeros_like(vectors) if variable.is_number else vectors.roll(step, 0)
    weight[rows] += weight[rows] @ (others - vectors).T @ vectors
    try:
        return last_logits(model, ids)
    finally:
        weight.copy_(kept)


@pytest.mark.parametrize("name", of_programs())
def test_the_edges_are_all_along_which_a_variable_reaches_the_answer(name: str) -> None:
    """A node that misreads a variable changes answers just where the truth has a used edge."""
    model, truth = known(name, "rotated")
    ids = torch.stack(truth.inputs())
    own = last_logits(model, ids)
    used = {(e.destination, e.variable, e.input) for e in truth.edges if e.used}
    readers = [
        *((node.label, kind) for node in truth.nodes if node.head is not None for kind in "qkv"),
        *((node.label, "mlp") for node in truth.nodes if node.head is None),
        ("logits", "logits"),
    ]
    for node, kind in readers:
        for variable in truth.variables.values():
            changed = any(
                bool(((misread(model, ids, node, kind, variable, s) - own).abs() > 0.05).any())
                for s in (1, -1)
            )
            edge = (node, variable.name, kind)
            if variable.name == "indices":  # another position often holds the same value
                assert edge in used or not changed, edge
            else:
                assert changed == (edge in used), edge
    labels = {node.label for node in truth.nodes} | {"embed", "pos_embed", "logits"}
    for edge in truth.edges:
        assert {edge.source, edge.destination} <= labels
        assert truth.variables[edge.variable].node == edge.source


# What exact patching finds


def node_effects(model: TransformerBridge, truth: Truth, pairs: Any) -> dict[str, float]:
    """The largest |effect| of every head and MLP of the model over some pairs."""
    found = {}
    heads = interp.sweep(model, pairs, site="z", progress=False)
    mlps = interp.sweep(model, pairs, site="mlp_out", spans=[ALL], progress=False)
    for layer in range(int(model.cfg.n_layers)):
        for head in range(int(model.cfg.n_heads)):
            effects = heads.values[layer, head] - heads.baseline
            found[f"L{layer}H{head}"] = float(effects.nan_to_num().abs().max())
        effects = mlps.values[layer] - mlps.baseline
        found[f"L{layer} MLP"] = float(effects.nan_to_num().abs().max())
    return found


def require_found(name: str, variant: str) -> None:
    """Exact patching finds every used node of a known model and no other."""
    model, truth = known(name, variant)
    drawn = random_pairs(truth, N_SWEPT, answers_differ(truth))
    pairs = [pair_of(model, truth, source, to) for source, to in drawn]
    effects = node_effects(model, truth, pairs)
    used = {node.label for node in truth.used_nodes}
    assert {label for label, effect in effects.items() if effect > 0.05} == used, name
    assert max((e for label, e in effects.items() if label not in used), default=0) < 1e-3, name


ONE_ROUTE = [name for name in names() if name not in TWO_ROUTES]


@pytest.mark.parametrize("name", QUICK)
def test_exact_patching_finds_every_used_node_and_no_other(name: str) -> None:
    require_found(name, "rotated")


@pytest.mark.slow
def test_exact_patching_finds_them_in_every_rotated_program() -> None:
    for name in ONE_ROUTE:
        require_found(name, "rotated")


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "rotated"])
@pytest.mark.parametrize("name", ONE_ROUTE)
def test_exact_patching_finds_them_in_the_other_variants(name: str, variant: str) -> None:
    require_found(name, variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", TWO_ROUTES)
def test_back_up_hides_nodes_from_single_patches_and_joint_ones_show_them(
    name: str, variant: str
) -> None:
    model, truth = known(name, variant)
    same = [["plain", c, o, "?"] for c in "ab" for o in ("a", "b")]
    pairs = [(truth.ids(words), truth.ids(["flip", *words[1:]])) for words in same]
    noising = [pair_of(model, truth, source, to) for source, to in pairs]
    groups = [[truth.node_of(v) for v in group] for group in truth.program.backups]
    hidden = {node.label for group in groups for node in group}
    effects = node_effects(model, truth, noising)
    assert all(effects[label] < 1e-3 for label in hidden)  # taken out of the instructed run
    denoising = [pair.swap() for pair in noising]
    effects = node_effects(model, truth, denoising)
    assert all(effects[label] > 0.5 for label in hidden)  # put into the plain run
    sources, destinations = stacked(pairs)
    own = last_logits(model, destinations)
    everywhere = range(1, destinations.shape[1])

    def change(nodes: list[TruthNode]) -> float:
        return float(
            (interchanged(model, destinations, sources, nodes, everywhere) - own).abs().max()
        )

    assert all(change(group) < 1e-3 for group in groups)
    joint = [node for group in groups for node in group]
    assert change(joint) > 0.9
    assert torch.allclose(
        interchanged(model, destinations, sources, joint, everywhere),
        last_logits(model, sources),
        atol=CLOSE,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_planted_shares_are_the_shares_of_the_sweep(variant: str) -> None:
    model, truth = known("sum_of_routes", variant)
    words = [[c, o, "?"] for c in "ab" for o in ("a", "b", "plain")]
    pairs = [
        pair_of(model, truth, truth.ids(["flip", *w]), truth.ids(["plain", *w])) for w in words
    ]
    for direction in (pairs, [pair.swap() for pair in pairs]):
        result = interp.sweep(model, direction, site="z", progress=False)
        total = result.source_baseline - result.baseline
        for variable, share in truth.program.shares.items():
            node = truth.node_of(variable)
            effect = result.values[node.layer, node.head] - result.baseline
            assert torch.allclose(effect / total, torch.full_like(total, share), atol=1e-3)
    assert sum(truth.program.shares.values()) == 1


def test_unused_and_ignored_instructions_differ_in_what_can_be_decoded() -> None:
    decodable = {}
    for name in ("decodable_unused", "instruction_ignored"):
        model, truth = known(name, "rotated")
        asked = truth.ids(["flip", "a", "b", "?"]), truth.ids(["plain", "a", "b", "?"])
        _, cache = model.run_with_cache(torch.stack(asked))
        last = cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"][:, -1]
        decodable[name] = float((last[0] - last[1]).norm())
        assert truth.answer(asked[0]) == truth.answer(asked[1])
    assert decodable["decodable_unused"] > 1
    assert decodable["instruction_ignored"] < 1e-4


# What is asked of it


def test_the_truth_says_what_is_wrong_in_one_line() -> None:
    _, truth = known("late_rewrite")
    for wrong, message in (
        (lambda: truth.ids(["flip", "a"]), "late_rewrite takes 4 tokens, not 2"),
        (lambda: truth.ids(["flip", "z", "a", "?"]), "no token 'z'"),
        (lambda: truth.node_of("nothing"), "no node of late_rewrite computes 'nothing'"),
        (lambda: truth.variables["flag"].direction("flip", "up"), "no value 'up'"),
    ):
        with pytest.raises(InterpError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)


def test_inputs_are_all_or_a_seeded_sample() -> None:
    _, truth = known("histogram")
    assert len(truth.inputs(None)) == 3**5
    first, again, other = (truth.inputs(50, seed=seed) for seed in (0, 0, 1))
    assert len({tuple(ids.tolist()) for ids in first}) == 50
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
