"""The rows behind the route: which tables they are made of, and the units of these tables.

==================  ==================================  ===============================================
group               tables                              rows
==================  ==================================  ===============================================
``health``          health, manifold                    checks of the content's rows
``concentration``   heads, tokens, top_heads            top token, constant vector, top heads
``polarity``        polarity, shared_shift              polarity, vocabulary, shared shift
``residue``         probes, reinjection, distinguish    residue, re-injected answer, self-distinguish
``append``          edits                               append or edit
``rank``            ranks                               rank
==================  ==================================  ===============================================

:func:`further_steps` lists the tables as plain units, :func:`compute_unit` makes a unit's rows. Both the
library's one call and the study measure by them. Probes and ranks read all pairs that are patched, the
other tables the first few. Where there is an untrained copy, some tables are measured of it as well
(:data:`OF_UNTRAINED`), in a few pairs. Findings: :mod:`interp.superficiality.further_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.data import ChoiceItem
from interp.display import short_repr
from interp.prompts import Condition, PromptPair, TextBank
from interp.superficiality.append import measure_edits
from interp.superficiality.behaviour import asked_texts
from interp.superficiality.concentration import measure_tokens, other_clusters
from interp.superficiality.groups import FurtherRows
from interp.superficiality.heads import (
    choose_heads,
    measure_heads,
    measure_top_heads,
)
from interp.superficiality.health import N_PLACEBOS, measure_health
from interp.superficiality.manifold import measure_manifold, spread
from interp.superficiality.paired import PairedRuns
from interp.superficiality.polarity import measure_polarity, measure_shared_shift
from interp.superficiality.rank import measure_ranks
from interp.superficiality.residue import (
    measure_distinguish,
    measure_probes,
    measure_reinjection,
    probe_directions,
)
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.states import PLACES, pair_states, placebo_prompts, statement_prompts

UNTRAINED = "untrained_"
"""What the names of tables of the untrained copy begin with."""

OF_UNTRAINED: Mapping[FurtherRows, tuple[str, ...]] = {
    "concentration": ("tokens", "top_heads"),
    "polarity": ("polarity",),
    "residue": ("reinjection", "distinguish"),
}
"""Tables that are measured of the untrained copy too, by group."""

UNTRAINED_PAIRS, UNTRAINED_TEXTS = 3, 2
"""Pairs of these tables, at most, and texts a side."""

_OF_STATES = ("concentration", "polarity", "residue")
"""Groups that read states measured beforehand."""


@dataclass(frozen=True, eq=False)
class FurtherBench:
    """What the further rows are measured with.

    ``pairs``: those that are patched; of them the first ``few`` are in the tables that cost most.
    ``states [pair, run, place, layer, d_model]``: of :func:`measure_states`; None where no group does.
    ``untrained``: a copy of the model that the first ``untrained_pairs`` are asked of, if there is one.
    """

    model: TransformerBridge
    bank: TextBank
    condition: str
    texts: int
    pairs: tuple[PromptPair, ...]
    few: int
    states: Float[Tensor, "pair run place layer d_model"] | None
    seed: int
    untrained: TransformerBridge | None = None
    untrained_pairs: int = 0

    __repr__ = short_repr

    @property
    def clusters(self) -> list[str]:
        """Of the pairs."""
        return [item.cluster for item in self.items]

    @property
    def items(self) -> list[ChoiceItem]:
        """Of the pairs."""
        return [pair.item for pair in self.pairs if pair.item is not None]

    @property
    def answers(self) -> Float[Tensor, "pair run layer d_model"]:
        """States at the last token of the prompt, the corrected run first, then the placebo's."""
        assert self.states is not None  # the groups that need them ask for them
        return self.states[:, :2, PLACES.index("answer")]

    @property
    def of_untrained(self) -> FurtherBench:
        """The same with the untrained copy for a model."""
        assert self.untrained is not None  # the condition of its units
        return replace(self, model=self.untrained)

    def sides(self, pair: PromptPair) -> tuple[Condition, Condition]:
        """The pair's instruction and its placebo."""
        assert pair.item is not None  # pairs are made of items
        slot = int(pair.wording)
        texts = asked_texts(self.bank, pair.item, self.condition, self.texts)
        return texts[CORRECTED][slot], texts[PLACEBO][slot]


@dataclass(frozen=True)
class FurtherUnit:
    """A unit of a table: a pair by its number (a layer, of shared shifts), and what decides its rows.

    ``heads``: layer and head of those patched; ``fitted``: pairs that a direction or a constant is
    fitted on; ``before`` and ``after``: metrics of these pairs' placebo and corrected runs.
    """

    table: str
    number: int
    prompts: tuple[str, ...] = ()
    heads: tuple[tuple[int, int], ...] = ()
    fitted: tuple[int, ...] = ()
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()

    @property
    def key(self) -> dict[str, object]:
        """In values of JSON."""
        return {
            "table": self.table,
            "number": self.number,
            "prompts": list(self.prompts),
            "heads": [list(head) for head in self.heads],
            "fitted": list(self.fitted),
            "levels": [list(self.before), list(self.after)],
        }


def needs_states(rows: Sequence[str]) -> bool:
    """Whether a group reads the states of :func:`measure_states`."""
    return any(name in _OF_STATES for name in rows)


def measure_states(
    model: TransformerBridge,
    bank: TextBank,
    pairs: Sequence[PromptPair],
    condition: str,
    *,
    progress: bool = True,
) -> Float[Tensor, "pair run place layer d_model"]:
    """The states of every pair and of two statements of its length (:mod:`.states`).

    Raises:
        InterpError: statements that cannot be had in a pair's length.
    """
    bar = tqdm(pairs, desc="states", disable=not progress)
    return torch.stack(
        [pair_states(model, pair, statement_prompts(model, bank, pair, condition)) for pair in bar]
    )


FurtherSteps: TypeAlias = Generator[list[FurtherUnit], pd.DataFrame, None]
"""Yields the units of one table; it comes back merged."""


def further_steps(
    bench: FurtherBench, runs: pd.DataFrame, rows: Sequence[FurtherRows]
) -> FurtherSteps:
    """The tables of some groups, each as its units.

    Args:
        bench: what they are measured with.
        runs: of :func:`interp.superficiality.routes.measure_routes`, of all pairs.
        rows: the groups.

    Raises:
        InterpError: pairs of a single cluster.
    """
    few = range(min(bench.few, len(bench.pairs)))
    prompts = [(pair.source.text, pair.destination.text) for pair in bench.pairs]

    def plain(table: str, numbers: Sequence[int] = few) -> list[FurtherUnit]:
        return [FurtherUnit(table, number, prompts[number]) for number in numbers]

    def twice(units: list[FurtherUnit]) -> FurtherSteps:
        """Of the model, then some of the untrained copy."""
        yield units
        n = min(UNTRAINED_PAIRS, bench.untrained_pairs)
        if bench.untrained is not None and n:
            yield [replace(unit, table=f"{UNTRAINED}{unit.table}") for unit in units[:n]]

    fitted = [tuple(own) for own in other_clusters(bench.clusters)]
    if "health" in rows:
        yield plain("health")
        near = [p.text for pair in spread(bench.pairs) for p in (pair.source, pair.destination)]
        yield [FurtherUnit("manifold", 0, tuple(near))]
    if "concentration" in rows:
        heads = yield plain("heads")
        chosen = choose_heads(heads, k=_n_heads(bench.model))
        yield from twice([FurtherUnit("tokens", k, prompts[k], fitted=fitted[k]) for k in few])
        patched = [
            FurtherUnit("top_heads", k, prompts[k], heads=chosen[bench.items[k].id]) for k in few
        ]
        yield from twice(patched)
    if "polarity" in rows:
        yield from twice(plain("polarity"))
        assert bench.states is not None  # the bench has what its groups need
        yield [FurtherUnit("shared_shift", layer) for layer in range(bench.states.shape[3])]
    if "residue" in rows:
        before, after = levels_of(bench, runs)
        every = [text for both in prompts for text in both]
        yield [FurtherUnit("probes", 0, tuple(every), before=before, after=after)]
        injected = [
            FurtherUnit(
                "reinjection",
                k,
                prompts[k],
                fitted=fitted[k],
                before=tuple(before[other] for other in fitted[k]),
            )
            for k in few
        ]
        yield from twice(injected)
        yield from twice(plain("distinguish"))
    if "append" in rows:
        yield plain("edits")
    if "rank" in rows:
        yield plain("ranks", range(len(bench.pairs)))


def _n_heads(model: TransformerBridge) -> int:
    """Five, or fewer where a model has hardly more."""
    return min(5, int(model.cfg.n_layers) * int(model.cfg.n_heads) - 1)


def levels_of(
    bench: FurtherBench, runs: pd.DataFrame
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The first metric of every pair's placebo and corrected run."""
    values = PairedRuns.of(runs, None).values.reset_index("slot").loc[[i.id for i in bench.items]]
    return tuple(values[PLACEBO].tolist()), tuple(values[CORRECTED].tolist())


def measure_further(
    bench: FurtherBench,
    runs: pd.DataFrame,
    rows: Sequence[FurtherRows],
    *,
    progress: bool = True,
) -> dict[str, pd.DataFrame]:
    """Every table of some groups, by name; arguments as in :func:`further_steps`.

    Raises:
        InterpError: see there.
    """
    tables: dict[str, pd.DataFrame] = {}
    steps = further_steps(bench, runs, rows)
    try:
        units = next(steps)
        while True:
            name = units[0].table
            bar = tqdm(units, desc=name, disable=not progress)
            frames = [frame for unit in bar if len(frame := compute_unit(bench, unit))]
            tables[name] = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
            units = steps.send(tables[name])
    except StopIteration:
        return tables


def compute_unit(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    """The rows of one unit."""
    name = unit.table.removeprefix(UNTRAINED)
    return _COMPUTE[name](bench if name == unit.table else bench.of_untrained, unit)


def _health(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    pair = bench.pairs[unit.number]
    others = placebo_prompts(bench.model, bench.bank, pair, bench.condition, N_PLACEBOS)
    return measure_health(bench.model, [pair], [others])


def _manifold(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    middle = int(bench.model.cfg.n_layers) // 2
    return measure_manifold(bench.model, spread(bench.pairs), middle)


def _heads(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    return measure_heads(bench.model, [bench.pairs[unit.number]])


def _tokens(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    assert bench.states is not None  # the bench has what its groups need
    behind = bench.states[:, :, PLACES.index("behind")]
    constant = (behind[:, 0] - behind[:, 1])[list(unit.fitted)].mean(0)
    return measure_tokens(bench.model, [bench.pairs[unit.number]], constants=[constant])


def _top_heads(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    pair = bench.pairs[unit.number]
    return measure_top_heads(bench.model, [pair], [unit.heads], seed=bench.seed)


def _polarity(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    item = bench.items[unit.number]
    texts = min(bench.texts, UNTRAINED_TEXTS) if bench.model is bench.untrained else bench.texts
    return measure_polarity(bench.model, bench.bank, item, bench.condition, texts=texts)


def _shared_shift(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    assert bench.states is not None  # the bench has what its groups need
    return measure_shared_shift(bench.states, bench.clusters, unit.number)


def _probes(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    wordings = [pair.wording for pair in bench.pairs]
    return measure_probes(bench.answers, unit.before, unit.after, bench.items, wordings)


def _reinjection(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    answers = bench.answers[list(unit.fitted)]
    directions = probe_directions(answers, unit.before, seed=bench.seed)
    return measure_reinjection(bench.model, [bench.pairs[unit.number]], [directions])


def _distinguish(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    sides = bench.sides(bench.pairs[unit.number])
    return measure_distinguish(bench.model, bench.items[unit.number], *sides)


def _edits(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    pair = bench.pairs[unit.number]
    corrected, placebo = bench.sides(pair)
    drawn = bench.bank.placebos([corrected] * 2)
    other = next(text for text in drawn if text.text != placebo.text)
    return measure_edits(bench.model, bench.items[unit.number], corrected, [placebo, other])


def _ranks(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    sides = bench.sides(bench.pairs[unit.number])
    return measure_ranks(bench.model, bench.items[unit.number], *sides)


_COMPUTE: Mapping[str, Callable[[FurtherBench, FurtherUnit], pd.DataFrame]] = {
    "health": _health,
    "manifold": _manifold,
    "heads": _heads,
    "tokens": _tokens,
    "top_heads": _top_heads,
    "polarity": _polarity,
    "shared_shift": _shared_shift,
    "probes": _probes,
    "reinjection": _reinjection,
    "distinguish": _distinguish,
    "edits": _edits,
    "ranks": _ranks,
}

FURTHER_TABLES: tuple[str, ...] = (
    *_COMPUTE,
    *(f"{UNTRAINED}{name}" for names in OF_UNTRAINED.values() for name in names),
)
"""All tables, those of the untrained copy last."""
