"""The notebooks run from top to bottom, and carry their outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS] == [
        "01_first_look.ipynb",
        "02_where_it_acts.ipynb",
        "03_the_morality_direction.ipynb",
        "04_when_an_instruction_helps.ipynb",
        "05_your_own_model_and_data.ipynb",
        "06_from_transformerlens.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_carries_outputs_without_errors(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert all(o.output_type != "error" for c in cells for o in c.outputs)
    outputs = [o.get("data", {}) for c in cells for o in c.outputs]
    figures = [data for data in outputs if "application/vnd.plotly.v1+json" in data]
    assert len(figures) >= 5
    # a static page shows the PNG; HTML with a script would stand before it
    assert all("image/png" in data and "text/html" not in data for data in figures)
    assert "renderers" not in "".join(cell.source for cell in cells)


@pytest.mark.model
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    here = tmp_path / "notebooks"
    here.mkdir()
    shutil.copytree(path.parents[1] / "docs" / "rows", tmp_path / "docs" / "rows")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(here)}}
    )
    client.execute()
    if path.stem == "01_first_look":
        assert (here / "attention.html").stat().st_size > 100_000
