"""A sweep's axes as columns of a table, and back: layers and heads are whole numbers there.

The labels of an axis are texts (``"3"``, ``"3-7"`` for a window of layers, ``" he_41"`` for a position).
In a table ``layer`` and ``head`` are numbers, so that they can be sorted and joined with those of other
tables; a window keeps its last layer in a column of its own, ``last_layer``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

LAST = "last_layer"


def axis_columns(name: str, labels: Sequence[str]) -> dict[str, Any]:
    """The columns of an axis, given the label of every row."""
    if name == "head":
        return {name: np.array([int(label) for label in labels])}
    if name != "layer":
        return {name: np.array(labels)}
    ends = [label.partition("-")[::2] for label in labels]
    columns = {name: np.array([int(first) for first, _ in ends])}
    if any(last for _, last in ends):
        columns[LAST] = np.array([int(last or first) for first, last in ends])
    return columns


def with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose axes are labels, with the columns of :func:`axis_columns` in their places."""
    columns: dict[str, Any] = {}
    for name in table:
        columns |= (
            axis_columns(str(name), table[name].tolist())
            if name in ("layer", "head")
            else {str(name): table[name]}
        )
    return pd.DataFrame(columns, index=table.index)


def with_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the labels of layers and heads again: the inverse of :func:`with_numbers`."""
    labels = {name: table[name].astype(str) for name in ("layer", "head") if name in table}
    if LAST in table:
        window = table[LAST] > table["layer"]
        ends = labels["layer"] + "-" + table[LAST].astype(str)
        labels["layer"] = labels["layer"].where(~window, ends)
    return table.assign(**labels).drop(columns=LAST, errors="ignore")
