"""SweepResult: TransformerLens's PatchingResult with both baselines, labels and statistics."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float, Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformer_lens.patching import PatchingResult

from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError
from interp.parsing import parse_json
from interp.patching.axis_columns import axis_columns, with_labels, with_numbers
from interp.patching.measure import Table
from interp.patching.places import AlignedTokens
from interp.patching.plan import SweepPlan
from interp.patching.positions import COUNT_COLUMNS, TokenCounts
from interp.prompts import PromptPair
from interp.stats import Interval, MaxT, cluster_mean, interval_columns, max_t
from interp.stats import share as share_of

_FORMAT = "interp.patching.sweep"


@dataclass
class SweepResult(PatchingResult):
    """Patched metrics ``values [metric?, *axes, pair]`` with what is needed to read them.

    The metric axis is there only when several were asked for: ``result["margin"]`` picks one.
    ``baseline`` holds the destination's own values, ``source_baseline`` the source's, ``[pair]``. A
    cell's effect is patched - destination, in the metric's unit (nats for the margin, which is the
    logit difference); its share is 0 at the destination and 1 at the source. NaN: nothing was
    aligned to copy. In TransformerLens's words the source run gives the ``clean_cache``, the
    destination is the corrupted run. ``clusters`` and ``wordings`` name the cluster of items and the
    pair of wordings of every pair: both are random, of a single wording clusters alone. ``tokens``
    counts how many tokens of each column of positions were patched (None where nothing is copied).
    ``places`` says what stands at each position in both prompts (of a grid with positions).
    """

    source_baseline: Float[Tensor, "*metric pair"] = field(default_factory=lambda: torch.empty(0))
    axis_labels: dict[str, list[str]] = field(default_factory=dict)
    pair_labels: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    wordings: list[str] = field(default_factory=list)
    site: str = "resid_pre"
    title: str = ""
    seed: int = 0
    notes: tuple[str, ...] = ()
    tokens: TokenCounts | None = None
    places: tuple[AlignedTokens, ...] = ()

    __repr__ = short_repr

    @classmethod
    def of_table(
        cls,
        plan: SweepPlan,
        table: Table,
        pairs: Sequence[PromptPair],
        *,
        metric_names: Sequence[str],
        several: bool,
        title: str,
        seed: int,
        notes: Sequence[str] = (),
    ) -> SweepResult:
        """The result of a plan's measured table."""
        labels = {name: plan.axis_labels[name] for name in plan.axis_names}
        index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
        keep = slice(None) if several else 0
        return cls(
            values=table.values[keep],
            axis_names=list(plan.axis_names),
            index_df=index.to_frame(index=False),
            metric_names=list(metric_names),
            reduced=False,
            has_metric_axis=several,
            baseline=table.destination[keep],
            source_baseline=table.source[keep],
            axis_labels=labels,
            pair_labels=_unique([pair.label for pair in pairs]),
            clusters=[p.item.cluster if p.item else str(k) for k, p in enumerate(pairs)],
            wordings=[pair.wording for pair in pairs],
            site=plan.site,
            title=title,
            seed=seed,
            notes=(*notes, *table.notes),
            tokens=plan.tokens,
            places=plan.places,
        )

    def __getitem__(self, metric_name: str) -> SweepResult:
        """One metric's result."""
        chosen = super().__getitem__(metric_name)
        if chosen is self:
            return self
        own = {
            "values": chosen.values,
            "metric_names": [metric_name],
            "has_metric_axis": False,
            "baseline": chosen.baseline,
            "source_baseline": self.source_baseline[self.metric_names.index(metric_name)],
        }
        return SweepResult(**{**vars(self), **own})

    @property
    def n_wordings(self) -> int:
        """Pairs of wordings among the pairs."""
        return max(1, len(set(self.wordings)))

    def total(self) -> Interval:
        """The effect there is to explain: mean(source - destination), in the metric's unit."""
        return self.mean_of(self._differences())

    def effect_interval(self) -> Interval:
        """Mean effect per cell, in the metric's unit, each for itself."""
        return self.mean_of(self._effects())

    def share(self) -> Interval:
        """mean(patched - destination) / mean(source - destination) per cell, by Fieller's method.

        NaN with a reason where the denominator's interval contains 0.
        """
        return self.share_of_total(self._effects())

    def max_t(self) -> MaxT:
        """Two-way studentised max-t over all cells, drawn with ``seed``."""
        return max_t(
            self._effects(), self.clusters, wordings=self._random_wordings(), seed=self.seed
        )

    def mean_of(self, values: Float64[np.ndarray, "*cells pair"]) -> Interval:
        """Means of values per pair, with clusters and wordings of this result as random."""
        interval = cluster_mean(values, self.clusters, wordings=self._random_wordings())
        return replace(interval, texts=(self.n_wordings, self.n_wordings))

    def share_of_total(self, values: Float64[np.ndarray, "*cells pair"]) -> Interval:
        """Means of values per pair over the mean of source - destination."""
        return share_of(
            values, self._differences(), self.clusters, wordings=self._random_wordings()
        )

    def _random_wordings(self) -> list[str] | None:
        return self.wordings if self.n_wordings > 1 else None

    def top(self, k: int = 10) -> pd.DataFrame:
        """The ``k`` cells of largest mean effect, with interval and family-wise p.

        Columns: the grid's axes, ``label``, the interval's (:mod:`interp.stats.columns`; + = the patch
        raises the metric) and ``p_corrected``, by max-t over all cells.
        """
        rows = with_numbers(self.index_df).assign(
            label=self.cell_labels(),
            **interval_columns(self.effect_interval()),
            p_corrected=np.asarray(self.max_t().p_corrected, dtype=float).reshape(-1),
        )
        order = rows["estimate"].abs().sort_values(ascending=False, kind="stable").index
        return rows.loc[order].head(k).reset_index(drop=True)

    def partly_patched(self) -> npt.NDArray[np.bool_]:
        """Cells of ``index_df`` of which some pair has tokens that were not patched: no effect of
        theirs stands for the whole span."""
        columns = self.columns_of_cells()
        if self.tokens is None:
            return np.zeros(len(columns), dtype=bool)
        return np.asarray(self.tokens.partly().numpy()[columns])

    def not_patched(self, column: int = 0) -> str:
        """``7 of 9 tokens not patched`` of a column of positions or spans; empty where all are.

        See :meth:`interp.patching.TokenCounts.not_patched`. Grids without such an axis have one column.
        """
        return "" if self.tokens is None else self.tokens.not_patched(column)

    def columns_of_cells(self) -> npt.NDArray[np.intp]:
        """Which column of positions or spans every cell of ``index_df`` is of; all 0 without any."""
        shape = [len(self.axis_labels[name]) for name in self.axis_names]
        if self.axis_names[-1] not in ("pos", "span"):
            return np.zeros(math.prod(shape), dtype=np.intp)
        return np.indices(shape)[-1].reshape(-1)

    def cell_labels(self) -> list[str]:
        """A name per cell: ``L9`` with ``H6``, and the position or span."""
        names = []
        for row in self.index_df.astype(str).to_dict("records"):
            head = f"H{row['head']}" if "head" in row else ""
            where = row.get("pos", row.get("span", ""))
            names.append(f"L{row['layer']}{head} {where}".strip())
        return names

    def to_dataframe(self) -> pd.DataFrame:
        """Long form: one row per (cell, pair) with patched value, both baselines and the effect.

        The first column names the metric; several follow one another. Layers and heads are numbers.
        ``patched_tokens`` of ``source_tokens`` and ``destination_tokens``: :class:`TokenCounts`.
        """
        if self.has_metric_axis:
            frames = [self[name].to_dataframe() for name in self.metric_names]
            return pd.concat(frames, ignore_index=True)
        shape = tuple(self.values.shape)
        grid = np.indices(shape).reshape(len(shape), -1)
        columns: dict[str, object] = {}
        for k, name in enumerate(self.axis_names):
            columns |= axis_columns(name, np.array(self.axis_labels[name])[grid[k]].tolist())
        pair = grid[-1]
        counts: dict[str, object] = {}
        if self.tokens is not None:
            place = (self.columns_of_cells().repeat(shape[-1]), pair)
            table = self.tokens.table().numpy()
            counts = {name: table[k][place] for k, name in enumerate(COUNT_COLUMNS)}
        destination, source = self._destination().numpy(), self.source_baseline.numpy()
        value = self.values.reshape(-1).numpy()
        return pd.DataFrame(
            {
                "metric": self.metric_names[0],
                "site": self.site,
                **columns,
                "pair": np.array(self.pair_labels)[pair],
                "cluster": np.array(self.clusters)[pair],
                "wording": np.array(self.wordings or [""] * len(self.pair_labels))[pair],
                "value": value,
                "destination": destination[pair],
                "source": source[pair],
                "effect": value - destination[pair],
                **counts,
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
        """One metric's result again from its rows of :meth:`to_dataframe`, cells in their order.

        Rows without a column ``wording`` are of one wording.

        Raises:
            InterpError: rows missing or repeated.
        """
        frame = with_labels(frame)
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
            metric_names=[str(frame["metric"].iloc[0])],
            reduced=False,
            baseline=_tensor(per_pair["destination"]),
            source_baseline=_tensor(per_pair["source"]),
            axis_labels={name: [str(v) for v in values] for name, values in labels.items()},
            pair_labels=[str(pair) for pair in pairs],
            clusters=[str(cluster) for cluster in per_pair["cluster"]],
            wordings=[str(name) for name in per_pair.get("wording", [])],
            site=str(frame["site"].iloc[0]),
            title=title,
            seed=seed,
            notes=notes,
            tokens=_counts_of(rows, axis_names, shape),
        )

    def save(self, path: Path | str) -> Path:
        """Write everything into one safetensors file."""
        facts = {
            name: getattr(self, name)
            for name in (
                "axis_names", "metric_names", "has_metric_axis", "axis_labels", "pair_labels",
                "clusters", "wordings", "site", "title", "seed", "notes", "places",
            )
        }  # fmt: skip
        tensors = {
            "values": self.values.contiguous(),
            "destination": self._destination().contiguous(),
            "source": self.source_baseline.contiguous(),
        }
        if self.tokens is not None:
            tensors["tokens"] = self.tokens.table().contiguous()
        try:
            save_file(tensors, path, metadata={_FORMAT: json.dumps(facts, default=astuple)})
        except (OSError, SafetensorError) as error:
            raise InterpError(f"{path}: cannot be written ({error})") from error
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> SweepResult:
        """The result that :meth:`save` wrote.

        Raises:
            InterpError: no such file, or not a saved sweep.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = parse_json((file.metadata() or {})[_FORMAT], f"{path}: the header")
                values, destination, source = (
                    file.get_tensor(name) for name in ("values", "destination", "source")
                )
                counted = file.get_tensor("tokens") if "tokens" in list(file.keys()) else None
            labels = facts["axis_labels"]
            index = pd.MultiIndex.from_product(list(labels.values()), names=list(labels))
            facts["notes"] = tuple(facts["notes"])
            facts["places"] = tuple(AlignedTokens(*place) for place in facts.get("places", ()))
            return cls(
                values=values,
                index_df=index.to_frame(index=False),
                reduced=False,
                baseline=destination,
                source_baseline=source,
                tokens=None if counted is None else TokenCounts(*counted),
                **facts,
            )
        except InterpError:
            raise
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InterpError(f"{path}: not a saved sweep ({error})") from error

    def _require_one_metric(self) -> None:
        if self.has_metric_axis:
            raise InterpError(
                f"several metrics: choose one, result[{self.metric_names[0]!r}] for example"
            )

    def _effects(self) -> npt.NDArray[np.float64]:
        self._require_one_metric()
        return self.effect().double().numpy()

    def _differences(self) -> npt.NDArray[np.float64]:
        self._require_one_metric()
        return (self.source_baseline - self._destination()).double().numpy()

    def _destination(self) -> Tensor:
        assert self.baseline is not None  # the engine always records it
        return self.baseline

    def _repr_html_(self) -> str:
        if self.has_metric_axis:
            return "".join(self[name]._repr_html_() for name in self.metric_names)
        head = (
            f"{self.title}: mean effect on the {self.metric_names[0]}, "
            f"source - destination = {self.total()}"
        )
        mean = self.index_df.assign(effect=self.effect().mean(-1).reshape(-1).numpy())
        means = mean.set_index(list(self.index_df.columns))["effect"]
        grid = means.unstack(sort=False) if means.index.nlevels > 1 else means.to_frame()
        grid = grid.rename_axis(index=None, columns=None)
        notes = "".join(html_paragraph(note) for note in self.notes)
        return html_paragraph(head, bold=True) + notes + html_table(grid, decimals=3, index=True)


def _unique(labels: Sequence[str]) -> list[str]:
    """The labels, numbered where several pairs (texts or orders of one item) share one."""
    return [f"{label} #{k}" if labels.count(label) > 1 else label for k, label in enumerate(labels)]


def _counts_of(rows: pd.DataFrame, axis_names: list[str], shape: list[int]) -> TokenCounts | None:
    """The counts of a table's ordered rows; None of one without them."""
    if not set(COUNT_COLUMNS) <= set(rows):
        return None
    n_columns = shape[-2] if axis_names[-1] in ("pos", "span") else 1
    first = rows.iloc[: n_columns * shape[-1]]  # the other cells repeat them
    table = torch.tensor(first[list(COUNT_COLUMNS)].to_numpy(dtype=np.int64).T)
    return TokenCounts(*table.reshape(3, n_columns, shape[-1]))


def _tensor(column: pd.Series) -> Tensor:
    return torch.tensor(column.to_numpy(dtype=np.float32))
