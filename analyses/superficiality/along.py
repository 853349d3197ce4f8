"""The steps of a card's run that need a direction: shifts along it, exchanges, the instrument check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analyses.contrast import digest_prompts
from analyses.study import Lab, Saved, Step, Steps
from analyses.superficiality.bench import AlongBench, CardBench
from interp.directions import DirectionStack
from interp.prompts import PromptPair
from interp.superficiality import DirectionTables, Subspaces
from interp.superficiality.direction_rows import (
    ShiftUnit,
    card_subspaces,
    measure_card_instrument,
    measure_exchanges,
    measure_own_manifold,
    measure_shifts,
    measure_untrained_exchange,
    shift_units,
)
from interp.superficiality.removed import has_content, measure_removed

TABLES = ("instrument", "shifts", "coupled", "negated", "removed", "mediation", "off_manifold",
          "untrained_mediation")  # fmt: skip
"""Of a run with a direction; those that were not asked for are missing."""


def along_bench(
    lab: Lab, given: DirectionStack | None, pairs: Sequence[PromptPair], seed: int
) -> AlongBench | None:
    """The bench of a direction; its subspaces are fitted once and stay with the run.

    Raises:
        InterpError: a direction of another model or site.
    """
    if given is None:
        return None
    given.require(lab.model)

    def make(path: Path) -> None:
        card_subspaces(lab.model, pairs, given, seed=seed, progress=lab.progress).save(path)

    return AlongBench(given, Subspaces.load(lab.file("subspaces.safetensors", make)))


def along_steps(bench: CardBench) -> Steps:
    """The instrument, the shifts of states, the exchanges, and the untrained copy's."""
    if bench.along is None:
        return
    config = bench.config
    yield Step("instrument", ["instrument"], key=str, compute=check_instrument)
    for name, units in shift_units(bench.items, config.condition, config.texts).items():
        compute = read_shifts if name == "shifts" else read_own_shifts
        yield Step(name, units, key=_shift_key(bench), compute=compute)
    if has_content(bench.further.states):
        yield Step("removed", ["removed"], key=_every_pair(bench), compute=remove_shared)
    numbers = list(range(len(bench.pairs)))
    yield Step("mediation", numbers, key=_pair_key(bench), compute=exchange_pair)
    every = _every_pair(bench)
    yield Step("off_manifold", ["off_manifold"], key=every, compute=compare_states)
    if bench.untrained is not None:
        few = numbers[: config.untrained]
        yield Step("untrained_mediation", few, key=_pair_key(bench), compute=exchange_untrained)


def read_along(saved: Saved) -> DirectionTables | None:
    """The saved tables; None of a run without a direction."""
    if not saved.has("mediation"):
        return None
    found = {name: saved.table(name) for name in TABLES if saved.has(name)}
    return DirectionTables(
        instrument=found["instrument"],
        shifts=found["shifts"],
        coupled=found["coupled"],
        mediation=found["mediation"],
        negated=found.get("negated"),
        untrained=found.get("untrained_mediation"),
        removed=found.get("removed"),
        manifold=found.get("off_manifold"),
    )


def check_instrument(bench: CardBench, unit: str) -> pd.DataFrame:
    """What the direction reads of fair and biased statements, and what exchanging it moves."""
    along = _along(bench)
    return measure_card_instrument(
        bench.model, along.direction, along.spaces, seed=bench.config.seed
    )


def read_shifts(bench: CardBench, unit: ShiftUnit) -> pd.DataFrame:
    """Shifts of an item at every layer and component."""
    return _shifts(bench, unit, own_only=False)


def read_own_shifts(bench: CardBench, unit: ShiftUnit) -> pd.DataFrame:
    """Shifts of an item at the direction's own layer."""
    return _shifts(bench, unit, own_only=True)


def remove_shared(bench: CardBench, unit: str) -> pd.DataFrame:
    """Shifts of the content along the direction without what every request does."""
    assert bench.further.states is not None  # the step's condition
    return measure_removed(bench.further.states, _pairs(bench), _along(bench).direction)


def compare_states(bench: CardBench, unit: str) -> pd.DataFrame:
    """How far off the exchange at the direction's own place is."""
    return measure_own_manifold(bench.model, _pairs(bench), _along(bench).spaces)


def exchange_pair(bench: CardBench, number: int) -> pd.DataFrame:
    """The exchanges of one pair."""
    return measure_exchanges(bench.model, _pairs(bench), _along(bench).spaces, number)


def exchange_untrained(bench: CardBench, number: int) -> pd.DataFrame:
    """The direction's exchange of one pair in the untrained copy."""
    assert bench.untrained is not None  # the step's condition
    one = _pairs(bench)[number : number + 1]
    return measure_untrained_exchange(bench.untrained, one, _along(bench).spaces)


def _shifts(bench: CardBench, unit: ShiftUnit, *, own_only: bool) -> pd.DataFrame:
    item = next(item for item in bench.items if item.id == unit.item)
    return measure_shifts(
        bench.model,
        bench.bank,
        item,
        unit,
        _along(bench).direction,
        n_texts=bench.config.texts,
        own_only=own_only,
    )


def _along(bench: CardBench) -> AlongBench:
    assert bench.along is not None  # the steps' condition
    return bench.along


def _pairs(bench: CardBench) -> list[PromptPair]:
    return list(bench.pairs.values())


def _pair_key(bench: CardBench) -> Callable[[int], dict[str, object]]:
    pairs = _pairs(bench)

    def key(number: int) -> dict[str, object]:
        pair = pairs[number]
        prompts = [pair.source.text, pair.destination.text]
        return {"number": number, "pairs": len(pairs), "prompts": prompts}

    return key


def _every_pair(bench: CardBench) -> Callable[[str], dict[str, object]]:
    """The key of a unit that is made of all pairs."""
    prompts = [[pair.source.text, pair.destination.text] for pair in _pairs(bench)]
    return lambda unit: {"unit": unit, "prompts": prompts}


def _shift_key(bench: CardBench) -> Callable[[ShiftUnit], dict[str, object]]:
    by_id = {item.id: item for item in bench.items}

    def key(unit: ShiftUnit) -> dict[str, object]:
        item = by_id[unit.item]
        texts = bench.bank.texts(unit.condition, item, bench.config.texts)
        both = [*texts, *bench.bank.placebos(texts)]
        digest = digest_prompts(bench.model.tokenizer, item, both, placement=unit.placement)
        return {"item": unit.item, "slots": list(unit.slots), "prompts": digest}

    return key
