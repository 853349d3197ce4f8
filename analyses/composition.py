"""Several studies as one run: each keeps its own code, its tables are prefixed with its name.

parts = {"patch": Part(Patch(), question_of_the_patch), "lens": Part(Lens(), ...)}
benches = bench_parts(parts, lab)
yield from part_steps(parts, benches)          # in the composed study's steps
results = read_results(parts, saved)           # in its reading: each study's own result
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from analyses.study import Lab, Saved, Step, Steps, Study, in_part


@dataclass(frozen=True)
class Part:
    """A study of the composition, and what it asks."""

    study: Study[Any, Any, Any, Any]
    asked: Any


Parts = Mapping[str, Part]
Benches = Mapping[str, Any]


def bench_parts(parts: Parts, lab: Lab) -> dict[str, Any]:
    """The bench of every part."""
    return {name: part.study.bench(part.asked, lab) for name, part in parts.items()}


def part_steps(parts: Parts, benches: Benches) -> Steps:
    """The steps of every part in turn; their units are computed with the composed study's benches."""
    for name, part in parts.items():
        steps = part.study.steps(part.asked, benches[name])
        step: Step | None = next(steps, None)
        while step is not None:
            compute = partial(_compute_in_part, name, step.compute)
            table = yield replace(step, table=in_part(name, step.table), compute=compute)
            try:
                step = steps.send(table)
            except StopIteration:
                step = None


def _compute_in_part(name: str, compute: Any, benches: Benches, unit: Any) -> pd.DataFrame:
    frame: pd.DataFrame = compute(benches[name], unit)
    return frame


def read_results(parts: Parts, saved: Saved) -> dict[str, Any]:
    """The result of every part."""
    return {
        name: part.study.read(part.asked, replace(saved, part=name)) for name, part in parts.items()
    }


def derived_tables(parts: Parts, results: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The derived tables of every part."""
    return {
        in_part(name, table): frame
        for name, part in parts.items()
        for table, frame in part.study.tables(results[name]).items()
    }
