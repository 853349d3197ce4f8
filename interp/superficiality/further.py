"""The rows behind the route: which tables they are made of, their units, and their findings.

==================  ==================================  ===============================================
group               tables                              rows
==================  ==================================  ===============================================
``health``          health                              checks of the content's rows
``concentration``   heads, tokens, top_heads            top token, constant vector, top heads
``polarity``        polarity, shared_shift              polarity, vocabulary, shared shift
``residue``         probes, reinjection, distinguish    residue, re-injected answer, self-distinguish
``append``          edits                               append or edit
``rank``            ranks                               rank
==================  ==================================  ===============================================

:func:`further_steps` lists the tables as plain units, :func:`compute_unit` makes a unit's rows. Both the
library's one call and the study measure by them. Probes and ranks read all pairs that are patched, the
other tables the first few.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
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
from interp.superficiality.append import append_finding, measure_edits
from interp.superficiality.behaviour import asked_texts
from interp.superficiality.concentration import (
    measure_tokens,
    other_clusters,
    token_findings,
)
from interp.superficiality.finding import Finding
from interp.superficiality.groups import FurtherRows
from interp.superficiality.heads import (
    choose_heads,
    head_finding,
    measure_heads,
    measure_top_heads,
)
from interp.superficiality.health import N_PLACEBOS, add_health, measure_health
from interp.superficiality.paired import PairedRuns
from interp.superficiality.polarity import (
    measure_polarity,
    measure_shared_shift,
    polarity_findings,
    shared_finding,
)
from interp.superficiality.rank import measure_ranks, rank_finding
from interp.superficiality.residue import (
    distinguish_finding,
    measure_distinguish,
    measure_probes,
    measure_reinjection,
    probe_directions,
    probe_finding,
    reinjection_finding,
)
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.states import PLACES, pair_states, placebo_prompts, statement_prompts

_OF_STATES = ("concentration", "polarity", "residue")
"""Groups that read states measured beforehand."""


@dataclass(frozen=True, eq=False)
class FurtherBench:
    """What the further rows are measured with.

    ``pairs``: those that are patched; of them the first ``few`` are in the tables that cost most.
    ``states [pair, run, place, layer, d_model]``: of :func:`measure_states`; None where no group does.
    """

    model: TransformerBridge
    bank: TextBank
    condition: str
    texts: int
    pairs: tuple[PromptPair, ...]
    few: int
    states: Float[Tensor, "pair run place layer d_model"] | None
    seed: int

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

    fitted = [tuple(own) for own in other_clusters(bench.clusters)]
    if "health" in rows:
        yield plain("health")
    if "concentration" in rows:
        heads = yield plain("heads")
        chosen = choose_heads(heads, k=_n_heads(bench.model))
        yield [FurtherUnit("tokens", k, prompts[k], fitted=fitted[k]) for k in few]
        yield [
            FurtherUnit("top_heads", k, prompts[k], heads=chosen[bench.items[k].id]) for k in few
        ]
    if "polarity" in rows:
        yield plain("polarity")
        assert bench.states is not None  # the bench has what its groups need
        yield [FurtherUnit("shared_shift", layer) for layer in range(bench.states.shape[3])]
    if "residue" in rows:
        before, after = levels_of(bench, runs)
        every = [text for both in prompts for text in both]
        yield [FurtherUnit("probes", 0, tuple(every), before=before, after=after)]
        yield [
            FurtherUnit(
                "reinjection",
                k,
                prompts[k],
                fitted=fitted[k],
                before=tuple(before[other] for other in fitted[k]),
            )
            for k in few
        ]
        yield plain("distinguish")
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
    return _COMPUTE[unit.table](bench, unit)


def _health(bench: FurtherBench, unit: FurtherUnit) -> pd.DataFrame:
    pair = bench.pairs[unit.number]
    others = placebo_prompts(bench.model, bench.bank, pair, bench.condition, N_PLACEBOS)
    return measure_health(bench.model, [pair], [others])


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
    return measure_polarity(bench.model, bench.bank, item, bench.condition, texts=bench.texts)


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

FURTHER_TABLES: tuple[str, ...] = tuple(_COMPUTE)
"""All tables, in the order in which they are measured."""


def further_findings(
    readings: pd.DataFrame, tables: Mapping[str, pd.DataFrame], *, seed: int = 0
) -> list[Finding]:
    """The rows of the tables that are there; those without a row of data are left out.

    Args:
        readings: behaviour, the instruction first.
        tables: by name, those of :data:`FURTHER_TABLES`.
        seed: of the halves whose top heads are compared.

    Raises:
        InterpError: a table without what its rows need.
    """
    there = {name: table for name, table in tables.items() if len(table)}
    found: list[Finding] = []
    if "tokens" in there:
        found += token_findings(there["tokens"])
    if "top_heads" in there:
        found.append(head_finding(there["top_heads"], there.get("heads"), seed=seed))
    if "polarity" in there:
        found += polarity_findings(readings, there["polarity"])
    for name, finding in _ONE_ROW.items():
        if name in there:
            found.append(finding(there[name]))
    return found


_ONE_ROW: Mapping[str, Callable[[pd.DataFrame], Finding]] = {
    "shared_shift": shared_finding,
    "probes": probe_finding,
    "reinjection": reinjection_finding,
    "distinguish": distinguish_finding,
    "edits": append_finding,
    "ranks": rank_finding,
}


def with_health(findings: Sequence[Finding], tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """The rows of the content with the checks that the table ``health`` allows, if it is there."""
    health = tables.get("health")
    return list(findings) if health is None or health.empty else add_health(findings, health)
