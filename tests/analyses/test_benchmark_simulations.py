"""The simulations' table: it says what it should, and a tenth of it falls into its bands."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from analyses.benchmarks.simulations.__main__ import DOCUMENT, Result, measure, table
from analyses.benchmarks.simulations.rows import CLUSTERS, KINDS, rows
from analyses.benchmarks.simulations.samples import Draw, arms


def test_every_statistic_is_simulated_at_6_12_and_60_clusters_of_every_kind() -> None:
    known = {(row.statistic, row.sample) for row in rows()}
    for name in ("cluster_mean", "share", "bias score, ambiguous", "correlation"):
        for kind in KINDS:
            for n in CLUSTERS:
                assert (name, f"{n} clusters, {kind}") in known
                assert ("effect", f"6 x 6 wordings, {n} clusters, {kind}") in known
    assert len(known) == len(list(rows()))


def test_a_row_does_not_depend_on_what_ran_before_it() -> None:
    first, again = measure(0, 0.01), measure(0, 0.01)
    assert first == again
    line = table([first]).splitlines()[-1]
    assert line.startswith("| `effect` | 6 x 6 wordings, 6 clusters, gaussian | coverage |")
    assert Result(0, 0.5, 0.01, 100).within((0.93, 0.97)) is False
    assert Result(0, 0.92, 0.01, 100).within((0.93, 0.97)) is True


def test_samples_have_the_components_that_the_page_names() -> None:
    draw = Draw.of(0, "gaussian", 200, "test")
    clusters = draw.clusters()
    treated, control = arms(draw, 200, (6, 6), clusters)
    difference = treated.mean(1) - control.mean(1)
    expected = 0.4**2 * 1.25 + 2 * 0.3**2 / 6
    assert difference.var(1).mean() == pytest.approx(expected, rel=0.05)
    wordings = (treated - treated.mean(1, keepdims=True)).mean(2).var(1, ddof=1).mean()
    assert wordings == pytest.approx(0.15**2 + 0.3**2 / 200, rel=0.1)
    sizes = np.bincount(Draw.of(0, "unbalanced", 60, "test").clusters())
    assert (sizes.min(), sizes.max()) == (1, 12)


def test_the_page_carries_the_table_of_every_row() -> None:
    lines = DOCUMENT.read_text().splitlines()
    for row in rows():
        assert any(line.startswith(f"| `{row.statistic}` | {row.sample} |") for line in lines)


def test_the_simulations_need_no_model() -> None:
    code = (
        "import sys, analyses.benchmarks.simulations.rows; "
        "print({'torch', 'transformer_lens', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(list(rows()))))
def test_a_tenth_of_every_row_falls_into_its_band(index: int) -> None:
    """Up to three standard errors of a tenth, of the band's edge."""
    row = list(rows())[index]
    result = measure(index, 0.1)
    edge = max(row.band[0], 0.01)
    error = max(result.error, (edge * (1 - min(edge, 0.99)) / result.n) ** 0.5)
    assert row.band[0] - 3 * error <= result.share <= row.band[1] + 3 * error
