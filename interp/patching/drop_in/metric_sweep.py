"""Metrics of many patched runs of one batch: one value per row of an index.

Only the logits that the metrics read are computed (:mod:`interp.patching.drop_in` says how they are
found and checked), by :class:`interp.patching.patched.PatchedRuns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.patching import PatchingResult

from interp.errors import InterpError
from interp.patching.cells import Cell
from interp.patching.hooked import run_cell
from interp.patching.patched import PatchedRuns
from interp.stats import rng

LogitsMetric: TypeAlias = Callable[[Tensor], Any]
"""``metric(logits [batch, pos, d_vocab])``: a scalar, or ``[batch]`` unless ``reduce="scalar"``."""

Reduce = Literal["scalar", "mean", "none"]
_CHECKED_ROWS = 2


@dataclass(frozen=True, eq=False)
class PatchedRow:
    """A row of the index that changes something: its place, and one cell per example changed.

    ``build`` makes the cells when they are to be run: the values of all rows together can be far
    larger than the cache that they come from. ``start`` is the first position patched.
    """

    number: int
    start: int
    n_bytes: int
    build: Callable[[], list[Cell]]


@dataclass(frozen=True)
class Request:
    """What a caller asks of the metrics; the words are TransformerLens's."""

    metrics: dict[str, LogitsMetric]
    several: bool
    reduce: Reduce
    baseline: bool

    @classmethod
    def of(
        cls,
        patching_metric: LogitsMetric | Mapping[str, LogitsMetric],
        reduce: Reduce,
        baseline: bool,
        return_index_df: bool = False,
    ) -> Request:
        """The request of one call.

        Raises:
            InterpError: an unknown reduction, no metrics, or an index beside a ``PatchingResult``.
        """
        several = isinstance(patching_metric, Mapping)
        metrics = dict(patching_metric) if isinstance(patching_metric, Mapping) else {
            "metric": patching_metric
        }  # fmt: skip
        request = cls(metrics, several, reduce, baseline)
        if reduce not in ("scalar", "mean", "none"):
            raise InterpError(f"reduce is {reduce!r}: choose scalar, mean or none")
        if not metrics:
            raise InterpError("no metrics: name at least one")
        if request.wants_result and return_index_df:
            raise InterpError("return_index_df goes with a tensor: a PatchingResult has index_df")
        return request

    @property
    def wants_result(self) -> bool:
        """Whether the caller gets a ``PatchingResult`` and not a tensor."""
        return self.several or self.reduce == "none" or self.baseline

    def result(
        self,
        values: Float[Tensor, "metric ..."],
        own: Float[Tensor, "metric ..."],
        axis_names: Sequence[str],
        index_df: pd.DataFrame,
        patch_type_names: list[str] | None = None,
    ) -> Tensor | PatchingResult:
        """Values ``[metric, *axes, batch?]`` and the corrupted run's, as the caller wants them."""
        if self.reduce == "mean":
            values, own = values.mean(-1), own.mean(-1)
        keep = slice(None) if self.several else 0
        if not self.wants_result:
            return values[0]
        return PatchingResult(
            values=values[keep],
            axis_names=list(axis_names),
            index_df=index_df,
            metric_names=list(self.metrics),
            reduced=self.reduce != "none",
            baseline=own[keep] if self.baseline else None,
            has_metric_axis=self.several,
            patch_type_names=patch_type_names,
        )


@dataclass(frozen=True, eq=False)
class MetricSweep:
    """A batch, what is asked of it, its own logits, and the rows that change something."""

    model: TransformerBridge
    tokens: Int[Tensor, "batch pos"]
    request: Request
    n_rows: int
    rows: list[PatchedRow]
    logits: Float[Tensor, "batch pos d_vocab"]
    max_bytes: int

    def evaluate(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "metric ..."]:
        """Every metric on full-shape logits, ``[metric, batch?]``."""
        per_example = self.request.reduce != "scalar"
        wanted = logits.shape[:1] if per_example else ()
        found = []
        for name, metric in self.request.metrics.items():
            value = torch.as_tensor(metric(logits)).detach()
            if tuple(value.shape) != tuple(wanted):
                what = f"{list(wanted)}, one per example," if wanted else "a scalar"
                raise InterpError(
                    f"metric {name!r} gave shape {list(value.shape)}, must give {what} under this "
                    "reduce"
                )
            found.append(value.float())
        return torch.stack(found)

    def run(self, *, progress: bool) -> Float[Tensor, "metric row ..."]:
        """Metrics of every row of the index, ``[metric, row, batch?]``."""
        every = [torch.arange(self.tokens.shape[1])] * len(self.tokens)
        read = self._rows_read()
        if read is not None:
            try:
                values = self._values(read, progress)
                if self._holds(values):
                    return values
            except InterpError:
                raise
            except Exception:  # a metric that does not take NaN has read a row that is not computed
                pass
        return self._values(every, progress)

    def _values(self, read: Sequence[Tensor], progress: bool) -> Float[Tensor, "metric row ..."]:
        """The same, with logits computed at the named rows of every example and NaN at the others."""
        runs = PatchedRuns(self.model, list(self.tokens.cpu()), read, max_bytes=self.max_bytes)
        own = self.evaluate(self.logits)
        values = own[:, None].repeat(1, self.n_rows, *[1] * (own.ndim - 1))
        unread = torch.full_like(self.logits, float("nan"))
        for example, where in enumerate(read):
            unread[example, where] = 0.0
        buffer = self.logits + unread
        for slab in tqdm(list(self._slabs(read)), desc="patching", disable=not progress):
            cells = [(row.number, cell) for row in slab for cell in row.build()]
            missing: dict[int, int] = {}
            for number, _ in cells:
                missing[number] = missing.get(number, 0) + 1
            waiting: dict[int, dict[int, Tensor]] = {}

            def enter(
                indices: list[int],
                logits: Tensor,
                cells: list[tuple[int, Cell]] = cells,
                missing: dict[int, int] = missing,
                waiting: dict[int, dict[int, Tensor]] = waiting,
            ) -> None:
                for index, row in zip(indices, logits, strict=True):
                    number, cell = cells[index]
                    found = waiting.setdefault(number, {})
                    found[cell.run] = row
                    if len(found) == missing[number]:
                        for example, where in enumerate(read):
                            own_rows = self.logits[example, where]
                            buffer[example, where] = found.get(example, own_rows)
                        values[:, number] = self.evaluate(buffer)
                        del waiting[number]

            runs.run([cell for _, cell in cells], enter)
        return values

    def _slabs(self, read: Sequence[Tensor]) -> Iterator[list[PatchedRow]]:
        """Rows by first position, in groups whose values, and whose logits where they wait, fit.

        A metric needs all examples of a row at once, so that logits wait for each other; with one
        example they never do.
        """
        logits = 4 * int(self.model.cfg.d_vocab) * sum(len(where) for where in read)
        waits = 0 if len(read) == 1 else logits
        slab: list[PatchedRow] = []
        held = patches = 0
        for row in sorted(self.rows, key=lambda row: row.start):
            too_many = held + waits > self.max_bytes // 4
            if slab and (too_many or patches + row.n_bytes > self.max_bytes // 8):
                yield slab
                slab, held, patches = [], 0, 0
            slab.append(row)
            held += waits
            patches += row.n_bytes
        if slab:
            yield slab

    def _rows_read(self) -> list[Tensor] | None:
        """For each example the rows that some metric's gradient reaches; None where there is none."""
        reached = torch.zeros(self.logits.shape[:2], dtype=torch.bool)
        with torch.enable_grad():
            for metric in self.request.metrics.values():
                logits = self.logits.detach().clone().requires_grad_(True)
                try:
                    value = torch.as_tensor(metric(logits))
                    (gradient,) = torch.autograd.grad(value.sum(), logits)
                except RuntimeError:  # an accuracy, a metric that detaches, ...
                    return None
                reached |= (gradient != 0).any(-1).cpu()  # NaN counts as read
        read = [row.nonzero()[:, 0] for row in reached]
        return read if all(len(where) for where in read) else None

    def _holds(self, values: Float[Tensor, "metric row ..."]) -> bool:
        """Whether no row read NaN, and two of them run in full give what the chosen logits gave."""
        if not self.rows:
            return True
        if not bool(torch.isfinite(values).all()):
            return False
        generator = rng(0, "metrics of full runs")
        n_checked = min(_CHECKED_ROWS, len(self.rows))
        picked = generator.choice(len(self.rows), n_checked, replace=False)
        every = torch.arange(self.tokens.shape[1])
        spread = values.flatten(1).amax(1) - values.flatten(1).amin(1)
        for row in (self.rows[int(k)] for k in picked):
            logits = self.logits.clone()
            for cell in row.build():
                logits[cell.run] = run_cell(self.model, self.tokens[cell.run], cell.patches, every)
            full = self.evaluate(logits).view(len(values), -1)
            here = values[:, row.number].view(len(values), -1)
            allowed = 1e-3 * spread + 1e-5 * full.abs().amax(1)
            if not bool(((full - here).abs().amax(1) <= allowed).all()):
                return False
        return True
