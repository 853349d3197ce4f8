"""One forward pass for many prompts that share a beginning.

Prompts of one experiment repeat each other: the same chat header, context and question under
several instructions and with several answers. :func:`forward` merges equal beginnings into a tree
(a trie over token ids), lays its nodes out as one sequence, and runs the model once with a mask in
which every node sees exactly its ancestors and with position ids that count depth in the tree. Each
prompt is computed as if it were alone: no padding, no cache, exact in exact arithmetic (about 1e-6
of the logit scale in float32). This is tree attention as used in speculative decoding
(arXiv 2305.09781), here for reading and patching.

The saving is the ratio of tokens to nodes. A model that cannot be run this way (ALiBi, a sliding
window shorter than the prompt, a failed self-check) runs each prompt alone through the same
interface, so callers never need to know.

Requests name ``(sequence, position)``; hook names are TransformerLens's::

    out = forward(model, [ids_a, ids_b], logits_at=[(0, 9), (1, 11)],
                  read={"blocks.3.hook_resid_post": [(0, 9)]})
    out.logits          # [2, d_vocab]
    out.states["blocks.3.hook_resid_post"]   # [1, d_model]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError

Place: TypeAlias = tuple[int, int]
"""(sequence, position)."""

MAX_NODES = 512
"""Default size of one packed forward. Eager attention grows with the square of it: at 512 nodes
attention costs about as much as the linear layers save on the default model."""

_SELF_CHECK_TOLERANCE = 1e-4
_supports: WeakKeyDictionary[TransformerBridge, bool] = WeakKeyDictionary()


@dataclass(frozen=True)
class Write:
    """Replace the activation at ``hook`` of one sequence, at ``positions``, by ``values``."""

    hook: str
    sequence: int
    positions: Int[Tensor, " pos"]
    values: Float[Tensor, "pos ..."]


@dataclass(frozen=True)
class Outputs:
    """What :func:`forward` was asked for, in the order of the requests."""

    logits: Float[Tensor, "request d_vocab"]
    states: dict[str, Float[Tensor, "request ..."]] = field(default_factory=dict)


@dataclass(frozen=True)
class PackedPrompts:
    """Token sequences merged into a tree, laid out parents first.

    ``nodes[s][p]`` is the node that holds position ``p`` of sequence ``s``; ``depth`` is that
    node's position in each of its sequences.
    """

    ids: Int[Tensor, " node"]
    depth: Int[Tensor, " node"]
    nodes: tuple[Int[Tensor, " pos"], ...]

    def mask(self) -> Bool[Tensor, "node node"]:
        """``mask[i, j]``: node i sees node j, that is, j is i or an ancestor of i."""
        n = len(self.ids)
        mask = torch.zeros(n, n, dtype=torch.bool)
        for path in self.nodes:
            causal = torch.ones(len(path), len(path), dtype=torch.bool).tril()
            mask[path[:, None], path[None, :]] |= causal
        return mask


def pack(
    sequences: Sequence[Int[Tensor, " pos"]], *, share_until: int | None = None
) -> PackedPrompts:
    """Merge equal beginnings into one tree.

    Args:
        sequences: token ids, one tensor per prompt.
        share_until: nodes at this position and later are never shared, even when the ids are equal
            (for interventions that differ between copies of one prompt). None: share all.
    """
    ids: list[int] = []
    depth: list[int] = []
    children: dict[tuple[int, int], int] = {}
    nodes: list[Tensor] = []
    for sequence in sequences:
        path: list[int] = []
        parent = -1
        for position, token in enumerate(sequence.tolist()):
            shared = share_until is None or position < share_until
            node = children.get((parent, token)) if shared else None
            if node is None:
                node = len(ids)
                ids.append(token)
                depth.append(position)
                if shared:
                    children[(parent, token)] = node
            path.append(node)
            parent = node
        nodes.append(torch.tensor(path, dtype=torch.long))
    return PackedPrompts(
        ids=torch.tensor(ids, dtype=torch.long),
        depth=torch.tensor(depth, dtype=torch.long),
        nodes=tuple(nodes),
    )


@torch.no_grad()
def forward(
    model: TransformerBridge,
    sequences: Sequence[Int[Tensor, " pos"]],
    *,
    logits_at: Sequence[Place] = (),
    read: Mapping[str, Sequence[Place]] | None = None,
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
        writes: interventions, applied in order of the model's computation.
        share_until: see :func:`pack`. With writes it must not exceed their first position.
        max_nodes: token budget of one packed forward; sequences are grouped in the given order, so
            the grouping depends on the arguments alone.

    Returns:
        :class:`Outputs` on the CPU, float32.

    Raises:
        InterpError: an empty or too long sequence, a write to shared positions, or an activation
            or logit that is not finite (names hook and sequence).
    """
    read = dict(read or {})
    _check(model, sequences, writes, share_until)
    longest = max(len(sequence) for sequence in sequences)
    if supports_packing(model) and longest <= attention_window(model):
        groups = list(_groups(sequences, share_until, max_nodes))
    else:
        groups = [[index] for index in range(len(sequences))]
    logits: dict[Place, Tensor] = {}
    states: dict[str, dict[Place, Tensor]] = {name: {} for name in read}
    for group in groups:
        _run_group(model, sequences, group, share_until, logits_at, read, writes, logits, states)
    empty = torch.empty(0, model.cfg.d_vocab)
    return Outputs(
        logits=torch.stack([logits[place] for place in logits_at]) if logits_at else empty,
        states={
            name: torch.stack([states[name][place] for place in places])
            for name, places in read.items()
            if places
        },
    )


def supports_packing(model: TransformerBridge) -> bool:
    """Whether the packed forward equals separate forwards on this model (checked once)."""
    known = _supports.get(model)
    if known is None:
        known = packing_error(model) <= _SELF_CHECK_TOLERANCE * _tolerance_scale(model)
        _supports[model] = known
    return known


@torch.no_grad()
def packing_error(model: TransformerBridge) -> float:
    """Largest |packed - separate| logit over a small tree, relative to the logit range.

    Infinity when the model refuses the mask or the position ids.
    """
    generator = torch.Generator().manual_seed(0)
    stem = torch.randint(0, model.cfg.d_vocab, (6,), generator=generator)
    tails = [torch.randint(0, model.cfg.d_vocab, (n,), generator=generator) for n in (3, 5)]
    sequences = [torch.cat([stem, tail]) for tail in tails]
    alone = [model(s[None].to(model.cfg.device))[0].float().cpu() for s in sequences]
    packed = pack(sequences)
    try:
        logits = _forward_packed(model, packed, torch.arange(len(packed.ids)), ())
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError):
        return float("inf")
    scale = max(float(a.max() - a.min()) for a in alone)
    errors = [float((logits[path] - a).abs().max()) for path, a in zip(packed.nodes, alone, strict=True)]
    return max(errors) / scale if scale > 0 else float("inf")


def attention_window(model: TransformerBridge) -> int:
    """Longest prompt on which every layer attends to all earlier positions."""
    config = model.original_model.config
    windows = [model.cfg.n_ctx]
    if getattr(config, "use_sliding_window", True):
        windows.append(getattr(config, "sliding_window", None))
    windows.append(getattr(config, "window_size", None))
    return min(int(w) for w in windows if w)


def _tolerance_scale(model: TransformerBridge) -> float:
    return 1.0 if model.cfg.dtype == torch.float32 else 500.0


def _check(
    model: TransformerBridge,
    sequences: Sequence[Tensor],
    writes: Sequence[Write],
    share_until: int | None,
) -> None:
    if not sequences:
        raise InterpError("no prompts to run: the list of sequences is empty")
    for index, sequence in enumerate(sequences):
        if len(sequence) == 0:
            raise InterpError(f"prompt {index} has no tokens")
        if len(sequence) > model.cfg.n_ctx:
            raise InterpError(
                f"prompt {index} has {len(sequence)} tokens, the model's context is "
                f"{model.cfg.n_ctx}: shorten the prompt"
            )
    for write in writes:
        first = int(write.positions.min())
        if share_until is None or first < share_until:
            raise InterpError(
                f"a write at position {first} of {write.hook} needs share_until <= {first}, "
                f"is {share_until}: otherwise other prompts would share the written position"
            )


def _groups(
    sequences: Sequence[Tensor], share_until: int | None, max_nodes: int
) -> Iterator[list[int]]:
    """Consecutive sequences whose tree stays within the budget (a longer one goes alone)."""
    group: list[int] = []
    seen: set[tuple[int, ...]] = set()
    size = 0
    for index, sequence in enumerate(sequences):
        ids = tuple(sequence.tolist())
        limit = len(ids) if share_until is None else min(share_until, len(ids))
        prefixes = [ids[: k + 1] for k in range(limit)]
        new = len(ids) - limit + sum(prefix not in seen for prefix in prefixes)
        if group and size + new > max_nodes:
            yield group
            group, seen, size = [], set(), 0
            new = len(ids)
        group.append(index)
        seen.update(prefixes)
        size += new
    if group:
        yield group


def _run_group(
    model: TransformerBridge,
    sequences: Sequence[Tensor],
    group: Sequence[int],
    share_until: int | None,
    logits_at: Sequence[Place],
    read: Mapping[str, Sequence[Place]],
    writes: Sequence[Write],
    logits: dict[Place, Tensor],
    states: dict[str, dict[Place, Tensor]],
) -> None:
    packed = pack([sequences[index] for index in group], share_until=share_until)
    paths = dict(zip(group, packed.nodes, strict=True))
    wanted = [place for place in logits_at if place[0] in paths]
    rows = sorted({int(paths[s][p]) for s, p in wanted})
    row_of = {node: row for row, node in enumerate(rows)}
    hooks: list[tuple[str, Callable[..., Any]]] = [
        (w.hook, _writer(paths[w.sequence][w.positions], w.values))
        for w in writes
        if w.sequence in paths
    ]
    caught: dict[str, Tensor] = {}
    for name, places in read.items():
        nodes = [int(paths[s][p]) for s, p in places if s in paths]
        if nodes:
            hooks.append((name, _reader(caught, name, torch.tensor(nodes))))
    keep = torch.tensor(rows or [0])
    if len(group) == 1:
        out = _forward_alone(model, packed.ids, keep, hooks)
    else:
        out = _forward_packed(model, packed, keep, hooks)
    _require_finite(out, "the logits", group)
    for s, p in wanted:
        logits[(s, p)] = out[row_of[int(paths[s][p])]]
    for name, places in read.items():
        inside = [place for place in places if place[0] in paths]
        if inside:
            _require_finite(caught[name], name, group)
            states[name].update(zip(inside, caught[name], strict=True))


def _writer(nodes: Tensor, values: Tensor) -> Callable[..., Tensor]:
    def write(activation: Tensor, hook: Any) -> Tensor:
        patched = activation.clone()
        patched[0, nodes] = values.to(activation)
        return patched

    return write


def _reader(caught: dict[str, Tensor], name: str, nodes: Tensor) -> Callable[..., None]:
    def read(activation: Tensor, hook: Any) -> None:
        caught[name] = activation[0, nodes.to(activation.device)].float().cpu()

    return read


def _forward_alone(
    model: TransformerBridge, ids: Tensor, rows: Tensor, hooks: Sequence[tuple[str, Any]]
) -> Tensor:
    device = model.cfg.device
    with model.hooks(fwd_hooks=list(hooks)):
        logits = model.original_model(
            input_ids=ids[None].to(device), use_cache=False, logits_to_keep=rows.to(device)
        ).logits
    return logits[0].float().cpu()


def _forward_packed(
    model: TransformerBridge, packed: PackedPrompts, rows: Tensor, hooks: Sequence[tuple[str, Any]]
) -> Float[Tensor, "row d_vocab"]:
    device, dtype = model.cfg.device, model.cfg.dtype
    blocked = torch.finfo(dtype).min
    mask = torch.zeros(1, 1, len(packed.ids), len(packed.ids), dtype=dtype)
    mask.masked_fill_(~packed.mask(), blocked)
    with model.hooks(fwd_hooks=list(hooks)):
        logits = model.original_model(
            input_ids=packed.ids[None].to(device),
            attention_mask=mask.to(device),
            position_ids=packed.depth[None].to(device),
            use_cache=False,
            logits_to_keep=rows.to(device),
        ).logits
    return logits[0].float().cpu()


def _require_finite(values: Tensor, name: str, group: Sequence[int]) -> None:
    if not bool(torch.isfinite(values).all()):
        which = f"prompt {group[0]}" if len(group) == 1 else f"prompts {group[0]}..{group[-1]}"
        raise InterpError(
            f"{name} of {which} are not finite: the weights or the input overflow; "
            "check the model's card, or load it in float32"
        )
