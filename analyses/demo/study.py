"""The demo: which items the studies share, and with which options each is run on them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.attention.study import Attention
from analyses.behaviour.study import Behaviour
from analyses.composition import Part, bench_parts, derived_tables, part_steps, read_results
from analyses.config import INSTRUCTED
from analyses.contrast import CONTROL, Question, control_arms
from analyses.demo import story
from analyses.demo.asked import DemoAsked, ask
from analyses.demo.config import DemoConfig
from analyses.demo.tables import DemoResult, over_studies
from analyses.lens.study import Lens
from analyses.patch.study import Patch, PatchBench, item_key
from analyses.project.asked import ProjectQuestion
from analyses.project.study import Project
from analyses.study import Lab, Saved, Step, Steps, Story, Study
from analyses.totals import CONTROLS, METRICS, SIDE_LABELS, TREATED, Sides, score_sides
from interp.data import ChoiceItem
from interp.models.packed import supports_trees
from interp.patching.identities import measure_identities
from interp.prompts import PromptPair, TextBank, condition_prompt

STUDIES: Mapping[str, Study[Any, Any, Any, Any]] = {
    "behaviour": Behaviour(),
    "patch": Patch(),
    "lens": Lens(),
    "project": Project(),
    "attention": Attention(),
}
PATCHED = "patch-readings"
READINGS = (PATCHED, "lens-readings", "project-readings")
"""Scores of prompts that the behaviour part asks too: made of its table, not computed again."""

ARMS = "arm-readings"
"""The scores of :data:`_MAPS_ALONE`, which that part does not ask."""

MOST_LAYERS = 6
"""Layers of a map: two maps of 6 layers x 3 spans are 36 cells, each patched in every pair."""

_MORE_TOKENS = 32
"""What an instruction and an answer add to a prompt, about: longer ones are measured again."""

_MAPS_ALONE = ("mentions", "paraphrases")
"""Arms of the control that only the maps, which are of more items, are read beside."""


def parts_of(asked: DemoAsked, n_layers: int) -> dict[str, Part]:
    """What each study asks of a model with so many layers."""
    texts = asked.config.texts
    options: dict[str, dict[str, Any]] = {
        "patch": {
            "texts": texts,
            "rotate": True,
            "layers": spread_layers(n_layers),
            "fit_length": asked.config.fit_length,
        },
        "lens": {"texts": texts},
        "project": {"texts": texts},
        "attention": {"texts": texts, "rotate": True},
    }
    questions: dict[str, Any] = {
        name: _question(asked, name, **own) for name, own in options.items()
    }
    questions["project"] = ProjectQuestion(**vars(questions["project"]), given=None)
    questions["behaviour"] = asked.behaviour()
    return {name: Part(study, questions[name]) for name, study in STUDIES.items()}


def _question(asked: DemoAsked, study: str, **options: Any) -> Question[Any]:
    items = asked.inside if study == "patch" else asked.inside[: asked.config.read]
    left_out = () if study == "patch" else _MAPS_ALONE
    specs = {name: spec for name, spec in asked.specs.items() if name not in left_out}
    config = asked.config_of(STUDIES[study].Config, limit=len(items), **options)
    return Question(config, items, specs, asked.data_hashes)


@dataclass(frozen=True)
class DemoBench:
    """The studies on a model, and the bench of each."""

    parts: Mapping[str, Part]
    benches: Mapping[str, Any]


class Demo:
    """See :mod:`analyses.demo`."""

    name = "demo"
    Config = DemoConfig

    def ask(self, config: DemoConfig, *, progress: bool = True) -> DemoAsked:
        """See :mod:`analyses.demo.asked`."""
        return ask(config, progress=progress)

    def bench(self, asked: DemoAsked, lab: Lab) -> DemoBench:
        """The bench of every study."""
        _measure_packing(lab.model, asked)
        parts = parts_of(asked, lab.model.cfg.n_layers)
        return DemoBench(parts, bench_parts(parts, lab))

    def steps(self, asked: DemoAsked, bench: DemoBench) -> Steps:
        """The studies' steps, the control's other arms, identities of one of the patched pairs."""
        given = shared_readings(asked.config)
        yield from part_steps(bench.parts, bench.benches, given=given)
        patch: PatchBench = bench.benches["patch"]
        items = PATCHED in given and [
            item for item, (_, sides) in patch.sides.items() if _arms_alone(sides)
        ]
        if items:
            yield Step(ARMS, items, key=partial(item_key, patch), compute=score_arms)
        pair = _first_pair(bench)
        texts = (pair.source.text, pair.destination.text)
        yield Step("identities", [texts], key=list, compute=measure_first_pair)

    def read(self, asked: DemoAsked, saved: Saved) -> DemoResult:
        """The studies' results."""
        scores = saved.table("behaviour-scores")
        shared = shared_readings(asked.config)
        given = dict.fromkeys(shared, _readings(scores, asked.inside[: asked.config.read]))
        if PATCHED in given:
            own = in_turn(_readings(scores, asked.inside), asked.inside)
            arms = [saved.table(ARMS)] if _has_arms(asked, set(own["item"])) else []
            given[PATCHED] = pd.concat([own, *arms], ignore_index=True)
        results = over_studies(read_results(parts_of(asked, saved.card.n_layers), saved, given))
        identities = saved.table("identities")
        return DemoResult(
            asked.config,
            saved.card,
            asked.items,
            **results,
            identities=identities,
            report=saved.report,
        )

    def tables(self, result: DemoResult) -> Mapping[str, pd.DataFrame]:
        """The studies' tables, each named after its study."""
        return derived_tables(STUDIES, vars(result))

    def story(self, result: DemoResult) -> Story:
        """Some sections of each study, in a reader's order."""
        return story.tell(
            result, {name: study.story(getattr(result, name)) for name, study in STUDIES.items()}
        )


def shared_readings(config: DemoConfig) -> tuple[str, ...]:
    """Those of :data:`READINGS` that the behaviour part has: fitted placebos are the maps' alone."""
    return READINGS if config.fit_length is None else READINGS[1:]


def _measure_packing(model: TransformerBridge, asked: DemoAsked) -> None:
    """Once for the longest prompts of all studies, not again for every longer one that comes up."""
    bank = TextBank(model.tokenizer, conditions=asked.specs, n_ctx=model.cfg.n_ctx)
    clean = [condition_prompt(model, item, *bank.texts("clean", item, 1)) for item in asked.items]
    supports_trees(model, max(map(len, clean)) + _MORE_TOKENS)


def score_arms(bench: DemoBench, item: str) -> pd.DataFrame:
    """The metrics of one patched item under the arms that the behaviour part does not ask."""
    patch: PatchBench = bench.benches["patch"]
    asked, sides = patch.sides[item]
    return score_sides(patch.model, asked, _arms_alone(sides), placement=patch.config.placement)


def _has_arms(asked: DemoAsked, patched: Container[str]) -> bool:
    """Whether some patched item was asked an arm of :data:`_MAPS_ALONE`."""
    items = [item for item in asked.inside if item.id in patched]
    arms = control_arms(asked.specs, items, beside=INSTRUCTED)
    return any(name in _MAPS_ALONE for name in arms)


def _arms_alone(sides: Sides) -> Sides:
    return {name: both for name, both in sides.items() if name in _MAPS_ALONE}


def in_turn(readings: pd.DataFrame, items: Sequence[ChoiceItem]) -> pd.DataFrame:
    """Of each item's readings those of its own wording, which its number chooses, as maps have it.

    Without the items that have no margin: they are not patched.
    """
    numbers = readings["item"].map({item.id: number for number, item in enumerate(items)})
    n_wordings = readings.groupby("condition")["slot"].transform("max") + 1
    rows = readings[(readings["slot"] == numbers % n_wordings) & readings["margin"].notna()]
    return rows.reset_index(drop=True)


def measure_first_pair(bench: DemoBench, texts: tuple[str, str]) -> pd.DataFrame:
    """Identities on the first pair of the instruction's map, whose texts are the unit."""
    return measure_identities(bench.benches["patch"].model, _first_pair(bench))


def _first_pair(bench: DemoBench) -> PromptPair:
    pairs: Mapping[Any, PromptPair] = bench.benches["patch"].arms[INSTRUCTED]
    return next(iter(pairs.values()))


def spread_layers(n_layers: int, at_most: int = MOST_LAYERS) -> tuple[int, ...]:
    """Evenly spread layers, the first and the last included, at most so many."""
    n = min(n_layers, at_most)
    return tuple(sorted({round(k * (n_layers - 1) / max(n - 1, 1)) for k in range(n)}))


def _readings(scores: pd.DataFrame, items: Sequence[ChoiceItem]) -> pd.DataFrame:
    """Rows of :func:`analyses.totals.score_sides` from those of the behaviour part."""
    here = scores[scores["item"].isin([item.id for item in items])]
    sides = []
    for condition in (INSTRUCTED, CONTROL):
        placebos = (here["condition"] == "placebo") & (here["control_of"] == condition)
        for side, chosen in ((TREATED, here["condition"] == condition), (CONTROLS, placebos)):
            rows = here[chosen].rename(columns={"context_condition": "context"})
            labels = {"condition": condition, "side": side, "against": "placebo"}
            sides.append(rows.assign(**labels)[[*SIDE_LABELS, *METRICS]])
    return pd.concat(sides, ignore_index=True)
