"""What the studies claim of a draw: asked of their own claims, families and tables.

A claim is an effect whose verdict is "effect", or a layer, head, part or cell that its report names from
a max-t family. Figures and sentences are not made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pandas as pd

from analyses.attention.tables import head_table
from analyses.behaviour.claims import category_claims, effect_claims, rank_claims
from analyses.benchmarks.nulls.draws import Draw, PoolRows
from analyses.config import INSTRUCTED, read_config
from analyses.demo.config import DemoConfig
from analyses.demo.study import STUDIES
from analyses.lens.story import clear_layers
from analyses.lens.tables import KINDS as LENS_KINDS
from analyses.lens.tables import with_clear
from analyses.patch.reading import surviving_cells
from analyses.project.tables import KINDS as PROJECT_KINDS
from analyses.project.tables import findings
from analyses.report.claims import Claim, corrected_for
from analyses.report.verdicts import untested
from analyses.totals import claim_of, totals_of
from interp.behaviour import prompt_tables
from interp.behaviour.scores import OptionScores
from interp.directions.contrast_tables import contrast_table, contributor_table
from interp.lens import layer_effects
from interp.stats import ALPHA, interval_of

Found: TypeAlias = tuple[str, str]
"""The kind of a claim, and what it names: ``("layer", "23")``."""

DEMO = "demo"
MAP = "the map, were it read"
"""Cells of the map whether or not there is an effect to localise: no report, but a family of patch's."""


def claims_of(pool: PoolRows, draw: Draw) -> dict[str, list[Found]]:
    """The claims of every report about a draw, by the command's name."""
    return {
        "behave": [*_behave(pool.scores(draw))],
        "lens": [*_total(_answer(pool, draw, LENS_KINDS)), *_lens(pool, draw)],
        "project": [
            *_total(_answer(pool, draw, PROJECT_KINDS)),
            *_project(pool, draw, ("cells", "parts")),
        ],
        "patch": [*_patch(pool, draw)],
        DEMO: [*_demo(pool, draw)],
        MAP: [("cell", name) for name in _cells(pool, draw)],
    }


def _demo(pool: PoolRows, draw: Draw) -> Iterator[Found]:
    """What the demo shows, with every p corrected for the number of its studies as well."""
    config, k = read_config(DemoConfig), len(STUDIES)
    inside, read = draw.first(config.pairs), draw.first(config.read)
    effects = prompt_tables.effects(_without_clean(pool.scores(draw)))
    yield from _effects("behave: effect", effect_claims(corrected_for(effects, k)))
    yield from (("patch: " + kind, name) for kind, name in _patch(pool, inside, k))
    yield from (("lens: " + kind, name) for kind, name in _lens(pool, read, k))
    yield from (("project: " + kind, name) for kind, name in _project(pool, read, ("cells",), k))
    heads = corrected_for(head_table(pool.attention(read), INSTRUCTED, pool.plan.seed), k)
    named = heads[(heads["p_corrected"] < ALPHA) & (heads["estimate"] > 0)]
    if not untested(interval_of(heads.iloc[0])):
        yield from (("attention: head", f"L{r.layer}H{r.head}") for r in named.itertuples())


def _behave(scores: OptionScores) -> Iterator[Found]:
    effects = prompt_tables.effects(_without_clean(scores))
    yield from _effects("effect", effect_claims(effects))
    yield from _effects("rank", rank_claims(prompt_tables.rank_gain(scores)))
    yield from _effects("category", category_claims(prompt_tables.categories(scores)))


def _effects(kind: str, claims: dict[tuple[str, ...], Claim]) -> Iterator[Found]:
    yield from ((kind, ", ".join(key)) for key, claim in claims.items() if claim.is_effect)


def _without_clean(scores: OptionScores) -> OptionScores:
    """Contrasts with the clean prompt are no claims, and cost as much."""
    frame = scores.frame[scores.frame["condition"] != "clean"]
    return OptionScores(frame, scores.card)


def _answer(pool: PoolRows, draw: Draw, k: int, *, rotate: bool = False) -> Claim:
    """The effect on the answer that a study of the inside stands beside; p corrected for ``k``."""
    totals = totals_of(pool.readings(draw, rotate=rotate))
    return claim_of(corrected_for(totals, k), INSTRUCTED)


def _total(answer: Claim) -> list[Found]:
    return [("effect", "the answer")] if answer.is_effect else []


def _lens(pool: PoolRows, draw: Draw, k: int = 1) -> Iterator[Found]:
    """Layers, where the effect at the output is not metric-dependent: then none is named."""
    k *= LENS_KINDS
    if _answer(pool, draw, k).verdict == "metric-dependent":
        return
    effects = layer_effects(pool.lens(draw), INSTRUCTED, seed=pool.plan.seed)
    effects = with_clear(corrected_for(effects, k))
    yield from (("layer", str(n)) for n in effects.loc[clear_layers(effects), "layer"])


def _project(pool: PoolRows, draw: Draw, families: tuple[str, ...], k: int = 1) -> Iterator[Found]:
    """Layers at the direction's site, and parts at its best layer."""
    sample, k = pool.sample(draw), k * PROJECT_KINDS
    if "cells" in families:
        rows = _sure(corrected_for(contrast_table(sample), k))
        layers = rows.loc[rows["component"] == sample.direction.site, "layer"]
        yield from (("layer", str(n)) for n in layers)
    if "parts" in families:
        parts = _sure(corrected_for(contributor_table(sample), k))
        yield from (("part", str(name)) for name in parts["label"])


def _sure(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[np.array(findings(rows), dtype=bool)]


def _patch(pool: PoolRows, draw: Draw, k: int = 1) -> Iterator[Found]:
    """The effect to localise; cells where there is one."""
    found = _total(_answer(pool, draw, k, rotate=True))
    yield from found
    if found:
        yield from (("cell", name) for name in _cells(pool, draw))


def _cells(pool: PoolRows, draw: Draw) -> list[str]:
    result = pool.map(draw)
    rows = result.index_df[surviving_cells(result, 1)].to_dict("records")
    return [f"L{row['layer']} {row['span']}" for row in rows]
