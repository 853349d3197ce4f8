"""What a patching report may say: the gates before a map is interpreted, and its sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.patch import reading, story
from analyses.patch.tables import whole_summary
from analyses.report.claims import Claim
from analyses.totals import METRICS
from interp.patching import ALL, SweepResult
from interp.stats import Interval, interval_columns

WORKS = [[0.0, 0.0], [0.0, 2.0]]


def sweep_result(
    means: list[list[float]], *, n: int = 10, spans: list[str] | None = None, noise: float = 0.01
) -> SweepResult:
    """``means[layer][span]`` of every cell, with a little noise over pairs; the total is 1."""
    apart = np.random.default_rng(0).normal(scale=noise, size=(*np.shape(means), n))
    labels = {
        "layer": [str(k) for k in range(len(means))],
        "span": spans or ["instruction", "answer_prefix"],
    }
    index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
    return SweepResult(
        values=torch.tensor(np.array(means)[..., None] + apart).float(),
        axis_names=["layer", "span"],
        index_df=index.to_frame(index=False),
        metric_names=["margin"],
        reduced=False,
        baseline=torch.zeros(n),
        source_baseline=torch.ones(n),
        axis_labels=labels,
        pair_labels=[f"pair {k}" for k in range(n)],
        clusters=[f"c{k}" for k in range(n)],
        wordings=[f"w{k % 6}" for k in range(n)],
        title="instructed -> placebo, resid_pre",
        notes=("a note",),
    )


def interval(estimate: float, low: float, high: float, clusters: int = 10) -> Interval:
    return Interval(estimate, low, high, 10, clusters, texts=(6, 6))


CLEAR = Claim(interval(1.0, 0.8, 1.2))


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (CLEAR, "is what the maps divide up"),
        (Claim(interval(1.0, 0.8, 1.2), 0.2), "there is nothing to localise"),
        (Claim(interval(0.1, -0.2, 0.4)), "there is nothing to localise"),
        (Claim(interval(0.5, 0.2, 0.8, clusters=4)), "there is nothing to localise"),
        (Claim(interval(0.5, 0.2, 0.8), others={"margin": interval(-1, -2, 0)}), "nothing to loc"),
    ],
)
def test_only_an_effect_is_localised(claim: Claim, said: str) -> None:
    assert said in story.read_localisable(claim)


def test_surviving_cells_are_named_once_effect_and_control_are_there() -> None:
    result = sweep_result([[0.9, 0.0], [0.0, 0.6]])
    control = sweep_result([[0.0, 0.0], [0.0, 2.0]])
    total, *rest = reading.read_map("instructed", result, CLEAR, control=(control, CLEAR))
    assert total.startswith("Positive control (a map of copying): 1 of 4 cells differ from zero")
    assert "L1 answer_prefix +2.0" in total
    assert rest[0].startswith("Instructed: 2 of 4 cells")
    assert "L0 instruction +0.9" in rest[0]
    assert rest[1] == "A note."


@pytest.mark.parametrize(
    ("claim", "control", "of_control", "why"),
    [
        (CLEAR, None, None, "No positive control was run"),
        (CLEAR, [[0.0, 0.0], [0.0, 0.0]], CLEAR, "map shows nothing"),
        (CLEAR, WORKS, Claim(interval(0.2, -0.1, 0.5)), "Naming the answer shows no effect"),
        (CLEAR, WORKS, Claim(interval(-1.0, -1.2, -0.8)), "Naming the answer shows no effect"),
        (Claim(interval(0.1, -1, 1)), WORKS, CLEAR, "Without an effect to localise"),
        (Claim(interval(1, 0.8, 1.2), 0.2), WORKS, CLEAR, "Without an effect to localise"),
        (Claim(interval(1, 0.8, 2, 4)), WORKS, CLEAR, "Without an effect to localise"),
    ],
)
def test_no_cell_of_a_map_is_named_without_control_and_effect(
    claim: Claim, control: list[list[float]] | None, of_control: Claim | None, why: str
) -> None:
    result = sweep_result([[0.9, 0.0], [0.0, 0.6]])
    judged = None if of_control is None else (sweep_result(control or []), of_control)
    text = " ".join(reading.read_map("instructed", result, claim, control=judged))
    assert why in text
    assert "L0 instruction" not in text


@pytest.mark.parametrize("seed", range(8))
def test_no_cell_is_named_that_is_not_in_its_family(seed: int) -> None:
    draw = np.random.default_rng(seed)
    means = draw.normal(scale=0.02, size=(3, 2)) * draw.integers(0, 2, size=(3, 2))
    result, control = sweep_result(means.tolist(), noise=0.05), sweep_result(WORKS)
    *_, said, _ = reading.read_map("instructed", result, CLEAR, control=(control, CLEAR))
    p = np.asarray(result.max_t().p_corrected).reshape(-1)
    for label, corrected in zip(result.cell_labels(), p, strict=True):
        assert not (label in said and corrected >= 0.05), (label, corrected)


def test_several_maps_are_one_family() -> None:
    result = sweep_result([[0.9, 0.0], [0.0, 0.6]])
    p = float(np.asarray(result.max_t().p_corrected).min())
    over = int(0.05 / p) + 1
    read = reading.read_map("instructed", result, CLEAR, control=(result, CLEAR), n_maps=over)
    assert f"no cell differs from zero with all cells of {over} maps corrected for" in read[0]


def test_wordings_are_too_few_for_a_cell() -> None:
    few = replace(sweep_result(WORKS), wordings=["a"] * 10)
    text = " ".join(reading.read_map("instructed", few, CLEAR, control=(few, CLEAR)))
    assert "no cell is named, 1 wording a side is too few" in text


def test_the_ceiling_alone_is_not_something_that_a_map_shows() -> None:
    control = sweep_result([[0.0, 2.0], [0.0, 2.0]], spans=["instruction", ALL])
    result = sweep_result([[0.9, 0.0]])
    text = " ".join(reading.read_map("instructed", result, CLEAR, control=(control, CLEAR)))
    assert "map shows nothing" in text


def test_too_few_clusters_for_any_cell_is_said() -> None:
    control = sweep_result([[1.0, 2.0]], n=4)
    result = sweep_result([[0.9, 0.0]])
    text = reading.read_map("instructed", result, CLEAR, control=(control, CLEAR))[0]
    assert "4 clusters of items are too few for a claim" in text


def test_a_section_is_made_of_sweeps_and_their_tables_alone() -> None:
    sweeps = {"instructed": [[0.9, 0.0], [0.0, 0.6]], "revealing": [[0.0, 0.0], [0.0, 2.0]]}
    results = {name: sweep_result(means) for name, means in sweeps.items()}
    labels = {"against": "placebo", "context": "ambiguous"}
    rows = [
        {"condition": name, **labels, "metric": metric, **interval_columns(CLEAR.effect)}
        for name in sweeps
        for metric in METRICS
    ]
    summary = whole_summary({(name, "resid_pre"): result for name, result in results.items()})
    totals = pd.DataFrame(rows)
    figures = list(story.map_figures(results, totals, condition="instructed"))
    section = story.map_section(results, summary, totals, figures, condition="instructed")
    assert section.title == "Where: resid_pre"
    assert section.paragraphs[0] == (
        "Patched: the residual stream before each layer (resid_pre), one span at one layer at a time."
    )
    assert "are too few to read single cells" in section.paragraphs[1]
    assert section.paragraphs[3].startswith("Instructed: 2 of 4 cells")
    captions = {name: caption for name, _, caption in figures}
    assert "a map of copying" in captions["map-revealing-resid_pre"]
    assert "a map of copying" not in captions["map-instructed-resid_pre"]
    assert [name for name, _, _ in figures] == [
        "map-revealing-resid_pre", "profile-revealing-resid_pre",
        "map-instructed-resid_pre", "profile-instructed-resid_pre", "top-instructed-resid_pre",
    ]  # fmt: skip
    limits = {figure.data[0].zmax for name, figure, _ in figures if name.startswith("map-")}
    assert len(limits) == 1
    assert limits.pop() == pytest.approx(2.0, abs=0.05)  # the control's largest cell


@pytest.mark.parametrize("wordings", [["a"] * 10, [f"w{k % 6}" for k in range(10)]])
def test_figures_mark_no_cell_that_the_section_does_not_name(wordings: list[str]) -> None:
    """Too few wordings for a claim, and an effect that is none: the maps agree with the words."""
    nothing = Claim(interval(0.1, -0.8, 1.2))
    results = {
        name: replace(sweep_result(means), wordings=wordings)
        for name, means in {"instructed": [[0.9, 0.0]], "revealing": [[0.0, 2.0]]}.items()
    }
    labels = {"against": "placebo", "context": "ambiguous"}
    rows = [
        {"condition": name, **labels, "metric": metric, **interval_columns(claim.effect)}
        for name, claim in {"instructed": nothing, "revealing": CLEAR}.items()
        for metric in METRICS
    ]
    control = (results["revealing"], CLEAR)
    text = " ".join(reading.read_map("instructed", results["instructed"], nothing, control=control))
    drawn = story.map_figures(results, pd.DataFrame(rows), condition="instructed")
    for name, figure, caption in drawn:
        if name.startswith("map-"):
            outlined = any(trace.name == "family-wise p < .05" for trace in figure.data)
            named = len(set(wordings)) > 1 and "revealing" in name
            assert outlined == named
            assert ("no cell is outlined" in caption) != named
        if name.startswith("top-"):
            assert all(set(trace.marker.color) <= {"#ffffff"} for trace in figure.data)
    assert "Instructed: " not in text
    assert "L0 answer_prefix +" in text or "no cell is named" in text
