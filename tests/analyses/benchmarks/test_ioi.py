from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyses.benchmarks import ioi
from interp.circuits import circuit_nodes
from interp.errors import InterpError

WORDS = (
    "teacher",
    "farmer",
    "river",
    "answer",
    "most",
    "likely",
    "careful",
    "unbiased",
    "your",
    "rely",
)
"""Candidates for names; the tiny tokenizer knows some of them as single tokens."""


def test_pairs_are_of_equal_length_and_differ_in_their_names(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("llama")
    monkeypatch.setattr(ioi, "NAMES", WORDS)
    pairs = ioi.ioi_pairs(model, 16)
    for pair in pairs:
        assert len(pair.source) == len(pair.destination)
        assert pair.target is not None
        a, b = pair.target.a, pair.target.b
        source, destination = pair.source.ids.tolist(), pair.destination.ids.tolist()
        assert source.count(a) == 1  # the indirect object stands once, the subject twice
        assert source.count(b) == 2
        assert a not in destination
        assert b not in destination
    firsts = {pair.source.ids.tolist().index(pair.target.a) for pair in pairs if pair.target}
    assert len(firsts) > 1  # before the subject and behind it


def test_what_is_saved_is_what_was_measured(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = load_tiny("llama")
    monkeypatch.setattr(ioi, "NAMES", WORDS)
    sizes = (0, 3, len(circuit_nodes(model)))
    scores, curve, random = ioi.measure(model, n_pairs=6, draws=2, sizes=sizes)
    ioi.save(tmp_path, scores, curve, random)
    again = ioi.load(tmp_path)
    assert again[0].equals(scores)
    assert again[1].ranking == curve.ranking
    np.testing.assert_allclose(again[1].faithfulness, curve.faithfulness)
    assert str(again[1].cpr_interval()) == str(curve.cpr_interval())
    np.testing.assert_allclose(again[2].faithfulness, random.faithfulness)


def test_a_tokenizer_without_single_token_names_is_refused(
    load_tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ioi, "NAMES", ("Bartholomew", "Wilhelmina"))
    with pytest.raises(InterpError, match="fewer than five of the names"):
        ioi.ioi_pairs(load_tiny("llama"), 4)
