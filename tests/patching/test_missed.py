"""The rule of a screened sweep, on grids whose effects are drawn from its model and from others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.patching.missed import ScreenedGrid
from interp.patching.screen import first_block


def drawn_grid(
    seed: int, *, n_layers: int = 12, n_columns: int = 10, shared: float = 0.0, noise: float = 0.3
) -> tuple[ScreenedGrid, np.ndarray]:
    """Estimates with a few large ones, and effects that deviate from them."""
    generator = np.random.default_rng(seed)
    layer, column = (a.ravel() for a in np.indices((n_layers, n_columns)))
    estimate = generator.standard_t(3, size=len(layer)) * 0.3
    common = generator.normal(size=n_columns)[column]
    own = generator.normal(size=len(layer))
    size = noise * np.where(layer < 2, 2.0, 0.3)
    effect = estimate + size * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
    return ScreenedGrid(layer, column, estimate, np.ones(len(layer))), effect


def screened(
    grid: ScreenedGrid, effect: np.ndarray, k: int, recall: float, seed: int
) -> np.ndarray:
    """The loop of a screened sweep without a model: which cells it runs."""
    done = np.zeros(len(effect), dtype=bool)
    chosen = first_block(grid, k, seed)
    while True:
        done[chosen] = True
        if done.all():
            return done
        chances = grid.chances(np.where(done, effect, np.nan), k)
        if chances.sum() <= (1 - recall) * k:
            return done
        likely = np.argsort(-chances)[:k]
        chosen = likely[~done[likely]]


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
def test_the_stated_recall_is_reached_without_running_everything(shared: float) -> None:
    recalls, shares = [], []
    for seed in range(40):
        grid, effect = drawn_grid(seed, shared=shared)
        done = screened(grid, effect, 10, 0.9, seed)
        top = np.argsort(-np.abs(effect))[:10]
        recalls.append(done[top].mean())
        shares.append(done.mean())
    assert np.mean(recalls) >= 0.9 - 0.03  # two standard errors of 40 grids
    assert np.mean(shares) < 0.6


def test_useless_estimates_are_not_believed() -> None:
    """Effects that have nothing to do with the estimates: nearly all cells are run."""
    recalls = []
    for seed in range(20):
        grid, _ = drawn_grid(seed)
        effect = np.random.default_rng(seed + 1000).normal(size=len(grid.layer))
        done = screened(grid, effect, 10, 0.9, seed)
        recalls.append(done[np.argsort(-np.abs(effect))[:10]].mean())
    assert np.mean(recalls) >= 0.9


def test_exact_estimates_need_few_cells() -> None:
    grid, _ = drawn_grid(0)
    done = screened(grid, grid.estimate.copy(), 10, 0.95, 0)
    assert done.sum() < 0.5 * len(done)
    assert done[np.argsort(-np.abs(grid.estimate))[:10]].all()


def test_a_column_that_was_run_tells_of_its_neighbours() -> None:
    """Effects constant along columns and estimates of 0: cells between two large ones are likely."""
    layer, column = (a.ravel() for a in np.indices((9, 8)))
    grid = ScreenedGrid(layer, column, np.zeros(len(layer)), np.ones(len(layer)))
    effect = np.where(column == 3, 1.0, 0.01 * np.cos(layer + column))
    run = np.isin(layer, (0, 4, 8))
    chances = grid.chances(np.where(run, effect, np.nan), 3)
    between = (column == 3) & ~run
    assert chances[between].min() > 10 * chances[(column != 3) & ~run].max()


def test_cells_of_large_curvature_are_likelier_to_be_missed() -> None:
    """Of two halves with the same estimates one deviates ten times as much."""
    grid, _ = drawn_grid(0)
    generator = np.random.default_rng(7)
    bent = grid.column % 2 == 0
    size = np.where(bent, 0.5, 0.05)
    effect = grid.estimate + size * generator.normal(size=len(size))
    known = replace(grid, curvature=size**2)
    run = generator.random(len(size)) < 0.3
    chances = known.chances(np.where(run, effect, np.nan), 10)
    small = ~run & (np.abs(grid.estimate) < 0.2)
    assert chances[bent & small].mean() > 5 * chances[~bent & small].mean()


def test_the_random_cells_of_a_screen_see_every_layer_and_every_column() -> None:
    grid, _ = drawn_grid(0)
    blind = replace(grid, estimate=np.where(grid.layer == 0, 1.0 + grid.column, 0.0))
    block = first_block(blind, 5, 0)  # ten cells of largest estimate are all of the first layer
    rest = block[grid.layer[block] > 0]
    assert set(grid.layer[block]) == set(grid.layer)
    assert len(rest) == 11  # one of each other layer
    assert len(set(grid.column[rest])) >= 9


def test_a_single_cell_without_estimate_or_curvature_is_the_stated_limit() -> None:
    """What nothing hints at is found by the random cells or not at all."""
    grid, _ = drawn_grid(0)
    effect = grid.estimate.copy()
    hidden = int(np.argmin(np.abs(grid.estimate)))
    effect[hidden] = 5.0
    blind = replace(
        grid, estimate=np.where(effect == 5.0, 0.0, effect), curvature=1.0 * (effect != 5.0)
    )
    assert not screened(blind, effect, 10, 0.95, 0)[hidden]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(1e-3, 1e3))
def test_chances_are_probabilities_of_cells_not_run_and_have_no_unit(
    seed: int, k: int, unit: float
) -> None:
    grid, effect = drawn_grid(seed, n_layers=5, n_columns=5)
    known = np.where(np.random.default_rng(seed).random(len(effect)) < 0.6, effect, np.nan)
    chances = grid.chances(known, k)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (chances[~np.isnan(known)] == 0).all()
    scaled = ScreenedGrid(grid.layer, grid.column, unit * grid.estimate, unit**2 * grid.curvature)
    np.testing.assert_allclose(scaled.chances(unit * known, k), chances, atol=1e-6)
