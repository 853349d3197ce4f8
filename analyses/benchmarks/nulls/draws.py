"""A draw: some items and six pairs of wordings of a pool, read and told by the studies themselves.

The rows of a draw are those that a run on its items and wordings would have saved: taken from the
pool's, with slots numbered anew and, in half of the pairs, the two sides exchanged. Of projections the
null directions are left out (they depend on the placebos drawn; the claim that a shift differs from
zero, which comes before them, does not). Attention, of which the demo shows a head and claims nothing,
is that of the pool's first round in every draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.behaviour.asked import BehaviourAsked
from analyses.benchmarks.nulls.pool import ALL, ITEMS, ROUND, count_items, count_rounds
from analyses.config import INSTRUCTED, read_config
from analyses.contrast import CONTROL, Question
from analyses.demo.study import Demo, DemoAsked
from analyses.patch.tables import table_name
from analyses.registry import load_study
from analyses.study import Saved, Story, in_part
from interp.models import ModelCard
from interp.patching.sites import SweepSite
from interp.runs import read_manifest, read_table

SITE: SweepSite = "resid_pre"
PARTS = ("behaviour", "patch", "lens", "project")
"""The parts of the demo that speak of effects; each is also a study of its own."""

_DIVERGENCES = ("kl", "js", "overlap", "kl_clean", "js_clean", "overlap_clean")
Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Draw:
    """Numbers of the items, of the round that each of the six pairs is taken from, and exchanges."""

    items: tuple[int, ...]
    rounds: tuple[int, ...]
    exchanged: tuple[bool, ...]

    @classmethod
    def random(cls, n_items: int, *, of_items: int, of_rounds: int, seed: list[int]) -> Draw:
        """A draw of ``n_items``; item number ``k`` is one that the pool asks with pair ``k % 6``."""
        rng = np.random.default_rng(seed)
        residues = [rng.permutation(np.arange(c, of_items, ROUND)) for c in range(ROUND)]
        items = tuple(int(residues[k % ROUND][k // ROUND]) for k in range(n_items))
        rounds = tuple(int(k) for k in rng.integers(of_rounds, size=ROUND))
        return cls(items, rounds, tuple(bool(k) for k in rng.integers(2, size=ROUND)))

    def pairs(self) -> dict[int, tuple[int, bool]]:
        """The slot of each chosen pair in runs on all pairs: its new slot, and whether exchanged."""
        return {
            number * ROUND + slot: (slot, self.exchanged[slot])
            for slot, number in enumerate(self.rounds)
        }


@dataclass(frozen=True)
class DrawSaved(Saved):
    """The tables of a draw, as a study's reading sees those of a run."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the draw."""
        return self.tables[in_part(self.part, name)]

    def has(self, name: str) -> bool:
        """Whether the draw has it."""
        return in_part(self.part, name) in self.tables

    def parts(self, name: str) -> Iterator[pd.DataFrame]:
        """An item's rows at a time."""
        yield from (rows for _, rows in self.table(name).groupby("item", sort=False))


@dataclass(frozen=True)
class PoolRows:
    """The rows of a pool's folder."""

    folder: Path
    n_items: int
    n_rounds: int

    @classmethod
    def of(cls, folder: Path) -> PoolRows:
        """Those of a folder that :func:`~analyses.benchmarks.nulls.pool.make_rows` has filled."""
        return cls(folder, count_items(folder), count_rounds(folder))

    @cached_property
    def card(self) -> ModelCard:
        """The model's."""
        return ModelCard.from_dict(read_manifest(self.folder / "lens")["model"])

    @cached_property
    def asked(self) -> DemoAsked:
        """What a demo on all items of the pool asks."""
        options = {
            "items": str(self.folder / ITEMS),
            "condition_file": self.folder / ALL,
            "limit": self.n_items,
            "pairs": self.n_items,
        }
        return Demo().ask(read_config(Demo.Config, **options), progress=False)

    @cached_property
    def tables(self) -> Tables:
        """Tables of the runs on all pairs by the names that the demo gives them."""
        whole = {
            "behaviour": ("scores",),
            "lens": ("lens", "example"),
            "project": ("cells", "components", "example", "null_directions", "projections"),
            "attention": ("attention", "patterns"),
            "patch-00": ("example", table_name(CONTROL, SITE)),
        }
        found = {
            in_part(run.partition("-")[0], name): read_table(self.folder / run, name)
            for run, names in whole.items()
            for name in names
        }
        nulls, rows = found["project-null_directions"], found["project-projections"]
        found["project-null_directions"] = nulls.iloc[:0]
        found["project-projections"] = rows.assign(nulls=pd.Series([()] * len(rows), dtype=object))
        return found

    @cached_property
    def rotated(self) -> dict[tuple[str, int], pd.DataFrame]:
        """The instruction's maps of every round, by ``patch`` and ``back``."""
        names = {"patch": table_name(INSTRUCTED, SITE), "back": table_name("placebo", SITE)}
        return {
            (run, k): read_table(self.folder / f"{run}-{k:02d}", name)
            for run, name in names.items()
            for k in range(self.n_rounds)
        }


def draw_tables(pool: PoolRows, draw: Draw) -> Tables:
    """The rows of a draw, by the demo's names of the tables."""
    order = {pool.asked.items[k].id: n for n, k in enumerate(draw.items)}
    tables = {}
    for name, table in pool.tables.items():
        drawn = "item" in table and not name.startswith("attention")
        tables[name] = _of_items(table, order) if drawn else table
    for name in ("behaviour-scores", "lens-lens", "project-projections"):
        tables[name] = _first_texts(_of_pairs(tables[name], draw), ROUND)
    tables[in_part("patch", table_name(INSTRUCTED, SITE))] = _of_rounds(pool, draw, order)
    tables["patch-notes"] = pd.DataFrame({"condition": [INSTRUCTED, CONTROL], "note": ""})
    tables["identities"] = pd.DataFrame()
    return tables


def tell_draw(pool: PoolRows, draw: Draw) -> dict[str, Story]:
    """What the demo and each of its studies tell of a draw, by the command's name."""
    tables = draw_tables(pool, draw)
    items = tuple(pool.asked.items[k] for k in draw.items)
    demo = Demo()
    asked = replace(
        pool.asked,
        config=pool.asked.config.model_copy(update={"limit": len(items), "pairs": len(items)}),
        items=items,
        inside=items,
    )
    saved = DrawSaved(pool.folder / "project", pool.card, tables=tables)
    texts = asked.parts(pool.card.n_layers)["lens"].asked.config.texts
    of_demo = replace(
        saved, tables=tables | {"lens-lens": _first_texts(tables["lens-lens"], texts)}
    )
    stories = {"demo": demo.story(demo.read(asked, of_demo))}
    for part in PARTS:
        study = load_study("behave" if part == "behaviour" else part)
        result = study.read(_alone(asked, part, pool.card), replace(saved, part=part))
        stories[study.name] = study.story(result)
    return stories


def _first_texts(table: pd.DataFrame, n_texts: int) -> pd.DataFrame:
    """The rows of the first wordings of every condition."""
    return table[table["slot"] < n_texts].reset_index(drop=True)


def _alone(asked: DemoAsked, part: str, card: ModelCard) -> Question[Any] | BehaviourAsked:
    """What a part of the demo asks when it runs alone: with every wording."""
    of_demo = asked.parts(card.n_layers)[part].asked
    config = of_demo.config.model_copy(update={"texts": asked.config.texts})
    alone: Question[Any] | BehaviourAsked = replace(of_demo, config=config)
    return alone


def _of_items(table: pd.DataFrame, order: Mapping[str, int]) -> pd.DataFrame:
    """The rows of the draw's items, in its order."""
    kept = table[table["item"].isin(list(order))]
    return kept.iloc[np.argsort(kept["item"].map(order), kind="stable")].reset_index(drop=True)


def _of_pairs(table: pd.DataFrame, draw: Draw) -> pd.DataFrame:
    """The rows of the draw's pairs with their new slots, sides exchanged; and those of other prompts."""
    own = (table["condition"] == INSTRUCTED) | _is_placebo_of_instructed(table)
    chosen = draw.pairs()
    kept = table[~own | table["slot"].isin(list(chosen))].copy()
    mine = own[kept.index]
    swap = mine & kept["slot"].map(lambda slot: chosen.get(slot, (0, False))[1])
    kept.loc[mine, "slot"] = kept.loc[mine, "slot"].map(lambda slot: chosen[slot][0])
    if "js" in kept:  # distances between two placebos stay with the pair
        return _exchange(kept, swap, stay=_DIVERGENCES)
    return _exchange(kept, swap)


def _is_placebo_of_instructed(table: pd.DataFrame) -> pd.Series:
    column = "control_of" if "control_of" in table else "contrast"
    return (table["condition"] == "placebo") & (table[column] == INSTRUCTED)


def _exchange(table: pd.DataFrame, swap: pd.Series, stay: tuple[str, ...] = ()) -> pd.DataFrame:
    """Each swapped row takes the other side's name; columns that ``stay`` keep their place."""
    other = table["condition"].map({INSTRUCTED: "placebo", "placebo": INSTRUCTED})
    kept = table.assign(condition=table["condition"].where(~swap, other))
    if "control_of" in table:
        controls = kept["condition"].map({"placebo": INSTRUCTED}).fillna("")
        kept["control_of"] = kept["control_of"].where(~swap, controls)
    keys = [name for name in ("item", "contrast", "slot", "order", "layer") if name in table]
    if stay:
        before = table.set_index([*keys, "condition"])[list(stay)]
        after = pd.MultiIndex.from_frame(kept[[*keys, "condition"]])
        kept[list(stay)] = before.loc[after].to_numpy()
    return kept.reset_index(drop=True)


def _of_rounds(pool: PoolRows, draw: Draw, order: Mapping[str, int]) -> pd.DataFrame:
    """The instruction's maps: of every slot those of the round drawn for it."""
    parts = []
    for slot, (number, exchanged) in enumerate(zip(draw.rounds, draw.exchanged, strict=True)):
        rows = pool.rotated["back" if exchanged else "patch", number]
        parts.append(rows[(rows["slot"] == slot) & rows["item"].isin(list(order))])
    table = pd.concat(parts, ignore_index=True).assign(condition=INSTRUCTED)
    return _of_items(table, order)
