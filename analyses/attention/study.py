"""The attention study: one text of one item is a unit, with its placebo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.attention import story, tables
from analyses.attention.config import AttentionConfig
from analyses.attention.tables import AttentionResult
from analyses.contrast import (
    CONTROL,
    PromptBench,
    Question,
    ask_contrast,
    control_texts,
    digest_prompts,
    slots_of,
)
from analyses.study import Lab, Saved, Step, Steps, Story
from interp.activations import read_attention, read_span_attention
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.patching import knockout
from interp.prompts import Condition, TokenizedPrompt, condition_prompt, prompt_row
from interp.prompts.pair import pair_of_conditions


@dataclass(frozen=True)
class Unit:
    """A text of a contrast on an item, and its placebo."""

    item: ChoiceItem
    contrast: str
    slot: int

    def key(self) -> dict[str, Any]:
        """What decides its rows."""
        return {"item": self.item.id, "contrast": self.contrast, "slot": self.slot}


@dataclass(frozen=True)
class PatternUnit:
    """The patterns of one prompt of a unit at a few layers."""

    of: Unit
    condition: str
    layers: tuple[int, ...]

    def key(self) -> dict[str, Any]:
        """What decides its rows."""
        return {**self.of.key(), "condition": self.condition, "layers": self.layers}


@dataclass(frozen=True)
class SpansUnit:
    """The mass from every span to every span in a unit's two prompts."""

    of: Unit

    def key(self) -> dict[str, Any]:
        """What decides its rows."""
        return {**self.of.key(), "spans": "all"}


@dataclass(frozen=True)
class KnockoutUnit:
    """A unit whose heads are cut off from the instruction one at a time."""

    of: Unit

    def key(self) -> dict[str, Any]:
        """What decides its rows."""
        return {**self.of.key(), "knockout": "layer_head"}


class Attention:
    """See :mod:`analyses.attention`."""

    name = "attention"
    Config = AttentionConfig

    def ask(self, config: AttentionConfig, *, progress: bool = True) -> Question[AttentionConfig]:
        """Items and conditions; refuses a condition that has no placebos or is no single prompt."""
        if config.page is not None and not config.page.absolute().parent.is_dir():
            raise InterpError(
                f"--page {str(config.page)!r}: its folder does not exist: make it first"
            )
        return ask_contrast(config, progress=progress)

    def bench(self, asked: Question[AttentionConfig], lab: Lab) -> PromptBench[AttentionConfig]:
        """Model and text bank; refuses prompts that cannot be made, and heads that are not there."""
        bench = PromptBench.of(asked, lab)
        tables.require_heads(bench.config, bench.model.cfg)
        for contrast in (bench.config.condition, CONTROL):
            _prompts(bench, Unit(asked.items[0], contrast, 0))
        return bench

    def steps(self, asked: Question[AttentionConfig], bench: PromptBench[AttentionConfig]) -> Steps:
        """The mass on the instruction everywhere; then the patterns of an example where it is most."""

        def key(unit: Unit) -> dict[str, Any]:
            pair = _pair(bench, unit)
            return unit.key() | {"prompts": digest_prompts(bench.model.tokenizer, unit.item, pair)}

        units = units_of(bench)
        mass = yield Step("attention", units, key=key, compute=measure_mass)
        once = list({unit.item.id: unit for unit in reversed(units_of(bench, CONTROL))}.values())[
            ::-1
        ]
        yield Step(
            "spans",
            [SpansUnit(unit) for unit in once],
            key=lambda unit: key(unit.of) | unit.key(),
            compute=measure_spans,
        )
        blocked = None
        if bench.config.heads == "knockout":
            blocked = yield Step(
                "knockout",
                [KnockoutUnit(unit) for unit in once],
                key=lambda unit: key(unit.of) | unit.key(),
                compute=measure_knockout,
            )
        heads = tables.choose_heads(bench.config, mass, blocked)
        layers = tuple(sorted({layer for layer, _ in heads}))
        first = units[0]
        shown = [PatternUnit(first, condition, layers) for condition in (first.contrast, "placebo")]
        yield Step(
            "patterns", shown, key=lambda unit: key(unit.of) | unit.key(), compute=measure_patterns
        )

    def read(self, asked: Question[AttentionConfig], saved: Saved) -> AttentionResult:
        """Mean mass per head, and the example's patterns."""
        return tables.read(asked, saved)

    def tables(self, result: AttentionResult) -> Mapping[str, pd.DataFrame]:
        """The heads, and the mass from every span to every span."""
        return {"heads": result.heads, "span_to_span": result.span_to_span()}

    def story(self, result: AttentionResult) -> Story:
        """The head that stands out, its control, and pages to look at."""
        return story.tell(result)


def units_of(bench: PromptBench[AttentionConfig], *left_out: str) -> list[Unit]:
    """The wordings of the condition on every item, then those of the control."""
    config = bench.config
    n_control = min(config.texts, bench.bank.n_texts(CONTROL))
    return [
        Unit(item, contrast, slot)
        for contrast, n in ((config.condition, config.texts), (CONTROL, n_control))
        if contrast not in left_out
        for k, item in enumerate(bench.items)
        for slot in slots_of(k, n, rotate=config.rotate)
    ]


def measure_mass(bench: PromptBench[AttentionConfig], unit: Unit) -> pd.DataFrame:
    """Mean attention of all later positions to the instruction, per layer and head, of both prompts."""
    frames = []
    for condition, prompt in _prompts(bench, unit).items():
        mass = read_attention(bench.model, prompt).to_span("instruction")
        cells = pd.MultiIndex.from_product([range(n) for n in mass.shape], names=["layer", "head"])
        labels = {
            "item": unit.item.id,
            "cluster": unit.item.cluster,
            "contrast": unit.contrast,
            "condition": condition,
            "slot": unit.slot,
        }
        rows = pd.DataFrame(labels, index=cells).reset_index()
        frames.append(rows[[*labels, "layer", "head"]].assign(mass=mass.flatten().tolist()))
    return pd.concat(frames, ignore_index=True)


def measure_spans(bench: PromptBench[AttentionConfig], unit: SpansUnit) -> pd.DataFrame:
    """A row per prompt: the mass from every span to every span, ``[layer, head, query, key]``, flat."""
    rows = []
    for condition, prompt in _prompts(bench, unit.of).items():
        found = read_span_attention(bench.model, prompt)
        rows.append(
            {
                "item": unit.of.item.id,
                "condition": condition,
                "n_heads": found.values.shape[1],
                "queries": list(found.queries),
                "keys": list(found.keys),
                "mass": found.values.flatten().numpy(),
            }
        )
    return pd.DataFrame(rows)


def measure_knockout(bench: PromptBench[AttentionConfig], unit: KnockoutUnit) -> pd.DataFrame:
    """What each head's no longer reading the instruction changes in the margin, nats."""
    treated, placebo = _pair(bench, unit.of)
    pair = pair_of_conditions(bench.model, unit.of.item, placebo, treated)
    effects = knockout(bench.model, pair, cells="layer_head", progress=False).effect()[..., 0]
    cells = pd.MultiIndex.from_product([range(n) for n in effects.shape], names=["layer", "head"])
    frame = pd.DataFrame({"effect": effects.flatten().tolist()}, index=cells).reset_index()
    return frame.assign(item=unit.of.item.id)


def measure_patterns(bench: PromptBench[AttentionConfig], unit: PatternUnit) -> pd.DataFrame:
    """One row: the prompt, to be shown without a tokenizer, and its patterns as one flat list."""
    prompt = _prompts(bench, unit.of)[unit.condition]
    weights = read_attention(bench.model, prompt, layers=unit.layers).values.flatten().numpy()
    row = {"condition": unit.condition, "layers": list(unit.layers), "weights": weights}
    return pd.DataFrame([row | prompt_row(prompt)])


def _prompts(bench: PromptBench[AttentionConfig], unit: Unit) -> dict[str, TokenizedPrompt]:
    """The prompts of the unit's text and of its placebo."""
    return {
        text.name: condition_prompt(bench.model, unit.item, text) for text in _pair(bench, unit)
    }


def _pair(bench: PromptBench[AttentionConfig], unit: Unit) -> tuple[Condition, Condition]:
    """The unit's text and its placebo."""
    texts = _texts(bench, unit)
    return texts[unit.slot], bench.bank.placebos(texts)[unit.slot]


def _texts(bench: PromptBench[AttentionConfig], unit: Unit) -> tuple[Condition, ...]:
    config = bench.config
    if unit.contrast == CONTROL:
        return control_texts(bench.bank, unit.item, beside=config.condition, n_texts=config.texts)
    return bench.bank.texts(config.condition, unit.item, config.texts)
