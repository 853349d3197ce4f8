"""What is known of a trained model: how its arm follows the instruction, and what interventions give.

Opened by what scores a reading, never by what makes one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.display import short_repr
from interp.errors import InterpError
from interp.known.task import LAYOUT, ToyTask

TRUTHS = Path(__file__).parent / "truths"
"""Where the truth files lie."""

TOLERANCE = 0.75
"""Nats by which an answer may miss the program's: a content's concept is worth 3."""


@dataclass(frozen=True, eq=False)
class VariablePlace:
    """A variable's coordinate: the unit vector it lies along, behind a block, at a position.

    ``vector`` None: all of the state beside the variables that have one; ``variable`` is then what it
    holds, None where nothing depends on it.
    """

    variable: str | None
    block: int
    position: int
    vector: Float[Tensor, " d_model"] | None

    @property
    def hook(self) -> str:
        """TransformerLens's hook of the stream behind the block."""
        return f"blocks.{self.block}.hook_out"


@dataclass(frozen=True)
class Intervention:
    """An exchange, and the margin that the program then gives.

    ``exchanged``: numbers of the places whose states are taken from the source.
    """

    base: tuple[str, ...]
    source: tuple[str, ...]
    exchanged: tuple[int, ...]
    margin: float


@dataclass(frozen=True, eq=False)
class TrainedTruth:
    """The truth of one trained model.

    ``shares``: of the instruction's effect on queries, what passes each position behind block 0; None
    where two routes are each enough (``backups``). ``localised``: exchanges were trained, so that
    ``places`` are the model's; without, they are a hypothesis. ``edges``: positions (from, to) between
    which block 0 has to carry something: a variable behind it, which answers follow, depends on the
    token there. ``answers``: some prompts with the program's margins; ``unseen``: such as were not
    trained.
    """

    name: str
    description: str
    shares: Mapping[str, float] | None
    verdict: str
    localised: bool
    backups: tuple[tuple[str, ...], ...]
    places: tuple[VariablePlace, ...]
    edges: tuple[tuple[int, int], ...]
    interventions: tuple[Intervention, ...]
    answers: tuple[tuple[tuple[str, ...], float], ...]
    unseen: tuple[tuple[tuple[str, ...], float], ...]

    __repr__ = short_repr

    def place_of(self, variable: str) -> VariablePlace:
        """Where a variable lies.

        Raises:
            InterpError: it has no coordinate of its own.
        """
        for place in self.places:
            if place.variable == variable and place.vector is not None:
                return place
        own = ", ".join(str(p.variable) for p in self.places if p.vector is not None)
        raise InterpError(f"no variable {variable!r} in {self.name}; it has {own}")


def open_truth(name: str, seed: int = 0) -> TrainedTruth:
    """The truth of the model that :func:`interp.known.load_trained` gives.

    Raises:
        InterpError: no truth file of this name.
    """
    facts, vectors = _file(name)
    places = tuple(
        VariablePlace(
            variable=place["variable"],
            block=place["block"],
            position=LAYOUT.index(place["position"]),
            vector=vectors[place["variable"]][seed] if place["own"] else None,
        )
        for place in facts["places"]
    )
    return TrainedTruth(
        name=name,
        description=facts["description"],
        shares=facts["shares"],
        verdict=facts["verdict"],
        localised=facts["localised"],
        backups=tuple(map(tuple, facts["backups"])),
        places=places,
        edges=tuple((LAYOUT.index(a), LAYOUT.index(b)) for a, b in facts["edges"]),
        interventions=tuple(
            Intervention(tuple(base.split()), tuple(source.split()), tuple(exchanged), margin)
            for base, source, exchanged, margin in facts["interventions"]
        ),
        answers=_answers(facts["answers"]),
        unseen=_answers(facts["unseen"]),
    )


def margins_after(
    model: TransformerBridge,
    task: ToyTask,
    bases: Sequence[Sequence[str]],
    sources: Sequence[Sequence[str]],
    places: Sequence[Sequence[VariablePlace]],
    all_places: Sequence[VariablePlace],
) -> Float[Tensor, " base"]:
    """Margins of the bases with the states at ``places`` exchanged for the sources'.

    ``places``: some of ``all_places`` for each base; all tell what lies beside one without a vector.
    """
    ids, others = (torch.stack([task.ids(t) for t in prompts]) for prompts in (bases, sources))
    hooks = {place.hook for place in all_places}
    with torch.no_grad():
        _, cache_ = model.run_with_cache(others, names_filter=lambda name: name in hooks)
        changes = [
            (hook, _exchange(hook, places, all_places, cache_[hook])) for hook in sorted(hooks)
        ]
        logits = model.run_with_hooks(ids, fwd_hooks=changes)[:, -1]
    yes, no = task.target
    return logits[:, yes] - logits[:, no]


def projection(
    place: VariablePlace, all_places: Sequence[VariablePlace]
) -> Float[Tensor, "d_model d_model"]:
    """Onto what a place holds: its vector, or all that is orthogonal to those of its site."""
    if place.vector is not None:
        return torch.outer(place.vector, place.vector)
    here = [
        other.vector
        for other in all_places
        if (other.block, other.position) == (place.block, place.position)
        and other.vector is not None
    ]
    vectors = torch.stack(here)
    return torch.eye(vectors.shape[1]) - vectors.T @ vectors


def _exchange(
    hook_name: str,
    places: Sequence[Sequence[VariablePlace]],
    all_places: Sequence[VariablePlace],
    source: Float[Tensor, "base pos d_model"],
) -> Any:
    here = [place for place in all_places if place.hook == hook_name]

    def change(output: Tensor, hook: Any) -> Tensor:
        changed = output.clone()
        for place in here:
            p = place.position
            taken = torch.tensor([[any(place is one for one in own)] for own in places])
            step = (source[:, p] - output[:, p]) @ projection(place, all_places).to(output)
            changed[:, p] += taken.to(output) * step
        return changed

    return change


def _answers(rows: Sequence[Sequence[Any]]) -> tuple[tuple[tuple[str, ...], float], ...]:
    return tuple((tuple(tokens.split()), margin) for tokens, margin in rows)


@cache
def _file(name: str) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    path = TRUTHS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in TRUTHS.glob("*.json")))
        raise InterpError(f"no truth of {name!r}; there are {known}")
    return json.loads(path.read_text("utf-8")), load_file(path.with_suffix(".safetensors"))
