"""Attribution patching: every cell of a sweep estimated from one forward and one backward.

To first order, copying activations from the source run changes the destination's metric by
``(source - destination) . d metric / d activation``, with the gradient taken on the destination.
One backward through the destination gives that gradient at every site, layer, head and position, so
a pair costs one forward of the source and one forward and backward of the destination, however many
cells and sites there are.

Signs and units are those of :func:`interp.patching.sweep`: positive moves the metric up, in nats
for the margin (logit difference). The estimate is the exact derivative towards the source; it says
nothing of how the effect bends on the way there. Where the difference is large (early layers, many
positions at once) or a norm or softmax is saturated, compare it with exact cells
(:func:`interp.patching.screen.screen`).

With ``steps`` the gradient is averaged along a path on which the input embeddings go from the
destination's to the source's (integrated gradients, "EAP-IG inputs" of arXiv 2403.17806). At the
first ``resid_pre`` the estimates then add up to source - destination.

Memory: the graph of one forward, and per pair the activations of the chosen sites and layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.models.limits import require_finite
from interp.models.rope import reset_rope
from interp.patching.grid import Cells, Grid, Positions, grid_or_keywords
from interp.patching.hooked import hook_of, supports_hook
from interp.patching.measure import Table, enter_zeros
from interp.patching.metrics import Metric, evaluate_metrics, named_metrics, require_target
from interp.patching.plan import PlannedCell, SweepPlan, plan_sweep
from interp.patching.result import SweepResult, alignment_notes
from interp.patching.sites import PatchSite
from interp.prompts import PromptPair

_Node: TypeAlias = tuple[str, int]
"""A site of a layer."""

_Hook: TypeAlias = tuple[str, Callable[..., Any]]


@grid_or_keywords
@torch.inference_mode(False)  # gradients are needed, whatever mode the caller is in
def attribute(
    model: TransformerBridge,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    sites: Sequence[PatchSite] = ("resid_pre", "attn_out", "mlp_out", "z"),
    grid: Grid | None = None,
    cells: Cells | None = None,
    layers: Sequence[int] | None = None,
    spans: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    positions: Positions = "aligned",
    steps: int = 1,
    metric: str | Metric | Sequence[str] | Mapping[str, Metric] = "margin",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, SweepResult]:
    """Estimate every cell of the sweeps of several sites at once.

    Args:
        model: a bridge in evaluation mode.
        pairs: one pair or several.
        sites: any site of a sweep but ``"edges"``.
        grid: ``cells`` to ``positions`` as one :class:`interp.patching.Grid`, instead of them.
        cells: the grid of every site; None takes each site's own, as :func:`interp.patching.sweep`.
        layers: which layers; None takes all.
        spans: the columns of ``"layer_span"``.
        heads: which heads (key/value heads at ``k`` and ``v``); None takes all.
        positions: which positions of the destination.
        steps: 1 takes the gradient on the destination. More takes its mean over that many midpoints
            of the straight line between both runs' input embeddings, one forward and backward each;
            for prompts that are aligned by index.
        metric: as in a sweep; a function has to be differentiable. Every metric is one backward.
        seed: seed of the results' bootstraps.
        progress: show a bar.

    Returns:
        By site, the :class:`SweepResult` of the sweep with the same arguments, its values
        destination + estimate. A cell's estimate is the sum over its positions and heads. Cells
        that cannot change the reading are the destination's own value; cells without an aligned
        position are NaN.

    Raises:
        InterpError: what a sweep refuses; ``"edges"``; a site that the model's hooks cannot set; a
            metric without a gradient; ``steps`` on prompts that are not aligned by index.

    Example:
        >>> maps = attribute(model, pair, sites=["z", "mlp_out"])   # doctest: +SKIP
        >>> maps["z"].top(5)                                        # doctest: +SKIP
    """
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    metrics, several = named_metrics(metric)
    _require_sites(model, sites)
    if grid is None:
        grid = Grid(None, cells, layers, spans, heads, positions)
    grid.require_unset(
        "attribute", {"site": "name sites=", "window": "an estimate is of one layer"}
    )
    plans: dict[str, SweepPlan] = {
        site: plan_sweep(model, pairs, grid=replace(grid, site=site)) for site in sites
    }
    require_target(pairs, metrics)
    _require_path(pairs, steps)
    to_run = {site: _by_pair(plan) for site, plan in plans.items()}
    tables = {site: Table.empty(plan, len(metrics)) for site, plan in plans.items()}
    for number, pair in enumerate(tqdm(pairs, desc="attribution", disable=not progress)):
        chosen = {site: by_pair[number] for site, by_pair in to_run.items()}
        estimates = _estimate(model, pair, chosen, metrics, steps)
        for site, table in tables.items():
            table.source[:, number] = estimates.source
            table.destination[:, number] = estimates.destination
            for cell in chosen[site]:
                table.enter(cell, estimates.destination + estimates.of(site, cell))
    for site, table in tables.items():
        enter_zeros(plans[site], table)
    names = f"{pairs[0].source_name} -> {pairs[0].destination_name}"
    return {
        site: SweepResult.of_table(
            plan,
            tables[site],
            pairs,
            metric_names=list(metrics),
            several=several,
            title=f"{names}, {site}, attribution",
            seed=seed,
            notes=(_note(steps), *alignment_notes(model, pairs)),
        )
        for site, plan in plans.items()
    }


@dataclass(frozen=True, eq=False)
class _Estimates:
    """One pair's first-order terms: ``terms[site, layer] [metric, pos, head]``.

    Row ``row_of[p]`` is position p of the destination; the head axis is 1 at sites without heads.
    """

    terms: dict[_Node, npt.NDArray[np.float64]]
    row_of: npt.NDArray[np.int64]
    source: Float[Tensor, " metric"]
    destination: Float[Tensor, " metric"]

    def of(self, site: str, cell: PlannedCell) -> Float[Tensor, " metric"]:
        """The estimated effect of a cell: the sum over its positions and heads."""
        rows = self.terms[site, cell.layers[0]][:, self.row_of[cell.destination.numpy()]]
        rows = rows[..., list(cell.heads)] if cell.heads else rows
        return torch.from_numpy(rows.sum(axis=(1, 2))).float()


def _estimate(
    model: TransformerBridge,
    pair: PromptPair,
    chosen: Mapping[str, Sequence[PlannedCell]],
    metrics: Mapping[str, Metric],
    steps: int,
) -> _Estimates:
    nodes = sorted({(site, layer) for site, cs in chosen.items() for c in cs for layer in c.layers})
    source_rows, rows = _moved([cell for cs in chosen.values() for cell in cs])
    source, source_logits = _read(model, pair.source.ids, nodes, source_rows)
    if steps == 1:
        run = _differentiate(model, pair, nodes, rows, metrics)
        states, logits, gradients = run.states, run.logits, run.gradients
    else:
        states, logits = _read(model, pair.destination.ids, nodes, rows)
        gradients = _along_path(model, pair, nodes, rows, metrics, steps)
    terms = {}
    for node in nodes:
        difference = source[node].float() - states[node].float()
        products = (gradients[node] * difference).sum(-1)
        terms[node] = products.view(*products.shape[:2], -1).double().cpu().numpy()
    row_of = np.full(len(pair.destination), -1)
    row_of[rows.numpy()] = np.arange(len(rows))
    return _Estimates(
        terms,
        row_of,
        evaluate_metrics(metrics, source_logits, pair)[:, 0],
        evaluate_metrics(metrics, logits, pair)[:, 0],
    )


def _moved(cells: Sequence[PlannedCell]) -> tuple[Int[Tensor, " pos"], Int[Tensor, " pos"]]:
    """All (source, destination) positions that some cell copies, ascending."""
    moves = {
        move
        for cell in cells
        for move in zip(cell.source.tolist(), cell.destination.tolist(), strict=True)
    }
    table = torch.tensor(sorted(moves), dtype=torch.long).view(-1, 2)
    return table[:, 0], table[:, 1]


@torch.no_grad()
def _read(
    model: TransformerBridge,
    ids: Int[Tensor, " pos"],
    nodes: Sequence[_Node],
    rows: Int[Tensor, " row"],
) -> tuple[dict[_Node, Tensor], Float[Tensor, "1 d_vocab"]]:
    """Activations of every node at some positions, and the last logits."""
    states: dict[_Node, Tensor] = {}
    with model.hooks(fwd_hooks=_readers(nodes, rows, states)):
        logits = _last_logits(model, ids)
    _require_finite(states, "activation")
    return states, logits


@dataclass(frozen=True, eq=False)
class _Run:
    """A run with its gradients, at the positions asked for: ``gradients[node] [metric, pos, ...]``."""

    states: dict[_Node, Tensor]
    gradients: dict[_Node, Tensor]
    logits: Float[Tensor, "1 d_vocab"]


def _differentiate(
    model: TransformerBridge,
    pair: PromptPair,
    nodes: Sequence[_Node],
    rows: Int[Tensor, " row"],
    metrics: Mapping[str, Metric],
    embeddings: Float[Tensor, "1 pos d_model"] | None = None,
) -> _Run:
    """Forward and backward of the destination, from given embeddings if there are any."""
    start = hook_of("resid_pre", min((layer for _, layer in nodes), default=0))
    names = {node: _gradient_hook(*node) for node in nodes}
    states: dict[_Node, Tensor] = {}
    kept: dict[str, Tensor] = {}

    def replace(activation: Tensor, hook: Any) -> Tensor | None:
        return embeddings

    def keeper(name: str) -> Callable[..., Tensor]:
        def keep(activation: Tensor, hook: Any) -> Tensor:
            # A hook may be handed a reshaped copy; what it returns is on the way to the logits.
            # Nothing before the first layer wanted needs a gradient, so the graph starts there.
            fresh = activation.detach().requires_grad_() if name == start else activation.clone()
            kept[name] = fresh
            return fresh

        return keep

    hooks: list[_Hook] = [(hook_of("resid_pre", 0), replace)] if embeddings is not None else []
    hooks += _readers(nodes, rows, states)
    hooks += [(name, keeper(name)) for name in dict.fromkeys([start, *names.values()])]
    with torch.enable_grad(), model.hooks(fwd_hooks=hooks):
        logits = _last_logits(model, pair.destination.ids)
        values = {name: metric(logits, pair).sum() for name, metric in metrics.items()}
    gradients = _backward(values, kept)
    found = {}
    for node, name in names.items():
        found[node] = torch.stack(
            [_rows(node[0], gradient)[rows.to(gradient.device)] for gradient in gradients[name]]
        ).float()
    _require_finite(found, "gradient")
    return _Run(states, found, logits.detach())


def _backward(values: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The gradient of every metric at every activation kept.

    Raises:
        InterpError: a metric or an activation that no gradient reaches.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in kept}
    left = len(values)
    for name, value in values.items():
        if not value.requires_grad:
            raise InterpError(
                f"metric {name} has no gradient: compute it from the logits with torch, without "
                "detach, argmax or item"
            )
        left -= 1
        gradients = torch.autograd.grad(
            value, list(kept.values()), retain_graph=left > 0, allow_unused=True
        )
        for hook, gradient in zip(kept, gradients, strict=True):
            if gradient is None:
                raise InterpError(
                    f"metric {name} does not depend on {hook}: this model's hook there is not on "
                    "the way to the logits; leave the site out"
                )
            found[hook].append(gradient)
    return found


def _along_path(
    model: TransformerBridge,
    pair: PromptPair,
    nodes: Sequence[_Node],
    rows: Int[Tensor, " row"],
    metrics: Mapping[str, Metric],
    steps: int,
) -> dict[_Node, Tensor]:
    """Mean gradients at the midpoints of the line between both runs' embeddings."""
    first: _Node = ("resid_pre", 0)
    everywhere = torch.arange(len(pair.destination))
    source, destination = (
        _read(model, prompt.ids, [first], everywhere)[0][first][None]
        for prompt in (pair.source, pair.destination)
    )
    total: dict[_Node, Tensor] = {}
    for step in range(steps):
        embeddings = destination + (step + 0.5) / steps * (source - destination)
        run = _differentiate(model, pair, nodes, rows, metrics, embeddings)
        for node, gradient in run.gradients.items():
            total[node] = total[node] + gradient if node in total else gradient
    return {node: gradient / steps for node, gradient in total.items()}


def _readers(
    nodes: Sequence[_Node], rows: Int[Tensor, " row"], states: dict[_Node, Tensor]
) -> list[_Hook]:
    """Hooks that note every node's activation at some positions."""

    def reader(node: _Node) -> Callable[..., None]:
        def read(activation: Tensor, hook: Any) -> None:
            states[node] = _rows(node[0], activation.detach())[rows.to(activation.device)]

        return read

    return [(hook_of(*node), reader(node)) for node in nodes]


def _rows(site: str, activation: Tensor) -> Tensor:
    """An activation by position of the query, ``[pos, ...]``."""
    return activation[0].transpose(0, 1) if site == "pattern" else activation[0]


def _gradient_hook(site: str, layer: int) -> str:
    """Where a node's gradient is taken.

    ``hook_resid_mid`` sits on the MLP's input and misses the skip connection; the attention's
    output is added into the stream there, so that both have the same gradient.
    """
    return hook_of("attn_out" if site == "resid_mid" else site, layer)


def _last_logits(model: TransformerBridge, ids: Int[Tensor, " pos"]) -> Float[Tensor, "1 d_vocab"]:
    reset_rope(model)
    # a copy, because a tensor that was made under inference_mode can be in no graph
    ids = ids.clone()[None].to(model.cfg.device)
    out = model.original_model(input_ids=ids, use_cache=False, logits_to_keep=1)
    return out.logits[0].float()


def _by_pair(plan: SweepPlan) -> list[list[PlannedCell]]:
    """The cells to estimate, by pair."""
    cells: list[list[PlannedCell]] = [[] for _ in plan.lengths]
    for cell in plan.to_run:
        cells[cell.pair].append(cell)
    return cells


def _note(steps: int) -> str:
    how = "" if steps == 1 else f", gradients averaged over {steps} steps of the embeddings"
    return f"attribution: first-order estimates, not patched runs{how}"


def _require_sites(model: TransformerBridge, sites: Sequence[str]) -> None:
    if isinstance(sites, str):
        raise InterpError(f"sites is a list of sites: give [{sites!r}]")
    if not sites:
        raise InterpError("no sites to attribute to: the list is empty")
    if "edges" in sites:
        raise InterpError(
            "edges cannot be attributed: they are removed and not copied; use knockout()"
        )
    for site in sites:
        if not supports_hook(model, site):
            raise InterpError(
                f"{site} has no gradient on this model: its attention is opaque; use z or v"
            )


def _require_path(pairs: Sequence[PromptPair], steps: int) -> None:
    if steps < 1:
        raise InterpError(f"steps is {steps}: the gradient is taken at one point at least")
    unequal = sum(not pair.alignment.by_index for pair in pairs)
    if steps > 1 and unequal:
        raise InterpError(
            f"steps={steps} needs prompts aligned by index, {unequal} of {len(pairs)} pairs are "
            "not: use steps=1"
        )


def _require_finite(values: Mapping[_Node, Tensor], what: str) -> None:
    for (site, layer), value in values.items():
        require_finite(value, hook_of(site, layer), f"the {what}")
