"""The benchmark of estimates: its numbers against plain formulas, its pairs, and that it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.benchmarks import attribution as bench
from interp.errors import InterpError
from interp.patching import attribute, sweep
from tests.patching.test_attribution import equal_length_pair

SITES: list[Any] = ["mlp_out", "q"]


def test_agreement_is_of_sizes_and_order() -> None:
    exact = np.arange(-30.0, 31.0)
    same = bench.agreement(exact, 0.5 * exact)
    assert same == pytest.approx({"pearson": 1, "spearman": 1, "slope": 0.5, "recall": 1})
    turned = bench.agreement(exact, -exact)
    assert turned["pearson"] == pytest.approx(-1)
    assert turned["recall"] == 1  # of the sizes
    blind = np.where(np.abs(exact) > 20, 0.0, exact)
    assert bench.agreement(exact, blind)["recall"] == 0
    few = bench.agreement(np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 4.0]))
    assert few["recall"] == 1


def test_a_screen_finds_what_it_ran() -> None:
    exact = np.arange(1.0, 101.0)
    found = np.where(exact > 82, exact, np.nan)
    assert bench.screened_recall(exact, found) == {"recall": 0.9, "run": 0.18}


def test_a_row_holds_the_correlation_of_that_pair_and_site(tiny_model: Any) -> None:
    pair = equal_length_pair(tiny_model)
    rows = pd.DataFrame(bench.pair_rows(tiny_model, pair, SITES)).set_index(["site", "method"])
    exact = sweep(tiny_model, pair, site="mlp_out", progress=False).effect()[..., 0].numpy()
    maps = attribute(tiny_model, pair, sites=["mlp_out"], method="relp", progress=False)
    found = maps["mlp_out"].effect()[..., 0].numpy()
    # of the last layer only the last position is open
    where = np.ones_like(exact, dtype=bool)
    where[-1, :-1] = False
    row = rows.loc[("mlp_out", "RelP")]
    assert row["cells"] == where.sum() == rows.loc[("mlp_out", "exact"), "forwards"]
    expected = np.corrcoef(exact[where], found[where])[0, 1]
    assert row["pearson"] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(rows.loc[("mlp_out", "exact"), "pearson"])
    assert rows.loc[("mlp_out", "screened"), "recall"] >= 0.9
    assert 0 < rows.loc[("mlp_out", "screened"), "run"] <= 1
    assert (rows.loc["mlp_out"].loc[["exact", "screened"], "faster"] > 0).all()
    assert ("q", "RelP, exact softmax") in rows.index
    assert ("mlp_out", "RelP, exact softmax") not in rows.index


@pytest.mark.parametrize("name", list(bench.METHODS))
@pytest.mark.parametrize("sites", [["q", "k"], ["q", "z"]])
def test_the_cost_is_that_of_the_forwards_and_backwards_run(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch, name: str, sites: list[Any]
) -> None:
    pair = equal_length_pair(tiny_model)
    options = bench.METHODS[name]
    attribute(tiny_model, pair, sites=sites, progress=False, **options)  # what is checked once
    run = {"forwards": 0, "backwards": 0}
    forward, backward = tiny_model.original_model.forward, torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        run["forwards"] += 1
        return forward(*args, **kwargs)

    def counted_backward(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        run["backwards"] += isinstance(inputs, list)  # an activation's slope at 0 is no backward
        return backward(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(tiny_model.original_model, "forward", counted)
    monkeypatch.setattr(torch.autograd, "grad", counted_backward)
    attribute(tiny_model, pair, sites=sites, progress=False, **options)
    assert run["forwards"] + 2 * run["backwards"] == bench.forwards_of(sites, options)


def test_pairs_that_are_written_are_not_run_again(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [equal_length_pair(tiny_model, seed) for seed in (0, 1, 2)]
    monkeypatch.setattr(bench, "pairs_of", lambda model, task, n: pairs[:n])
    kept, said = tmp_path / "rows" / "tiny-bbq.parquet", list[str]()
    options: dict[str, Any] = {"sites": ["mlp_out"], "kept": kept, "report": said.append}
    first = bench.measure(tiny_model, "bbq", n_pairs=2, **options)
    both = bench.measure(tiny_model, "bbq", n_pairs=3, **options)
    assert said == ["bbq, pair 1 of 2", "bbq, pair 2 of 2", "bbq, pair 3 of 3"]
    pd.testing.assert_frame_equal(both[both["pair"] < 2], first)
    again = bench.measure(tiny_model, "bbq", n_pairs=1, **options)
    assert set(again["pair"]) == {0}
    assert len(said) == 3
    table = bench.summary(both)
    assert set(table["method"]) == {"exact", "screened", *list(bench.METHODS)[:3]}
    assert (table["lowest"].dropna() <= table["pearson"].dropna()).all()
    assert (table["pairs"] == 3).all()


def test_a_task_that_is_not_there_is_refused(load_tiny: Callable[..., Any]) -> None:
    with pytest.raises(InterpError, match="no task 'anagrams'; known: bbq, specificity_2, ioi"):
        bench.pairs_of(load_tiny("llama"), "anagrams", 2)
