"""What a patching report may say: the gates before a map is interpreted, and its sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.patch import story
from analyses.patch.tables import whole_summary
from interp.patching import ALL, SweepResult
from interp.stats import Interval, interval_columns

NAN = float("nan")


def sweep_result(
    means: list[list[float]], *, n: int = 10, spans: list[str] | None = None
) -> SweepResult:
    """``means[layer][span]`` of every cell, with a little noise over pairs; the total is 1."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=(*np.shape(means), n))
    labels = {
        "layer": [str(k) for k in range(len(means))],
        "span": spans or ["instruction", "answer_prefix"],
    }
    index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
    return SweepResult(
        values=torch.tensor(np.array(means)[..., None] + noise).float(),
        axis_names=["layer", "span"],
        index_df=index.to_frame(index=False),
        metric_names=["margin"],
        reduced=False,
        baseline=torch.zeros(n),
        source_baseline=torch.ones(n),
        axis_labels=labels,
        pair_labels=[f"pair {k}" for k in range(n)],
        clusters=[f"c{k}" for k in range(n)],
        title="instructed -> placebo, resid_pre",
        notes=("a note",),
    )


def interval(estimate: float, low: float, high: float, clusters: int = 10) -> Interval:
    return Interval(estimate, low, high, 10, clusters, reason="" if low == low else "one cluster")


CLEAR = interval(1.0, 0.8, 1.2)


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (interval(0.5, 0.2, 0.8), "raises the margin"),
        (interval(-0.5, -0.8, -0.2), "lowers the margin"),
        (interval(0.1, -0.2, 0.4), "contains 0, so no effect is shown"),
        (interval(0.5, 0.2, 0.8, clusters=4), "4 clusters of items are too few for a finding"),
        (interval(0.5, NAN, NAN, clusters=1), "one cluster, so this is no finding"),
    ],
)
def test_the_total_is_read_with_its_interval(total: Interval, said: str) -> None:
    text = story.read_total("instructed", "placebo", total, NAN)
    assert said in text
    finding = said.endswith("the margin")
    assert ("raises" in text or "lowers" in text) == finding
    assert ("is what the maps divide up" in text) == finding
    assert ("there is nothing to localise" in text) != finding


def test_the_total_is_a_finding_only_where_permuted_texts_bear_it_out() -> None:
    assert "raises the margin by 1.00 [0.80, 1.20] nats (p = 0.020)" in story.read_total(
        "instructed", "placebo", CLEAR, 0.02
    )
    text = story.read_total("instructed", "placebo", CLEAR, 0.2)
    assert "wordings with their labels permuted differ as much, so no effect is shown" in text
    assert "raises" not in text


def test_surviving_cells_are_named_once_effect_and_control_are_there() -> None:
    result = sweep_result([[0.9, 0.0], [0.0, 0.6]])
    control = sweep_result([[0.0, 0.0], [0.0, 2.0]])
    total, *rest = story.read_map("instructed", result, CLEAR, NAN, control=(control, CLEAR))
    assert total.startswith("Positive control: 1 of 4 cells differ from zero")
    assert "L1 answer_prefix +2.0" in total
    assert rest[0].startswith("Instructed: 2 of 4 cells")
    assert "L0 instruction +0.9" in rest[0]
    assert rest[1] == "A note."


@pytest.mark.parametrize(
    ("total", "p", "control", "control_total", "why"),
    [
        (CLEAR, NAN, None, None, "No positive control was run"),
        (CLEAR, NAN, [[0.0, 0.0], [0.0, 0.0]], CLEAR, "map shows nothing"),
        (CLEAR, NAN, [[0.0, 0.0], [0.0, 2.0]], interval(0.2, -0.1, 0.5), "control shows no effect"),
        (
            CLEAR,
            NAN,
            [[0.0, 0.0], [0.0, 2.0]],
            interval(-1.0, -1.2, -0.8),
            "control shows no effect",
        ),
        (
            interval(0.1, -1, 1),
            NAN,
            [[0.0, 0.0], [0.0, 2.0]],
            CLEAR,
            "Without an effect to localise",
        ),
        (CLEAR, 0.2, [[0.0, 0.0], [0.0, 2.0]], CLEAR, "Without an effect to localise"),
        (
            interval(1, 0.8, 2, 4),
            NAN,
            [[0.0, 0.0], [0.0, 2.0]],
            CLEAR,
            "Without an effect to localise",
        ),
    ],
)
def test_no_cell_of_a_map_is_named_without_control_and_effect(
    total: Interval,
    p: float,
    control: list[list[float]] | None,
    control_total: Interval | None,
    why: str,
) -> None:
    result = sweep_result([[0.9, 0.0], [0.0, 0.6]])
    judged = None if control_total is None else (sweep_result(control or []), control_total)
    text = " ".join(story.read_map("instructed", result, total, p, control=judged))
    assert why in text
    assert "L0 instruction" not in text


def test_the_ceiling_alone_is_not_something_that_a_map_shows() -> None:
    control = sweep_result([[0.0, 2.0], [0.0, 2.0]], spans=["instruction", ALL])
    result = sweep_result([[0.9, 0.0]])
    text = " ".join(story.read_map("instructed", result, CLEAR, NAN, control=(control, CLEAR)))
    assert "map shows nothing" in text


def test_too_few_clusters_for_any_cell_is_said() -> None:
    control = sweep_result([[1.0, 2.0]], n=4)
    result = sweep_result([[0.9, 0.0]])
    text = story.read_map("instructed", result, CLEAR, NAN, control=(control, CLEAR))[0]
    assert "4 clusters are too few for any cell" in text


def test_a_section_is_made_of_sweeps_and_their_tables_alone() -> None:
    sweeps = {"instructed": [[0.9, 0.0], [0.0, 0.6]], "revealing": [[0.0, 0.0], [0.0, 2.0]]}
    results = {name: sweep_result(means) for name, means in sweeps.items()}
    rows = [{"condition": name, **interval_columns(CLEAR), "p_texts": NAN} for name in sweeps]
    summary = whole_summary({(name, "resid_pre"): result for name, result in results.items()})
    figures = list(story.map_figures(results, condition="instructed"))
    section = story.map_section(
        results, summary, pd.DataFrame(rows), figures, condition="instructed"
    )
    assert section.title == "Where: resid_pre"
    assert section.paragraphs[0] == (
        "Patched: the residual stream before each layer (resid_pre), one span at one layer at a time."
    )
    assert section.paragraphs[2].startswith("Instructed: 2 of 4 cells")
    assert [name for name, _, _ in figures] == [
        "map-instructed-resid_pre", "profile-instructed-resid_pre", "top-instructed-resid_pre",
        "map-revealing-resid_pre", "profile-revealing-resid_pre",
    ]  # fmt: skip
