"""Finished runs: any dataclass of the library's results, with code that reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import interp
from interp.errors import InterpError
from interp.explore.saved import saved_views
from interp.patching import SweepResult
from tests.explore.test_explorer import executed, shown


@dataclass(frozen=True)
class Patching:
    """As an analysis's result: maps by (condition, site), tables, a path."""

    results: dict[tuple[str, str], SweepResult]
    totals: pd.DataFrame
    report: Path

    @classmethod
    def made(cls) -> Patching:
        rows = [
            {
                "metric": "margin", "site": "resid_pre", "layer": str(layer), "span": span,
                "pair": f"q{pair}", "cluster": str(pair % 3), "wording": str(pair // 3),
                "value": 0.1 * layer + 0.01 * pair, "destination": 0.0, "source": 1.0,
                "effect": 0.1 * layer + 0.01 * pair,
            }
            for layer in range(3) for span in ("instruction", "template") for pair in range(6)
        ]  # fmt: skip
        result = SweepResult.from_dataframe(
            pd.DataFrame(rows), axis_names=["layer", "span"], title="instructed -> placebo"
        )
        return cls({("instructed", "resid_pre"): result}, pd.DataFrame(), Path("report.html"))


@dataclass(frozen=True)
class Composed:
    """As a composition of analyses."""

    patch: Patching
    items: tuple[str, ...] = ("q0",)


def test_maps_are_found_also_inside_a_composition() -> None:
    (view,) = saved_views(Composed(Patching.made()))
    assert view.title == "instructed -> placebo"
    assert view.reached == "result.patch.results[('instructed', 'resid_pre')]"
    assert view.is_map


def test_the_code_of_a_saved_view_makes_it_again() -> None:
    result = Composed(Patching.made())
    (view,) = saved_views(result)
    drawn = view.draw()
    assert shown(executed(drawn.code, result=result)) == shown(drawn.figure)
    cell = view.draw_cell(2, 1)
    assert shown(executed(cell.code, result=result)) == shown(cell.figure)
    assert cell.said.startswith("L2 template: mean effect 0.225 [")
    assert "6 pairs, 3 clusters" in cell.said
    with pytest.raises(InterpError, match="no cell 3, 0"):
        view.draw_cell(3, 0)


def test_a_lens_scores_and_directions_are_shown_too(tiny_model: Any) -> None:
    from interp.data import LabelledText
    from tests.explore.test_explorer import ITEMS

    texts = [
        LabelledText(f"It {verb} kind {k}.", label, f"g{k}", "own")
        for k in range(4)
        for verb, label in (("was", 1), ("was not", 0))
    ]

    @dataclass
    class Several:
        scores: Any
        lens: Any
        trajectory: Any
        direction: Any
        projections: Any

    stack = interp.fit_direction(tiny_model, texts, n_folds=2, n_shuffles=3, progress=False)
    pair = interp.make_pair(tiny_model, ITEMS[0], "instructed")
    result = Several(
        interp.score_options(tiny_model, ITEMS, n_texts=1, n_control_texts=1, progress=False),
        interp.lens.lens_conditions(
            tiny_model, ITEMS[:1], n_texts=1, n_control_texts=1, progress=False
        ),
        interp.lens_trajectory(tiny_model, pair, progress=False),
        stack,
        interp.project(tiny_model, pair, stack, progress=False),
    )
    views = saved_views(result)
    assert [view.title for view in views] == list(vars(result))
    for view in views:
        drawn = view.draw()
        assert shown(executed(drawn.code, result=result)) == shown(drawn.figure)


def test_without_a_model_nothing_computes_and_nothing_is_chosen() -> None:
    explorer = interp.explore(Patching.made())
    assert not explorer.live
    assert "without a model" in repr(explorer)
    with pytest.raises(InterpError, match=r"needs the model: interp.explore\(model, items\)"):
        explorer.draw("options")
    with pytest.raises(InterpError, match="needs the model"):
        explorer.choose(item=1)
    explorer.close()
    assert explorer.closed
