from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.stats import effect, max_t_of_effects
from interp.stats.max_t import MaxT, max_t
from interp.stats.means import cluster_mean


def arms(seed: int, cells: int = 5, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((cells, 6, n)), generator.standard_normal((cells, 6, n))


def test_every_cell_has_the_estimate_error_and_p_of_its_effect() -> None:
    treated, control = arms(0)
    found = max_t_of_effects(treated, control, np.arange(12) // 2, seed=0)
    alone = effect(treated, control, np.arange(12) // 2)
    np.testing.assert_allclose(found.estimate, alone.estimate)
    np.testing.assert_allclose(found.se, alone.se)
    np.testing.assert_allclose(found.p_raw, alone.p)
    assert found.texts == (6, 6)
    assert (found.p_corrected > found.p_raw).all()


def test_a_family_of_one_is_not_corrected() -> None:
    treated, control = arms(1, cells=1)
    found = max_t_of_effects(treated, control, range(12), seed=0, n_draws=5000)
    assert found.p_corrected[0] == pytest.approx(found.p_raw[0], abs=0.03)
    alone = effect(treated, control, range(12))
    assert found.low[0] == pytest.approx(alone.low[0], rel=0.1)


def test_equal_cells_cost_nothing_and_independent_ones_bonferroni() -> None:
    generator = np.random.default_rng(2)
    one = generator.standard_normal(400) + 0.12
    same = max_t(np.tile(one, (50, 1)), range(400), seed=0, n_draws=4000)
    assert same.p_corrected[0] == pytest.approx(same.p_raw[0], rel=0.25)
    many = generator.standard_normal((50, 400))
    many[0] = one
    apart = max_t(many, range(400), seed=0, n_draws=4000)
    assert apart.p_corrected[0] == pytest.approx(1 - (1 - apart.p_raw[0]) ** 50, rel=0.2)


def test_corrected_p_critical_value_and_simultaneous_interval_say_the_same() -> None:
    generator = np.random.default_rng(3)
    values = generator.standard_normal((40, 30)) + np.linspace(0, 1, 40)[:, None]
    found = max_t(values, range(30), seed=0)
    claimed = found.p_corrected <= found.alpha
    assert 0 < claimed.sum() < 40
    np.testing.assert_array_equal(claimed, np.abs(found.statistic) > found.critical)
    np.testing.assert_array_equal(claimed, (found.low > 0) | (found.high < 0))


def test_without_wordings_it_is_the_t_test_of_the_clusters() -> None:
    values = np.random.default_rng(4).standard_normal((3, 20))
    clusters = np.arange(20) % 7
    found, mean = max_t(values, clusters, seed=0), cluster_mean(values, clusters)
    np.testing.assert_allclose(found.p_raw, mean.p)
    one = max_t(values, clusters, wordings=["only"] * 20, seed=0)
    np.testing.assert_allclose(one.p_raw, mean.p)


def test_a_wording_per_observation_is_counted_once() -> None:
    values = np.random.default_rng(5).standard_normal((3, 15))
    found = max_t(values, range(15), wordings=range(15), seed=0)
    np.testing.assert_allclose(found.se, values.std(1, ddof=1) / np.sqrt(15))
    nearly = max_t(values, range(15), wordings=[0, *range(14)], seed=0)
    np.testing.assert_allclose(nearly.se, found.se, rtol=0.3)


def test_crossed_observations_are_an_arm_against_nothing() -> None:
    table = np.random.default_rng(6).standard_normal((2, 4, 9))
    clusters = np.arange(9) // 3
    order = np.random.default_rng(7).permutation(36)
    found = max_t(
        table.reshape(2, 36)[:, order],
        np.tile(clusters, 4)[order],
        wordings=np.repeat(np.arange(4), 9)[order],
        seed=0,
    )
    expected = max_t_of_effects(table, np.zeros((2, 1, 9)), clusters, seed=0)
    np.testing.assert_allclose(found.se, expected.se)
    np.testing.assert_allclose(found.estimate, expected.estimate)


def test_cells_that_are_zero_constant_or_undefined() -> None:
    values = np.random.default_rng(8).standard_normal((5, 8))
    values[0], values[1], values[2, :3], values[3] = 0.0, 0.5, np.nan, np.nan
    found = max_t(values, range(8), seed=0)
    assert (found.statistic[0], found.p_raw[0], found.p_corrected[0]) == (0.0, 1.0, 1.0)
    assert (found.low[0], found.high[0]) == (0.0, 0.0)
    assert (found.statistic[1], found.p_raw[1]) == (np.inf, 2 / 2**8)
    assert found.n.tolist() == [8, 8, 5, 0, 8]
    assert found.reason[3] == "no defined item"
    assert np.isnan(found.p_corrected[3])
    np.testing.assert_allclose(found.se[2], max_t(values[2:3, 3:], range(5), seed=0).se[0])
    lone = max_t(values[4:], ["a"] * 8, seed=0)
    assert lone.reason[0] == "a single cluster: no test"
    assert np.isnan([lone.p_raw[0], lone.critical[0]]).all()


def test_one_cell_gives_plain_numbers_and_seeds_give_equal_bytes() -> None:
    treated, control = arms(9)
    one = max_t_of_effects(treated[0], control[0], range(12), seed=0)
    assert isinstance(one, MaxT)
    assert isinstance(one.p_corrected, float)
    first, again, other = (
        max_t_of_effects(treated, control, range(12), seed=seed).p_corrected for seed in (1, 1, 2)
    )
    assert first.tobytes() == again.tobytes() != other.tobytes()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_order_of_items_and_wordings_and_scale_do_not_matter(seed: int, scale: float) -> None:
    treated, control = arms(seed, cells=3)
    generator = np.random.default_rng(seed)
    items, rows = generator.permutation(12), generator.permutation(6)
    clusters = np.arange(12) // 2
    found = max_t_of_effects(treated, control, clusters, seed=0)
    other = max_t_of_effects(
        scale * treated[:, rows][..., items], scale * control[..., items], clusters[items], seed=0
    )
    np.testing.assert_allclose(other.p_raw, found.p_raw, rtol=1e-6)
    np.testing.assert_allclose(other.p_corrected, found.p_corrected, atol=0.06)


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(InterpError, match=r"alpha 1\.5"):
        max_t(np.zeros((2, 3)), range(3), seed=0, alpha=1.5)
    with pytest.raises(InterpError, match="2 wording names for 3 items"):
        max_t(np.zeros((2, 3)), range(3), wordings="ab", seed=0)


def test_a_map_of_30_layers_9_heads_112_positions_takes_little_memory() -> None:
    code = """
import resource
import numpy as np
from interp.stats import max_t_of_effects
from interp.stats.max_t import max_t
values = np.random.default_rng(0).standard_normal((30, 9, 112, 60))
clusters, wordings = [k // 2 for k in range(60)], [k % 6 for k in range(60)]
max_t(values[0, 0, :2], clusters, wordings=wordings, seed=0)  # imports
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
max_t(values, clusters, wordings=wordings, seed=0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 500.0
