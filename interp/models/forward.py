"""One forward pass for many prompts that share a beginning.

Prompts of one experiment repeat each other: the same chat header, context and question under
several instructions and with several answers. :func:`forward` merges equal beginnings into a tree
(a trie over token ids), lays its nodes out as one sequence, and runs the model once with a mask in
which every node sees exactly its ancestors and with position ids that count depth in the tree. Each
prompt is computed as if it were alone: no padding, no cache, exact in exact arithmetic (about 1e-6
of the logit range in float32). This is tree attention as used in speculative decoding
(arXiv 2305.09781), here for reading and patching.

A tree too large for one forward is taken apart where it branches (:mod:`interp.models.steps`): its
stem is computed once, and the branches reuse the KV cache of this shared prefix.

The saving is the ratio of tokens to nodes. A model that cannot be run this way (ALiBi, a sliding
window shorter than the prompt, rotary frequencies that depend on the length, a failed self-check)
runs each prompt alone through the same interface, so callers never need to know. So it does under
hooks that address positions (:mod:`interp.models.by_row`); ``notes`` and a warning say so.

Requests name ``(sequence, position)``; hook names are TransformerLens's::

    out = forward(model, [ids_a, ids_b], logits_at=[(0, 9), (1, 11)],
                  read={"blocks.3.hook_resid_post": [(0, 9)]})
    out.logits          # [2, d_vocab]
    out.states["blocks.3.hook_resid_post"]   # [1, d_model]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.display import short_repr
from interp.errors import InterpError, first_line
from interp.models.by_row import NOTE, OneByOneWarning, hooks_act_by_row
from interp.models.limits import NotFiniteError
from interp.models.packed import (
    forward_alone,
    forward_packed,
    supports_trees,
)
from interp.models.prefix import CachedPrefix
from interp.models.steps import Step, plan_steps
from interp.models.tree import pack

Place: TypeAlias = tuple[int, int]
"""(sequence, position)."""

MAX_NODES = 512
"""Default size of one packed forward. Eager attention grows with the square of it: at 512 nodes
attention costs about as much as the linear layers save on the default model."""

_WITHOUT_POSITION_AXIS = ("hook_pattern", "hook_attn_scores", "hook_rot_q", "hook_rot_k")


@dataclass(frozen=True, eq=False)
class Write:
    """Replace the activation at ``hook`` of one sequence, at ``positions``, by ``values``.

    A read of the same hook sees the written values.
    """

    hook: str
    sequence: int
    positions: Int[Tensor, " pos"]
    values: Float[Tensor, "pos ..."]

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class Outputs:
    """What :func:`forward` was asked for, in the order of the requests.

    ``states`` has no entry for a hook that was asked for at no place. ``notes``: why prompts were
    not run together though the model allows it.
    """

    logits: Float[Tensor, "request d_vocab"]
    states: dict[str, Float[Tensor, "_request ..."]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    __repr__ = short_repr


@torch.no_grad()
def forward(
    model: TransformerBridge,
    sequences: Sequence[Int[Tensor, " _pos"]],
    *,
    logits_at: Sequence[Place] = (),
    read: Mapping[str, Sequence[Place]] | None = None,
    through: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    writes: Sequence[Write] = (),
    share_until: int | None = None,
    max_nodes: int = MAX_NODES,
) -> Outputs:
    """Run every sequence and return the requested logits and activations.

    Args:
        model: a bridge in evaluation mode.
        sequences: token ids, one tensor per prompt; any lengths, never padded.
        logits_at: rows of logits wanted, as ``(sequence, position)``.
        read: for each hook name the places wanted; the hook's tensor must be
            ``[batch, pos, ...]``.
        through: for some of these hooks a reduction, ``[row, ...]`` to ``[row, ...]``, that is
            applied to the wanted rows inside the hook: its result is all that is kept of them.
        writes: interventions, applied in order of the model's computation.
        share_until: see :func:`pack`. With writes it must not exceed their first position, which is
            the default then.
        max_nodes: token budget of one packed forward; which prompts run together depends on the
            arguments alone, see :func:`~interp.models.steps.plan_steps`.

    Returns:
        :class:`Outputs` on the CPU, float32.

    Raises:
        InterpError: an empty or too long sequence, a token id outside the vocabulary, a place or
            hook that does not exist, a write to shared positions or to ``hook_resid_mid`` (it can
            only be read, see :mod:`interp.activations.sites`).
        NotFiniteError: an activation or logit that is not finite (names hook and prompt).
    """
    if share_until is None and writes:
        share_until = min((p for w in writes for p in w.positions.tolist()), default=None)
    request = _Request(
        tuple(logits_at), dict(read or {}), tuple(writes), share_until, dict(through or {})
    )
    _check(model, sequences, request)
    found: _Found = {}
    kept: list[CachedPrefix] = []
    together = len(sequences) == 1 or hooks_act_by_row(model, sequences)
    if not together:
        warnings.warn(NOTE, OneByOneWarning, stacklevel=2)
    for step in _steps(model, sequences, request, max_nodes, together):
        kept = kept[: step.depth]
        rows, prefix = _run_step(model, sequences, step, kept[-1] if kept else None, request)
        found.update(rows)
        if prefix is not None:
            kept.append(prefix)
    empty = torch.empty(0, model.cfg.d_vocab)
    return Outputs(
        logits=torch.stack([found[_LOGITS, place] for place in logits_at]) if logits_at else empty,
        states={
            name: torch.stack([found[name, place] for place in places])
            for name, places in request.read.items()
            if places
        },
        notes=() if together else (NOTE,),
    )


_LOGITS = ""
"""The name of the logits among those of hooks."""

_Found: TypeAlias = dict[tuple[str, Place], Tensor]
"""One row per hook name (or ``_LOGITS``) and place."""


@dataclass(frozen=True)
class _Request:
    """The arguments of :func:`forward` that say what is wanted."""

    logits_at: tuple[Place, ...]
    read: dict[str, Sequence[Place]]
    writes: tuple[Write, ...]
    share_until: int | None
    through: dict[str, Callable[[Tensor], Tensor]]


def _check(model: TransformerBridge, sequences: Sequence[Tensor], request: _Request) -> None:
    if not sequences:
        raise InterpError("no prompts to run: the list of sequences is empty")
    for index, sequence in enumerate(sequences):
        _check_ids(model, index, sequence)
    for name in {*request.read, *(write.hook for write in request.writes)}:
        _check_hook(model, name)
    for name, places in [("the logits", request.logits_at), *request.read.items()]:
        for place in places:
            _check_place(sequences, name, *place)
    for write in request.writes:
        _check_write(sequences, write, request.share_until)


def _check_ids(model: TransformerBridge, index: int, ids: Tensor) -> None:
    if not isinstance(ids, Tensor) or ids.ndim != 1 or ids.dtype not in (torch.int64, torch.int32):
        kind = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise InterpError(f"prompt {index} is {kind}: give a tensor of integer token ids [pos]")
    if len(ids) == 0:
        raise InterpError(f"prompt {index} has no tokens")
    if len(ids) > model.cfg.n_ctx:
        raise InterpError(
            f"prompt {index} has {len(ids)} tokens, the model's context is {model.cfg.n_ctx}: "
            "shorten the prompt"
        )
    outside = ids[(ids < 0) | (ids >= model.cfg.d_vocab)]
    if len(outside):
        raise InterpError(
            f"prompt {index}: token id {int(outside[0])} is outside the model's vocabulary, "
            f"0..{model.cfg.d_vocab - 1}: check the ids"
        )


def _check_hook(model: TransformerBridge, name: str) -> None:
    if name.endswith(_WITHOUT_POSITION_AXIS):
        raise InterpError(f"{name} has no axis [batch, pos, ...]: use model.run_with_cache for it")
    try:
        with model.hooks(fwd_hooks=[(name, _reader({}, name, torch.empty(0)))]):
            pass
    except KeyError as error:
        raise InterpError(f"the model has no hook {name!r}: see model.hook_dict") from error
    except ValueError as error:  # a hook that must be switched on first
        raise InterpError(f"hook {name!r} cannot be used: {first_line(error)}") from error


def _check_place(sequences: Sequence[Tensor], name: str, sequence: int, position: int) -> None:
    if not 0 <= sequence < len(sequences):
        raise InterpError(f"{name}: there is no prompt {sequence}, only 0..{len(sequences) - 1}")
    if not 0 <= position < len(sequences[sequence]):
        raise InterpError(
            f"{name}: position {position} is outside prompt {sequence}, "
            f"0..{len(sequences[sequence]) - 1}"
        )


def _check_write(sequences: Sequence[Tensor], write: Write, share_until: int | None) -> None:
    # the hook is the MLP's input: the skip connection would carry the old residual stream on
    if write.hook.endswith("hook_resid_mid"):
        raise InterpError(
            f"a write to {write.hook} would reach the MLP and not the residual stream: write to "
            f"{write.hook.removesuffix('mid')}post"
        )
    positions = write.positions.tolist()
    for position in positions:
        _check_place(sequences, f"a write to {write.hook}", write.sequence, position)
    if len(write.values) != len(positions):
        raise InterpError(
            f"a write to {write.hook} gives {len(write.values)} rows for {len(positions)} positions"
        )
    first = min(positions, default=len(sequences[write.sequence]))
    if positions and (share_until is None or first < share_until):
        raise InterpError(
            f"a write at position {first} of {write.hook} needs share_until <= {first}, "
            f"is {share_until}: otherwise other prompts would share the written position"
        )


def _steps(
    model: TransformerBridge,
    sequences: Sequence[Tensor],
    request: _Request,
    max_nodes: int,
    together: bool,
) -> Iterator[Step]:
    """The forwards of the prompts of which something is wanted."""
    places = [*request.logits_at, *(place for places in request.read.values() for place in places)]
    prompts = sorted({index for index, _ in places})
    longest = max((len(sequences[index]) for index in prompts), default=0)
    alone = iter([Step((index,)) for index in prompts])
    if not together or len(prompts) == 1:
        return alone
    packed, stems = supports_trees(model, longest)
    if not packed:
        return alone
    return plan_steps(
        sequences,
        prompts=prompts,
        share_until=request.share_until,
        max_nodes=max_nodes,
        stems=stems,
    )


def _run_step(
    model: TransformerBridge,
    sequences: Sequence[Tensor],
    step: Step,
    prefix: CachedPrefix | None,
    request: _Request,
) -> tuple[_Found, CachedPrefix | None]:
    """Run one step and pick the rows asked for; returns also the prefix that a stem adds to."""
    start = step.start
    until = None if request.share_until is None else max(request.share_until - start, 0)
    packed = pack(
        [sequences[index][start : step.stop] for index in step.prompts], share_until=until
    )
    paths = dict(zip(step.prompts, packed.nodes, strict=True))

    def inside(places: Sequence[Place]) -> dict[Place, int]:
        return {
            (index, position): int(paths[index][position - start])
            for index, position in places
            if index in paths and 0 <= position - start < len(paths[index])
        }

    wanted = {name: inside(places) for name, places in request.read.items()}
    wanted = {name: nodes for name, nodes in wanted.items() if nodes}
    row_nodes = inside(request.logits_at)
    rows = torch.tensor(list(row_nodes.values()) or [0])
    caught: dict[str, Tensor] = {}
    hooks: list[tuple[str, Callable[..., Any]]] = [
        (w.hook, _writer(paths[w.sequence][w.positions.cpu() - start], w.values))
        for w in request.writes
        if w.sequence in paths and step.stop is None  # a stem ends before the first write
    ]
    hooks += [
        (name, _reader(caught, name, torch.tensor(list(nodes.values())), request.through.get(name)))
        for name, nodes in wanted.items()
    ]
    kept: CachedPrefix | None = None
    alone = step == Step(step.prompts[:1])
    if alone:
        caught[_LOGITS] = forward_alone(model, packed, rows, hooks)
    else:
        keep = step.stop is not None
        caught[_LOGITS], kept = forward_packed(model, packed, rows, hooks, prefix, keep=keep)
    silent = wanted.keys() - caught.keys()
    if silent:
        raise InterpError(f"hook {min(silent)!r} never fires on this model")
    broken = [name for name, values in caught.items() if not bool(torch.isfinite(values).all())]
    if broken and not alone:
        # in a shared attention 0 * NaN reaches every prompt: alone, each speaks for itself
        found = {}
        for index in step.prompts:
            found.update(_run_step(model, sequences, Step((index,)), None, request)[0])
        return found, kept
    if broken:
        prompt = step.prompts[0]
        raise NotFiniteError(broken[0] or "the logits", f"prompt {prompt}", prompt=prompt)
    places = {_LOGITS: row_nodes, **wanted}
    return {
        (name, place): caught[name][row]
        for name, nodes in places.items()
        for row, place in enumerate(nodes)
    }, kept


def _writer(nodes: Tensor, values: Tensor) -> Callable[..., Tensor]:
    def write(activation: Tensor, hook: Any) -> Tensor:
        patched = activation.clone()
        try:
            patched[0, nodes] = values.to(activation)
        except (RuntimeError, IndexError) as error:
            shape = list(activation.shape[2:])
            raise InterpError(
                f"a write to {hook.name} needs values [pos, ...] with {shape} per position, "
                f"not {list(values.shape)}"
            ) from error
        return patched

    return write


def _reader(
    caught: dict[str, Tensor],
    name: str,
    nodes: Tensor,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Callable[..., None]:
    def read(activation: Tensor, hook: Any) -> None:
        rows = activation[0, nodes.to(activation.device)]
        caught[name] = (rows if reduce is None else reduce(rows)).float().cpu()

    return read
