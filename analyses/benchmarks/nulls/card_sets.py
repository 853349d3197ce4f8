"""Data sets of a scorecard in which nothing is asked, and effects planted in them.

Every text of a data set is a wording of random words (:mod:`.sentences`): those of the instruction, of
the negated one, of moral vocabulary, and all their placebos. So the null hypothesis is true of every row
that compares an instruction with a placebo.

A share is defined only where the interval of the effect excludes 0: in all other data sets its row is
not read. With a planted effect (:class:`Plant`) nearly all are read, and rows that the plant leaves out
are tested where there is an effect to have a share of.
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
    Wordings,
    draw_items,
    draw_wordings,
    pairs_of,
    prompt_ids,
    read_behaviour,
    spans_of,
    states_of,
)
from interp.activations import read_states
from interp.data import ChoiceItem, LabelledText
from interp.directions import DirectionStack
from interp.directions.fitting import facts_of, fit_states
from interp.prompts import Placement, PromptPair
from interp.stats import MIN_WORDINGS
from interp.superficiality import (
    donated_shift,
    measure_routes,
)
from interp.superficiality.groups import FURTHER_ITEMS
from interp.superficiality.measure import CAUSAL_ITEMS
from interp.superficiality.routes import CORRECTED, PLACEBO
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

    ``instruction``: what reads the instruction has it, whatever the content's states are, and nothing
    where the edges of all else to the instruction are removed: the content's rows are null.
    ``content``: what stands behind the corrected content has it, item by item, and nothing where the
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
