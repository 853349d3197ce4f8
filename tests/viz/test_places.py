"""Positions on a map: both tokens where they differ, one where they are equal, spans as brackets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interp.data import load_items
from interp.patching import SweepResult, sweep
from interp.patching.places import AlignedTokens
from interp.patching.pooled import name_places, pool_pairs
from interp.prompts import make_pair
from interp.viz import heatmap
from interp.viz.places import place_labels, spans_of


@pytest.fixture(scope="module")
def swept(tiny_model: Any) -> SweepResult:
    item = load_items("bundled:choices", limit=1)[0]
    pair = make_pair(tiny_model, item, "instructed")
    return sweep(tiny_model, pair, cells="layer_pos", layers=[0, 2], progress=False)


def test_every_position_carries_the_tokens_that_are_aligned_there(
    tiny_model: Any, swept: SweepResult
) -> None:
    pair = make_pair(tiny_model, load_items("bundled:choices", limit=1)[0], "instructed")
    source = {j: pair.source.str_tokens[i] for i, j in pair.alignment.pairs().tolist()}
    for label, place in zip(swept.axis_labels["pos"], swept.places, strict=True):
        token, _, position = label.rpartition("_")
        assert place.destination == token
        assert place.source == source[int(position)]
        assert place.span == pair.destination.span_of(int(position))


def test_labels_give_equal_tokens_once_and_different_ones_with_an_arrow(swept: SweepResult) -> None:
    places = (
        AlignedTokens("instruction", " moral", " long"),
        AlignedTokens("template", "\n", "\n"),
        AlignedTokens("", None, None),
        AlignedTokens("a", None, "x"),
        AlignedTokens("a", "an extremely long token", "b"),
    )
    labels = {"layer": ["0"], "pos": [" long_4", "\n_5", "6", "x_7", "b_8"]}
    result = replace(swept, axis_labels=labels, places=places)
    assert place_labels(result) == ["·moral → ·long 4", "⏎ 5", "6", "x 7", "an·extrem… → b 8"]
    assert place_labels(replace(result, places=())) == ["·long 4", "⏎ 5", "6", "x 7", "b 8"]


def test_brackets_stand_over_the_columns_of_every_span_with_its_name(swept: SweepResult) -> None:
    figure = heatmap(swept)
    spans = spans_of(swept)
    names = [name for k, name in enumerate(spans) if k == 0 or spans[k - 1] != name]
    brackets = [shape for shape in figure.layout.shapes if shape.type == "path"]
    assert [a.text for a in figure.layout.annotations] == names
    assert len(brackets) == len(names) >= 2
    ends = [float(word) for word in brackets[-1].path.split()[1::3]]
    assert ends[-1] == pytest.approx(len(spans) - 1 + 0.42)
    assert figure.data[0].customdata[0][0][0] == place_labels(swept)[0]
    assert any("→" in label for label in figure.layout.xaxis.ticktext)


def test_places_are_kept_in_files_and_of_several_pairs_as_far_as_they_agree(
    tiny_model: Any, swept: SweepResult, tmp_path: Path
) -> None:
    again = SweepResult.load(swept.save(tmp_path / "sweep.safetensors"))
    assert again.places == swept.places
    pair = make_pair(tiny_model, load_items("bundled:choices", limit=1)[0], "instructed")
    frame = name_places(swept, pair.destination)
    pooled = pool_pairs(frame, ["layer", "pos"])
    assert [place.span for place in pooled.places] == spans_of(swept)
    assert [(p.source, p.destination) for p in pooled.places] == [
        (p.source, p.destination) for p in swept.places
    ]
    assert place_labels(pooled)[-1].endswith(" last")
