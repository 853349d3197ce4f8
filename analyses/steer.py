"""Does steering along a direction move the answers more than along directions without a meaning?

The causal check: the learned direction's layer is moved by +-s class units at every position, and so
it is by steps of the same length along null directions of the same layer and site (drawn with the
covariance of the evaluation prompts' states, differences between placebo texts, non-moral contrasts
fitted the same way). Under each step the same outcomes are read (:mod:`analyses.steer_outcomes`), all
paired with the unsteered reading: margins of choice items, the preference for moral over immoral
sentences that the direction was not fitted on, continuations, and what the step costs in likelihood of
plain sentences.

Without a file the direction is fitted here, on one half of the groups of ``bundled:morality``; the
layer is picked by held-out AUC within that half, and the sentences read are of the other half. One
direction at one strength is a unit of the ledger, so a killed run resumes with the same bytes.

    done = run(SteerConfig(items="bbq:Age", out="runs/steer"))
    done.swings
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.config import IGNORED
from analyses.steer_outcomes import Outcomes
from analyses.steer_tables import (
    LEARNED,
    UNSTEERED,
    completion_table,
    effect_table,
    swing_table,
    text_table,
)
from interp.activations import read_states
from interp.data import ChoiceItem, LabelledText, dataset_hash, load_items, load_texts
from interp.data.bundle import bundled_completions
from interp.directions import Direction, DirectionStack, fit_direction, load_direction
from interp.directions.nulls import contrast_axes, covariance_nulls, placebo_nulls
from interp.directions.steering import add_vector
from interp.errors import InterpError
from interp.models import DEFAULT_MODEL, ModelCard, load_model, model_card
from interp.prompts import TextBank, condition_prompt
from interp.runs import Run, open_run, read_table
from interp.stats import rng

SENTENCES = ("bundled:morality", "bundled:statements")
"""Sets in which moral sentences are compared with immoral ones; the first unseen one is read."""

PLAIN = "bundled:contrasts"


class SteerConfig(BaseModel):
    """What is steered and read; stored in the manifest and compared on resume.

    ``strengths`` also take the command line's spelling, ``"-2,-1,1,2"``; they are in class units (the
    two classes lie 2 apart). 0 is always read, and the largest one with both signs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    direction: Path | None = None
    items: str = "bbq:Age"
    limit: int = Field(default=12, ge=1, description="items, sampled by cluster")
    strengths: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    groups: int = Field(default=16, ge=1, description="groups of held-out sentences")
    plain: int = Field(default=48, ge=2, description="plain sentences that measure the cost")
    completions: int = Field(default=6, ge=1, description="beginnings to be continued")
    covariance: int = Field(default=10, ge=1, description="null directions drawn at random")
    placebos: int = Field(default=3, ge=2, description="placebo texts, compared two by two")
    seed: int = Field(default=0, ge=0)
    compatibility_mode: bool = False
    out: Path = Path("runs/steer")

    @field_validator("strengths", mode="before")
    @classmethod
    def _read_strengths(cls, value: Any) -> Any:
        return parse_strengths(value) if isinstance(value, str) else value

    @field_validator("strengths")
    @classmethod
    def _check_strengths(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        chosen = {strength for strength in value if strength}
        if not chosen or not all(np.isfinite(strength) for strength in value):
            raise ValueError("give finite numbers other than 0, such as -2,-1,1,2")
        largest = max(abs(strength) for strength in chosen)
        return tuple(sorted(chosen | {largest, -largest}))


@dataclass(frozen=True, eq=False)
class SteerRun:
    """What a run measured; see :mod:`analyses.steer_tables` for the tables.

    ``rows``: every reading; ``place``: the step's length beside the states' spread; ``sentences``:
    which held-out sentences were read; ``left_out``: items without a margin.
    """

    config: SteerConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    left_out: tuple[str, ...]
    stack: DirectionStack
    place: pd.Series
    sentences: str
    rows: pd.DataFrame
    effects: pd.DataFrame
    swings: pd.DataFrame
    completions: pd.DataFrame
    texts: pd.DataFrame
    report: Path


@dataclass(frozen=True, eq=False)
class _Unit:
    """A step along one direction: the unit of work."""

    kind: str
    direction: str
    strength: float
    step: Float[Tensor, " d_model"]

    def key(self) -> dict[str, Any]:
        step = hashlib.sha256(self.step.numpy().tobytes()).hexdigest()
        return {"kind": self.kind, "direction": self.direction, "step": step}


def parse_strengths(text: str) -> tuple[float, ...]:
    """Strengths of ``"-2,-1,1,2"``.

    Raises:
        InterpError: a part that is no number.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tuple(float(part) for part in parts)
    except ValueError as error:
        raise InterpError("strengths are numbers, written -2,-1,1,2") from error


def run(config: SteerConfig, *, progress: bool = True) -> SteerRun:
    """Steer (or go on steering) and write the run folder; returns everything it measured.

    Raises:
        InterpError: a direction of another model, items that cannot be read or have no margin, or a
            folder that holds another run.
    """
    from analyses.steer_story import write_story

    given = None if config.direction is None else load_direction(config.direction)
    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    if given is not None:
        given.require(model)
    card = model_card(model)
    fitted_on, read, name = _sentences(config, given)
    plain = load_texts(PLAIN, limit=config.plain, seed=config.seed)
    prompts = bundled_completions()[: config.completions]
    outcomes = Outcomes(model, items, sentences=read, plain=plain, completions=prompts)
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data={
            "items": dataset_hash(items),
            "sentences": dataset_hash(read),
            "plain": dataset_hash(plain),
            "completions": dataset_hash(prompts),
            "direction": _hash_of_direction(config, fitted_on),
        },
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:
        stack = given or _fitted(folder, model, fitted_on, config, progress)
        nulls = _nulls(folder, model, items, outcomes, stack, config, progress)
        ledger = folder.ledger("steering")
        ledger.run(
            _units(stack.best, nulls, config.strengths),
            key=_Unit.key,
            compute=lambda unit: _rows(model, stack.best, outcomes, unit),
            progress=progress,
        )
        rows = ledger.merge()
        done = SteerRun(
            config=config,
            card=card,
            items=items,
            left_out=outcomes.left_out,
            stack=stack,
            place=read_table(config.out, "place").iloc[0],
            sentences=name,
            rows=rows,
            effects=effect_table(rows, config.seed),
            swings=swing_table(rows, config.seed),
            completions=completion_table(rows, config.seed),
            texts=text_table(rows),
            report=config.out / "report.html",
        )
        for table in ("effects", "swings", "completions", "texts"):
            frame = getattr(done, table)
            folder.save_table(table, frame)
            folder.save_text(f"{table}.csv", frame.to_csv(index=False, lineterminator="\n"))
        write_story(folder, done)
    return done


_Texts = Sequence[LabelledText]


def _sentences(config: SteerConfig, given: DirectionStack | None) -> tuple[_Texts, _Texts, str]:
    """The sentences to fit on (none with a given direction), those to read, and what these are."""
    if given is None:
        fit, rest = split_groups(load_texts(SENTENCES[0]), config.seed)
        read = f"{SENTENCES[0]}, the half of its groups on which the direction was not fitted"
        return fit, _first_groups(rest, config.groups, config.seed), read
    unseen = [name for name in SENTENCES if name not in given.facts.source]
    chosen = unseen[0] if unseen else SENTENCES[0]
    texts = _first_groups(load_texts(chosen), config.groups, config.seed)
    if not unseen:
        return (), texts, f"{chosen}, on which the direction was fitted: not a held-out reading"
    seen = given.facts.source
    return (), texts, f"{chosen}, because the direction was fitted on {seen}"


def split_groups(texts: _Texts, seed: int) -> tuple[list[LabelledText], list[LabelledText]]:
    """Two halves of whole groups, each category halved, drawn with the seed."""
    generator = rng(seed, "steering split")
    first: set[str] = set()
    for category in dict.fromkeys(text.category for text in texts):
        names = list(dict.fromkeys(text.group for text in texts if text.category == category))
        first.update(names[k] for k in generator.permutation(len(names))[: -(-len(names) // 2)])
    fit = [text for text in texts if text.group in first]
    return fit, [text for text in texts if text.group not in first]


def _first_groups(texts: _Texts, n: int, seed: int) -> list[LabelledText]:
    """The sentences of n groups drawn with the seed, in their order."""
    names = list(dict.fromkeys(text.group for text in texts))
    order = rng(seed, "steering sentences").permutation(len(names))
    chosen = {names[k] for k in order[:n]}
    return [text for text in texts if text.group in chosen]


def _hash_of_direction(config: SteerConfig, fitted_on: _Texts) -> str:
    if config.direction is None:
        return dataset_hash(fitted_on)
    return hashlib.sha256(config.direction.read_bytes()).hexdigest()


def _fitted(
    folder: Run, model: TransformerBridge, texts: _Texts, config: SteerConfig, progress: bool
) -> DirectionStack:
    """The direction learned from half of the sentences, kept with the run."""
    path = folder.path / "directions" / "morality.safetensors"
    if not path.is_file():
        fitted = fit_direction(model, texts, seed=config.seed, progress=progress)
        with folder.file("directions/morality.safetensors") as temporary:
            fitted.save(temporary)
    return load_direction(path)


def _nulls(
    folder: Run,
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    outcomes: Outcomes,
    stack: DirectionStack,
    config: SteerConfig,
    progress: bool,
) -> pd.DataFrame:
    """Null directions at the direction's place: ``kind``, ``name``, ``vector``; kept with the run."""
    if not (folder.path / "nulls.parquet").is_file():
        best = stack.best
        states = _states(model, outcomes.prompts, best)
        spread = float((states - states.mean(0)).norm(dim=-1).pow(2).mean().sqrt())
        place = {"site": best.site, "layer": best.layer, "class_unit": best.scale, "spread": spread}
        folder.save_table("place", pd.DataFrame([{**place, "prompts": len(states)}]))
        found = [
            *_named("covariance", covariance_nulls(states, config.covariance, seed=config.seed)),
            *_named("placebo", _placebo_differences(model, items, best, config)),
        ]
        axes = contrast_axes(
            model,
            sites=[best.site],
            methods=[best.facts.method],
            progress=progress,
        )
        found += [("contrast", name, vectors[best.layer]) for (name, *_), vectors in axes.items()]
        frame = pd.DataFrame(found, columns=["kind", "name", "vector"])
        folder.save_table("nulls", frame.assign(vector=[v.numpy() for v in frame["vector"]]))
    return read_table(folder.path, "nulls")


def _named(kind: str, vectors: Tensor) -> list[tuple[str, str, Tensor]]:
    return [(kind, f"{kind} {k}", vector) for k, vector in enumerate(vectors, start=1)]


def _placebo_differences(
    model: TransformerBridge, items: Sequence[ChoiceItem], at: Direction, config: SteerConfig
) -> Float[Tensor, "pair d_model"]:
    bank = TextBank(model.tokenizer)
    prompts = [
        [
            condition_prompt(model, item, condition).ids
            for condition in bank.conditions(item, ["placebo"], n_texts=config.placebos)
        ]
        for item in items
    ]
    # items outermost, so that the texts of one item share what they have in common
    states = _states(model, [ids for texts in prompts for ids in texts], at)
    return placebo_nulls(states.unflatten(0, (len(items), config.placebos)).transpose(0, 1))


def _states(
    model: TransformerBridge, prompts: Sequence[Tensor], at: Direction
) -> Float[Tensor, "prompt d_model"]:
    found = read_states(model, prompts, site=at.site, layers=[at.layer], progress=False)
    return found.values[0]


def _units(direction: Direction, nulls: pd.DataFrame, strengths: Sequence[float]) -> list[_Unit]:
    """The unsteered reading, the learned direction at every strength, every null at the largest."""
    units = [_Unit(UNSTEERED, UNSTEERED, 0.0, torch.zeros_like(direction.vector))]
    length = direction.scale * direction.vector.norm()
    for s in strengths:
        units.append(_Unit(LEARNED, LEARNED, s, s * direction.scale * direction.vector))
    for kind, name, values in nulls[["kind", "name", "vector"]].to_numpy():
        vector = torch.tensor(np.array(values, dtype=np.float32))
        for s in (-max(strengths), max(strengths)):
            units.append(_Unit(kind, name, s, s * length * vector))
    return units


def _rows(model: TransformerBridge, at: Direction, outcomes: Outcomes, unit: _Unit) -> pd.DataFrame:
    """Every outcome under one step; texts are generated for the learned direction only."""
    steering = None if unit.kind == UNSTEERED else add_vector(model, at.site, at.layer, unit.step)
    generate = unit.kind in (LEARNED, UNSTEERED)
    rows = outcomes.measure(steering, generate=generate)
    return rows.assign(kind=unit.kind, direction=unit.direction, strength=unit.strength)
