"""``repr`` of what the library gives: one screen at most, never a tensor's or a table's numbers."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import interp
from analyses.registry import STUDIES, load_config_class
from interp.activations import read_attention
from interp.behaviour import generate
from interp.display import short_repr
from tests.test_fuzz_api import ROOMS

HEAVY = re.compile(r"Tensor|Float\[|Int\[|Bool\[|NDArray|DataFrame|FloatArray|Vectors")
SCREEN = 1200


def result_classes() -> Iterator[type]:
    """Public dataclasses of this library that hold tensors, arrays or tables."""
    for room in (*ROOMS, "circuits", "known", "superficiality"):
        module = importlib.import_module(f"interp.{room}")
        for name in module.__all__:
            found = getattr(module, name)
            ours = isinstance(found, type) and found.__module__.startswith("interp.")
            if ours and dataclasses.is_dataclass(found):
                shown = [str(f.type) for f in dataclasses.fields(found) if f.repr]
                if any(HEAVY.search(kind) for kind in shown):
                    yield found


@pytest.mark.parametrize("kind", sorted(set(result_classes()), key=str), ids=lambda k: k.__name__)
def test_a_class_with_tensors_or_tables_has_a_repr_of_its_own(kind: type) -> None:
    made_by = Path(kind.__repr__.__code__.co_filename).name
    assert made_by not in ("dataclasses.py", "reprlib.py"), f"{kind}: give it __repr__ = short_repr"


def study_results() -> list[type]:
    """The results of the studies: what ``run`` and ``load`` give."""
    found = []
    for study in STUDIES:
        room = importlib.import_module(
            load_config_class(study).__module__.rpartition(".")[0] + ".tables"
        )
        ours = [kind for name, kind in vars(room).items() if name.endswith("Result")]
        found += [kind for kind in ours if kind.__module__ == room.__name__]
    return sorted(set(found), key=str)


@pytest.mark.parametrize("kind", study_results(), ids=lambda kind: kind.__name__)
def test_the_result_of_a_study_has_a_repr_of_its_own(kind: type) -> None:
    assert kind.__repr__ is short_repr


def test_classes_are_found() -> None:
    assert {"SweepResult", "Direction", "AttentionPatterns", "LensTrajectory"} <= {
        kind.__name__ for kind in result_classes()
    }


def test_what_a_session_gives_prints_on_one_screen(tiny_model: Any) -> None:
    model = tiny_model
    texts = [
        interp.data.LabelledText(f"It {verb} kind {k}.", label, f"g{k}", "own")
        for k in range(6)
        for verb, label in (("was", 1), ("was not", 0))
    ]
    item = interp.data.bundled_choices()[0]
    pair = interp.make_pair(model, item, "instructed")
    stack = interp.fit_direction(model, texts, n_folds=2, n_shuffles=3, progress=False)
    results = [
        pair,
        pair.source,
        pair.alignment,
        pair.options,
        stack,
        stack[1],
        interp.project(model, pair, stack, progress=False),
        interp.lens_trajectory(model, pair, progress=False),
        interp.sweep(model, pair, progress=False),
        interp.score_options(model, [item], n_texts=1, progress=False),
        read_attention(model, pair),
        generate(model, "They met")[0],
    ]
    for result in results:
        shown = repr(result)
        assert len(shown) <= SCREEN, (type(result), len(shown))
        assert len(shown.splitlines()) <= 25
        assert "tensor(" not in shown
        assert "array(" not in shown


def test_a_short_repr_names_shapes_and_few_members() -> None:
    @dataclasses.dataclass(frozen=True)
    class Made:
        values: torch.Tensor
        frame: pd.DataFrame
        names: tuple[str, ...]
        few: tuple[int, ...]
        by_name: dict[str, int]
        text: str

        __repr__ = short_repr

    made = Made(
        torch.zeros(30, 9), pd.DataFrame({"a": range(540)}), tuple("abcdefghijkl"), (1, 2),
        dict.fromkeys("abcdefghij", 1), "x" * 400,
    )  # fmt: skip
    assert repr(made) == (
        "Made(values=float32[30, 9], frame=DataFrame[540 rows, 1 columns], names=tuple of 12, "
        "few=(1, 2), by_name={a, b, c, d, e, f, g, h, ... of 10}, text='" + "x" * 58 + "…)"
    )
