"""One cell of a grid as patches to look at: the same patched run as a sweep's, open to every reading.

A sweep keeps one number of each patched run. To see what else changed, take the cell's patches and
run the destination under them: :func:`interp.patching.read_options` reads every option, and inside
:func:`applied` whatever runs the destination's prompt does so patched::

    cell = Grid(site="resid_pre", cells="layer_pos", layers=(3,), positions=(17,))
    patches = cell_patches(model, pair, grid=cell)
    read_options(model, pair, patches=patches)
    with applied(model, patches):
        interp.lens.lens_prompt(model, pair.destination, pair.target)
        interp.activations.read_attention(model, pair.destination, layers=[4])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.cells import Patch
from interp.patching.grid import Grid
from interp.patching.hooked import patch_hooks, supports_hook
from interp.patching.knockout import Queries, edge_patches, plan_knockout
from interp.patching.plan import PlannedCell, SweepPlan, plan_sweep
from interp.patching.source import patches_of, read_sources
from interp.prompts import PromptPair


def cell_patches(model: TransformerBridge, pair: PromptPair, *, grid: Grid) -> tuple[Patch, ...]:
    """What a sweep of a grid of one cell copies from the source into the destination.

    Args:
        model: a bridge in evaluation mode; the source is run once.
        pair: source -> destination.
        grid: of one cell: one layer, and of the axes of its ``cells`` one head, position or span.

    Raises:
        InterpError: a grid of several cells, one where nothing is aligned to copy, or what
            :func:`interp.patching.plan_sweep` refuses.

    Example:
        >>> cell_patches(                                                   # doctest: +SKIP
        ...     model, pair, grid=Grid(site="z", cells="layer_head", layers=(5,), heads=(3,))
        ... )
    """
    plan = plan_sweep(model, pair, grid=grid)
    cell = _only_cell(plan)
    if cell.state == "empty":
        raise InterpError(
            f"{pair.label}: nothing is aligned there to copy: choose a place that both prompts have"
        )
    cell = replace(cell, state="run")  # also where causality keeps the answer from changing
    sources = read_sources(model, pair.source.ids, [replace(plan, cells=(cell,))], 0)
    return patches_of(plan.site, cell, sources[plan.site], None)


def blocked_edges(
    model: TransformerBridge,
    pair: PromptPair,
    *,
    to: str = "instruction",
    queries: Queries = "later",
    grid: Grid | None = None,
    seed: int = 0,
) -> tuple[Patch, ...]:
    """What :func:`interp.knockout` removes in one cell: attention edges of the destination.

    Args:
        model: a bridge in evaluation mode.
        pair: its destination is edited.
        to: the span that is no longer read, or ``"control"``.
        queries: which positions no longer read it.
        grid: of one cell; None blocks all layers and heads. ``window`` is how many layers from
            ``layers`` on are blocked.
        seed: of the control's block.

    Raises:
        InterpError: a grid of several cells, or what :func:`interp.knockout` refuses.

    Example:
        >>> blocked_edges(model, pair, to="instruction")                    # doctest: +SKIP
        >>> one = Grid(cells="layer_head", layers=(5,), heads=(3,))
        >>> blocked_edges(model, pair, to="instruction", grid=one)          # doctest: +SKIP
    """
    if grid is None:
        grid = Grid(cells="layer", layers=(0,), window=int(model.cfg.n_layers))
    grid.require_unset(
        "blocked_edges", {"site": "it removes edges", "positions": "name queries= and to="}
    )
    plan = plan_knockout(model, pair, to=to, queries=queries, grid=grid, seed=seed)
    return edge_patches(plan, _only_cell(plan))


@contextmanager
def applied(model: TransformerBridge, patches: Sequence[Patch]) -> Iterator[None]:
    """Inside the context the model runs with patches: for readings of the prompt they were made for.

    One prompt per forward, from its first token on: lens, attention, projections and activations of
    ``pair.destination``. Another prompt would be patched at the same positions. For the options,
    which go on behind the prompt, there is :func:`interp.patching.read_options`. The hooks leave with
    the context, also after an exception.

    Raises:
        InterpError: a site that this model's hooks can only read; inside, a run of several prompts
            at once, or of another length where attention edges or patterns are set.
    """
    require_settable(model, patches)
    hooks = [(name, _of_one_prompt(write)) for name, write in patch_hooks(patches)]
    lengths = {patch.values.shape[-1] for patch in patches if patch.site in ("edges", "pattern")}
    if lengths:
        hooks = [(name, _of_length(write, max(lengths))) for name, write in hooks]
    with model.hooks(fwd_hooks=hooks):
        yield


def require_settable(model: TransformerBridge, patches: Sequence[Patch]) -> None:
    """Refuse patches of a site that this model's hooks can only read."""
    for patch in patches:
        if not supports_hook(model, patch.site):
            raise InterpError(
                f"{patch.site} cannot be set by a hook on this model, whose attention is opaque: the "
                "options can be read (read_options), and what goes on inside cannot"
            )


def _only_cell(plan: SweepPlan) -> PlannedCell:
    if len(plan.cells) != 1:
        sizes = " x ".join(
            f"{n} {name}s" for n, name in zip(plan.shape, plan.axis_names, strict=True)
        )
        raise InterpError(
            f"the grid has {len(plan.cells)} cells ({sizes}): name one layer, and one head, position "
            "or span"
        )
    return plan.cells[0]


def _of_one_prompt(write: Callable[..., Any]) -> Callable[..., Any]:
    def checked(activation: Tensor, hook: Any) -> Any:
        if activation.shape[0] != 1:
            raise InterpError(
                f"the patches are of one prompt, and {activation.shape[0]} run at once: run one prompt "
                "inside applied()"
            )
        return write(activation, hook=hook)

    return checked


def _of_length(write: Callable[..., Any], n: int) -> Callable[..., Any]:
    def checked(activation: Tensor, hook: Any) -> Any:
        by_key = hook.name.endswith(("hook_pattern", "hook_attn_scores"))
        if by_key and activation.shape[-1] != n:
            raise InterpError(
                f"the patches are of a prompt of {n} tokens, and one of {activation.shape[-1]} runs: "
                "run the pair's destination inside applied()"
            )
        return write(activation, hook=hook)

    return checked
