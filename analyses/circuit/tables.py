"""What a circuit run measured: scores, the curve beside random ones, areas, and tests of one circuit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from analyses.circuit.config import CircuitConfig
from analyses.contrast import Question, read_example
from analyses.study import Saved
from interp.circuits import (
    CheckedCircuits,
    CircuitRuns,
    CircuitTests,
    CircuitUnit,
    FaithfulnessCurve,
    JointAblation,
    RandomCircuits,
)
from interp.circuits.curve import default_sizes
from interp.circuits.joint import joint_masks
from interp.circuits.names import Ablation
from interp.circuits.random_draws import random_masks
from interp.circuits.units import (
    CircuitMasks,
    nested_circuits,
    rank_units,
    score_table,
    unit_of_table,
    units_of_table,
)
from interp.data import ChoiceItem
from interp.display import short_repr
from interp.models import ModelCard
from interp.prompts import ConditionSpec
from interp.stats import Interval, cluster_mean, interval_columns

__all__ = ["CircuitResult", "Plan", "read", "score_means", "score_table"]


MOST_TAKEN = 20
"""Units of a circuit that are taken out one by one and together."""


@dataclass(frozen=True)
class Plan:
    """Which circuits are run: plain data, from which every mask follows.

    ``order``: indices of all nodes or edges, the largest absolute score first. ``size``: of the
    circuit that is drawn and tested. ``left_out``: pairs that are not aligned.
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...]
    size: int
    draws: int
    random: int
    seed: int
    left_out: int

    @classmethod
    def of(cls, config: CircuitConfig, scores: pd.DataFrame, left_out: int) -> Plan:
        """The plan of some scores."""
        n = len(scores)
        size = config.size or max(1, round(n / (100 if config.unit == "edges" else 10)))
        order = rank_units(scores["score"].to_numpy(float))
        sizes = tuple(sorted({*default_sizes(n), size}))
        return cls(
            tuple(order.tolist()), sizes, size, config.draws, config.random, config.seed, left_out
        )

    def key(self) -> dict[str, Any]:
        """What decides the runs."""
        return dict(self.__dict__)

    def row(self) -> dict[str, Any]:
        """As a row of a table."""
        return {name: json.dumps(value) for name, value in self.key().items()}

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> Plan:
        """The plan of its row."""
        found = {name: json.loads(value) for name, value in row.items()}
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in found.items()
        }
        return cls(**plain)

    @property
    def checked(self) -> CheckedCircuits:
        """The circuits that the tests need."""
        own = nested_circuits(np.array(self.order), [self.size])[0]
        return CheckedCircuits.of(own, n_random=self.random, seed=self.seed)

    @property
    def taken(self) -> tuple[int, ...]:
        """The largest units of the circuit, which are also taken out one by one and together."""
        return self.order[: min(self.size, MOST_TAKEN)]

    @property
    def parts(self) -> tuple[CircuitMasks, CircuitMasks, CircuitMasks, CircuitMasks]:
        """The curve's circuits, the random rankings', the tests', and those without some units."""
        n = len(self.order)
        return (
            nested_circuits(np.array(self.order), self.sizes),
            random_masks(self.sizes, n, draws=self.draws, seed=self.seed),
            self.checked.masks,
            joint_masks(np.array(self.taken), n),
        )

    @property
    def masks(self) -> CircuitMasks:
        """All circuits, ``[circuit, unit]``."""
        return np.concatenate(self.parts)

    def circuit(self, units: Sequence[CircuitUnit]) -> tuple[CircuitUnit, ...]:
        """The circuit that is drawn and tested."""
        return tuple(units[k] for k in self.order[: self.size])


@dataclass(frozen=True)
class CircuitResult:
    """What a run measured.

    ``scores``: a row per node or edge, its mean effect on the half of the scoring, its rank and
    whether the circuit keeps it. ``total``: m(full) - m(empty) on the other half, in the metric's unit,
    which all faithfulness is a share of. ``curve``, ``random``: faithfulness over sizes. ``tests``: of
    the circuit. ``joint``: its largest units taken out of the model, one by one and together.
    ``by_ablation``: the circuit's faithfulness by what stands in for the rest, with intervals.
    """

    config: CircuitConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    spec: ConditionSpec
    scores: pd.DataFrame
    circuit: tuple[CircuitUnit, ...]
    total: Interval
    curve: FaithfulnessCurve
    random: RandomCircuits
    tests: CircuitTests
    joint: JointAblation
    by_ablation: pd.DataFrame
    n_scored: int
    left_out: int
    example: dict[str, str]
    report: Path

    __repr__ = short_repr

    @property
    def curve_table(self) -> pd.DataFrame:
        """Faithfulness per size."""
        return self.curve.to_dataframe()

    @property
    def random_table(self) -> pd.DataFrame:
        """Faithfulness of random circuits per size."""
        return self.random.to_dataframe()

    @property
    def tests_table(self) -> pd.DataFrame:
        """The tests of the circuit."""
        return self.tests.to_dataframe()

    @property
    def joint_table(self) -> pd.DataFrame:
        """What the model loses without each of the largest units, their sum, and without any."""
        return self.joint.to_dataframe()

    @property
    def minimality(self) -> pd.DataFrame:
        """Minimality, one by one."""
        return self.tests.minimality

    @property
    def areas(self) -> pd.DataFrame:
        """CPR and CMD of the circuits, over clusters, and of random ones, over draws.

        ``area`` is of the curve of means; its interval's columns follow.
        """
        rows = [
            ("CPR", "circuit", self.curve.cpr, self.curve.cpr_interval()),
            ("CMD", "circuit", self.curve.cmd, self.curve.cmd_interval()),
            ("CPR", "random", self.random.cpr().estimate, self.random.cpr()),
            ("CMD", "random", self.random.cmd().estimate, self.random.cmd()),
        ]
        return pd.DataFrame(
            [
                {"measure": measure, "of": of, "area": area} | interval_columns(interval)
                for measure, of, area, interval in rows
            ]
        )

    @property
    def faithful(self) -> float:
        """Faithfulness of the circuit that is drawn and tested."""
        return float(self.curve.faithfulness[self.curve.sizes.index(len(self.circuit))])


def score_means(effects: pd.DataFrame) -> pd.DataFrame:
    """The mean effect of every node or edge over pairs, in the model's order."""
    edges = unit_of_table(effects) == "edges"
    names = ["source", "destination", "input"] if edges else ["layer", "head"]
    means = effects.groupby(names, sort=False, dropna=False)["effect"].mean()
    rows = means.reset_index().rename(columns={"effect": "score"})
    return score_table(units_of_table(rows), rows["score"].to_numpy(float))


def read(asked: Question[CircuitConfig], saved: Saved) -> CircuitResult:
    """The result of the saved runs."""
    config, effects = asked.config, saved.table("effects")
    plan = Plan.of_row(saved.table("plan").to_dict("records")[0])
    scores = score_means(effects)
    units = units_of_table(scores)
    runs = runs_of(saved.table("circuits"), config)
    ends = np.cumsum([len(part) for part in plan.parts])
    curve, random, tested, without = (
        runs.of(slice(int(start), int(stop)))
        for start, stop in zip([0, *ends[:-1]], ends, strict=True)
    )
    rank = np.empty(len(units), dtype=np.int64)
    rank[list(plan.order)] = np.arange(1, len(units) + 1)
    return CircuitResult(
        config=config,
        card=saved.card,
        items=asked.items,
        spec=asked.spec,
        scores=scores.assign(rank=rank, kept=rank <= plan.size),
        circuit=plan.circuit(units),
        total=total_of(runs),
        curve=FaithfulnessCurve(tuple(units[k] for k in plan.order), plan.sizes, curve),
        random=RandomCircuits.of_runs(plan.sizes, len(units), random),
        tests=plan.checked.outcome(tested, units, seed=config.seed),
        joint=JointAblation.of_runs([units[k] for k in plan.taken], without),
        by_ablation=_by_ablation(tested.of([0]), saved.table("ablations"), config),
        n_scored=len(effects.drop_duplicates(["item", "slot"])),
        left_out=plan.left_out,
        example=read_example(saved),
        report=saved.report,
    )


def _by_ablation(own: CircuitRuns, others: pd.DataFrame, config: CircuitConfig) -> pd.DataFrame:
    """The circuit's faithfulness with each ablation value; NaN where there is nothing to explain.

    ``own``: its runs with the study's ablation; ``others``: the rows of those with the others.
    """
    runs = {str(name): runs_of(rows, config) for name, rows in others.groupby("ablation")}
    runs[config.ablation] = own
    return pd.DataFrame(
        {"ablation": name, "pairs": len(runs[name].pair_labels)}
        | interval_columns(runs[name].interval().at(0))
        for name in get_args(Ablation)
    )


def runs_of(rows: pd.DataFrame, config: CircuitConfig) -> CircuitRuns:
    """The runs of all pairs, from the rows of each."""
    values = rows.pivot_table(index="circuit", columns=["item", "slot"], values="value", sort=True)
    names, slots = (values.columns.get_level_values(k).tolist() for k in ("item", "slot"))
    pairs = rows.drop_duplicates(["item", "slot"]).set_index(["item", "slot"]).loc[values.columns]
    return CircuitRuns(
        values=values.to_numpy(float),
        full=pairs["full"].to_numpy(float),
        empty=pairs["empty"].to_numpy(float),
        pair_labels=tuple(f"{item} #{slot}" for item, slot in zip(names, slots, strict=True)),
        clusters=tuple(pairs["cluster"].astype(str)),
        wordings=tuple(map(str, slots)),
        metric=config.metric,
        ablation=config.ablation,
    )


def total_of(runs: CircuitRuns) -> Interval:
    """m(full) - m(empty), with clusters and wordings as random."""
    n = len(set(runs.wordings))
    wordings = runs.wordings if n > 1 else None
    found = cluster_mean(runs.full - runs.empty, runs.clusters, wordings=wordings)
    return replace(found, texts=(n, n))
