"""By which route an instruction acts: runs whose stored content, or instruction, is the other prompt's.

The instruction stands first. Its words can change what is stored of the context and the question
(the *content route*), and they can be read by whatever makes the answer (the *instruction route*). Three
patched runs tell the two apart, all layers at once, every state from a run of its own:

- ``content``: the placebo run with the content's states of the corrected run. What is behind reads
  changed content and the placebo's words.
- ``instruction``: the corrected run with the content's states of the placebo run. What is behind reads
  the instruction and unchanged content.
- ``everything``: the placebo run with all states from the first difference on: the corrected run itself.

With e(run) = metric(run) - metric(placebo): the total is e(corrected) = e(content) + e(instruction) +
interaction, by definition; e(everything) = e(corrected) is an identity that is measured.

Content can also merely *carry* the instruction on: a flag, the same for every item, that the end reads
there. ``shift`` is the ``content`` run with the mean change of other items in the place of its own
(:func:`content_shift`, :func:`donated_shift`). A flag works from any donor; changed content does not.

Knockout asks the same of the edges: ``no_content_edges`` (content no longer reads the instruction side)
and ``no_other_edges`` (nothing else does), each in the corrected and in the placebo run, since removing
edges has effects of its own.

``behind`` asks how deep the effect has gone. Taking the stream before layer l from the corrected run at
*all* positions gives the corrected run at every l, which says nothing. Here only the rows behind the
instruction are taken: before layer 0 they are embeddings of equal tokens, so nothing changes, D(0) = 0;
behind the last layer they are what is unembedded, so D(L) = 1. In between D(l) says how much of the
effect has passed from the instruction's words into what stands behind them.

Cost per pair: two unpatched and seven patched runs, and for the depth L + 1 patched ones that begin at
their layer.

Example:
    >>> pair = make_pair(model, item, "instructed", placement="before")     # doctest: +SKIP
    >>> measure_routes(model, [pair])                                        # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching import PatchedRuns
from interp.patching.cells import Cell, Patch
from interp.patching.metrics import evaluate_metrics, require_target
from interp.patching.patched import MAX_BYTES
from interp.patching.plan import require_site
from interp.patching.sites import SweepMethod
from interp.prompts import PromptPair, require_runnable
from interp.superficiality.pairs import clusters_of, item_of
from interp.superficiality.sides import (
    CONTENT_SPANS,
    Sides,
    edge_rows,
    metrics_of,
    residual_states,
    set_states,
    sides_of,
)

PLACEBO, CORRECTED = "placebo", "corrected"
"""The two unpatched runs."""

Shift = Float[Tensor, "span layer d_model"]
"""Mean change of the content's states, span by span."""

COLUMNS = ("item", "cluster", "context", "slot", "run", "layer", "metric", "value")
"""Of measured runs, in long form. ``slot``: which wordings; ``layer``: that of ``behind``, else -1."""


def measure_routes(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    shifts: Sequence[Shift] | None = None,
    onset: bool = True,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """The metrics of every run named above, a row per pair, run and metric (:data:`COLUMNS`).

    Args:
        model: a bridge in evaluation mode.
        pairs: corrected -> placebo, the instruction first, aligned by index.
        shifts: for each pair what its ``shift`` run adds to the content's states; None leaves it out.
        onset: also run ``behind`` at every layer from 0 to L.
        content: the spans that are content.
        clusters: of the pairs, where they have no items; by default the items'.
        method: ``"exact"``, or ``"hooked"`` for one forward per run.
        max_bytes: memory budget.

    Raises:
        InterpError: what :func:`interp.superficiality.sides.sides_of` refuses, or attention that edges
            cannot be removed from.
    """
    require_site(model, "edges")
    runs = MeasuredRuns(model, pairs, content, clusters, method=method, max_bytes=max_bytes)
    for number, sides in enumerate(runs.sides):
        there, here = 2 * number, 2 * number + 1  # the placebo's run and the corrected one
        corrected, placebo = runs.states(here), runs.states(there)
        rows = sides.content
        runs.add(there, "content", set_states(corrected, rows))
        runs.add(here, "instruction", set_states(placebo, rows))
        runs.add(there, "everything", set_states(corrected, sides.prompt))
        if shifts is not None:
            moved = _shifted(placebo, sides, dict(zip(content, shifts[number], strict=True)))
            runs.add(there, "shift", set_states(moved, rows))
        for name, queries in (("no_content_edges", rows), ("no_other_edges", sides.rest)):
            gone = _without_edges(model, sides, queries)
            runs.add(there, f"{PLACEBO}_{name}", gone)
            runs.add(here, f"{CORRECTED}_{name}", gone)
        for layer, patch in enumerate(_behind(corrected, sides)) if onset else ():
            runs.add(there, "behind", [patch], layer)
    return runs.measure()


def content_shift(
    model: TransformerBridge, pair: PromptPair, *, content: Sequence[str] = CONTENT_SPANS
) -> Float[Tensor, "span layer d_model"]:
    """Corrected minus placebo states of the content, mean over each span's positions, every layer.

    Spans in the order of ``content``; zero for one that the prompt does not have.

    Raises:
        InterpError: see :func:`measure_routes`.
    """
    sides = prepare(model, pair, content)
    corrected, placebo = (residual_states(model, r) for r in (sides.corrected, sides.placebo))
    change = (corrected - placebo)[:-1]
    none = torch.zeros_like(change[:, 0])
    return torch.stack(
        [change[:, sides.spans[name]].mean(1) if name in sides.spans else none for name in content]
    )


def donated_shift(
    shifts: Float[Tensor, "pair span layer d_model"],
    clusters: Sequence[str],
    high: Sequence[bool],
) -> Float[Tensor, "pair span layer d_model"]:
    """For each pair the mean shift of other clusters' pairs in the other half of the levels.

    ``high``: :func:`high_half` of how each pair's item is answered without the instruction. A flag is
    the same whatever the content says, so the shift of items that are answered well moves those that
    are answered badly just as their own does. A *mean* over all items cannot tell: where answers follow
    states linearly, it has the mean effect by arithmetic, also if it is made of two kinds of items of
    which one changes and the other does not. (On trained models that rewrite content the mean shift of
    all other items brings up to 1.0 of the effect, that of the other half .0 to .5.)

    Raises:
        InterpError: a pair without a donor; lengths that differ.
    """
    if not len(shifts) == len(clusters) == len(high):
        raise InterpError(
            f"donated_shift: {len(shifts)} shifts, {len(clusters)} clusters and {len(high)} halves: "
            "give one each per pair"
        )
    return torch.stack([shifts[list(own)].mean(0) for own in donors_of(clusters, high)])


def donors_of(clusters: Sequence[str], high: Sequence[bool]) -> list[tuple[int, ...]]:
    """For each pair the numbers of those of other clusters in the other half.

    Raises:
        InterpError: a pair without any.
    """
    halves, names = np.asarray(high, dtype=bool), np.asarray(clusters)
    found = []
    for number in range(len(names)):
        donors = np.flatnonzero((names != names[number]) & (halves != halves[number]))
        if not len(donors):
            raise InterpError(
                f"pair {number} has no donor of another cluster in the other half of the items: give "
                "items of more clusters"
            )
        found.append(tuple(donors.tolist()))
    return found


def high_half(levels: Sequence[float]) -> list[bool]:
    """Which items are in the upper half of the levels; every second one where all are equal."""
    values = np.asarray(levels, dtype=float)
    if len(values) and np.ptp(values) == 0:
        return [bool(k % 2) for k in range(len(values))]
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return [bool(one >= len(values) / 2) for one in rank]


def prepare(model: TransformerBridge, pair: PromptPair, content: Sequence[str]) -> Sides:
    """A pair taken apart, refused where this model cannot run or read it.

    Raises:
        InterpError: see :func:`interp.superficiality.sides.sides_of`.
    """
    require_runnable(model, pair)
    metrics = metrics_of(pair)
    require_target(model, [pair], metrics)
    return sides_of(pair, metrics, content=content)


class MeasuredRuns:
    """Patched runs of both prompts of some pairs, named, and their metrics as a table.

    Run ``2 k`` is the placebo's of pair k, ``2 k + 1`` the corrected one. ``sides``: the pairs taken
    apart. Arguments as those of :func:`measure_routes`.

    Raises:
        InterpError: see :func:`prepare`; clusters that are not one per pair.
    """

    def __init__(
        self,
        model: TransformerBridge,
        pairs: Sequence[PromptPair],
        content: Sequence[str],
        clusters: Sequence[str] | None,
        *,
        method: SweepMethod,
        max_bytes: int,
    ) -> None:
        if clusters is not None and len(clusters) != len(pairs):
            raise InterpError(f"{len(clusters)} clusters for {len(pairs)} pairs: give one per pair")
        self.sides = [prepare(model, pair, content) for pair in pairs]
        self._model, self._clusters = model, clusters_of(pairs, clusters)
        self._readings = [r for sides in self.sides for r in (sides.placebo, sides.corrected)]
        self._runs = PatchedRuns.of_readings(
            model, self._readings, method=method, max_bytes=max_bytes
        )
        self._names: list[tuple[str, int]] = []
        self._cells: list[Cell] = []

    def states(self, run: int) -> Float[Tensor, "layer row d_model"]:
        """The residual stream of an unpatched prompt (:func:`.sides.residual_states`)."""
        recorded = self._runs.residual(run)
        return residual_states(self._model, self._readings[run]) if recorded is None else recorded

    def add(self, run: int, name: str, patches: Sequence[Patch], layer: int = -1) -> None:
        """One patched run of a prompt."""
        self._names.append((name, layer))
        self._cells.append(Cell(run, tuple(patches)))

    def measure(self) -> pd.DataFrame:
        """Run what was added; a row per pair, run and metric."""
        rows: dict[int, list[tuple[object, ...]]] = {}
        for run, logits in enumerate(self._runs.logits):
            name = CORRECTED if run % 2 else PLACEBO
            rows[run] = self._rows(run, [(name, -1)], logits[None])
        n = len(rows)

        def consume(indices: list[int], logits: Tensor) -> None:
            for index, own in zip(indices, logits, strict=True):
                run = self._cells[index].run
                rows[n + index] = self._rows(run, [self._names[index]], own[None])

        self._runs.run(self._cells, consume)
        ordered = [row for key in sorted(rows) for row in rows[key]]
        frame = pd.DataFrame(ordered, columns=list(COLUMNS))
        frame.attrs["notes"] = list(self._runs.notes)
        return frame

    def _rows(
        self, run: int, names: Sequence[tuple[str, int]], logits: Tensor
    ) -> list[tuple[object, ...]]:
        pair = self.sides[run // 2].pair
        metrics = metrics_of(pair)
        values = evaluate_metrics(metrics, logits, pair)
        item, cluster = item_of(pair, run // 2), self._clusters[run // 2]
        context = "" if pair.item is None else pair.item.context_condition
        return [
            (item, cluster, context, pair.wording, name, layer, metric, float(value))
            for metric, row in zip(metrics, values, strict=True)
            for (name, layer), value in zip(names, row, strict=True)
        ]


def _behind(states: Float[Tensor, "layer row d_model"], sides: Sides) -> list[Patch]:
    """The stream before each layer, then behind the last one, at the rows behind the instruction."""
    rows, last = sides.behind, len(states) - 2
    return [*set_states(states, rows), Patch(last, "resid_post", rows, states[-1, rows])]


def _shifted(
    placebo: Float[Tensor, "layer row d_model"], sides: Sides, shift: Mapping[str, Tensor]
) -> Float[Tensor, "layer row d_model"]:
    """The placebo's states with a shift added to every span of the content."""
    moved = placebo.clone()
    for name, rows in sides.spans.items():
        moved[:-1, rows] += shift[name][:, None].to(moved)
    return moved


def _without_edges(
    model: TransformerBridge, sides: Sides, queries: Int[Tensor, " query"]
) -> list[Patch]:
    """Patches that remove the edges from some rows to the instruction side, in all layers."""
    heads = tuple(range(int(model.cfg.n_heads)))
    gone = edge_rows(queries, sides.instruction, len(sides.placebo), len(heads))
    return [Patch(layer, "edges", queries, gone, heads) for layer in range(int(model.cfg.n_layers))]
