"""SweepResult: TransformerLens's PatchingResult with both baselines, labels and statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.patching import PatchingResult

from interp.errors import InterpError
from interp.stats import Interval, MaxT, cluster_bootstrap, ratio_bootstrap, sign_flip_max_t


@dataclass
class SweepResult(PatchingResult):
    """Patched margins ``values [layer, span, pair]`` in nats, with what is needed to read them.

    ``baseline`` holds the destination's own margins, ``source_baseline`` the source's, ``[pair]``.
    A cell's effect is patched - destination; its share is 0 at the destination and 1 at the source.
    In TransformerLens's words the source run gives the ``clean_cache``, the destination is the
    corrupted run.
    """

    source_baseline: Float[Tensor, " pair"] = field(default_factory=lambda: torch.empty(0))
    axis_labels: dict[str, list[str]] = field(default_factory=dict)
    pair_labels: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    site: str = "resid_pre"
    title: str = ""
    seed: int = 0
    notes: tuple[str, ...] = ()

    def total(self) -> Interval:
        """The effect there is to explain: mean(source - destination), nats, clustered."""
        difference = (self.source_baseline - self._destination()).double().numpy()
        return cluster_bootstrap(difference, self.clusters, seed=self.seed, labels=("total",))

    def effect_interval(self) -> Interval:
        """Mean effect per cell in nats with a clustered bootstrap."""
        return cluster_bootstrap(
            self.effect().double().numpy(), self.clusters, seed=self.seed, labels=("effect",)
        )

    def share(self) -> Interval:
        """mean(patched - destination) / mean(source - destination) per cell, jointly bootstrapped.

        NaN with a reason where the denominator's interval contains 0.
        """
        total = (self.source_baseline - self._destination()).double().numpy()
        effect = self.effect().double().numpy()
        return ratio_bootstrap(effect, total, self.clusters, seed=self.seed, labels=("share",))

    def max_t(self) -> MaxT:
        """Sign-flip max-T over all cells, clusters as units."""
        effect = self.effect().double().numpy()
        return sign_flip_max_t(effect, self.clusters, seed=self.seed)

    def to_dataframe(self) -> pd.DataFrame:
        """Long form: one row per (cell, pair) with patched value, both baselines and the effect."""
        shape = tuple(self.values.shape)
        grid = np.indices(shape).reshape(len(shape), -1)
        columns: dict[str, object] = {
            name: np.array(self.axis_labels[name])[grid[k]]
            for k, name in enumerate(self.axis_names)
        }
        pair = grid[-1]
        destination, source = self._destination().numpy(), self.source_baseline.numpy()
        value = self.values.reshape(-1).numpy()
        return pd.DataFrame(
            {
                "site": self.site,
                **columns,
                "pair": np.array(self.pair_labels)[pair],
                "cluster": np.array(self.clusters)[pair],
                "value": value,
                "destination": destination[pair],
                "source": source[pair],
                "effect": value - destination[pair],
            }
        )

    @classmethod
    def from_dataframe(
        cls,
        frame: pd.DataFrame,
        *,
        axis_names: list[str],
        title: str = "",
        seed: int = 0,
        notes: tuple[str, ...] = (),
    ) -> SweepResult:
        """The result again from the rows of :meth:`to_dataframe` (cells in their order there).

        Raises:
            InterpError: rows missing or repeated.
        """
        labels = {name: list(dict.fromkeys(frame[name])) for name in axis_names}
        pairs = list(dict.fromkeys(frame["pair"]))
        shape = [*(len(values) for values in labels.values()), len(pairs)]
        if len(frame) != math.prod(shape) or frame.duplicated([*axis_names, "pair"]).any():
            raise InterpError(
                f"{len(frame)} rows do not fill {' x '.join(map(str, shape))} cells: the table is "
                "incomplete or holds several results"
            )
        order = [
            pd.Categorical(frame[name], categories=values)
            for name, values in [*labels.items(), ("pair", pairs)]
        ]
        rows = frame.iloc[np.lexsort([c.codes for c in reversed(order)])]
        per_pair = frame.drop_duplicates("pair").set_index("pair").loc[pairs]
        index = pd.MultiIndex.from_product(list(labels.values()), names=axis_names)
        return cls(
            values=_tensor(rows["value"]).reshape(shape),
            axis_names=list(axis_names),
            index_df=index.to_frame(index=False),
            metric_names=["margin"],
            reduced=False,
            baseline=_tensor(per_pair["destination"]),
            source_baseline=_tensor(per_pair["source"]),
            axis_labels={name: [str(v) for v in values] for name, values in labels.items()},
            pair_labels=[str(pair) for pair in pairs],
            clusters=[str(cluster) for cluster in per_pair["cluster"]],
            site=str(frame["site"].iloc[0]),
            title=title,
            seed=seed,
            notes=notes,
        )

    def _destination(self) -> Tensor:
        assert self.baseline is not None  # the engine always records it
        return self.baseline

    def _repr_html_(self) -> str:
        mean = pd.DataFrame(
            self.effect().mean(-1).numpy(),
            index=self.axis_labels[self.axis_names[0]],
            columns=self.axis_labels[self.axis_names[1]],
        )
        head = f"{self.title}: mean effect in nats, source - destination = {self.total()}"
        notes = "".join(f"<p>{note}</p>" for note in self.notes)
        return f"<p><b>{head}</b></p>{notes}" + mean.to_html(border=0, float_format="{:.3f}".format)


def _tensor(column: pd.Series) -> Tensor:
    return torch.tensor(column.to_numpy(dtype=np.float32))
