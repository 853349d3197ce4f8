"""Figures hold the numbers of the committed rows, once for white pages and once for dark ones."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest

from analyses.tables import figures
from analyses.tables.figures import DRAWINGS, FIGURES, SUFFIXES, darkened, digest_of, is_current
from analyses.tables.runs import RUNS


def drawn(*y: float, colour: str = "red") -> go.Figure:
    return go.Figure(go.Scatter(x=[0, 1], y=y, marker_color=colour, marker_size=9))


def test_a_digest_is_of_the_numbers_alone() -> None:
    assert digest_of(drawn(0.1, 2)) == digest_of(drawn(0.1 + 1e-9, 2, colour="blue"))
    assert digest_of(drawn(0.1, 2)) != digest_of(drawn(0.1, 2.01))
    error = drawn(0.1, 2).update_traces(error_y={"array": [1, 1]})
    assert digest_of(error) != digest_of(drawn(0.1, 2))


def test_a_dark_page_has_other_ink_and_the_same_map() -> None:
    svg = "fill: rgb(34, 34, 34); stroke: rgb(255, 255, 255); fill: rgb(28, 28, 28)"
    assert darkened(svg) == (
        "fill: rgb(228, 228, 228); stroke: rgb(23, 25, 28); fill: rgb(28, 28, 28)"
    )


def test_every_figure_is_committed_twice_and_of_a_committed_run() -> None:
    names = {f"{name}{suffix}" for name in DRAWINGS for suffix in SUFFIXES.values()}
    assert {path.name for path in FIGURES.iterdir()} == names
    assert {one.run for one in DRAWINGS.values()} <= set(RUNS)


@pytest.mark.browser
def test_a_written_figure_is_current_until_a_number_changes(tmp_path: Path) -> None:
    figures.write(drawn(1, 2), "one", tmp_path)
    assert is_current(drawn(1, 2), "one", tmp_path)
    assert not is_current(drawn(1, 3), "one", tmp_path)
    (tmp_path / "one-dark.svg").unlink()
    assert not is_current(drawn(1, 2), "one", tmp_path)


@pytest.mark.slow
@pytest.mark.dataset
@pytest.mark.parametrize("name", DRAWINGS)
def test_figures_show_what_the_rows_give(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = figures.main(["--check", name])
    assert (status, capsys.readouterr().out) == (0, "")
