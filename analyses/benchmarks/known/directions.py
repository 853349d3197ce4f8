"""Directions fitted by every method, against the one that a variable is written along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import read_states
from interp.directions.methods import axes
from interp.directions.names import FitMethod
from interp.errors import InterpError
from interp.known import Truth, TruthNode, Variable
from interp.stats import rng

METHODS: tuple[FitMethod, ...] = ("mean_difference", "lda", "logistic_regression", "pca")

N_EACH = 40
"""At most so many inputs of each value are fitted on."""

N_EXCHANGED = 60
"""Pairs of inputs whose states are exchanged along a direction."""


@dataclass(frozen=True, eq=False)
class Place:
    """A variable where it is written: two of its values, and inputs that have either.

    ``node`` writes it; ``position``: the one at which the answer depends on it. ``states`` are those of
    the inputs' residual streams behind the node; ``labels`` are true for the value ``plus``.
    """

    variable: Variable
    node: TruthNode
    position: int
    plus: str
    minus: str
    inputs: Sequence[Int[Tensor, " pos"]]
    states: Float[Tensor, "input d_model"]
    labels: Bool[Tensor, " input"]


def direction_rows(model: TransformerBridge, truth: Truth) -> list[dict[str, object]]:
    """One row per variable and method: |cos| with the true direction, and interchange agreement.

    Variables of tokens on which the answer depends at one position, with their two commonest values.
    ``agreement``: of the interchanges that change the program's answer, the share after which the
    model gives it. The method ``true direction`` says what can be reached.
    """
    rows: list[dict[str, object]] = []
    for place in _places(model, truth):
        true = place.variable.direction(place.plus, place.minus)
        exchanged = list(islice(_exchanges(truth, place), N_EXCHANGED))
        fitted = {"true direction": true} | {method: _fit(place, method) for method in METHODS}
        for method, vector in fitted.items():
            if vector is None:
                continue
            agreed = _agreed(model, truth, place, vector, exchanged)
            rows.append(
                {
                    "variable": place.variable.name,
                    "method": method,
                    "cosine": abs(float(vector @ true)),
                    "agreement": sum(agreed) / len(agreed) if agreed else float("nan"),
                    "exchanged": len(agreed),
                }
            )
    return rows


def _places(model: TransformerBridge, truth: Truth) -> Iterator[Place]:
    for node in truth.used_nodes:
        for name in node.variables:
            place = _place(model, truth, node, truth.variables[name])
            if place is not None:
                yield place


def _place(
    model: TransformerBridge, truth: Truth, node: TruthNode, variable: Variable
) -> Place | None:
    if variable.is_number or len(variable.positions) != 1:
        return None
    (position,) = variable.positions
    every = truth.inputs()
    values = [str(truth.run(ids).values[variable.name][position]) for ids in every]
    two = sorted(value for value, _ in Counter(values).most_common(2))
    if len(two) < 2:
        return None
    chosen = _one_of_each_in_turn(values, two)
    inputs = [every[k] for k in chosen]
    states = read_states(
        model,
        inputs,
        site="resid_mid" if node.kind == "head" else "resid_post",
        positions=[position] * len(inputs),
        layers=[node.layer],
        progress=False,
    ).values[0]
    labels = torch.tensor([values[k] == two[1] for k in chosen])
    return Place(variable, node, position, two[1], two[0], inputs, states, labels)


def _added(node: TruthNode) -> str:
    """What a node's attention or MLP adds to the stream."""
    return "attn_out" if node.kind == "head" else "mlp_out"


def _one_of_each_in_turn(values: Sequence[str], two: Sequence[str]) -> list[int]:
    """As many inputs of one value as of the other, one of each in turn."""
    of_value = [[k for k, value in enumerate(values) if value == one][:N_EACH] for one in two]
    return [k for pair in zip(*of_value, strict=False) for k in pair]


def _fit(place: Place, method: FitMethod) -> Float[Tensor, " d_model"] | None:
    """The axis of a method; None where the states do not differ."""
    groups = [str(k // 2) for k in range(len(place.inputs))]
    try:
        return axes(method, place.states[None], place.labels, groups)[0]
    except InterpError:
        return None


def _exchanges(truth: Truth, place: Place) -> Iterator[tuple[int, int, str | float]]:
    """Numbers of a source and a destination, and what the program answers after the exchange.

    Of all, in a random order, those whose answer is not the destination's own.
    """
    n = len(place.inputs)
    name, position = place.variable.name, place.position
    for number in rng(0, "interchanges", truth.name, name).permutation(n * n):
        source, to = divmod(int(number), n)
        wanted = truth.answer(
            place.inputs[to],
            source=place.inputs[source],
            variables=[name],
            positions=[position],
        )
        if wanted != truth.answer(place.inputs[to]):
            yield source, to, wanted


@torch.no_grad()
def _agreed(
    model: TransformerBridge,
    truth: Truth,
    place: Place,
    vector: Float[Tensor, " d_model"],
    exchanged: Sequence[tuple[int, int, str | float]],
) -> list[bool]:
    """Whether the model gives the answers when the states are the sources' along a unit vector."""
    if not exchanged:
        return []
    sources = [source for source, _, _ in exchanged]
    to = [destination for _, destination, _ in exchanged]
    steps = ((place.states[sources] - place.states[to]) @ vector)[:, None] * vector

    def move(output: Tensor, hook: Any) -> Tensor:
        """What the node's attention or MLP adds is moved, and the stream with it."""
        moved = output.clone()
        moved[:, place.position] += steps.to(output)
        return moved

    hook = f"blocks.{place.node.layer}.hook_{_added(place.node)}"
    ids = torch.stack([place.inputs[k] for k in to])  # the inputs of a program are equally long
    logits = model.run_with_hooks(ids, fwd_hooks=[(hook, move)])[:, -1]
    return [
        _gives(truth, one, wanted) for one, (_, _, wanted) in zip(logits, exchanged, strict=True)
    ]


def _gives(truth: Truth, logits: Float[Tensor, " d_vocab"], wanted: str | float) -> bool:
    if isinstance(wanted, str):
        return truth.tokens[int(logits.argmax())] == wanted
    return abs(float(logits[truth.tokens.index("value")]) - wanted) < 0.05
