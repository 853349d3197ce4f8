"""The figures of README and docs, drawn of the committed rows: ``python -m analyses.tables.figures``.

Each is an SVG in ``docs/figures``, once for white pages and once for dark ones, whose colours are
exchanged one for one. It takes seconds to minutes, Chromium, and no model. A figure's numbers are
written into its file as a digest, so that ``--check`` finds one that no longer shows what the rows give
without drawing it again.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analyses.behaviour.claims import with_verdicts
from analyses.demo.tables import DemoResult
from analyses.direction.tables import DirectionResult
from analyses.registry import load_study
from analyses.tables.runs import ROWS, RUNS, Kept
from interp import viz
from interp.behaviour import prompt_tables
from interp.patching import SweepResult
from interp.stats import ALPHA
from interp.viz.theme import apply_style, wrap_label

FIGURES = ROWS.parent / "figures"
"""Where the figures are committed."""

WIDTH = 900
SUFFIXES = {"light": ".svg", "dark": "-dark.svg"}

_DARK = {
    "#222222": "#e4e4e4",
    "#6b6b6b": "#a6a6a6",
    "#c9c9c9": "#5c5f63",
    "#ececec": "#34373b",
    "#f4f4f4": "#2b2e32",
    "#ffffff": "#17191c",
    "#5f6368": "#a0a5ab",
    "#0072b2": "#4aa3df",
    "#009e73": "#2fbf95",
    "#882255": "#d46a9b",
    "#117733": "#4caf6d",
}
"""What stands for a colour on a dark page; what is not here is seen on both."""

_ON_MAP, _ON_DARK_CELL = "#1c1c1c", "#fefefe"  # written on a map's cells, which keep their colours
_DIGEST = re.compile(r"<!-- numbers: (?P<digest>[0-9a-f]{16}) -->")


@dataclass(frozen=True)
class Drawing:
    """A figure: the run whose rows it shows, and how it is drawn of them."""

    run: str
    draw: Callable[[Kept], go.Figure]


def where_it_acts(rows: Kept) -> go.Figure:
    """The maps of naming the answer and of the moral instruction on one colour scale."""
    done: DemoResult = _result(rows)
    arms = {"revealing": "naming the answer", "instructed": "a moral instruction"}
    maps = {name: done.patch.results[name, "resid_pre"] for name in arms}
    titles = [f"<b>{said}</b><br>{_whole_effect(maps[name])}" for name, said in arms.items()]
    largest = max(float(np.abs(one.effect_interval().estimate).max()) for one in maps.values())
    figure = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.06)
    for column, result in enumerate(maps.values(), start=1):
        figure.add_trace(_map(result, largest), row=1, col=column)
        figure.update_xaxes(title="tokens whose states are copied", row=1, col=column)
    figure.update_yaxes(type="category")
    figure.update_yaxes(title="layer", row=1, col=1)
    figure.update_yaxes(showticklabels=False, row=1, col=2)
    figure.update_layout(
        coloraxis={
            "colorscale": "RdBu",
            "cmin": -largest,
            "cmax": largest,
            "colorbar": {"title": {"text": "nats"}, "thickness": 12, "outlinewidth": 0},
        }
    )
    n = len(maps["revealing"].pair_labels)
    apply_style(
        figure,
        title="Where does the sentence act?",
        subtitle=(
            "states copied from the instructed run into its placebo's; effect on the margin, nats",
            f"mean of {n} BBQ items; bold: family-wise p < .05 over a map's cells",
        ),
        height=430,
        panels=True,
    )
    figure.update_layout(margin={"t": 128, "l": 60, "r": 20})
    return figure


def answers(rows: Kept) -> go.Figure:
    """What each instruction does to the answers."""
    table = with_verdicts(prompt_tables.effects(rows.scores()))
    return viz.effects_by_condition(table[table["items"] == "ambiguous"])


def handed_on(rows: Kept) -> go.Figure:
    """The spans of the control's map over the layers."""
    done: DemoResult = _result(rows)
    return viz.layer_profile(done.patch.results["revealing", "resid_pre"])


def layers(rows: Kept) -> go.Figure:
    """The lens: at which layer the runs part."""
    done: DemoResult = _result(rows)
    return _of_story("lens", done.lens, "effects")


def null_directions(rows: Kept) -> go.Figure:
    """A learned direction and what it has to beat."""
    done: DirectionResult = _result(rows)
    return viz.direction_nulls(done.fits, "mean_difference", "resid_post")


def over_rounds(rows: Kept) -> go.Figure:
    """Abstentions over the rounds of self-correction."""
    return _of_story(RUNS[rows.name].study, _result(rows), "rounds_p_unknown")


DRAWINGS: dict[str, Drawing] = {
    "where": Drawing("demo", where_it_acts),
    "answers": Drawing("rq1-smollm2-135m", answers),
    "spans": Drawing("demo", handed_on),
    "layers": Drawing("demo", layers),
    "directions": Drawing("direction", null_directions),
    "rounds": Drawing("rounds-revealing", over_rounds),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw or check; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.tables.figures", description="Figures of README and docs."
    )
    parser.add_argument("--check", action="store_true", help="fail where a figure differs")
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(DRAWINGS)}; none: all")
    asked = parser.parse_args(arguments)
    status = 0
    for name in asked.names or DRAWINGS:
        figure = DRAWINGS[name].draw(Kept(DRAWINGS[name].run))
        if not asked.check:
            write(figure, name)
        elif not is_current(figure, name):
            print(f"{name}: differs from its rows; make figures")
            status = 1
    return status


def write(figure: go.Figure, name: str, folder: Path = FIGURES) -> None:
    """Both files of a figure."""
    with tempfile.TemporaryDirectory() as work:
        path = viz.save(figure, Path(work) / "figure.svg", width=WIDTH, scale=1.0)
        drawn = path.read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for variant, suffix in SUFFIXES.items():
        text = darkened(drawn) if variant == "dark" else drawn
        text += f"\n<!-- numbers: {digest_of(figure)} -->\n"
        (folder / f"{name}{suffix}").write_text(text, encoding="utf-8")


def is_current(figure: go.Figure, name: str, folder: Path = FIGURES) -> bool:
    """Whether both files show the numbers of this figure."""
    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES.values()]
    found = [_DIGEST.search(path.read_text(encoding="utf-8")) for path in files if path.is_file()]
    return [one and one["digest"] for one in found] == [digest_of(figure)] * len(files)


def darkened(svg: str) -> str:
    """An SVG with its colours exchanged for those of a dark page."""
    table = {_rgb(light): _rgb(dark) for light, dark in _DARK.items()}
    return re.sub(r"rgb\(\d+, \d+, \d+\)", lambda found: table.get(found[0], found[0]), svg)


def digest_of(figure: go.Figure) -> str:
    """A digest of a figure's numbers to five digits, whatever it looks like."""
    numbers = [f"{value:.5g}" for value in _numbers(figure.to_dict()["data"])]
    return hashlib.sha256(" ".join(numbers).encode()).hexdigest()[:16]


def _numbers(node: Any, key: str = "") -> Iterator[float]:
    if isinstance(node, Mapping):
        for name, below in node.items():
            yield from _numbers(
                below, name if name in ("x", "y", "z", "array", "arrayminus") else key
            )
    elif isinstance(node, list | tuple):
        for below in node:
            yield from _numbers(below, key)
    elif key and isinstance(node, np.ndarray):
        yield from _numbers(node.tolist(), key)
    elif key and isinstance(node, int | float) and node == node:
        yield float(node) + 0.0  # no negative zero


def _map(result: SweepResult, largest: float) -> go.Heatmap:
    effect, p = result.effect_interval().estimate, result.max_t().p_corrected
    rows, columns = (list(result.axis_labels[name]) for name in result.axis_names)
    cells = zip(np.ravel(effect), np.ravel(p), strict=True)
    texts = np.array([_cell(*one, largest) for one in cells]).reshape(effect.shape)
    return go.Heatmap(
        x=[wrap_label(name.replace("_", " "), 14) for name in columns],
        y=rows,
        z=effect,
        text=texts,
        texttemplate="%{text}",
        textfont={"size": 13},
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )


def _cell(value: float, p: float, largest: float) -> str:
    said = f"{value:.2f}".replace("-0.00", "0.00")
    colour = _ON_DARK_CELL if abs(value) > 0.6 * largest else _ON_MAP
    return f'<span style="color:{colour}">{f"<b>{said}</b>" if p < ALPHA else said}</span>'


def _whole_effect(result: SweepResult) -> str:
    whole = result.total()
    return f"whole effect {whole.estimate:.2f} [{whole.low:.2f}, {whole.high:.2f}] nats"


@cache
def _result(rows: Kept) -> Any:
    return rows.result()


def _of_story(study: str, result: Any, name: str) -> go.Figure:
    """A figure of a study's own report."""
    figure: go.Figure = load_study(study).story(result).figures[name]
    return figure


def _rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[k : k + 2], 16)) for k in (1, 3, 5))})"


if __name__ == "__main__":
    sys.exit(main())
