"""What an instruction does to the projection: per layer, component and position, beside nulls.

Every item is asked clean, with each wording of the condition asked about (``instructed``, another
one, or one of a user's file) and its length-matched placebo, and with a revealing instruction (the
positive control) and its placebo. One pass over an item's prompts reads their projections on the
direction, the exact parts they are the sum of, and their projections on null directions of the same
site and position: drawn with the covariance of the placebo prompts' states, differences between
placebo texts, and directions of non-moral contrasts fitted the same way.

One item is one unit of the ledger, so a killed run resumes and ends with the same bytes. Parts are
read one by one: what grows with the sample is a few numbers per prompt. The tables are
:mod:`analyses.project_tables`'s, the report :mod:`analyses.project_story`'s.

    done = run(ProjectConfig(items="bbq:Age", positions="last,options", placement="before"))
    done.contrasts
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from safetensors.torch import load_file
from transformer_lens.model_bridge import TransformerBridge

from analyses.conditions import INSTRUCTED, control_texts, require_contrast
from analyses.config import IGNORED, listed, prompt_hashes
from analyses.project_reader import MEASURES, Reader, is_fixed, no_nulls, read_nulls
from analyses.project_tables import (
    Kept,
    contrast_table,
    contributor_table,
    level_table,
    null_table,
)
from interp.activations import places_of
from interp.data import ChoiceItem, dataset_hash, load_items, load_texts
from interp.directions import DirectionStack, fit_direction, load_direction
from interp.directions.components import Component, require_component
from interp.directions.moments import read_moments
from interp.directions.nulls import contrast_directions
from interp.errors import InterpError
from interp.models import DEFAULT_MODEL, ModelCard, load_model, model_card
from interp.prompts import (
    Condition,
    ConditionSpec,
    Placement,
    TextBank,
    TokenizedPrompt,
    condition_prompt,
    load_conditions,
)
from interp.runs import Ledger, Run, open_run
from interp.runs.parquet import read_part

REFERENCE_PROMPTS = 64
"""Placebo prompts from which the spread of states and the null directions are taken."""

DEFAULT_COMPONENTS: tuple[Component, ...] = ("attn_out", "mlp_out")


class ProjectConfig(BaseModel):
    """What is projected; stored in the manifest and compared on resume.

    ``positions`` and ``components`` also take the command line's spelling, ``"last,question"``. The
    direction's own site is always among the components.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    items: str = "bbq:Age"
    condition: str = INSTRUCTED
    condition_file: Path | None = None
    direction: Path | None = None
    components: tuple[str, ...] = DEFAULT_COMPONENTS
    positions: tuple[str, ...] = Field(default=("last",), min_length=1)
    placement: Placement = "after"
    texts: int = Field(default=6, ge=1, description="wordings of the condition and placebos")
    limit: int = Field(default=24, ge=1, description="items, sampled by cluster")
    seed: int = Field(default=0, ge=0)
    compatibility_mode: bool = False
    png: bool = Field(default=False, description="also write the figures as PNG")
    out: Path = Path("runs/project")

    @field_validator("components", "positions", mode="before")
    @classmethod
    def _read_list(cls, value: Any) -> Any:
        return listed(value)


@dataclass(frozen=True)
class ProjectRun:
    """What a run measured; see :mod:`analyses.project_tables` for the tables.

    ``asked`` is the condition; ``example`` holds a prompt of each.
    """

    config: ProjectConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    asked: ConditionSpec
    direction: DirectionStack
    contrasts: pd.DataFrame
    nulls: pd.DataFrame
    contributors: pd.DataFrame
    levels: pd.DataFrame
    example: dict[str, TokenizedPrompt]
    report: Path


def run(
    config: ProjectConfig, *, model: TransformerBridge | None = None, progress: bool = True
) -> ProjectRun:
    """Project (or go on projecting) and write the run folder; returns everything it measured.

    ``model`` is ``config.model`` where it has been loaded already.

    Raises:
        InterpError: a condition that cannot be read in single prompts beside its placebos, a
            direction that was made for another model, a component or position that the model or the
            prompts do not have, or a folder that holds another run.
    """
    from analyses.project_story import write_story

    specs = load_conditions(config.condition_file)
    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    require_contrast(specs, config.condition, items, n_texts=config.texts)
    if model is None:
        model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    card = model_card(model)
    bank = TextBank(model.tokenizer, conditions=specs, n_ctx=model.cfg.n_ctx, seed=config.seed)
    _require_places(config, _prompts(model, bank, items[0], config))
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data=_data_hashes(config, items, specs),
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:
        stack = _direction(folder, model, config, progress)
        readers = _readers(folder, model, bank, items, stack, config, progress)
        ledger = folder.ledger("projections")
        ledger.run(
            items,
            key=lambda item: item.id,
            compute=lambda item: _rows(item, _prompts(model, bank, item, config), readers, config),
            progress=progress,
        )
        kept = _gathered(folder, ledger, items, readers, config)
        done = ProjectRun(
            config=config,
            card=card,
            items=items,
            asked=specs[config.condition],
            direction=stack,
            contrasts=contrast_table(kept, config.seed),
            nulls=null_table(kept),
            contributors=contributor_table(kept, config.seed),
            levels=level_table(kept),
            example={
                condition.name: prompt
                for condition, prompt in reversed(_prompts(model, bank, items[0], config))
            },
            report=config.out / "report.html",
        )
        for name in ("contrasts", "nulls", "contributors", "levels"):
            folder.save_table(name, getattr(done, name))
        # the order of the lists in projections.parquet
        folder.save_table("cells", readers[0].cells)
        folder.save_table("components", readers[0].parts)
        write_story(folder, done)
    return done


_Prompts = list[tuple[Condition, TokenizedPrompt]]


def _data_hashes(
    config: ProjectConfig, items: Sequence[ChoiceItem], specs: Mapping[str, ConditionSpec]
) -> dict[str, str]:
    hashes = prompt_hashes(items, specs)
    if config.direction is None:
        hashes["bundled:morality"] = dataset_hash(load_texts("bundled:morality"))
    else:
        hashes["direction"] = load_direction(config.direction).facts.data_hash
    return hashes


def _prompts(
    model: TransformerBridge, bank: TextBank, item: ChoiceItem, config: ProjectConfig
) -> _Prompts:
    clean = bank.texts("clean", item, 1)
    treated = bank.texts(config.condition, item, config.texts)
    control = control_texts(bank, item, beside=config.condition, n_texts=1)
    conditions = (*clean, *treated, *control, *bank.placebos(treated), *bank.placebos(control))
    return [
        (condition, condition_prompt(model, item, condition, placement=config.placement))
        for condition in conditions
    ]


def _require_places(config: ProjectConfig, prompts: _Prompts) -> None:
    """Refuse components and positions now that every item would refuse later."""
    for component in config.components:
        require_component(component)
    for position in config.positions:
        if position == "mean":
            raise InterpError(
                "--positions mean: includes positions before the instruction, which cannot change; "
                "choose last, a span or span:last"
            )
        for condition, prompt in prompts:
            if condition.name == "clean" and not _has(prompt, position):
                continue
            places = places_of(prompt, position)
            if len(places.positions) > 1 and not places.averaged:
                raise InterpError(
                    f"--positions {position}: several per prompt do not line up between prompts of "
                    "different items; choose last, a span or span:last"
                )


def _has(prompt: TokenizedPrompt, position: str) -> bool:
    span = position.partition(":")[0]
    return span == "last" or span in prompt.spans


def _direction(
    folder: Run, model: TransformerBridge, config: ProjectConfig, progress: bool
) -> DirectionStack:
    """The direction given, or the one learned from the bundled sentences, kept with the run."""
    if config.direction is not None:
        stack = load_direction(config.direction)
        stack.require(model)
        return stack
    path = folder.path / "directions" / "morality.safetensors"
    if not path.is_file():
        texts = load_texts("bundled:morality")
        fitted = fit_direction(model, texts, seed=config.seed, progress=progress)
        with folder.file("directions/morality.safetensors") as temporary:
            fitted.save(temporary)
    return load_direction(path)


def _readers(
    folder: Run,
    model: TransformerBridge,
    bank: TextBank,
    items: Sequence[ChoiceItem],
    stack: DirectionStack,
    config: ProjectConfig,
    progress: bool,
) -> list[Reader]:
    """One reader per position, with the reference sample's moments and null directions."""
    n_items = min(len(items), -(-REFERENCE_PROMPTS // config.texts))
    sample = [_prompts(model, bank, item, config) for item in items[:n_items]]
    by_text = [
        [prompts[k][1] for prompts in sample]
        for k, (condition, _) in enumerate(sample[0])
        if condition.control_of == config.condition
    ]
    contrasts = _contrasts(folder, model, stack, config, progress)
    components = list(dict.fromkeys([stack.site, *config.components]))
    layers = tuple(sorted({0, *stack.layers}))
    readers = []
    for position in config.positions:
        everything = [prompt for prompts in by_text for prompt in prompts]
        fixed = all(_is_fixed(prompts, config, position) for prompts in sample)
        readers.append(
            Reader(
                model,
                stack,
                components=components,  # type: ignore[arg-type]
                target=stack.best,
                moments=read_moments(
                    model,
                    everything,
                    components=[c for c in components if c != "head"],  # type: ignore[misc]
                    positions=position,
                    layers=layers,
                    progress=False,
                ),
                nulls=no_nulls(stack)
                if fixed
                else read_nulls(model, stack, by_text, contrasts, position, config.seed),
                position=position,
            )
        )
    return readers


def _contrasts(
    folder: Run,
    model: TransformerBridge,
    stack: DirectionStack,
    config: ProjectConfig,
    progress: bool,
) -> dict[str, torch.Tensor]:
    """Vectors ``[layer, d_model]`` of the non-moral contrasts, fitted once and kept with the run."""
    path = folder.path / "contrasts.safetensors"
    if not path.is_file():
        fitted = contrast_directions(
            model,
            site=stack.site,
            method=stack.facts.method,
            seed=config.seed,
            progress=progress,
        )
        vectors = {
            name: torch.stack([one[layer].vector for layer in stack.layers])
            for name, one in fitted.items()
        }
        folder.save_tensors("contrasts", vectors)
    return load_file(path)


def _is_fixed(prompts: _Prompts, config: ProjectConfig, position: str) -> bool:
    """Whether nothing can change there between the condition asked about and its placebos."""
    contrasted = [prompt for c, prompt in prompts if _contrast_of(c) == config.condition]
    return is_fixed(contrasted, position)


def _contrast_of(condition: Condition) -> str:
    return condition.control_of or condition.name


def _place(condition: Condition, placement: Placement) -> str:
    """``before`` or ``after`` the question, or ``system`` for an instruction in that turn."""
    return "system" if condition.turn == "system" else condition.placement or placement


def _rows(
    item: ChoiceItem, prompts: _Prompts, readers: Sequence[Reader], config: ProjectConfig
) -> pd.DataFrame:
    """A row per prompt and position; the lists follow the readers' ``cells`` and ``parts``."""
    rows = []
    for reader in readers:
        there = [one for one in prompts if _has(one[1], reader.position)]
        values = reader.read([prompt for _, prompt in there])
        fixed = _is_fixed(prompts, config, reader.position)
        for k, (condition, _) in enumerate(there):
            measured = {name: values.measured[k, :, m] for m, name in enumerate(MEASURES)}
            wants_nulls = _contrast_of(condition) == config.condition
            rows.append(
                {
                    "item": item.id,
                    "cluster": item.cluster,
                    "context": item.context_condition,
                    "contrast": _contrast_of(condition),
                    "condition": condition.name,
                    "slot": condition.slot,
                    "round": 0,
                    "placement": _place(condition, config.placement),
                    "position": reader.position,
                    "fixed": fixed,
                    **measured,
                    "parts": values.parts[k],
                    "nulls": values.nulls[k].reshape(-1) if wants_nulls else np.empty(0, "f4"),
                }
            )
    return pd.DataFrame(rows)


def _gathered(
    folder: Run,
    ledger: Ledger,
    items: Sequence[ChoiceItem],
    readers: Sequence[Reader],
    config: ProjectConfig,
) -> Kept:
    """Every part's numbers as arrays, and the merged table: one part in memory at a time."""
    kept = Kept.empty(items, readers, config.condition, config.texts)
    index = {item.id: k for k, item in enumerate(items)}
    paths: dict[str, Path] = {}
    for path in sorted(ledger.folder.glob("*.parquet")):
        part = read_part(path, path.stem)
        if part is not None:
            frame = part.to_pandas()
            name = frame["item"].iloc[0]
            if name in paths:
                raise InterpError(
                    f"{ledger.folder}: two parts of item {name}, one of an older version: choose "
                    "another --out"
                )
            kept.add(index[name], frame)
            paths[name] = path
    missing = [item.id for item in items if item.id not in paths]
    if missing:
        raise InterpError(f"{ledger.folder}: the part of item {missing[0]} is missing: run again")
    with folder.file("projections.parquet") as temporary:
        _merge([paths[item.id] for item in items], temporary)
    return kept


def _merge(parts: Sequence[Path], target: Path) -> None:
    schema = pq.read_schema(parts[0]).remove_metadata()
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for path in parts:
            writer.write_table(pq.read_table(path, use_threads=False).replace_schema_metadata(None))
