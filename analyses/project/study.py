"""The projection study: one item is one unit, and its table is streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from analyses.contrast import (
    CONTROL,
    PromptBench,
    digest_prompts,
    example_step,
)
from analyses.project import story, tables
from analyses.project.asked import ProjectQuestion, ask
from analyses.project.config import ProjectConfig
from analyses.project.tables import FITTED, ProjectResult
from analyses.study import Lab, Saved, Step, Steps, Story
from analyses.totals import condition_sides, score_sides, texts_of_sides
from interp.activations import places_of
from interp.data import ChoiceItem, load_texts
from interp.directions import DirectionStack, contrast_directions, fit_direction, load_direction
from interp.directions.contrast_reader import (
    MEASURES,
    ContrastReader,
    contrast_reader,
    is_fixed,
)
from interp.directions.decompose import part_readings
from interp.errors import InterpError
from interp.prompts import Condition, TokenizedPrompt, condition_prompt

REFERENCE_PROMPTS = 64
"""Placebo prompts from which the spread of states and the null directions are taken."""

_Prompts: TypeAlias = list[tuple[Condition, TokenizedPrompt]]


@dataclass(frozen=True)
class ProjectBench:
    """Prompts are made of ``prompts`` and read by one reader per position."""

    prompts: PromptBench[ProjectConfig]
    readers: tuple[ContrastReader, ...]


class Project:
    """See :mod:`analyses.project`."""

    name = "project"
    Config = ProjectConfig

    def ask(self, config: ProjectConfig, *, progress: bool = True) -> ProjectQuestion:
        """See :mod:`analyses.project.asked`."""
        return ask(config, progress=progress)

    def bench(self, asked: ProjectQuestion, lab: Lab) -> ProjectBench:
        """Model, text bank, direction and readers; refuses another model's direction, and places."""
        prompts = PromptBench.of(asked, lab)
        _require_places(_prompts(prompts, asked.items[0]), asked.config.positions)
        if asked.given is None:
            stack = _fitted(lab, asked.config.seed)
        else:
            stack, best = asked.given, asked.given.best
            stack.require(lab.model)
            part_readings(lab.model, best, best.vector[None])  # refuses what is no sum of parts
        return ProjectBench(prompts, _readers(prompts, stack, lab))

    def steps(self, asked: ProjectQuestion, bench: ProjectBench) -> Steps:
        """What the columns of lists mean, a text of the condition and its placebo, projections."""
        yield Step("cells", ["cells"], key=str, compute=cell_rows)
        yield Step("components", ["components"], key=str, compute=part_rows)
        positions = asked.config.positions
        digests = {item.id: _digest(bench.prompts, item) for item in asked.items}

        def null_key(position: str) -> dict[str, Any]:
            return {"position": position, "prompts": digests}

        yield Step("null_directions", positions, key=null_key, compute=null_rows)
        of_first = {c.name: c.text for c, _ in reversed(_prompts(bench.prompts, asked.items[0]))}
        names = (asked.config.condition, "placebo")
        yield example_step({name: of_first[name] or "" for name in names})

        def key(item: ChoiceItem) -> dict[str, str]:
            return {"item": item.id, "prompts": digests[item.id]}

        yield Step("projections", asked.items, key=key, compute=read_item, stream=True)
        yield Step("readings", asked.items, key=key, compute=score_item)

    def read(self, asked: ProjectQuestion, saved: Saved) -> ProjectResult:
        """Contrasts beside nulls, contributors, levels: one item's rows in memory at a time."""
        return tables.read(asked, saved)

    def tables(self, result: ProjectResult) -> Mapping[str, pd.DataFrame]:
        """Everything but the projections themselves."""
        names = ("totals", "contrasts", "nulls", "contributors", "levels")
        return {name: getattr(result, name) for name in names}

    def story(self, result: ProjectResult) -> Story:
        """Order of the gates: the direction, the control, zero, the null directions."""
        return story.tell(result)


def cell_rows(bench: ProjectBench, unit: str) -> pd.DataFrame:
    """What the lists of a measure hold, in order."""
    return bench.readers[0].cells


def part_rows(bench: ProjectBench, unit: str) -> pd.DataFrame:
    """What the list ``parts`` holds, in order."""
    return bench.readers[0].parts


def null_rows(bench: ProjectBench, position: str) -> pd.DataFrame:
    """The null directions of a position; the list ``nulls`` holds them for each layer in turn."""
    (reader,) = (one for one in bench.readers if one.position == position)
    nulls = reader.nulls
    columns = {"position": position, "kind": nulls.kinds, "name": nulls.names}
    return pd.DataFrame(columns, dtype=object)  # text also where there are none


def read_item(bench: ProjectBench, item: ChoiceItem) -> pd.DataFrame:
    """A row per prompt and position."""
    config, prompts, rows = bench.prompts.config, _prompts(bench.prompts, item), []
    for reader in bench.readers:
        there = [one for one in prompts if _has(one[1], reader.position)]
        values = reader.read([prompt for _, prompt in there])
        fixed = _is_fixed(prompts, config.condition, reader.position)
        for k, (condition, _) in enumerate(there):
            contrast = _contrast_of(condition)
            nulls = values.nulls[k].reshape(-1) if contrast == config.condition else _NOTHING
            labels = {
                "item": item.id,
                "cluster": item.cluster,
                "context": item.context_condition,
                "contrast": contrast,
                "condition": condition.name,
                "slot": condition.slot,
                "round": 0,
                "placement": _place(condition, config),
                "position": reader.position,
                "fixed": fixed,
            }
            measured = {name: values.measured[k, :, m] for m, name in enumerate(MEASURES)}
            rows.append({**labels, **measured, "parts": values.parts[k], "nulls": nulls})
    return pd.DataFrame(rows)


_NOTHING = np.empty(0, "f4")


def _prompts(bench: PromptBench[ProjectConfig], item: ChoiceItem) -> _Prompts:
    """The prompts of :func:`_conditions`."""
    place = bench.config.placement
    return [
        (condition, condition_prompt(bench.model, item, condition, placement=place))
        for condition in _conditions(bench, item)
    ]


def _digest(bench: PromptBench[ProjectConfig], item: ChoiceItem) -> str:
    tokenizer, place = bench.model.tokenizer, bench.config.placement
    texts = texts_of_sides(condition_sides(bench, item))
    clean = bench.bank.texts("clean", item, 1)
    return digest_prompts(tokenizer, item, [*clean, *texts], placement=place)


def score_item(bench: ProjectBench, item: ChoiceItem) -> pd.DataFrame:
    """The metrics of one item under the condition and every arm of the control."""
    prompts = bench.prompts
    place = prompts.config.placement
    return score_sides(prompts.model, item, condition_sides(prompts, item), placement=place)


def _conditions(bench: PromptBench[ProjectConfig], item: ChoiceItem) -> tuple[Condition, ...]:
    """The clean text, the condition's, the control's, and the placebos of either."""
    sides = condition_sides(bench, item)
    (treated, placebos), (control, others) = sides[bench.config.condition], sides[CONTROL]
    return (*bench.bank.texts("clean", item, 1), *treated, *control, *placebos, *others)


def _require_places(prompts: _Prompts, positions: Sequence[str]) -> None:
    """Refuse positions now that every item would refuse later."""
    for position in positions:
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


def _fitted(lab: Lab, seed: int) -> DirectionStack:
    """The direction learned from the bundled sentences, kept with the run."""

    def make(path: Path) -> None:
        texts = load_texts("bundled:morality")
        fit_direction(lab.model, texts, seed=seed, progress=lab.progress).save(path)

    return load_direction(lab.file(FITTED, make))


def _contrasts(lab: Lab, stack: DirectionStack, seed: int) -> dict[str, torch.Tensor]:
    """Vectors ``[layer, d_model]`` of the non-moral contrasts, fitted once and kept with the run."""

    def make(path: Path) -> None:
        site, method = stack.site, stack.facts.method
        fitted = contrast_directions(
            lab.model, site=site, method=method, seed=seed, progress=lab.progress
        )
        vectors = {
            name: torch.stack([one[layer].vector for layer in stack.layers])
            for name, one in fitted.items()
        }
        save_file(vectors, path)

    return load_file(lab.file("contrasts.safetensors", make))


def _readers(
    bench: PromptBench[ProjectConfig], stack: DirectionStack, lab: Lab
) -> tuple[ContrastReader, ...]:
    """One reader per position, with the moments and null directions of the reference sample."""
    config = bench.config
    n_items = min(len(bench.items), -(-REFERENCE_PROMPTS // config.texts))
    sample = [_prompts(bench, item) for item in bench.items[:n_items]]
    by_text = [
        [prompts[k][1] for prompts in sample]
        for k, (condition, _) in enumerate(sample[0])
        if condition.control_of == config.condition
    ]
    contrasts = _contrasts(lab, stack, config.seed)
    return tuple(
        contrast_reader(
            bench.model,
            stack,
            by_text,
            None if all(_is_fixed(p, config.condition, position) for p in sample) else contrasts,
            components=list(dict.fromkeys([stack.site, *config.components])),
            position=position,
            seed=config.seed,
        )
        for position in config.positions
    )


def _is_fixed(prompts: _Prompts, condition: str, position: str) -> bool:
    """Whether nothing can change there between the condition and its placebos."""
    contrasted = [prompt for one, prompt in prompts if _contrast_of(one) == condition]
    return is_fixed(contrasted, position)


def _contrast_of(condition: Condition) -> str:
    return condition.control_of or condition.name


def _place(condition: Condition, config: ProjectConfig) -> str:
    """``before`` or ``after`` the question, or ``system`` for an instruction in that turn."""
    return "system" if condition.turn == "system" else condition.placement or config.placement
