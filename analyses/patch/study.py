"""The patching study: one pair of prompts at one site is one unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.contrast import (
    PromptBench,
    Question,
    digest_prompts,
    example_step,
    slots_of,
)
from analyses.patch import story, tables
from analyses.patch.asked import arms_of, ask
from analyses.patch.config import PatchConfig
from analyses.patch.health import REVERSED
from analyses.patch.tables import PatchResult, table_name
from analyses.study import Lab, Saved, Step, Steps, Story
from analyses.totals import Sides, control_sides, score_sides, texts_of_sides
from interp.behaviour.options import option_form
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.lens.conditions import no_margin
from interp.patching import alignment_notes, dose, plan_sweep, sweep
from interp.patching.metrics import named_metrics, require_target
from interp.patching.pooled import name_places
from interp.patching.positions import positions_of
from interp.patching.sites import SweepSite
from interp.prompts import Condition, PromptPair, TokenizedPrompt, pair_of_conditions
from interp.prompts.align import EQUAL_LENGTHS
from interp.prompts.pair import paired_conditions
from interp.runs import digest

Pairs = Mapping[tuple[str, int], PromptPair]
"""The pairs of a condition by item and slot (which of its texts)."""


@dataclass(frozen=True)
class PatchBench:
    """The model, and every pair of the condition and of the positive control where one runs.

    ``sides``: the texts of these and of the control's other arms by item, of those that have a margin.
    """

    config: PatchConfig
    model: TransformerBridge
    arms: Mapping[str, Pairs]
    sides: Mapping[str, tuple[ChoiceItem, Sides]]


@dataclass(frozen=True)
class PairUnit:
    """One sweep: names a pair of the bench, and holds its two texts."""

    condition: str
    site: SweepSite
    item: str
    slot: int
    source: str
    destination: str

    @property
    def key(self) -> dict[str, str | int]:
        """What decides the rows within their table: the rendered texts too."""
        texts = {"source": self.source, "against": self.destination}
        return {"item": self.item, "slot": self.slot, **texts}


class Patch:
    """See :mod:`analyses.patch`."""

    name = "patch"
    Config = PatchConfig

    def ask(self, config: PatchConfig, *, progress: bool = True) -> Question[PatchConfig]:
        """See :mod:`analyses.patch.asked`."""
        return ask(config, progress=progress)

    def bench(self, asked: Question[PatchConfig], lab: Lab) -> PatchBench:
        """Model and pairs; refuses a site, layer or span that the model or the prompts do not have."""
        model, config = lab.model, asked.config
        prompts = PromptBench.of(asked, lab)
        sides = {item.id: _sides(prompts, k, item) for k, item in enumerate(prompts.items)}
        arms = _arms(prompts, sides)
        used = {name for name, _ in arms[config.condition]}
        of_items = {item.id: (item, sides[item.id]) for item in prompts.items if item.id in used}
        for site in config.site:
            for pairs in arms.values():
                _require_plan(model, list(pairs.values()), config, site)
                require_target(model, list(pairs.values()), named_metrics(config.metric)[0])
        return PatchBench(config, model, arms, of_items)

    def steps(self, asked: Question[PatchConfig], bench: PatchBench) -> Steps:
        """The metrics of the unpatched prompts; a sweep per site and condition; notes; an example."""
        config = bench.config
        key = partial(item_key, bench)
        yield Step("readings", list(bench.sides), key=key, compute=score_item)
        for site in config.site:
            for condition, pairs in bench.arms.items():
                yield Step(
                    table_name(condition, site),
                    [
                        PairUnit(condition, site, *name, pair.source.text, pair.destination.text)
                        for name, pair in pairs.items()
                    ],
                    key=lambda unit: unit.key,
                    compute=patch_pair,
                )

        def note_key(condition: str) -> dict[str, Any]:
            pairs = bench.arms[condition].values()
            texts = [(pair.source.text, pair.destination.text) for pair in pairs]
            return {"condition": condition, "prompts": digest(texts)}

        yield Step("notes", list(bench.arms), key=note_key, compute=note_alignment)
        pair = next(iter(bench.arms[config.condition].values()))
        sides = {config.condition: pair.source, config.against: pair.destination}
        yield example_step({name: instruction_of(prompt) for name, prompt in sides.items()})

    def read(self, asked: Question[PatchConfig], saved: Saved) -> PatchResult:
        """Sweeps over all pairs, the effect to explain, the spans' shares, the largest cells."""
        return tables.read(asked, saved)

    def tables(self, result: PatchResult) -> Mapping[str, pd.DataFrame]:
        """Everything but the sweeps themselves."""
        return {name: getattr(result, name) for name in ("totals", "summary", "top", "health")}

    def story(self, result: PatchResult) -> Story:
        """Order of the gates: an effect to localise, the control's map, the cells that survive."""
        return story.tell(result)


def item_key(bench: PatchBench, item: str) -> dict[str, str]:
    """What decides the rows of :func:`score_item`: the rendered texts too."""
    asked, sides = bench.sides[item]
    texts, place = texts_of_sides(sides), bench.config.placement
    prompts = digest_prompts(bench.model.tokenizer, asked, texts, placement=place)
    return {"item": item, "prompts": prompts}


def score_item(bench: PatchBench, item: str) -> pd.DataFrame:
    """The metrics of one item under the condition and every arm of the control."""
    return score_sides(bench.model, *bench.sides[item], placement=bench.config.placement)


def patch_pair(bench: PatchBench, unit: PairUnit) -> pd.DataFrame:
    """The rows of one pair's sweep."""
    config, pair = bench.config, bench.arms[unit.condition][unit.item, unit.slot]
    result = sweep(
        bench.model,
        pair,
        grid=config.grid(unit.site),
        metric=config.metric,
        method=config.method,
        seed=config.seed,
        max_bytes=config.max_mib << 20,
        progress=False,
    )
    own = alignment_notes(bench.model, [pair])  # said of all pairs at once, in the table of notes
    notes = [note for note in result.notes if note not in own]
    assert pair.item is not None  # the pairs of a bench are made of items
    assert pair.options is not None  # with two options to contrast
    rows = name_places(result, pair.destination)
    if config.checks and unit.condition == config.condition and unit.site != "pattern":
        sizes = dose(bench.model, pair, config.grid(unit.site))
        rows["dose"] = sizes.reshape(-1)  # of the same cells, in the same order
    return rows.assign(
        pair=f"{unit.item} #{unit.slot}",
        condition=unit.condition,
        item=unit.item,
        context=pair.item.context_condition,
        slot=unit.slot,
        option_form=option_form(pair.item),
        single_token=pair.options.single_token,
        notes="; ".join(notes),
    )


def note_alignment(bench: PatchBench, condition: str) -> pd.DataFrame:
    """What a reader of the maps has to know of a condition's pairs; empty text where nothing."""
    notes = alignment_notes(bench.model, list(bench.arms[condition].values()))
    return pd.DataFrame({"condition": [condition], "note": ["; ".join(notes)]})


def instruction_of(prompt: TokenizedPrompt) -> str:
    """The text of the instruction, empty without one."""
    if "instruction" not in prompt.spans:
        return ""
    return "".join(prompt.str_tokens[prompt.span("instruction")]).strip()


def _sides(prompts: PromptBench[PatchConfig], number: int, item: ChoiceItem) -> Sides:
    """The texts of the condition, and those of the control's arms where a control runs."""
    config, bank = prompts.config, prompts.bank
    pairs = [
        paired_conditions(
            bank,
            item,
            config.condition,
            against=config.against,
            slot=slot,
            fit_length=config.fit_length,
        )
        for slot in slots_of(number, config.texts, rotate=config.rotate)
    ]
    treated, against = (tuple(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
    own = {config.condition: (treated, against)}
    if not config.control:
        return own
    arms = control_sides(bank, item, prompts.arms, beside=config.asked, n_texts=config.texts)
    if config.rotate:
        arms = {name: _in_turn(number, sides) for name, sides in arms.items()}
    return {**own, **arms}


def _in_turn(
    number: int, sides: tuple[tuple[Condition, ...], tuple[Condition, ...]]
) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """One text and its placebo."""
    slot = number % len(sides[0])
    return sides[0][slot : slot + 1], sides[1][slot : slot + 1]


def _arms(prompts: PromptBench[PatchConfig], sides: Mapping[str, Sides]) -> dict[str, Pairs]:
    """The pairs of the condition, of the positive control, and the other way round where asked for."""
    arms = {name: _with_margin(prompts, name, sides) for name in arms_of(prompts.config)}
    if prompts.config.checks:
        own = arms[prompts.config.condition]
        arms[REVERSED] = {name: pair.swap() for name, pair in own.items()}
    return arms


def _with_margin(prompts: PromptBench[PatchConfig], name: str, sides: Mapping[str, Sides]) -> Pairs:
    """Items x texts; an item whose options no token tells apart is left out."""
    found: dict[tuple[str, int], PromptPair] = {}
    for item in prompts.items:
        treated, against = sides[item.id][name]
        n = max(len(treated), len(against))
        both = zip(treated * (n // len(treated)), against * (n // len(against)), strict=True)
        pairs = [
            pair_of_conditions(prompts.model, item, *texts, placement=prompts.config.placement)
            for texts in both
        ]
        if all(pair.target is not None for pair in pairs):
            found |= {(item.id, int(pair.wording)): pair for pair in pairs}
    if not found:
        raise no_margin(len(prompts.items))
    return found


def _require_plan(
    model: TransformerBridge, pairs: Sequence[PromptPair], config: PatchConfig, site: SweepSite
) -> None:
    """Refuse now what the sweep of some pair would refuse later."""
    unequal = [pair for pair in pairs if not pair.alignment.by_index]
    if site == "pattern" and unequal:
        raise InterpError(
            f"patterns can be copied between prompts of equal length only, and {len(unequal)} of "
            f"{len(pairs)} pairs differ (first: {unequal[0].label}): choose --site z, or {EQUAL_LENGTHS}"
        )
    for pair in pairs:
        positions_of(pair, config.positions)
    plan_sweep(model, pairs[0], grid=config.grid(site), metric=config.metric)
