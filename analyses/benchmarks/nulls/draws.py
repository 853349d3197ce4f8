"""A draw: some items and twelve wordings of a pool, as the tables that a run on them would have.

Studies that ask every item with every wording (behave, lens, project) have six texts a side, any twelve
of the pool. In the map and attention an item has the pair of its slot, which is one of those that were
patched; these few ordered pairs are no balanced sample of twelve wordings, so that the others are not
drawn from them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from analyses.benchmarks.nulls.pool import SLOTS, Pair, Plan, pool_items
from analyses.benchmarks.nulls.rows import (
    ARRAYS,
    CARD,
    CELLS,
    DIRECTION,
    MAPS,
    PARTS,
    SCORES,
    item_folder,
)
from analyses.config import INSTRUCTED
from analyses.totals import CONTROLS, METRICS, TREATED
from interp.behaviour import OptionScores
from interp.data import ChoiceItem
from interp.directions import DirectionStack, load_direction
from interp.directions.contrast_arrays import ContrastArrays
from interp.directions.contrast_tables import ContrastSample
from interp.errors import InterpError
from interp.lens import LensConditions
from interp.models import ModelCard
from interp.patching import SweepResult
from interp.patching.pooled import pool_pairs
from interp.stats import FloatArray

POSITION = "last"

_SCORED = [
    *("number", "item", "benchmark", "category", "cluster", "context_condition", "condition"),
    *("text_id", "slot", "control_of", "order", "mismatch", "option_form", "single_token"),
    *("margin", "option_margin", "p_gold", "gold_rank", "correct"),
]
"""Columns that claims are made of."""


@dataclass(frozen=True)
class Draw:
    """The numbers of some items, and wordings: those asked, and the pairs that take turns.

    ``asked``: six pairs of different wordings. ``pairs``: one of the plan's per slot, with their
    ``numbers`` there.
    """

    items: tuple[int, ...]
    asked: tuple[Pair, ...]
    numbers: tuple[int, ...]
    pairs: tuple[Pair, ...]

    @classmethod
    def random(cls, plan: Plan, items: Sequence[int], n_items: int, *, seed: Sequence[int]) -> Draw:
        """``n_items`` of ``items``, slots in turn; twelve wordings; for every slot one of its pairs.

        Raises:
            InterpError: too few items, or no six pairs of different wordings among the plan's.
        """
        rng = np.random.default_rng(seed)
        chosen = _draw_items(rng, items, n_items)
        twelve = rng.permutation(len(plan.wordings))[: 2 * SLOTS].reshape(SLOTS, 2)
        asked = tuple((int(a), int(b)) for a, b in twelve)
        for _ in range(10_000):
            numbers = tuple(int(rng.integers(len(slot))) for slot in plan.pairs)
            pairs = tuple(slot[k] for slot, k in zip(plan.pairs, numbers, strict=True))
            if len({wording for pair in pairs for wording in pair}) == 2 * SLOTS:
                return cls(chosen, asked, numbers, pairs)
        raise InterpError("no draw of twelve different wordings: make a pool of more pairs")

    @classmethod
    def power(cls, plan: Plan, items: Sequence[int], n_items: int, *, seed: Sequence[int]) -> Draw:
        """The same with the texts that name the answer as the instruction."""
        chosen = _draw_items(np.random.default_rng(seed), items, n_items)
        return cls(chosen, plan.power, tuple(len(slot) for slot in plan.pairs), plan.power)

    def first(self, n_items: int) -> Draw:
        """The draw with its first items alone."""
        return replace(self, items=self.items[:n_items])

    @property
    def in_turn(self) -> Draw:
        """The draw whose pairs take turns over the items, asked of all."""
        return replace(self, asked=self.pairs)

    @property
    def sides(self) -> dict[str, list[int]]:
        """The wordings of either side that every item is asked with."""
        treated, control = zip(*self.asked, strict=True)
        return {INSTRUCTED: list(treated), "placebo": list(control)}


def _draw_items(rng: np.random.Generator, items: Sequence[int], n_items: int) -> tuple[int, ...]:
    """Item number ``k`` of a draw is one of slot ``k % 6``."""
    of_slot = [rng.permutation([n for n in items if n % SLOTS == slot]) for slot in range(SLOTS)]
    if any(len(of_slot[k % SLOTS]) <= k // SLOTS for k in range(n_items)):
        raise InterpError(f"{len(items)} items do not give a draw of {n_items}: make more rows")
    return tuple(int(of_slot[k % SLOTS][k // SLOTS]) for k in range(n_items))


@dataclass(frozen=True)
class PoolRows:
    """The rows of a pool's folder, and the tables of draws from them."""

    folder: Path

    @cached_property
    def plan(self) -> Plan:
        """What was read."""
        return Plan.load(self.folder)

    @cached_property
    def items(self) -> tuple[ChoiceItem, ...]:
        """The items by number, with and without rows."""
        return pool_items(self.folder)

    @cached_property
    def read(self) -> tuple[int, ...]:
        """The numbers of the items with rows."""
        numbers = range(len(self.items))
        return tuple(k for k in numbers if (item_folder(self.folder, k) / ARRAYS).is_file())

    @cached_property
    def card(self) -> ModelCard:
        """The model's."""
        return ModelCard.from_dict(json.loads((self.folder / CARD).read_text(encoding="utf-8")))

    @cached_property
    def direction(self) -> DirectionStack:
        """The morality direction."""
        return load_direction(self.folder / DIRECTION)

    @cached_property
    def places(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Cells and parts along the direction."""
        return pd.read_parquet(self.folder / CELLS), pd.read_parquet(self.folder / PARTS)

    @cached_property
    def arrays(self) -> dict[int, dict[str, Any]]:
        """Those of every item: :func:`~analyses.benchmarks.nulls.rows.read_arrays`."""
        return {k: load_file(item_folder(self.folder, k) / ARRAYS) for k in self.read}

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The scores of all items; ``number`` is the item's.

        All are of one context condition, which is left out: tables would hold this subset twice.
        """
        frame = self._table(SCORES)[_SCORED].assign(context_condition="")
        # strings of arrow are slow to take rows from
        text: list[str] = list(frame.select_dtypes("string"))
        return frame.astype(dict.fromkeys(text, object))

    @cached_property
    def maps(self) -> pd.DataFrame:
        """The sweeps of all items."""
        return self._table(MAPS)

    def _table(self, name: str) -> pd.DataFrame:
        frames = [
            pd.read_parquet(item_folder(self.folder, k) / name).assign(number=k) for k in self.read
        ]
        return pd.concat(frames, ignore_index=True)

    def clusters(self, draw: Draw) -> list[str]:
        """The clusters of a draw's items."""
        return [self.items[k].cluster for k in draw.items]

    def scores(self, draw: Draw) -> OptionScores:
        """What behave would have scored: the clean prompt and both sides, in all orders."""
        rows = self.scored[self.scored["number"].isin(draw.items)]
        parts = [rows[rows["condition"] == "clean"]]
        for name, wordings in draw.sides.items():
            slots = {wording: slot for slot, wording in enumerate(wordings)}
            own = rows[(rows["condition"] != "clean") & rows["slot"].isin(wordings)]
            control_of = INSTRUCTED if name == "placebo" else ""
            own = own.assign(condition=name, slot=own["slot"].map(slots), control_of=control_of)
            parts.append(own.assign(mismatch=0.0 if control_of else np.nan))
        frame = pd.concat(parts).sort_values(["number", "order"], kind="stable")
        return OptionScores(frame.reset_index(drop=True), self.card)

    def readings(self, draw: Draw, *, rotate: bool) -> pd.DataFrame:
        """The rows of :func:`analyses.totals.score_sides`: of behave's first order."""
        frame = self.scores(draw.in_turn if rotate else draw).frame
        frame = frame[(frame["order"] == 0) & (frame["condition"] != "clean")]
        if rotate:
            frame = frame[frame["slot"] == frame["number"] % SLOTS]
        return pd.DataFrame(
            {
                "item": frame["item"],
                "cluster": frame["cluster"],
                "context": frame["context_condition"],
                "condition": INSTRUCTED,
                "side": np.where(frame["condition"] == "placebo", CONTROLS, TREATED),
                "against": "placebo",
                "slot": frame["slot"],
                **{name: frame[name] for name in METRICS},
            }
        )

    def values(self, draw: Draw, name: str) -> dict[str, FloatArray]:
        """An array of all items of a draw, ``[item, wording, ...]``, of either side."""
        return {
            side: np.stack([self.arrays[k][name][wordings] for k in draw.items])
            for side, wordings in draw.sides.items()
        }

    def lens(self, draw: Draw) -> LensConditions:
        """The margins of every layer."""
        frames = []
        items = [self.items[k].id for k in draw.items]
        for side, values in self.values(draw, "lens").items():
            n_layers = values.shape[2]
            index = pd.MultiIndex.from_product(
                [items, range(SLOTS), range(n_layers)], names=["item", "slot", "layer"]
            )
            rows = pd.DataFrame({"margin": values.reshape(-1)}, index=index).reset_index()
            frames.append(rows.assign(contrast=INSTRUCTED, condition=side))
        frame = pd.concat(frames, ignore_index=True)
        clusters = dict(zip(items, self.clusters(draw), strict=True))
        return LensConditions(frame.assign(cluster=frame["item"].map(clusters)))

    def sample(self, draw: Draw) -> ContrastSample:
        """The readings along the direction, without null directions."""
        cells, parts = self.places
        arrays = ContrastArrays.empty(
            self.clusters(draw),
            [POSITION],
            {INSTRUCTED: SLOTS},
            n_cells=len(cells),
            n_parts=len(parts),
            n_nulls=[0],
        )
        arrays.fixed[:] = False
        for name, into in (("measured", arrays.measured), ("parts", arrays.parts)):
            for side, values in self.values(draw, name).items():
                for slot in range(SLOTS):
                    into[0, arrays.variants[INSTRUCTED, side, slot]] = values[:, slot]
        nulls = pd.DataFrame(columns=["position", "kind", "name"], dtype=object)
        return ContrastSample(arrays, cells, parts, nulls, self.direction, self.plan.seed)

    def map(self, draw: Draw) -> SweepResult:
        """The map: every item with the pair of its slot."""
        number_of = {k: draw.numbers[k % SLOTS] for k in draw.items}
        rows = self.maps[self.maps["number"].isin(draw.items)]
        rows = rows[rows["slot"] == rows["number"].map(number_of)]
        slots = rows["number"] % SLOTS
        rows = rows.assign(slot=slots, pair=rows["item"] + " #" + slots.astype(str))
        return pool_pairs(rows, ["layer", "span"], seed=self.plan.seed)

    def attention(self, draw: Draw) -> pd.DataFrame:
        """The attention to the instruction: every item with the pair of its slot."""
        frames = []
        for side, values in self.values(draw.in_turn, "attention").items():
            for k, masses in zip(draw.items, values, strict=True):
                mass = masses[k % SLOTS]
                sizes = [range(n) for n in mass.shape]
                cells = pd.MultiIndex.from_product(sizes, names=["layer", "head"])
                labels: dict[str, Any] = {
                    "item": self.items[k].id,
                    "cluster": self.items[k].cluster,
                    "contrast": INSTRUCTED,
                    "condition": side,
                    "slot": k % SLOTS,
                }
                rows = pd.DataFrame({"mass": mass.reshape(-1)}, index=cells).reset_index()
                frames.append(rows.assign(**labels))
        return pd.concat(frames, ignore_index=True)
