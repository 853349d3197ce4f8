"""The scorecard's study: an item is a unit of behaviour, a pair of prompts one of the causal rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from analyses.contrast import PromptBench, digest_prompts, example_step
from analyses.study import Lab, Saved, Step, Steps, Story
from analyses.superficiality import story, tables
from analyses.superficiality.along import along_bench, along_steps
from analyses.superficiality.asked import CardQuestion, ask
from analyses.superficiality.bench import CardBench
from analyses.superficiality.config import SuperficialityConfig
from analyses.superficiality.tables import SuperficialityResult
from interp.data import ChoiceItem
from interp.models import untrained_copy
from interp.prompts import Placement, PromptPair
from interp.superficiality import content_shift, measure_routes
from interp.superficiality.behaviour import asked_texts, measure_behaviour
from interp.superficiality.further import (
    FurtherBench,
    FurtherUnit,
    compute_unit,
    further_steps,
    measure_states,
    needs_states,
)
from interp.superficiality.measure import causal_pairs
from interp.superficiality.routes import donors_of
from interp.superficiality.scorecard import low_items


@dataclass(frozen=True)
class CausalUnit:
    """A pair to patch: its item, both texts, and the pairs whose mean shift is its ``shift`` run's."""

    item: str
    source: str
    destination: str
    donors: tuple[int, ...] = ()

    @property
    def key(self) -> dict[str, object]:
        """What decides its rows."""
        prompts = [self.source, self.destination]
        return {"item": self.item, "prompts": prompts, "donors": list(self.donors)}


class Superficiality:
    """See :mod:`analyses.superficiality`."""

    name = "superficiality"
    Config = SuperficialityConfig

    def ask(self, config: SuperficialityConfig, *, progress: bool = True) -> CardQuestion:
        """See :func:`analyses.superficiality.asked.ask`."""
        return ask(config, progress=progress)

    def bench(self, asked: CardQuestion, lab: Lab) -> CardBench:
        """Model, pairs and their shifts; refuses items of which no pair can be patched."""
        config, model = asked.config, lab.model
        bank = PromptBench.of(asked, lab).bank
        causal = asked.items[: config.causal]
        pairs = causal_pairs(model, bank, causal, config.condition, config.texts)

        def make(path: Path) -> None:
            shifts = torch.stack([content_shift(model, pair).float().cpu() for pair in pairs])
            save_file({"shifts": shifts.contiguous()}, path)

        def make_states(path: Path) -> None:
            asked_for = (model, bank, pairs, config.condition)
            found = measure_states(*asked_for, progress=lab.progress)
            save_file({"states": found.contiguous()}, path)

        states = None
        if needs_states(config.further):
            states = load_file(lab.file("states.safetensors", make_states))["states"]
        untrained = untrained_copy(model, config.seed) if config.untrained else None
        return CardBench(
            config,
            model,
            untrained,
            bank,
            asked.items,
            {pair.item.id: pair for pair in pairs if pair.item is not None},
            load_file(lab.file("shifts.safetensors", make))["shifts"],
            FurtherBench(
                model,
                bank,
                config.condition,
                config.texts,
                tuple(pairs),
                config.further_items,
                states,
                config.seed,
                untrained,
                config.untrained,
            ),
            along_bench(lab, asked.given, pairs, config.seed),
        )

    def steps(self, asked: CardQuestion, bench: CardBench) -> Steps:
        """Behaviour in both placements; patched runs; the untrained copy's; further rows; an example."""
        readings = yield Step("behaviour", bench.items, key=_key(bench, "before"), compute=behave)
        yield Step("behaviour_after", bench.items, key=_key(bench, "after"), compute=behave_after)
        low = low_items(readings, bench.pairs)
        donors = donors_of(*_halves(list(bench.pairs.values()), low))
        plain = [
            CausalUnit(item, pair.source.text, pair.destination.text)
            for item, pair in bench.pairs.items()
        ]
        units = [
            CausalUnit(unit.item, unit.source, unit.destination, own)
            for unit, own in zip(plain, donors, strict=True)
        ]
        runs = yield Step("runs", units, key=lambda unit: unit.key, compute=patch_routes)
        if bench.untrained is not None:
            few = plain[: bench.config.untrained]
            yield Step("untrained", few, key=lambda unit: unit.key, compute=patch_untrained)
        yield from _further(bench, runs)
        yield from along_steps(bench)
        words = asked_texts(bench.bank, bench.items[0], bench.config.condition, 1)
        yield example_step({side: texts[0].text or "" for side, texts in words.items()})

    def read(self, asked: CardQuestion, saved: Saved) -> SuperficialityResult:
        """The scorecard of the saved tables."""
        return tables.read(asked, saved)

    def tables(self, result: SuperficialityResult) -> Mapping[str, pd.DataFrame]:
        """The card, its verdict, the effect in every metric and placement, the depth curve."""
        return {
            name: getattr(result, name) for name in ("card_table", "verdict", "effects", "depth")
        }

    def story(self, result: SuperficialityResult) -> Story:
        """The verdict, the effect, the rows, and what they do not say."""
        return story.tell(result)


def behave(bench: CardBench, item: ChoiceItem) -> pd.DataFrame:
    """The metrics of an item under every text, the instruction first."""
    return _behave(bench, item, "before")


def behave_after(bench: CardBench, item: ChoiceItem) -> pd.DataFrame:
    """The same with the instruction last."""
    return _behave(bench, item, "after")


def patch_routes(bench: CardBench, unit: CausalUnit) -> pd.DataFrame:
    """The runs of both routes, of the mean change of other items, without edges, and by depth."""
    shift = bench.shifts[list(unit.donors)].mean(0)
    return measure_routes(bench.model, [bench.pairs[unit.item]], shifts=[shift])


def patch_untrained(bench: CardBench, unit: CausalUnit) -> pd.DataFrame:
    """The routes in the untrained copy."""
    assert bench.untrained is not None  # the step's condition
    return measure_routes(bench.untrained, [bench.pairs[unit.item]], onset=False)


def measure_unit(bench: CardBench, unit: FurtherUnit) -> pd.DataFrame:
    """A unit of a further table."""
    return compute_unit(bench.further, unit)


def _further(bench: CardBench, runs: pd.DataFrame) -> Steps:
    """The tables of the further rows that were asked for, one after the other."""
    tables = further_steps(bench.further, runs, bench.config.further)
    units = next(tables, None)
    while units is not None:
        table = yield Step(units[0].table, units, key=lambda unit: unit.key, compute=measure_unit)
        try:
            units = tables.send(table)
        except StopIteration:
            return


def _behave(bench: CardBench, item: ChoiceItem, placement: Placement) -> pd.DataFrame:
    config = bench.config
    texts = asked_texts(bench.bank, item, config.condition, config.texts)
    return measure_behaviour(bench.model, item, texts, placement=placement, orders=config.orders)


def _key(bench: CardBench, placement: Placement) -> Callable[[ChoiceItem], dict[str, object]]:
    config = bench.config

    def key(item: ChoiceItem) -> dict[str, object]:
        texts = asked_texts(bench.bank, item, config.condition, config.texts)
        every = [text for side in texts.values() for text in side]
        digest = digest_prompts(
            bench.model.tokenizer, item, every, placement=placement, n_orders=config.orders
        )
        return {"item": item.id, "prompts": digest}

    return key


def _halves(pairs: list[PromptPair], low: frozenset[str]) -> tuple[list[str], list[bool]]:
    """Clusters of pairs, and whether their items are in the upper half."""
    items = [pair.item for pair in pairs if pair.item is not None]
    return [item.cluster for item in items], [item.id not in low for item in items]
