"""Several studies as one run: each keeps its own code, its tables are prefixed with its name.

parts = {"patch": Part(Patch(), question), "lens": Part(Lens(), question)}
benches = bench_parts(parts, lab)
yield from part_steps(parts, benches)   # in the composed study's steps
results = read_results(parts, saved)    # in its reading: each study's own result
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pandas as pd

from analyses.study import Lab, Saved, Step, Steps, Story, Study, in_part
from interp.viz import Section

AnyStudy = Study[Any, Any, Any, Any]


@dataclass(frozen=True)
class Part:
    """A study of the composition, and what it asks."""

    study: AnyStudy
    asked: Any


Parts = Mapping[str, Part]


def bench_parts(parts: Parts, lab: Lab) -> dict[str, Any]:
    """The bench of every part."""
    return {name: part.study.bench(part.asked, lab) for name, part in parts.items()}


def part_steps(parts: Parts, benches: Mapping[str, Any], *, given: Container[str] = ()) -> Steps:
    """The steps of every part in turn, computed with the part's bench of a composed bench.

    The composed bench holds the parts' as its attribute ``benches``. ``given``: tables that are not
    computed, since :func:`read_results` is given them.
    """
    for name, part in parts.items():
        steps = part.study.steps(part.asked, benches[name])
        step: Step | None = next(steps, None)
        while step is not None:
            own, table = in_part(name, step.table), pd.DataFrame()
            if own not in given:
                compute = partial(_compute_in_part, name, step.compute)
                table = yield replace(step, table=own, compute=compute)
            try:
                step = steps.send(table)
            except StopIteration:
                step = None


def _compute_in_part(
    name: str, compute: Callable[[Any, Any], pd.DataFrame], bench: Any, unit: Any
) -> pd.DataFrame:
    return compute(bench.benches[name], unit)


def read_results(
    parts: Parts, saved: Saved, given: Mapping[str, pd.DataFrame] = MappingProxyType({})
) -> dict[str, Any]:
    """The result of every part; ``given`` tables stand for those that were not computed."""
    return {
        name: part.study.read(part.asked, replace(saved, part=name, given=given))
        for name, part in parts.items()
    }


def derived_tables(
    studies: Mapping[str, AnyStudy], results: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """The derived tables of every study."""
    return {
        in_part(name, table): frame
        for name, study in studies.items()
        for table, frame in study.tables(results[name]).items()
    }


def pick_sections(story: Story, *titles: str) -> list[Section]:
    """Sections of a study's story by their titles; those that it does not have are left out."""
    return [section for title in titles for section in story.sections if section.title == title]
