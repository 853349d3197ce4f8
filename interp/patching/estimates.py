"""First-order estimates of planned cells, pair by pair: the arithmetic of attribution patching.

Beside each estimate stands the size of what it leaves out. The first-order term of a cell is ``g . d``,
with the gradient ``g`` on the destination and ``d = source - destination``; the next term is quadratic
in ``d``. Its coefficient is not known, but what bends is mostly a norm, over a distance of the size of
the activation ``h`` itself: so the *curvature* of a cell is taken as ``|g| |d|^2 / |h|``, summed over
its positions and heads. Errors go with it: the correlation of their logarithms is .6 to .9 on BBQ and
IOI pairs. :mod:`interp.patching.missed` fits the factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.exact_softmax import SOFTMAX_SITES, SoftmaxEffects, softmax_effects
from interp.patching.gradients import Node, along_path, differentiate, read_states
from interp.patching.grid import Grid
from interp.patching.hooked import supports_hook
from interp.patching.metrics import Metric, evaluate_metrics, reading_of, require_target
from interp.patching.plan import PlannedCell, SweepPlan, plan_sweep
from interp.patching.sites import AttributionMethod, PatchSite
from interp.patching.source import SourceRun
from interp.prompts import PromptPair


@dataclass(frozen=True)
class How:
    """How an effect is estimated: the arguments of :func:`interp.patching.attribute`."""

    method: AttributionMethod = "gradient"
    steps: int = 1
    exact_softmax: bool = False

    def through_softmax(self, site: str) -> bool:
        """Whether a site is estimated through the softmax itself."""
        return self.exact_softmax and site in SOFTMAX_SITES


@dataclass(frozen=True, eq=False)
class PairEstimates:
    """One pair's first-order terms: ``terms[site, layer] [metric, pos, head]``.

    Row ``row_of[p]`` is position p of the destination; the head axis is 1 at sites without heads.
    ``curvature`` has the same shape. ``cells``: what was planned of this pair, by site.
    """

    cells: Mapping[PatchSite, Sequence[PlannedCell]]
    terms: dict[Node, npt.NDArray[np.float64]]
    curvature: dict[Node, npt.NDArray[np.float64]]
    row_of: npt.NDArray[np.int64]
    source: Float[Tensor, " metric"]
    destination: Float[Tensor, " metric"]
    runs: Mapping[PatchSite, SourceRun]
    """The source's activations and logits, for runs that copy them."""
    softmax: SoftmaxEffects = field(default_factory=lambda: SoftmaxEffects({}, 1))

    def of(self, site: str, cell: PlannedCell) -> Float[Tensor, " metric"]:
        """The estimated effect of a cell: the sum over its positions and heads."""
        if (site, cell.layers[0]) in self.softmax.attention:
            return self.softmax.of((site, cell.layers[0]), cell.heads, cell.destination)
        return torch.from_numpy(self._sum(self.terms, site, cell)).float()

    def curvature_of(self, site: str, cell: PlannedCell) -> float:
        """The size of what the estimate of the first metric leaves out, but for a common factor."""
        return float(self._sum(self.curvature, site, cell)[0])

    def _sum(
        self, values: Mapping[Node, npt.NDArray[np.float64]], site: str, cell: PlannedCell
    ) -> npt.NDArray[np.float64]:
        rows = values[site, cell.layers[0]][:, self.row_of[cell.destination.numpy()]]
        rows = rows[..., list(cell.heads)] if cell.heads else rows
        total: npt.NDArray[np.float64] = rows.sum(axis=(1, 2))
        return total


def plan_sites(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    sites: Sequence[PatchSite],
    grid: Grid,
    metrics: Mapping[str, Metric],
) -> dict[PatchSite, SweepPlan]:
    """The plan of every site that is estimated.

    Raises:
        InterpError: what :func:`interp.patching.plan_sweep` refuses, ``"edges"``, a site that the
            model's hooks cannot set, or a pair without the target of a metric.
    """
    _require_sites(model, sites)
    plans = {
        site: plan_sweep(model, pairs, grid=replace(grid, site=site), metric=metrics)
        for site in sites
    }
    require_target(model, pairs, metrics)
    return plans


@torch.inference_mode(False)  # gradients are needed, whatever mode the caller is in
def estimate_pairs(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    plans: Mapping[PatchSite, SweepPlan],
    metrics: Mapping[str, Metric],
    how: How = How(),
    *,
    progress: bool = True,
) -> Iterator[PairEstimates]:
    """Estimate the cells of several sites' plans, pair after pair."""
    to_run = {site: _by_pair(plan) for site, plan in plans.items()}
    for number, pair in enumerate(tqdm(pairs, desc="attribution", disable=not progress)):
        chosen = {site: by_pair[number] for site, by_pair in to_run.items()}
        yield _estimate(model, pair, chosen, metrics, how)


def _estimate(
    model: TransformerBridge,
    pair: PromptPair,
    chosen: Mapping[PatchSite, Sequence[PlannedCell]],
    metrics: Mapping[str, Metric],
    how: How,
) -> PairEstimates:
    nodes = sorted({(site, layer) for site, cs in chosen.items() for c in cs for layer in c.layers})
    source_rows, rows = _moved([cell for cs in chosen.values() for cell in cs])
    readings = [reading_of(p.ids, pair, metrics) for p in (pair.source, pair.destination)]
    source, source_logits = read_states(model, readings[0], nodes, source_rows)
    through = [node for node in nodes if how.through_softmax(node[0])]
    linear = [node for node in nodes if not how.through_softmax(node[0])]
    if how.steps == 1 and linear:
        run = differentiate(model, pair, linear, rows, metrics, method=how.method)
        states, logits, gradients = run.states, run.logits, run.gradients
    else:
        states, logits = read_states(model, readings[1], linear, rows)
        gradients = along_path(model, pair, linear, rows, metrics, how.steps) if linear else {}
    terms: dict[Node, npt.NDArray[np.float64]] = {}
    curvature: dict[Node, npt.NDArray[np.float64]] = {}
    for node in linear:
        own = states[node].float()
        difference = source[node].float() - own
        terms[node] = _by_head((gradients[node] * difference).sum(-1))
        bend = difference.square().sum(-1) / own.norm(dim=-1).clamp_min(1e-30)
        curvature[node] = _by_head(gradients[node].norm(dim=-1) * bend)
    row_of = np.full(len(pair.destination), -1)
    row_of[rows.numpy()] = np.arange(len(rows))
    place = {position: row for row, position in enumerate(source_rows.tolist())}
    return PairEstimates(
        chosen,
        terms,
        curvature,
        row_of,
        evaluate_metrics(metrics, source_logits[None], pair)[:, 0],
        evaluate_metrics(metrics, logits[None], pair)[:, 0],
        {
            site: SourceRun({n: source[s, n] for s, n in nodes if s == site}, place, source_logits)
            for site in chosen
        },
        *(
            [softmax_effects(model, pair, through, source, rows, metrics, how.method)]
            if through
            else []
        ),
    )


def _by_head(values: Float[Tensor, "metric pos *head"]) -> npt.NDArray[np.float64]:
    """With an axis of heads, 1 at sites without."""
    found: npt.NDArray[np.float64] = values.view(*values.shape[:2], -1).double().cpu().numpy()
    return found


def _moved(cells: Sequence[PlannedCell]) -> tuple[Int[Tensor, " pos"], Int[Tensor, " pos"]]:
    """All (source, destination) positions that some cell copies, ascending."""
    moves = {
        move
        for cell in cells
        for move in zip(cell.source.tolist(), cell.destination.tolist(), strict=True)
    }
    table = torch.tensor(sorted(moves), dtype=torch.long).view(-1, 2)
    return table[:, 0], table[:, 1]


def _by_pair(plan: SweepPlan) -> list[list[PlannedCell]]:
    """The cells to estimate, by pair."""
    cells: list[list[PlannedCell]] = [[] for _ in plan.lengths]
    for cell in plan.to_run:
        cells[cell.pair].append(cell)
    return cells


def _require_sites(model: TransformerBridge, sites: Sequence[str]) -> None:
    if isinstance(sites, str):
        raise InterpError(f"sites is a list of sites: give [{sites!r}]")
    if not sites:
        raise InterpError("no sites to attribute to: the list is empty")
    if "edges" in sites:
        raise InterpError(
            "attention edges cannot be attributed: they are removed and not copied; use knockout(), or "
            "edge_scores() for the edges between heads and MLPs"
        )
    for site in sites:
        if not supports_hook(model, site):
            raise InterpError(
                f"{site} has no gradient on this model: its attention is opaque; use z or v"
            )
