"""Layers and heads are numbers in a table, windows keep both ends, and labels come back as they were."""

from __future__ import annotations

import pandas as pd
import pytest

from interp.patching.axis_columns import axis_columns, with_labels, with_numbers


@pytest.mark.parametrize(
    "labels",
    [["0", "3", "10"], ["0-2", "1-3", "2-3", "3"], ["29"]],
    ids=["layers", "windows", "one"],
)
def test_numbers_and_labels_are_inverses(labels: list[str]) -> None:
    table = pd.DataFrame(
        {"layer": labels, "head": [str(k) for k in range(len(labels))], "x": labels}
    )
    numbers = with_numbers(table)
    assert numbers["layer"].dtype.kind == numbers["head"].dtype.kind == "i"
    assert numbers["layer"].tolist() == [int(label.split("-")[0]) for label in labels]
    assert ("last_layer" in numbers) == any("-" in label for label in labels)
    pd.testing.assert_frame_equal(with_labels(numbers), table)
    # tables of folders written before layers were numbers
    pd.testing.assert_frame_equal(with_labels(table), table)


def test_other_axes_keep_their_labels() -> None:
    assert axis_columns("span", ["question", "options"])["span"].tolist() == ["question", "options"]
