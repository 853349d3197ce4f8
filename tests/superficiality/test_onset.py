from __future__ import annotations

from typing import Any

import pytest

from interp.superficiality.onset import measure_onset
from interp.superficiality.rows import onset_finding
from tests.superficiality.toy import CONTENT, item_pairs, toy_pairs


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_the_ends_of_the_depth_curve_are_the_two_unpatched_runs(
    load_tiny: Any, architecture: str
) -> None:
    model = load_tiny(architecture)
    runs = measure_onset(model, item_pairs(model))
    for _, own in runs.groupby(["item", "metric"]):
        of = own.set_index(["run", "layer"])["value"]
        assert of["behind", 0] == pytest.approx(of["placebo", -1], abs=1e-5)
        last = of["behind", model.cfg.n_layers]
        assert last == pytest.approx(of["corrected", -1], abs=1e-5)
    assert runs["run"].eq("behind").sum() == 2 * 2 * (model.cfg.n_layers + 1)


@pytest.mark.parametrize("method", ["exact", "hooked"])
def test_an_instruction_read_by_block_0_is_behind_it_from_there_on(method: Any) -> None:
    model, _, pairs, clusters = toy_pairs("deep")
    runs = measure_onset(model, pairs, content=CONTENT, clusters=clusters, method=method)
    found = onset_finding(runs)
    assert found.is_read
    curve = found.table["share"].tolist()
    assert curve[0] == pytest.approx(0, abs=1e-6)
    assert curve[1] == pytest.approx(1, abs=0.1)
    assert curve[-1] == pytest.approx(1, abs=1e-6)
    assert found.interval.estimate == pytest.approx(0.5 / 3, abs=0.05)
