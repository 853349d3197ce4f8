"""One sweep over pairs whose positions differ: positions are named by span, spans are summarised.

Over many items a position means nothing by its number. Here it is named by its span and the offset
within it (``instruction +3``; ``answer_prefix last`` is the position that is read), and the sweeps of
single pairs are put together on the names that every pair has.

    rows = [name_places(sweep(model, pair, cells="layer_pos"), pair.destination) for pair in pairs]
    result = pool_pairs(pd.concat(rows), ["layer", "pos"])
    span_means(result)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.errors import InterpError
from interp.patching.places import AlignedTokens, common
from interp.patching.result import SweepResult
from interp.prompts import TokenizedPrompt
from interp.stats import interval_columns


def place_name(prompt: TokenizedPrompt, position: int) -> str:
    """``instruction +3``: a position by its span and its offset there; the last one is ``last``.

    So the positions that are read meet, whatever the tokens that a pair's options share.
    """
    span = prompt.span_of(position)
    if position == len(prompt) - 1:
        return f"{span} last"
    return f"{span} +{position - prompt.spans[span].start}"


def name_places(result: SweepResult, prompt: TokenizedPrompt) -> pd.DataFrame:
    """The rows of one pair's sweep, positions by :func:`place_name`; ``token`` keeps their tokens, and
    ``source_token`` those of the source that are aligned with them.

    ``prompt``: the pair's destination. A sweep without a position axis is as it was.
    """
    frame = result.to_dataframe()
    if "pos" not in frame:
        return frame
    labels = result.axis_labels["pos"]
    places = [place_name(prompt, int(label.rsplit("_", 1)[1])) for label in labels]
    if result.places:
        sources = [place.source for place in result.places]
        frame = frame.assign(source_token=frame["pos"].map(dict(zip(labels, sources, strict=True))))
    return frame.assign(
        token=frame["pos"],
        pos=frame["pos"].map(dict(zip(labels, places, strict=True))),
    )


def pool_pairs(
    frame: pd.DataFrame,
    axis_names: list[str],
    *,
    title: str = "",
    seed: int = 0,
    notes: Sequence[str] = (),
) -> SweepResult:
    """The sweep over all pairs of a table, on the positions or spans that every pair has.

    How many others there were is added to the ``notes``.

    Raises:
        InterpError: no position or span is common to all pairs, or rows are missing or repeated.
    """
    said, last = list(notes), axis_names[-1]
    if last in ("pos", "span"):
        n_pairs = frame.groupby(last, sort=False)["pair"].nunique()
        kept = n_pairs.index[n_pairs == frame["pair"].nunique()]
        if not len(kept):
            raise InterpError(f"no {last} is common to all pairs: use cells layer_span")
        if left_out := len(n_pairs) - len(kept):
            places = "positions" if last == "pos" else "spans"
            said.append(f"{left_out} of {len(n_pairs)} {places} are not in every pair: left out")
        frame = frame[frame[last].isin(kept)]
    result = SweepResult.from_dataframe(
        frame, axis_names=axis_names, title=title, seed=seed, notes=tuple(said)
    )
    return replace(result, places=_common_places(frame)) if last == "pos" else result


def _common_places(frame: pd.DataFrame) -> tuple[AlignedTokens, ...]:
    """What stands at every named position, as far as all pairs share it."""
    places = []
    for name, rows in frame.groupby("pos", sort=False):
        tokens: Iterable[str] = rows["token"].str.rpartition("_")[0] if "token" in rows else ()
        sources: Iterable[str | None] = rows.get("source_token", ())
        span = str(name).rpartition(" ")[0]
        places.append(AlignedTokens(span, common(sources), common(tokens)))
    return tuple(places)


def span_means(result: SweepResult) -> pd.DataFrame:
    """One row per span: mean effect over its cells (layers, positions, heads) and its share.

    Grids by head without positions have one row per layer. Columns: ``span``, ``cells`` (how many),
    ``not_patched`` (``7 of 9 tokens not patched`` of a span patched in part, else empty), the mean
    effect's interval (:mod:`interp.stats.columns`), that of the ``share`` of the whole effect,
    ``largest_cell`` and ``largest_effect`` (picked for its size, so biased upward by selection).
    """
    effects = result.effect().double().numpy().reshape(len(result.index_df), -1)
    groups = _groups(result)
    names = list(dict.fromkeys(groups))
    means = np.stack([_mean(effects[groups == name]) for name in names])
    mean, share = result.mean_of(means), result.share_of_total(means)
    cells = _mean(effects.T)
    size = np.nan_to_num(np.abs(cells), nan=-1.0)
    largest = [int(np.where(groups == name, size, -2.0).argmax()) for name in names]
    labels = result.cell_labels()
    return pd.DataFrame(
        {
            "span": names,
            "cells": [int((groups == name).sum()) for name in names],
            "not_patched": [_not_patched(result, groups == name) for name in names],
            **interval_columns(mean),
            **interval_columns(share, "share"),
            "largest_cell": [labels[k] for k in largest],
            "largest_effect": cells[largest],
        }
    )


def _groups(result: SweepResult) -> npt.NDArray[np.object_]:
    """The span of every cell."""
    index = result.index_df
    if "span" in index:
        return index["span"].to_numpy(dtype=object)
    if "pos" in index:
        return index["pos"].str.rsplit(" ", n=1).str[0].to_numpy(dtype=object)
    return ("layer " + index["layer"].astype(str)).to_numpy(dtype=object)


def _not_patched(result: SweepResult, cells: npt.NDArray[np.bool_]) -> str:
    """What is not patched of the columns of some cells that are patched in part."""
    columns = np.unique(result.columns_of_cells()[cells & result.partly_patched()]).tolist()
    return "; ".join(result.not_patched(k) for k in columns)


def _mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the first axis of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    return np.divide(
        np.where(there, values, 0.0).sum(axis=0),
        count,
        out=np.full(values.shape[1], np.nan),
        where=count > 0,
    )
