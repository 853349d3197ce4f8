"""Data sets of a scorecard in which nothing is asked, and their rows by the card's own functions.

Every text of a data set is a wording of random words (:mod:`.sentences`): those of the instruction, of the
negated one, of moral vocabulary, and all their placebos. So the null hypothesis is true of every row that
compares an instruction with a placebo. Of two rows it has to be made true: *coupling* reads the behaviour
of other wordings than those whose states it reads, *residue of the old answer* the states of other items.

A share is defined only where the interval of the effect excludes 0: in all other data sets its row is not
read. With a planted effect (:class:`Plant`) nearly all are read, and rows that the plant leaves out are
tested where there is an effect to have a share of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import expit, logit
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.nulls.sentences import (
    REPLY,
    Wordings,
    draw_items,
    draw_wordings,
    option_logits,
    pairs_of,
    prompt_ids,
    read_behaviour,
    spans_of,
    states_of,
)
from interp.activations import read_states
from interp.behaviour.edits import edit_shares
from interp.data import ChoiceItem, LabelledText
from interp.directions import DirectionStack
from interp.directions.fitting import facts_of, fit_states
from interp.prompts import Placement, PromptPair
from interp.stats import MIN_WORDINGS, share
from interp.superficiality import (
    Finding,
    append_finding,
    behaviour_finding,
    content_findings,
    coupling_finding,
    distinguish_finding,
    donated_shift,
    edge_findings,
    head_finding,
    measure_heads,
    measure_probes,
    measure_reinjection,
    measure_routes,
    measure_tokens,
    measure_top_heads,
    polarity_findings,
    probe_finding,
    rank_finding,
    reinjection_finding,
    representation_findings,
    token_findings,
)
from interp.superficiality.append import EDITS
from interp.superficiality.concentration import other_clusters
from interp.superficiality.direction_rows import AFTER_ITEMS, COUPLED_ITEMS
from interp.superficiality.groups import FURTHER_ITEMS
from interp.superficiality.heads import choose_heads
from interp.superficiality.measure import CAUSAL_ITEMS
from interp.superficiality.rank import RANKS_OF
from interp.superficiality.representation import CONTENT, LAST, SHIFTS
from interp.superficiality.residue import probe_directions
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.rows import BEHAVIOUR_AFTER
from interp.superficiality.scorecard import low_items
from interp.superficiality.sides import CONTENT_SPANS

N_ITEMS = 120

ROWS_AGAINST = ("negated", "negated_placebo", "vocabulary", "vocabulary_placebo")
"""Sides of behaviour beside the instruction and its placebo."""

OTHERS = ("other placebo", "again", "again placebo")
"""Further wordings: what replies are compared with, and those whose behaviour coupling reads."""

Route: TypeAlias = Literal["none", "instruction", "content"]


@dataclass(frozen=True)
class Plant:
    """An effect of ``size`` nats that is added to measured runs, as its route would have it.

    ``instruction``: whatever reads the instruction has it, whatever the content's states are, and nothing
    has it where the edges of all else to the instruction are removed: the content's rows are null.
    ``content``: whatever stands behind the corrected content has it, item by item, and nothing where the
    content cannot read the instruction: the rows of the other edges and of back-up are null.
    """

    route: Route = "none"
    size: float = 0.0

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that have it."""
        if self.route == "none":
            return ()
        own = {
            "instruction": ("instruction", f"{CORRECTED}_no_content_edges"),
            "content": ("content", f"{CORRECTED}_no_other_edges"),
        }
        return (CORRECTED, "everything", *own[self.route])

    def add(self, table: pd.DataFrame, column: str) -> pd.DataFrame:
        """A table of behaviour (``side``) or of runs (``run``) with the effect in the logit of gold."""
        has, is_p = table[column].isin(self.runs), table["metric"].eq("p_gold")
        moved = table["value"].where(~is_p, logit(table["value"].where(is_p, 0.5)))
        moved = moved + self.size * has
        return table.assign(value=moved.where(~is_p, expit(moved)))


@dataclass(frozen=True)
class DataSet:
    """Items and six wordings a side; tables are measured when they are asked for."""

    model: TransformerBridge
    items: tuple[ChoiceItem, ...]
    sides: Mapping[str, Wordings]
    seed: int

    @classmethod
    def draw(cls, model: TransformerBridge, seed: int, n_items: int = N_ITEMS) -> DataSet:
        """Random items and wordings, no wording on two sides."""
        rng = np.random.default_rng([seed, n_items])
        names = (CORRECTED, PLACEBO, *ROWS_AGAINST, *OTHERS)
        wordings = draw_wordings(rng, len(names) * MIN_WORDINGS).split(MIN_WORDINGS)
        sides = dict(zip(names, wordings, strict=True))
        return cls(model, draw_items(rng, n_items), sides, seed)

    @property
    def few(self) -> tuple[ChoiceItem, ...]:
        """The items of the rows that cost most."""
        return self.items[:FURTHER_ITEMS]

    def slots(self, items: Sequence[ChoiceItem]) -> list[int]:
        """Each item's wording, in turn."""
        return [k % MIN_WORDINGS for k in range(len(items))]

    def read(
        self,
        items: Sequence[ChoiceItem],
        names: Sequence[str],
        *,
        placement: Placement = "before",
    ) -> pd.DataFrame:
        """The behaviour of some items and sides."""
        sides = {name: self.sides[name] for name in names}
        return read_behaviour(self.model, items, sides, placement=placement)

    @cached_property
    def readings(self) -> pd.DataFrame:
        """Behaviour of all items, the instruction first."""
        return self.read(self.items, (CORRECTED, PLACEBO))

    @cached_property
    def after(self) -> pd.DataFrame:
        """The same with the instruction last."""
        return self.read(self.items, (CORRECTED, PLACEBO), placement="after")

    @cached_property
    def against(self) -> pd.DataFrame:
        """Behaviour of the few under the negated instruction and vocabulary, with their placebos."""
        return self.read(self.few, ROWS_AGAINST)

    @cached_property
    def pairs(self) -> list[PromptPair]:
        """The pairs that a card patches."""
        items = self.items[:CAUSAL_ITEMS]
        return self.some_pairs(items, self.slots(items))

    def some_pairs(
        self,
        items: Sequence[ChoiceItem],
        slots: Sequence[int],
        *,
        side: str = CORRECTED,
        placement: Placement = "before",
    ) -> list[PromptPair]:
        """Pairs of a side against its placebo."""
        against = PLACEBO if side == CORRECTED else f"{side}_placebo"
        texts = self.sides[side], self.sides[against]
        return pairs_of(self.model, items, *texts, slots, placement=placement)

    @cached_property
    def states(self) -> Float[Tensor, "pair side pos layer d_model"]:
        """The states of the pairs that a card patches."""
        return states_of(self.model, self.pairs)

    @cached_property
    def low(self) -> frozenset[str]:
        """The items of the pairs that are answered badly without the instruction."""
        return low_items(self.readings, [item.id for item in self.items[:CAUSAL_ITEMS]])

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The patched runs of the pairs, without the depth."""
        change = (self.states[:, 0] - self.states[:, 1])[..., :-1, :]
        spans = spans_of("before")
        shifts = torch.stack([change[:, spans[name]].mean(1) for name in CONTENT_SPANS], dim=1)
        items = self.items[: len(self.pairs)]
        high = [item.id not in self.low for item in items]
        donated = donated_shift(shifts, [item.cluster for item in items], high)
        return measure_routes(self.model, self.pairs, shifts=list(donated), onset=False)

    def margins(self, items: Sequence[ChoiceItem]) -> tuple[np.ndarray, np.ndarray]:
        """Margins of the placebo's and the corrected run of the items' pairs."""
        first = self.readings[self.readings["metric"] == self.readings["metric"].iloc[0]]
        wide = first.pivot(index=["item", "slot"], columns="side", values="value")
        own = [(item.id, slot) for item, slot in zip(items, self.slots(items), strict=True)]
        return wide.loc[own, PLACEBO].to_numpy(), wide.loc[own, CORRECTED].to_numpy()


def fit_random(model: TransformerBridge, seed: int = 0) -> DirectionStack:
    """The direction that tells even from odd first words of the context, held out by item."""
    rng = np.random.default_rng([seed, 0])
    items = draw_items(rng, N_ITEMS)
    ids = list(prompt_ids(items, draw_wordings(rng, N_ITEMS)))
    last_of_content = spans_of("before")["question"].stop - 1
    labels = [int(item.context.split()[0]) % 2 for item in items]
    states = read_states(model, ids, positions=[last_of_content] * len(ids), progress=False)
    texts = [LabelledText("-", y, i.id, "words") for y, i in zip(labels, items, strict=True)]
    facts = facts_of(model, texts, "mean_difference")
    groups = [item.id for item in items]
    return fit_states(states, torch.tensor(labels) > 0, groups, facts, 4, 0, 0)


def behaviour_rows(data: DataSet, plant: Plant) -> list[Finding]:
    """Behaviour in both placements, polarity, vocabulary; of few: knowing, replies; rank; residue."""
    few, slots = data.few, data.slots(data.few)
    readings = plant.add(data.readings, "side")
    after = plant.add(data.after, "side")
    found = [behaviour_finding(readings), behaviour_finding(after, name=BEHAVIOUR_AFTER)]
    found += polarity_findings(readings, data.against)
    if plant.size:
        return found
    own = data.readings[data.readings["item"].isin([item.id for item in few])]
    of_slot = {item.id: slot for item, slot in zip(few, slots, strict=True)}
    own = own[own["slot"] == own["item"].map(of_slot)]
    return [
        *found,
        distinguish_finding(own),  # the statistic is that of any question asked of a few items
        append_finding(replies(data)),
        rank_finding(ranks(data)),
        probe_finding(probes_of_others(data)),
    ]


def replies(data: DataSet) -> pd.DataFrame:
    """Greedy replies with the instruction and another placebo against the placebo's: columns EDITS."""
    sides = (PLACEBO, CORRECTED, OTHERS[0])
    slots = data.slots(data.few)
    every = [item for item in data.few for _ in sides]
    wordings = torch.stack([data.sides[side][slot] for slot in slots for side in sides])
    ids = prompt_ids(every, wordings)
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(REPLY):
            ids = torch.cat([ids, data.model(ids)[:, -1:].argmax(-1)], dim=1)
    said = ids[:, start:].reshape(len(data.few), len(sides), -1).tolist()
    rows = []
    for item, slot, (first, *others) in zip(data.few, slots, said, strict=True):
        for against, reply in zip(("instruction", "placebo"), others, strict=True):
            edit = edit_shares(first, reply)
            shares = [edit.kept_prefix, edit.kept_tokens, edit.appended]
            counts = [edit.n_before, edit.n_after, edit.kind]
            key = (item.id, item.cluster, str(slot), against)
            rows.append((*key, *shares, *counts, str(first), str(reply)))
    return pd.DataFrame(rows, columns=list(EDITS))


def ranks(data: DataSet) -> pd.DataFrame:
    """Gold's rank in the clean prompt's place (a further wording) and order 0, gains in the others."""
    items = data.items[:CAUSAL_ITEMS]
    slots = data.slots(items)
    asked = [("clean", OTHERS[0], 0)]
    asked += [(name, side, order) for order in (1, 2) for name, side in
              (("instructed", CORRECTED), (PLACEBO, PLACEBO))]  # fmt: skip
    rows = []
    for condition, side, order in asked:
        logits = option_logits(data.model, items, data.sides[side], order=order)
        for item, slot, own in zip(items, slots, logits, strict=True):
            better, worse, _ = own[slot].tolist()
            rank = 1 + int((own[slot] > own[slot, 0]).sum())
            control_of = "instructed" if condition == PLACEBO else ""
            key = (item.id, item.cluster, condition, control_of, slot, order)
            rows.append((*key, rank, better - worse, rank == 1))
    return pd.DataFrame(rows, columns=list(RANKS_OF))


def probes_of_others(data: DataSet) -> pd.DataFrame:
    """Probes of the old answer that read the corrected states of other items: nothing is left there."""
    items = data.items[:CAUSAL_ITEMS]
    before, after = data.margins(items)
    answers = data.states[:, :, -1].clone()
    order = np.roll(np.arange(len(items)), MIN_WORDINGS)  # another cluster, the same wording
    answers[:, 0] = answers[order, 0]
    wordings = [str(slot) for slot in data.slots(items)]
    return measure_probes(answers, before.tolist(), after[order].tolist(), items, wordings)


def state_rows(data: DataSet, direction: DirectionStack) -> list[Finding]:
    """Representation of the instruction and the negated one, and coupling with others' behaviour."""
    some = data.items[:COUPLED_ITEMS]

    def shifts(pairs: list[PromptPair], placement: Placement = "before") -> pd.DataFrame:
        return read_shifts(data.model, pairs, direction, placement)

    slots = data.slots(data.items)
    later = data.items[:AFTER_ITEMS]
    moved = [
        shifts(data.some_pairs(data.items, slots)),
        shifts(data.some_pairs(later, slots[: len(later)], placement="after"), "after"),
    ]
    negated = shifts(data.some_pairs(some, slots[: len(some)], side="negated"))
    every = [(item, slot) for item in some for slot in range(MIN_WORDINGS)]
    coupled = shifts(data.some_pairs(*map(list, zip(*every, strict=True))))
    others = data.read(some, OTHERS[1:])
    others["side"] = others["side"].map(dict(zip(OTHERS[1:], (CORRECTED, PLACEBO), strict=True)))
    return [
        *representation_findings(pd.concat(moved), negated=negated),
        coupling_finding(coupled, others),
    ]


def read_shifts(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    direction: DirectionStack,
    placement: Placement,
) -> pd.DataFrame:
    """What :func:`~interp.superficiality.measure_representation` reads of the direction's site, at once."""
    states = states_of(model, pairs)[:, :, :, 1:]  # resid_post
    along = torch.einsum("psrld,ld->psrl", states.double(), torch.stack(
        [one.vector / one.scale for one in direction]).double())  # fmt: skip
    change = along[:, 0] - along[:, 1]
    spans = spans_of(placement)
    places = {LAST: change[:, -1]}
    if placement == "before":
        rows = slice(spans["context"].start, spans["question"].stop)
        places = {CONTENT: change[:, rows].mean(1), **places}
    found = []
    for k, pair in enumerate(pairs):
        assert pair.item is not None  # pairs are made of items
        for position, values in places.items():
            for one, value in zip(direction, values[k].tolist(), strict=True):
                own = one.layer == direction.best_layer
                key = (pair.item.id, pair.item.cluster, pair.wording, placement, position)
                found.append((*key, direction.site, one.layer, own, value))
    return pd.DataFrame(found, columns=list(SHIFTS))


def has_effect(data: DataSet, items: Sequence[ChoiceItem]) -> bool:
    """Whether shares of the effect in these items' pairs are defined."""
    before, after = data.margins(items)
    total = after - before
    clusters = [item.cluster for item in items]
    return not np.isnan(share(total, total, clusters, data.slots(items)).estimate)


def route_rows(data: DataSet, plant: Plant) -> list[Finding]:
    """The content's rows and the edges'."""
    runs = plant.add(data.runs, "run")
    return [*content_findings(runs, low=data.low), *edge_findings(runs)]


def further_rows(data: DataSet) -> list[Finding]:
    """Tokens, heads and the re-injected answer; none where no share of the effect is defined."""
    if not has_effect(data, data.few):
        return []
    model, pairs = data.model, data.pairs[: len(data.few)]
    states = data.states[: len(pairs)]
    others = other_clusters([item.cluster for item in data.few])
    start = pairs[0].source.span("instruction").stop
    behind = states[:, :, start:].mean(2)
    change = behind[:, 0] - behind[:, 1]
    tokens = measure_tokens(model, pairs, constants=[change[own].mean(0) for own in others])
    heads = measure_heads(model, pairs)
    chosen = choose_heads(heads)
    top = measure_top_heads(model, pairs, [chosen[i.id] for i in data.few], seed=data.seed)
    before, answers = data.margins(data.few)[0], states[:, :, -1]
    directions = [probe_directions(answers[own], before[own], seed=data.seed) for own in others]
    injected = measure_reinjection(model, pairs, directions)
    return [*token_findings(tokens), head_finding(top, heads), reinjection_finding(injected)]
