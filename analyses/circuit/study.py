"""The circuit study: one pair of prompts is one unit, first for the scores, then to run circuits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from safetensors.torch import load_file, save_file
from transformer_lens.model_bridge import TransformerBridge

from analyses.circuit import story, tables
from analyses.circuit.asked import ask
from analyses.circuit.config import CircuitConfig
from analyses.circuit.tables import CircuitResult, Plan, score_means
from analyses.contrast import PromptBench, Question, example_step, slots_of
from analyses.study import Lab, Saved, Step, Steps, Story
from interp.circuits import NodeOutputs, circuit_units, graphml_of, mean_outputs, run_circuits
from interp.circuits.names import Ablation
from interp.circuits.scores import unit_effects
from interp.circuits.streams import require_edges
from interp.circuits.units import CircuitMasks, n_units, unit_columns
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.lens.conditions import no_margin
from interp.patching.metrics import named_metrics, require_target
from interp.prompts import PromptPair, pair_of_conditions
from interp.prompts.pair import paired_conditions
from interp.runs import digest
from interp.stats import rng

Name = tuple[str, int]
"""An item, and which of the texts."""


@dataclass(frozen=True)
class CircuitBench:
    """The model, the pairs of the scoring and those that circuits are run on.

    ``means``: what replaces a node with mean ablation. ``left_out``: how many pairs were left out
    because they are not aligned.
    """

    config: CircuitConfig
    model: TransformerBridge
    scoring: Mapping[Name, PromptPair]
    running: Mapping[Name, PromptPair]
    means: NodeOutputs
    left_out: int


@dataclass(frozen=True)
class ScoreUnit:
    """A pair to score nodes or edges on, with its two texts."""

    name: Name
    source: str
    destination: str

    @property
    def key(self) -> dict[str, Any]:
        """What decides its rows."""
        item, slot = self.name
        return {"item": item, "slot": slot, "prompts": [self.source, self.destination]}


@dataclass(frozen=True)
class RunUnit:
    """A pair to run circuits on, and which circuits."""

    of: ScoreUnit
    plan: Plan


@dataclass(frozen=True)
class GraphUnit:
    """The circuit to be written as GraphML: every score, and the plan."""

    scores: tuple[float, ...]
    plan: Plan


class Circuit:
    """See :mod:`analyses.circuit`."""

    name = "circuit"
    Config = CircuitConfig

    def ask(self, config: CircuitConfig, *, progress: bool = True) -> Question[CircuitConfig]:
        """See :mod:`analyses.circuit.asked`."""
        return ask(config, progress=progress)

    def bench(self, asked: Question[CircuitConfig], lab: Lab) -> CircuitBench:
        """Model and pairs; refuses a model without heads to patch, and a sample without usable pairs."""
        config, model = asked.config, lab.model
        n = n_units(model, config.unit)
        if config.size is not None and config.size >= n:
            raise InterpError(
                f"--size {config.size}: a circuit leaves out some of {n} {config.unit}"
            )
        pairs, left_out = _pairs(PromptBench.of(asked, lab))
        first = scoring_clusters(asked.items, config.seed)
        scoring, running = (
            {name: pair for name, (own, pair) in pairs.items() if (own in first) == half}
            for half in (True, False)
        )
        if not scoring or not running:
            raise InterpError(
                f"{len(pairs)} pairs are aligned by index, and all are on one side of the halves that "
                "scores are made on and circuits are run on: raise --limit, or choose --ablation zero"
            )
        if config.unit == "edges":
            require_edges(model, next(iter(running.values())).source.ids)
        require_target(model, [p for _, p in pairs.values()], named_metrics(config.metric)[0])
        means = _means(lab, list(running.values()))
        return CircuitBench(config, model, scoring, running, means, left_out)

    def steps(self, asked: Question[CircuitConfig], bench: CircuitBench) -> Steps:
        """Effects on one half of the pairs; circuits on the other; the circuit's graph; an example."""
        effects = yield Step(
            "effects", _units(bench.scoring), key=lambda unit: unit.key, compute=score_pair
        )
        scores = score_means(effects)
        plan = Plan.of(bench.config, scores, bench.left_out)
        chosen = plan.key()
        running = [RunUnit(unit, plan) for unit in _units(bench.running)]
        yield Step(
            "circuits",
            running,
            key=lambda unit: unit.of.key | {"circuits": digest(chosen)},
            compute=run_pair,
        )
        yield Step(
            "ablations",
            running,
            key=lambda unit: unit.of.key | {"circuits": digest(chosen), "of": "ablations"},
            compute=run_ablations,
        )
        graph = GraphUnit(tuple(scores["score"].tolist()), plan)
        yield Step(
            "graph",
            [graph],
            key=lambda unit: {"scores": list(unit.scores), "circuits": digest(chosen)},
            compute=draw_graph,
            lines={"circuit.graphml": "line"},
        )
        yield Step("plan", [plan], key=lambda unit: unit.key(), compute=plan_rows)
        pair = next(iter(bench.running.values()))
        sides = {bench.config.condition: pair.source, "placebo": pair.destination}
        yield example_step(
            {
                name: "".join(prompt.str_tokens[prompt.span("instruction")]).strip()
                for name, prompt in sides.items()
            }
        )

    def read(self, asked: Question[CircuitConfig], saved: Saved) -> CircuitResult:
        """The curve beside random ones, its areas, and the tests of one circuit."""
        return tables.read(asked, saved)

    def tables(self, result: CircuitResult) -> Mapping[str, pd.DataFrame]:
        """Everything but the runs themselves; the areas under the curve first."""
        names = [
            *("areas", "scores", "curve_table", "random_table", "tests_table", "minimality"),
            *("joint_table", "by_ablation"),
        ]
        return {name.removesuffix("_table"): getattr(result, name) for name in names}

    def story(self, result: CircuitResult) -> Story:
        """Whether there is anything to explain, the curve, the circuit, its tests."""
        return story.tell(result)


def scoring_clusters(items: Sequence[ChoiceItem], seed: int) -> set[str]:
    """The clusters of the items of the scoring: half of them, at random."""
    clusters = sorted({item.cluster for item in items})
    order = rng(seed, "clusters to score nodes on").permutation(len(clusters))
    return {clusters[k] for k in order[: len(clusters) // 2]}


def score_pair(bench: CircuitBench, unit: ScoreUnit) -> pd.DataFrame:
    """One row per node or edge: the effect of patching it."""
    config, pair = bench.config, bench.scoring[unit.name]
    effects = unit_effects(
        bench.model, pair, unit=config.unit, method=config.method, metric=config.metric
    )
    columns = unit_columns(circuit_units(bench.model, config.unit))
    names = {name: columns[name] for name in columns if name not in ("node", "edge")}
    rows = {"item": unit.name[0], "slot": unit.name[1], **names, "effect": effects}
    return pd.DataFrame(rows)


def run_pair(bench: CircuitBench, unit: RunUnit) -> pd.DataFrame:
    """One row per circuit: its metric, and both ends' beside it."""
    return _run(bench, unit, unit.plan.masks, bench.config.ablation)


def run_ablations(bench: CircuitBench, unit: RunUnit) -> pd.DataFrame:
    """The same of the tested circuit, with the other values that can stand in for the rest."""
    circuit = unit.plan.checked.circuit[None]
    others = [ablation for ablation in get_args(Ablation) if ablation != bench.config.ablation]
    return pd.concat([_run(bench, unit, circuit, a).assign(ablation=a) for a in others])


def _run(
    bench: CircuitBench, unit: RunUnit, masks: CircuitMasks, ablation: Ablation
) -> pd.DataFrame:
    runs = run_circuits(
        bench.model,
        bench.running[unit.of.name],
        masks,
        unit=bench.config.unit,
        ablation=ablation,
        means=bench.means if ablation == "mean" else None,
        metric=bench.config.metric,
        progress=False,
    )
    return pd.DataFrame(
        {
            "item": unit.of.name[0],
            "slot": unit.of.name[1],
            "cluster": runs.clusters[0],
            "circuit": range(len(masks)),
            "value": runs.values[:, 0],
            "full": runs.full[0],
            "empty": runs.empty[0],
        }
    )


def draw_graph(bench: CircuitBench, unit: GraphUnit) -> pd.DataFrame:
    """The lines of the circuit's GraphML."""
    units = circuit_units(bench.model, bench.config.unit)
    scores = tables.score_table(units, list(unit.scores))
    parallel = bool(getattr(bench.model.cfg, "parallel_attn_mlp", False))
    text = graphml_of(scores, unit.plan.circuit(units), parallel=parallel)
    return pd.DataFrame({"line": text.splitlines()})


def plan_rows(bench: CircuitBench, unit: Plan) -> pd.DataFrame:
    """One row: what the circuits were, to be read without the model."""
    return pd.DataFrame([unit.row()])


def _units(pairs: Mapping[Name, PromptPair]) -> list[ScoreUnit]:
    return [
        ScoreUnit(name, pair.source.text, pair.destination.text) for name, pair in pairs.items()
    ]


def _pairs(
    prompts: PromptBench[CircuitConfig],
) -> tuple[dict[Name, tuple[str, PromptPair]], int]:
    """The usable pairs, each with its cluster, and how many are left out as not aligned."""
    config, found, left_out, without = prompts.config, {}, 0, 0
    for number, item in enumerate(prompts.items):
        for slot in slots_of(number, config.texts, rotate=config.rotate):
            here, there = paired_conditions(
                prompts.bank, item, config.condition, against="placebo", slot=slot
            )
            pair = pair_of_conditions(prompts.model, item, here, there)
            if pair.target is None:
                without += 1
            elif not pair.alignment.by_index:  # its nodes could be patched at some positions only
                left_out += 1
            else:
                found[item.id, slot] = (item.cluster, pair)
    if not found and left_out:
        raise InterpError(
            f"none of {left_out} pairs has a placebo of the same number of tokens under this tokenizer, "
            "so that some outputs lack a counterpart: build such placebos with --require-match 0"
        )
    if not found:
        raise no_margin(without)
    return found, left_out


def _means(lab: Lab, pairs: Sequence[PromptPair]) -> NodeOutputs:
    """The mean outputs over the placebos of the pairs that circuits are run on, kept with the run."""

    def make(path: Path) -> None:
        means = mean_outputs(lab.model, pairs)
        save_file({name: value.contiguous() for name, value in vars(means).items()}, path)

    return NodeOutputs(**load_file(lab.file("means.safetensors", make)))
