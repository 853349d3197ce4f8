"""Train a small transformer to do as an arm's program does, under interchanges too.

Each step draws inputs (bases) and other inputs (sources). The loss has three terms: the margin of
answers to the bases; the margin after coordinates of the bases' states were exchanged for the sources',
held to the program after the same exchange (interchange intervention training, Geiger et al. 2022,
arXiv 2112.00826); and, for variables that are pinned, the coordinate itself. The model is
TransformerLens's native one, trained without its bridge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge.sources.native import NativeModel, initialize_native_model

from interp.known.arms import TrainedArm
from interp.known.task import CONTENT, JUDGES, NOTES, QUERY, TOKENS
from interp.known.trained import D_MODEL, model_config
from interp.known.trained_truth import VariablePlace, projection
from interp.stats import rng

N_BASES = 64
LEARNING_RATE = 5e-3

_YES, _NO = TOKENS.index("yes"), TOKENS.index("no")


@dataclass(frozen=True)
class Lessons:
    """All inputs of an arm that are trained, their variables, and the exchanges that can be made."""

    arm: TrainedArm
    places: Sequence[VariablePlace]

    @cached_property
    def inputs(self) -> list[tuple[str, ...]]:
        """Tokens, BOS first. Where judges are kept for later, none stands under an instruction."""
        every = product(*self.arm.program.inputs)
        return [
            ("BOS", *tokens)
            for tokens in every
            if self.arm.judged or tokens[0] in NOTES or tokens[-1] not in JUDGES
        ]

    @cached_property
    def ids(self) -> Int[Tensor, "input pos"]:
        """Token ids."""
        number = {token: k for k, token in enumerate(TOKENS)}
        return torch.tensor([[number[token] for token in tokens] for tokens in self.inputs])

    @cached_property
    def runs(self) -> list[Mapping[str, Sequence[Any]]]:
        """The program's variables on every input."""
        return [self.arm.program.run(tokens).values for tokens in self.inputs]

    @cached_property
    def answers(self) -> Float[Tensor, " input"]:
        """Margins."""
        return torch.tensor([float(run["answer"][QUERY]) for run in self.runs])

    @cached_property
    def projections(self) -> list[Float[Tensor, "d_model d_model"]]:
        """What an exchange at each place takes from the source."""
        return [projection(place, self.places) for place in self.places]

    def exchanged(self, base: int, source: int, taken: Sequence[bool]) -> float:
        """The program's answer to a base with what the ``taken`` places hold in a source."""
        changed = {
            place.variable: {place.position: self.runs[source][place.variable][place.position]}
            for place, on in zip(self.places, taken, strict=True)
            if on and place.variable is not None
        }
        run = self.arm.program.run(self.inputs[base], changed)
        return float(run.values["answer"][QUERY])

    def set_to(self, base: int, variable: str, value: float) -> float:
        """The program's answer to a base with a variable set to a number."""
        run = self.arm.program.run(self.inputs[base], {variable: {CONTENT: value}})
        return float(run.values["answer"][QUERY])


def train(arm: TrainedArm, seed: int, *, n_steps: int | None = None) -> dict[str, Tensor]:
    """The weights of a model that does as the arm's program does; ``seed`` also picks its norm.

    Even seeds have LayerNorm, odd ones RMSNorm. ``n_steps``: None takes the arm's.
    """
    n_steps = n_steps or arm.n_steps
    config = TransformerBridgeConfig.from_dict({**model_config(seed), "seed": seed})
    with torch.random.fork_rng(devices=[]):
        model = NativeModel(config)
    initialize_native_model(model, config)
    lessons = Lessons(arm, places_of(arm, seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=n_steps, pct_start=0.1
    )
    generator = rng(seed, "training", arm.name)
    for _ in range(n_steps):
        loss = _loss(model, lessons, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return {key: weight.detach() for key, weight in model.state_dict().items()}


def places_of(arm: TrainedArm, seed: int) -> tuple[VariablePlace, ...]:
    """A random unit vector for every variable, orthogonal at each site, and what lies beside them."""
    found = []
    for k, site in enumerate(arm.sites):
        drawn = rng(seed, "vectors", arm.name, k).standard_normal((D_MODEL, len(site.variables)))
        vectors, _ = torch.linalg.qr(torch.from_numpy(drawn))
        for name, vector in zip(site.variables, vectors.T.float(), strict=True):
            found.append(VariablePlace(name, site.block, site.position, vector))
        found.append(VariablePlace(site.rest, site.block, site.position, None))
    return tuple(found)


def _loss(model: NativeModel, lessons: Lessons, generator: np.random.Generator) -> Tensor:
    numbers = generator.integers(len(lessons.inputs), size=2 * N_BASES)
    bases, sources = numbers[:N_BASES], numbers[N_BASES:]
    states: dict[int, Tensor] = {}
    logits = _forward(model, lessons.ids[numbers], _keep(states))
    loss = _far(logits, lessons.answers[numbers])
    if not lessons.arm.interchanged:
        return loss
    taken = _drawn(len(lessons.places), generator)
    expected = torch.tensor([
        lessons.exchanged(*one) for one in zip(bases, sources, taken.tolist(), strict=True)
    ])  # fmt: skip
    others = {block: state[N_BASES:] for block, state in states.items()}
    logits = _forward(model, lessons.ids[bases], _exchange(lessons, taken, others))
    loss = loss + _far(logits, expected)
    for name in lessons.arm.pinned:
        loss = loss + _pinned(model, lessons, name, numbers, states, generator)
    return loss


def _drawn(n_places: int, generator: np.random.Generator) -> Bool[Tensor, "base place"]:
    """Which exchanges each base gets: one in half of the cases, else any number."""
    one = np.eye(n_places, dtype=bool)[generator.integers(n_places, size=N_BASES)]
    some = generator.random((N_BASES, n_places)) < 0.5
    return torch.from_numpy(np.where(generator.random((N_BASES, 1)) < 0.5, one, some))


def _forward(model: NativeModel, ids: Tensor, change: Any) -> Float[Tensor, "batch d_vocab"]:
    """Logits behind the query; ``change(block, states)`` sees, and may replace, every block's output."""
    handles = []
    for block, layer in enumerate(model.layers):

        def hook(_: Any, __: Any, output: Any, block: int = block) -> Any:
            return (change(block, output[0]),)

        handles.append(layer.register_forward_hook(hook))
    try:
        return model(ids)[:, -1]
    finally:
        for handle in handles:
            handle.remove()


def _keep(states: dict[int, Tensor]) -> Any:
    def change(block: int, state: Tensor) -> Tensor:
        states[block] = state
        return state

    return change


def _exchange(lessons: Lessons, taken: Bool[Tensor, "base place"], sources: Any) -> Any:
    def change(block: int, state: Tensor) -> Tensor:
        own, source = state, sources[block]
        for k, place in enumerate(lessons.places):
            if place.block == block:
                p = place.position
                step = (source[:, p] - own[:, p]) @ lessons.projections[k]
                state = _added(state, p, step * taken[:, k, None])
        return state

    return change


def _added(state: Tensor, position: int, step: Float[Tensor, "batch d_model"]) -> Tensor:
    there = torch.zeros(state.shape[1]).index_fill(0, torch.tensor(position), 1.0)
    return state + there[:, None] * step[:, None]


def _pinned(
    model: NativeModel,
    lessons: Lessons,
    name: str,
    numbers: np.ndarray,
    states: Mapping[int, Tensor],
    generator: np.random.Generator,
) -> Tensor:
    """The coordinate is the variable's number, and other numbers do as the program says."""
    place = next(place for place in lessons.places if place.variable == name)
    vector = place.vector
    assert vector is not None
    own = torch.tensor([float(lessons.runs[k][name][place.position]) for k in numbers])
    far = (states[place.block][:, place.position] @ vector - own).square().mean()
    bases = numbers[: N_BASES // 2]
    values = torch.from_numpy(generator.uniform(-2, 2, len(bases))).float()

    def change(block: int, state: Tensor) -> Tensor:
        if block != place.block:
            return state
        step = values - state[:, place.position] @ vector
        return _added(state, place.position, step[:, None] * vector)

    logits = _forward(model, lessons.ids[bases], change)
    expected = [lessons.set_to(b, name, v) for b, v in zip(bases, values.tolist(), strict=True)]
    return far + _far(logits, torch.tensor(expected))


def _far(logits: Float[Tensor, "batch d_vocab"], margins: Float[Tensor, " batch"]) -> Tensor:
    """Squared error of the margin, and cross-entropy, so that no other token is in question."""
    wanted = torch.zeros_like(logits)
    wanted[:, _YES], wanted[:, _NO] = margins.sigmoid(), (-margins).sigmoid()
    apart = logits[:, _YES] - logits[:, _NO] - margins
    return apart.square().mean() + torch.nn.functional.cross_entropy(logits, wanted)
