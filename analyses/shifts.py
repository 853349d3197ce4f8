"""How far an instruction moves the prompts' last state along a direction, beside null directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.stats import MaxT, sign_flip_max_t, two_way_bootstrap

CONTROL = "morality, revealing prompt"
"""Name under which the positive control's shift along the morality direction stands in the table."""


def projection_shifts(projections: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Treated minus placebo per direction and layer, texts x clusters bootstrap.

    The instructed prompts along every direction (the non-moral ones have ``is_null``), and the
    revealing prompts along the morality direction, named :data:`CONTROL`. ``estimate``, ``low`` and
    ``high`` are in standard deviations of the placebo prompts' projections on the same direction and
    layer, so that directions whose classes lie close together or far apart can be compared (NaN where
    those do not vary); ``class_units`` is the estimate with the class means at +1 and -1.
    """
    instructed = projections[projections["contrast"] == "instructed"]
    frames = [
        _shift(rows, "instructed", seed).assign(direction=name, is_null=name != "morality")
        for name, rows in instructed.groupby("direction", sort=False)
    ]
    control = projections[
        (projections["contrast"] == "revealing") & (projections["direction"] == "morality")
    ]
    if not control.empty:
        frames.append(_shift(control, "revealing", seed).assign(direction=CONTROL, is_null=False))
    return pd.concat(frames, ignore_index=True)


def shift_test(projections: pd.DataFrame, seed: int) -> MaxT:
    """Sign-flip max-T over layers of each item's instructed morality shift, clusters as units."""
    rows = projections[
        (projections["contrast"] == "instructed") & (projections["direction"] == "morality")
    ]
    means = {
        condition: rows[rows["condition"] == condition].pivot_table(
            index="layer", columns="item", values="projection"
        )
        for condition in ("instructed", "placebo")
    }
    shift = means["instructed"] - means["placebo"]
    clusters = _clusters(rows, shift.columns.tolist())
    return sign_flip_max_t(shift.to_numpy(), clusters, seed=seed)


def _shift(rows: pd.DataFrame, condition: str, seed: int) -> pd.DataFrame:
    tables = {
        name: rows[rows["condition"] == name].pivot_table(
            index=["layer", "slot"], columns="item", values="projection", sort=True
        )
        for name in (condition, "placebo")
    }
    layers = sorted(set(rows["layer"]))
    items = tables["placebo"].columns.tolist()
    treated, placebo = (t.to_numpy().reshape(len(layers), -1, len(items)) for t in tables.values())
    spread = placebo.std(axis=(1, 2))
    spread[spread == 0] = np.nan
    labels = (condition, str(rows["direction"].iloc[0]))
    interval = two_way_bootstrap(treated, placebo, _clusters(rows, items), seed=seed, labels=labels)
    return pd.DataFrame(
        {
            "layer": layers,
            "estimate": interval.estimate / spread,
            "low": interval.low / spread,
            "high": interval.high / spread,
            "class_units": interval.estimate,
        }
    )


def _clusters(rows: pd.DataFrame, items: Sequence[str]) -> pd.Series:
    return rows.drop_duplicates("item").set_index("item")["cluster"].loc[list(items)]
