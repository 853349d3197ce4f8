"""Tables of a projection run: contrasts beside nulls, contributors, levels.

Contrasts are treated - placebo, over texts x clusters of items, in standard deviations of the
placebo prompts' projections on the same direction, layer and position, so that layers, components
and directions can be compared; ``dot`` is the same in the residual stream's units and ``class_units``
with the class means of the direction's sentences at +1 and -1. + = towards the positive class.

Positions that causality fixes (the ids are equal up to there) have no interval and no p: what is
measured there is rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyses.patch_tables import CONTROL
from analyses.project_reader import MEASURES, Reader
from interp.data import ChoiceItem
from interp.stats import FloatArray, permute_texts, sign_flip_max_t, two_way_bootstrap

ALPHA = 0.05
_Variant = tuple[str, str, int]


@dataclass(eq=False)
class Kept:
    """The numbers of all prompts: arrays that :meth:`add` fills, one item at a time.

    ``asked`` is the condition that is contrasted with its placebos, beside the positive control.

    ``measured [position, variant, item, cell, measure]`` and ``parts [position, variant, item,
    part]``; a variant is (contrast, condition, slot). ``null_sums [position][treated, placebo,
    placebo squared][layer * null]`` are sums over items and texts.
    """

    asked: str
    clusters: tuple[str, ...]
    readers: Sequence[Reader]
    variants: dict[_Variant, int]
    measured: npt.NDArray[np.float32]
    parts: npt.NDArray[np.float32]
    null_sums: list[FloatArray]
    fixed: npt.NDArray[np.bool_]

    @classmethod
    def empty(
        cls, items: Sequence[ChoiceItem], readers: Sequence[Reader], asked: str, n_texts: int
    ) -> Kept:
        """Arrays of the right size, NaN where nothing was read."""
        variants: list[_Variant] = [("clean", "clean", 0)]
        for name, n in ((asked, n_texts), (CONTROL, 1)):
            variants += [(name, c, slot) for c in (name, "placebo") for slot in range(n)]
        shape = (len(readers), len(variants), len(items))
        first = readers[0]
        return cls(
            asked=asked,
            clusters=tuple(item.cluster for item in items),
            readers=readers,
            variants={variant: k for k, variant in enumerate(variants)},
            measured=np.full((*shape, len(first.cells), len(MEASURES)), np.nan, dtype=np.float32),
            parts=np.full((*shape, len(first.parts)), np.nan, dtype=np.float32),
            null_sums=[np.zeros((3, one.nulls.vectors[..., 0].numel())) for one in readers],
            fixed=np.ones(len(readers), dtype=bool),
        )

    def add(self, item: int, frame: pd.DataFrame) -> None:
        """The rows of one item."""
        positions = {one.position: k for k, one in enumerate(self.readers)}
        for row in frame.to_dict("records"):
            p = positions[row["position"]]
            v = self.variants[row["contrast"], row["condition"], row["slot"]]
            for m, name in enumerate(MEASURES):
                self.measured[p, v, item, :, m] = row[name]
            self.parts[p, v, item] = row["parts"]
            self.fixed[p] &= bool(row["fixed"])
            if row["contrast"] == self.asked:
                dots = np.asarray(row["nulls"], dtype=np.float64)
                if row["condition"] == "placebo":
                    self.null_sums[p][1:] += np.stack([dots, dots**2])
                else:
                    self.null_sums[p][0] += dots

    @property
    def treated(self) -> tuple[str, str]:
        """The conditions that have placebos."""
        return self.asked, CONTROL

    def arms(self, condition: str) -> tuple[list[int], list[int]]:
        """The variants of a condition, and those of its placebos."""
        treated, placebo = (
            [k for (contrast, name, _), k in self.variants.items() if (contrast, name) == wanted]
            for wanted in ((condition, condition), (condition, "placebo"))
        )
        return treated, placebo


def contrast_table(kept: Kept, seed: int) -> pd.DataFrame:
    """One row per position, condition and cell.

    ``estimate``, ``low``, ``high`` in placebo SDs; ``cosine`` and ``standardised`` are contrasts of
    cosines with their own bounds. ``p`` differs from zero: sign-flip max-T over the layers (and
    heads) of the component; it speaks of these texts. ``p_texts``: the texts' labels permuted, per
    cell. ``p_null`` (the condition asked about, the direction's own site): the share of covariance
    nulls whose largest |contrast| over layers reaches this one's.
    """
    rows = []
    for p, reader in enumerate(kept.readers):
        for condition in kept.treated:
            frame = _contrasts(kept, p, condition, seed)
            frame.insert(0, "condition", condition)
            frame.insert(0, "position", reader.position)
            rows.append(frame)
    return pd.concat(rows, ignore_index=True)


def _contrasts(kept: Kept, p: int, condition: str, seed: int) -> pd.DataFrame:
    reader, fixed = kept.readers[p], bool(kept.fixed[p])
    treated, placebo = (_cells_first(kept.measured[p, arm]) for arm in kept.arms(condition))
    spread = _spread(kept, p)
    labels = (reader.position, condition)
    interval = two_way_bootstrap(treated, placebo, kept.clusters, seed=seed, labels=labels)
    estimate, low, high = (
        np.asarray(x, dtype=float) for x in (interval.estimate, interval.low, interval.high)
    )
    if fixed:
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    frame = reader.cells.drop(columns=["scale", "offset"]).assign(
        estimate=estimate[:, 0] / spread,
        low=low[:, 0] / spread,
        high=high[:, 0] / spread,
        dot=estimate[:, 0],
        class_units=estimate[:, 0] / reader.cells["scale"].to_numpy(),
    )
    for m, name in enumerate(MEASURES[1:], start=1):
        frame[name] = estimate[:, m]
        frame[f"{name}_low"], frame[f"{name}_high"] = low[:, m], high[:, m]
    frame["p"] = frame["p_texts"] = np.nan
    if not fixed:
        means = (arm[:, 0].astype(float).mean(-1) for arm in (treated, placebo))
        frame["p_texts"] = permute_texts(*means, seed=seed, labels=labels).p
        shift = (treated[:, 0].mean(-2) - placebo[:, 0].mean(-2)).astype(float)
        for component, cells in frame.groupby("component", sort=False).groups.items():
            test = sign_flip_max_t(
                shift[cells], kept.clusters, seed=seed, labels=(*labels, component)
            )
            frame.loc[cells, "p"] = test.p_corrected
    own = frame["component"] == reader.stack.site
    frame["p_null"] = np.nan
    excludes = (frame["low"] > 0) | (frame["high"] < 0)
    frame["sure"] = excludes & (frame["p"] < ALPHA)
    frame["beyond"] = False
    if reader.nulls.kinds and condition == kept.asked:
        kinds, size = np.array(reader.nulls.kinds), frame.loc[own, "estimate"].abs().to_numpy()
        nulls = np.nan_to_num(np.abs(_null_contrasts(kept, p)))
        frame.loc[own, "p_null"] = _beyond(size, nulls[:, kinds == "covariance"])
        largest = nulls[:, kinds == "contrast"].max(axis=1)
        frame.loc[own, "beyond"] = (size > largest) & frame.loc[own, "sure"]
        frame["beyond"] &= frame["p_null"] < ALPHA
    return frame.assign(
        fixed=fixed,
        items=len(kept.clusters),
        clusters=len(set(kept.clusters)),
        texts=len(kept.arms(condition)[0]),
    )


def _cells_first(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[text, item, cell, measure]`` as ``[cell, measure, text, item]``."""
    return values.transpose(2, 3, 0, 1)


def _spread(kept: Kept, p: int) -> FloatArray:
    """SD of each cell's dot product over the placebo prompts of the condition asked about."""
    _, placebo = kept.arms(kept.asked)
    spread = kept.measured[p, placebo, :, :, 0].astype(float).std(axis=(0, 1))
    return np.where(spread > 0, spread, np.nan)


def _null_contrasts(kept: Kept, p: int) -> FloatArray:
    """Treated - placebo along every null, ``[layer, null]``, in its own placebo SDs."""
    n_prompts = len(kept.clusters) * len(kept.arms(kept.asked)[0])
    treated, placebo, squares = kept.null_sums[p] / n_prompts
    variance = squares - placebo**2
    spread = np.sqrt(np.where(variance > 0, variance, np.nan))
    shape = tuple(kept.readers[p].nulls.vectors.shape[:2])
    return ((treated - placebo) / spread).reshape(shape)


def _beyond(size: FloatArray, nulls: FloatArray) -> FloatArray:
    """Family-wise p over layers: the share of nulls that reach each size at any layer."""
    largest = nulls.max(axis=0)
    reached = (largest[None] >= size[:, None]).sum(-1)
    return np.where(np.isnan(size), np.nan, (1 + reached) / (1 + len(largest)))


def null_table(kept: Kept) -> pd.DataFrame:
    """The contrast of the condition asked about along every null, per position, null and layer.

    ``kind``: ``covariance``, ``contrast`` (a non-moral one) or ``placebo`` (between placebo texts).
    ``estimate`` in placebo SDs along that null.
    """
    frames = []
    for p, reader in enumerate(kept.readers):
        if kept.fixed[p]:
            continue
        contrasts = _null_contrasts(kept, p)
        n_layers, n_nulls = contrasts.shape
        frames.append(
            pd.DataFrame(
                {
                    "position": reader.position,
                    "kind": [kind for kind in reader.nulls.kinds for _ in range(n_layers)],
                    "name": [name for name in reader.nulls.names for _ in range(n_layers)],
                    "layer": list(reader.stack.layers) * n_nulls,
                    "estimate": contrasts.T.reshape(-1),
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=_NULLS)


_NULLS = ["position", "kind", "name", "layer", "estimate"]


def contributor_table(kept: Kept, seed: int) -> pd.DataFrame:
    """The decomposition's contrast by part, per position and condition.

    In placebo SDs of the whole projection at the direction's layer, so that the parts' estimates
    add up to that layer's own. ``p``: sign-flip max-T over all parts; ``sure`` as above.
    """
    frames = []
    for p, reader in enumerate(kept.readers):
        if kept.fixed[p]:
            continue
        cells = reader.cells
        whole = (cells["component"] == reader.stack.site) & (cells["layer"] == reader.target.layer)
        spread = _spread(kept, p)[np.flatnonzero(whole)[0]]
        for condition in kept.treated:
            treated, placebo = (
                kept.parts[p, arm].transpose(2, 0, 1).astype(float) for arm in kept.arms(condition)
            )
            labels = (reader.position, condition, "parts")
            interval = two_way_bootstrap(treated, placebo, kept.clusters, seed=seed, labels=labels)
            shift = treated.mean(-2) - placebo.mean(-2)
            test = sign_flip_max_t(shift, kept.clusters, seed=seed, labels=labels)
            frame = reader.parts.assign(
                estimate=interval.estimate / spread,
                low=interval.low / spread,
                high=interval.high / spread,
                dot=interval.estimate,
                p=test.p_corrected,
                sure=interval.excludes(0) & (test.p_corrected < ALPHA),
                clusters=len(set(kept.clusters)),
            )
            frame.insert(0, "condition", condition)
            frame.insert(0, "position", reader.position)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=_CONTRIBUTORS)


_CONTRIBUTORS = [
    "position", "condition", "label", "component", "layer", "head",
    "estimate", "low", "high", "dot", "p", "sure", "clusters",
]  # fmt: skip


def level_table(kept: Kept) -> pd.DataFrame:
    """Means of every condition, over items and texts, per position and cell.

    ``condition`` is ``placebo (revealing)`` for the control's own placebos. A span that the clean
    prompt lacks gives NaN there.
    """
    frames = []
    for p, reader in enumerate(kept.readers):
        for (contrast, name), variants in _groups(kept).items():
            means = kept.measured[p, variants].astype(float).mean(axis=(0, 1))
            frame = reader.cells.drop(columns=["scale", "offset"])
            scale, offset = (reader.cells[c].to_numpy() for c in ("scale", "offset"))
            own = contrast == CONTROL and name == "placebo"
            frame.insert(0, "condition", "placebo (revealing)" if own else name)
            frame.insert(0, "position", reader.position)
            frames.append(
                frame.assign(
                    class_units=(means[:, 0] - offset) / scale,
                    **{measure: means[:, m] for m, measure in enumerate(MEASURES)},
                )
            )
    return pd.concat(frames, ignore_index=True)


def _groups(kept: Kept) -> dict[tuple[str, str], list[int]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for (contrast, name, _), k in kept.variants.items():
        groups.setdefault((contrast, name), []).append(k)
    return groups
