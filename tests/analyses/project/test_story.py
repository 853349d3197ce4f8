"""The sentences of a projection report: what its numbers allow."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.project import story
from interp.stats import Interval, interval_columns


def contrast(*, n_clusters: int = 8, n_texts: int = 6, **changes: object) -> pd.DataFrame:
    """Two layers; the second is a finding beyond the null directions."""
    of: tuple[tuple[float, float, float], ...] = ((0.1, -1.0, 1.2), (2.0, 1.0, 3.0))
    rows = pd.DataFrame(
        [
            {"layer": layer}
            | interval_columns(Interval(*one, 20, n_clusters, texts=(n_texts, n_texts)))
            for layer, one in enumerate(of)
        ]
    ).assign(
        class_units=[0.0, 1.0], p_corrected=[0.9, 0.01], p_null=[0.9, 0.01],
        sure=[False, True], beyond=[False, True], dot=[0.0, 3e-7],
    )  # fmt: skip
    return rows.assign(**changes)


def test_the_reading_claims_only_what_passes_every_gate() -> None:
    good = contrast()
    (reading,) = story.read_instruction(good, good, condition="instructed", usable=True)
    assert "differs from zero at 1 of 2 layers" in reading
    assert "layer 1 +2.00 [1.00, 3.00]" in reading
    none = contrast(sure=False, beyond=False)
    assert (
        "undetermined. It differs from zero at none of 2 layers"
        in story.read_instruction(none, good, condition="instructed", usable=True)[0]
    )
    inside = contrast(beyond=False)
    assert (
        "is not special"
        in story.read_instruction(inside, good, condition="instructed", usable=True)[0]
    )
    readings = story.read_instruction(good, none, condition="instructed", usable=False)
    assert readings[1] == (
        "It is shown but not interpreted: the direction does not separate held-out sentences and the "
        "positive control shows nothing."
    )
    few = contrast(n_clusters=3)
    assert (
        "cannot be tested: 3 clusters"
        in story.read_instruction(few, good, condition="instructed", usable=True)[0]
    )
    assert (
        "cannot be tested: 2 wordings a side are too few for a claim"
        in story.read_instruction(contrast(n_texts=2), good, condition="instructed", usable=True)[0]
    )
    assert "at none of 2 layers" in story.read_control(none)
    assert "at 1 of 2 layers (6 wordings), most at layer 1 (+2.00" in story.read_control(good)
    assert "cannot be judged" in story.read_control(few)
    assert "at most 3e-07" in story.read_fixed(good)


def test_the_best_layer_is_told_beside_every_kind_of_null() -> None:
    nulls = pd.DataFrame(
        {
            "kind": ["covariance"] * 3 + ["contrast"] * 2,
            "layer": 1,
            "estimate": [0.5, -1.0, 3.0, 1.9, -2.5],
        }
    )
    (text,) = story.read_best(contrast().iloc[1], nulls, usable=True)
    assert "towards the moral class" in text
    assert "2 of 3 directions drawn with the covariance of the states (largest 3.00)" in text
    assert "1 of 2 directions of non-moral" in text
    (text,) = story.read_best(contrast().iloc[1], nulls, usable=False)
    assert "towards" not in text
    (text,) = story.read_best(contrast(estimate=np.nan).iloc[0], nulls, usable=True)
    assert "do not vary" in text


def test_parts_are_read_with_all_corrected_for() -> None:
    parts = contrast().assign(label=["L0H1", "L1 MLP"])
    assert "1 of 2 differ from zero, all corrected for: L1 MLP +2.00" in story.read_parts(parts, 1)
    assert "No part differs" in story.read_parts(parts.assign(sure=False), 1)
    assert "too few" in story.read_parts(parts.assign(n_clusters=2), 1)
