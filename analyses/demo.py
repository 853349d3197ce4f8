"""The main job, end to end: what does a self-correction instruction do, outside and inside?

On one model and a clustered sample of real items it measures, against length-matched placebos and
beside a positive control that names the answer:

1. behaviour: the options' margin, accuracy, position and letter bias;
2. where the instruction acts: exact patching of the residual stream, layer by span, and logit lens;
3. the morality projection: a difference-of-means direction with its held-out score, and the shift of
   the prompts' last state along it beside directions of other contrasts;
4. attention to the instruction.

Everything is written through the ledger of :mod:`interp.runs`, one item (or pair) a unit, so a
killed run resumes and ends with the same bytes. The report is :mod:`analyses.story`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from transformer_lens.model_bridge import TransformerBridge

from analyses.config import IGNORED, prompt_hashes
from interp.activations import read_attention
from interp.behaviour import OptionScores, ScoringPlan, score_item
from interp.data import ChoiceItem, LabelledText, dataset_hash, load_items, load_texts
from interp.data.bundle import bundled_categories
from interp.directions import (
    DirectionStack,
    fit_direction,
    load_direction,
    project_prompts,
    word_baselines,
)
from interp.errors import InterpError
from interp.lens import LensTrajectory, lens_trajectory
from interp.models import DEFAULT_MODEL, ModelCard, load_model, model_card
from interp.patching import SweepResult, alignment_notes, measure_identities, sweep
from interp.prompts import PromptPair, TextBank, condition_prompt, pair_of_conditions
from interp.runs import Run, open_run
from interp.stats import Interval

CONDITIONS = ("clean", "instructed", "placebo", "negated", "revealing")
SPANS = ("instruction", "template", "answer_prefix")
MAPS = ("instructed", "revealing")
MAX_LAYERS = 12
"""Layers of a map: two maps of 12 layers x 3 spans are 72 cells, each patched in every pair."""


class DemoConfig(BaseModel):
    """What the demo runs on; stored in the manifest and compared on resume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    items: str = "bbq,bundled"
    limit: int = Field(default=24, ge=2, description="items scored, sampled by cluster")
    seed: int = Field(default=0, ge=0)
    out: Path = Path("runs/demo")
    compatibility_mode: bool = False
    n_texts: int = Field(default=6, ge=1, description="wordings of the instruction and placebos")
    n_control_texts: int = Field(default=1, ge=1, description="wordings of negated and revealing")
    n_pairs: int = Field(default=8, ge=1, description="ambiguous items looked into")


@dataclass(frozen=True)
class DemoResult:
    """Everything the report is told from."""

    config: DemoConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    scores: OptionScores
    direction: DirectionStack
    baselines: dict[str, Interval]
    projections: pd.DataFrame
    lens: dict[str, LensTrajectory]
    maps: dict[str, SweepResult]
    attention: pd.DataFrame
    identities: pd.DataFrame
    example: PromptPair
    report: Path


def run(config: DemoConfig, *, progress: bool = True) -> DemoResult:
    """Run the demo (or resume it) and write its folder; returns everything it measured.

    Raises:
        InterpError: whatever a user can mend, in one line: see the rooms.
    """
    from analyses.story import write_report

    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    _require_one_number_of_choices(items)
    inside = _items_to_look_into(items, config.n_pairs)
    morality = load_texts("bundled:morality")
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    card = model_card(model)
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data=_data_hashes(items, morality),
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:
        scores = _score(folder, model, items, config, progress)
        direction, controls = _directions(folder, model, morality, config.seed, progress)
        projections = _project(folder, model, inside, [direction, *controls], config, progress)
        pairs = {name: _pairs(model, inside, name, config.n_texts) for name in MAPS}
        result = DemoResult(
            config=config,
            card=card,
            items=items,
            scores=OptionScores(scores, card, config.seed),
            direction=direction,
            baselines=word_baselines(morality, seed=config.seed),
            projections=projections,
            lens=_lens(folder, model, pairs, progress),
            maps=_maps(folder, model, pairs, config, progress),
            attention=_attention(folder, model, pairs, progress),
            identities=_identities(folder, model, pairs["instructed"][0]),
            example=pairs["instructed"][0],
            report=config.out / "report.html",
        )
        write_report(folder, model, result)
    return result


def _items_to_look_into(items: Sequence[ChoiceItem], n: int) -> list[ChoiceItem]:
    """The first ambiguous items of the sample that have a margin: chosen before anything is run."""
    found = [i for i in items if i.context_condition == "ambiguous" and i.contrast() is not None]
    if not found:
        raise InterpError(
            "the sample holds no ambiguous item with an unknown and a stereotyped option: raise "
            "--limit or choose other --items"
        )
    return found[:n]


def _require_one_number_of_choices(items: Sequence[ChoiceItem]) -> None:
    """Chance levels and listed positions are those of all items together."""
    first = items[0]
    for item in items:
        if len(item.choices) != len(first.choices):
            raise InterpError(
                f"item {first.id!r} has {len(first.choices)} choices, {item.id!r} has "
                f"{len(item.choices)}: choose --items of one number of choices"
            )


def _data_hashes(items: Sequence[ChoiceItem], morality: Sequence[LabelledText]) -> dict[str, str]:
    return {
        **prompt_hashes(items),
        "bundled:morality": dataset_hash(morality),
        "bundled:contrasts": dataset_hash(load_texts("bundled:contrasts")),
    }


def _score(
    folder: Run,
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    config: DemoConfig,
    progress: bool,
) -> pd.DataFrame:
    plan = ScoringPlan(CONDITIONS, config.n_texts, config.n_control_texts)
    bank = TextBank(model.tokenizer)
    table = folder.ledger("scores")
    table.run(
        items,
        key=lambda item: item.id,
        compute=lambda item: score_item(model, bank, item, plan),
        progress=progress,
    )
    return table.merge()


def _directions(
    folder: Run,
    model: TransformerBridge,
    morality: Sequence[LabelledText],
    seed: int,
    progress: bool,
) -> tuple[DirectionStack, list[DirectionStack]]:
    """The morality direction, and directions of non-moral contrasts fitted the same way."""
    sources = [("morality", morality)]
    for contrast in bundled_categories("contrasts"):
        sources.append((contrast, load_texts(f"bundled:contrasts:{contrast}")))
    stacks = []
    for name, texts in sources:
        path = folder.path / "directions" / f"{name}.safetensors"
        if not path.is_file():
            fitted = fit_direction(
                model, texts, seed=seed, progress=progress and name == "morality"
            )
            with folder.file(f"directions/{name}.safetensors") as temporary:
                fitted.save(temporary)
        stacks.append(load_direction(path))
    return stacks[0], stacks[1:]


def _project(
    folder: Run,
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    directions: Sequence[DirectionStack],
    config: DemoConfig,
    progress: bool,
) -> pd.DataFrame:
    """Last-token projections of instructed, revealing and placebo texts, first order, every layer.

    ``contrast`` names the treated condition a row belongs to, as itself or as its placebo.
    """
    bank = TextBank(model.tokenizer)
    names = ["morality", *bundled_categories("contrasts")]

    def compute(item: ChoiceItem) -> pd.DataFrame:
        conditions = bank.conditions(
            item, ["instructed", "revealing", "placebo"], n_texts=config.n_texts, n_control_texts=1
        )
        prompts = [condition_prompt(model, item, condition) for condition in conditions]
        projected = project_prompts(model, prompts, directions, progress=False)
        rows = [
            {
                "item": item.id,
                "cluster": item.cluster,
                "contrast": condition.control_of or condition.name,
                "condition": condition.name,
                "slot": condition.slot,
                "direction": name,
                "layer": layer,
                "projection": float(values[row, column]),
            }
            for name, stack, values in zip(names, directions, projected, strict=True)
            for column, condition in enumerate(conditions)
            for row, layer in enumerate(stack.layers)
        ]
        return pd.DataFrame(rows)

    table = folder.ledger("projections")
    table.run(items, key=lambda item: item.id, compute=compute, progress=progress)
    return table.merge()


def _pairs(
    model: TransformerBridge, items: Sequence[ChoiceItem], condition: str, n_texts: int
) -> list[PromptPair]:
    """Condition -> its matched placebo; the wordings of the instruction take turns over items."""
    bank = TextBank(model.tokenizer)
    pairs = []
    for k, item in enumerate(items):
        n = n_texts if condition == "instructed" else 1
        texts = bank.texts(condition, item, n)
        slot = k % n
        pair = pair_of_conditions(model, item, texts[slot], bank.placebos(texts)[slot])
        if pair.target is not None:
            pairs.append(pair)
    if not pairs:
        raise InterpError("no item's options can be told apart by their tokens: choose other items")
    return pairs


@dataclass(frozen=True, eq=False)
class _Unit:
    """One pair of a map: the unit of work of the inner measurements."""

    map: str
    number: int
    pair: PromptPair

    def key(self) -> dict[str, Any]:
        texts = {"source": self.pair.source.text, "against": self.pair.destination.text}
        return {"map": self.map, "pair": self.number, **texts}


def _units(pairs: dict[str, list[PromptPair]], *maps: str) -> list[_Unit]:
    return [_Unit(name, k, pair) for name in maps for k, pair in enumerate(pairs[name])]


def _lens(
    folder: Run, model: TransformerBridge, pairs: dict[str, list[PromptPair]], progress: bool
) -> dict[str, LensTrajectory]:
    def compute(unit: _Unit) -> pd.DataFrame:
        frame = lens_trajectory(model, unit.pair, progress=False).frame
        return frame.assign(map=unit.map, pair=unit.number)

    table = folder.ledger("lens")
    table.run(_units(pairs, *MAPS), key=_Unit.key, compute=compute, progress=progress)
    frame = table.merge()
    return {name: LensTrajectory(frame[frame["map"] == name]) for name in pairs}


def _maps(
    folder: Run,
    model: TransformerBridge,
    pairs: dict[str, list[PromptPair]],
    config: DemoConfig,
    progress: bool,
) -> dict[str, SweepResult]:
    units = _units(pairs, *MAPS)
    spans = [s for s in SPANS if all(s in unit.pair.destination.spans for unit in units)]
    layers = spread_layers(model.cfg.n_layers, MAX_LAYERS)

    def compute(unit: _Unit) -> pd.DataFrame:
        result = sweep(model, unit.pair, layers=layers, spans=spans, progress=False)
        return result.to_dataframe().assign(map=unit.map)

    table = folder.ledger("patching")
    table.run(_units(pairs, *MAPS), key=_Unit.key, compute=compute, progress=progress)
    frame = table.merge()
    return {
        name: SweepResult.from_dataframe(
            frame[frame["map"] == name].drop(columns="map"),
            axis_names=["layer", "span"],
            title=f"{name} -> placebo, resid_pre",
            seed=config.seed,
            notes=alignment_notes(model, pairs[name]),
        )
        for name in pairs
    }


def spread_layers(n_layers: int, at_most: int) -> list[int]:
    """Evenly spread layers, the first and the last included, at most so many."""
    n = min(n_layers, at_most)
    return sorted({round(k * (n_layers - 1) / max(n - 1, 1)) for k in range(n)})


def _identities(folder: Run, model: TransformerBridge, pair: PromptPair) -> pd.DataFrame:
    table = folder.ledger("identities")
    table.run(
        [_Unit("instructed", 0, pair)],
        key=_Unit.key,
        compute=lambda unit: measure_identities(model, unit.pair),
        progress=False,
    )
    return table.merge()


def _attention(
    folder: Run, model: TransformerBridge, pairs: dict[str, list[PromptPair]], progress: bool
) -> pd.DataFrame:
    """Mean attention of all later positions to the instruction, per layer and head, both runs."""

    def compute(unit: _Unit) -> pd.DataFrame:
        pair, rows = unit.pair, []
        for prompt, condition in (
            (pair.source, pair.source_name),
            (pair.destination, pair.destination_name),
        ):
            mass = read_attention(model, prompt).to_span("instruction")
            for layer, heads in enumerate(mass.tolist()):
                for head, value in enumerate(heads):
                    rows.append(
                        {
                            "map": unit.map,
                            "item": pair.item.id if pair.item else "",
                            "condition": condition,
                            "layer": layer,
                            "head": head,
                            "mass": value,
                        }
                    )
        return pd.DataFrame(rows)

    table = folder.ledger("attention")
    table.run(_units(pairs, *MAPS), key=_Unit.key, compute=compute, progress=progress)
    return table.merge()
