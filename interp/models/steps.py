"""In which forwards a set of prompts is computed: a tree of stems and packed branches.

Prompts that together make a small tree are run as one packed sequence. A larger tree is taken apart
where it branches: the stem (the prefix that all its prompts share) is computed once and its KV cache
reused by the branches, small ones packed together, large ones taken apart again. The rule
depends on the token ids and the budget alone, so the same prompts are always computed alike.

Example: 30 prompts of one item in three orders of its options, 8 nodes behind each::

    header context question | order 1 | instruction, answer ...   -> cached stem, three packed branches
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from interp.models.tree import pack

MIN_SAVED = 32
"""A stem is cached when at least so many tokens need not be computed again. One more forward reads
all weights once more, which takes as long as some thirty tokens on the default model's CPU."""


@dataclass(frozen=True)
class Step:
    """One forward: positions ``start`` to ``stop`` of these prompts, packed.

    What precedes ``start`` is in the KV caches of the ``depth`` stems before it. A stem (``stop`` is
    not None) is the same in all its prompts and is cached in turn, as number ``depth``.
    """

    prompts: tuple[int, ...]
    start: int = 0
    stop: int | None = None
    depth: int = 0


def plan_steps(
    sequences: Sequence[Tensor],
    *,
    prompts: Sequence[int] | None = None,
    share_until: int | None = None,
    max_nodes: int,
    stems: bool = True,
) -> Iterator[Step]:
    """The forwards, a stem before what continues it, branches in the order of their first prompt.

    Args:
        sequences: token ids, one tensor per prompt.
        prompts: which of them are computed; all by default.
        share_until: see :func:`~interp.models.tree.pack`.
        max_nodes: nodes of one forward, stems not counted (a single longer prompt goes whole).
        stems: False caches nothing: branches repeat what precedes them.
    """
    chosen = list(range(len(sequences))) if prompts is None else list(prompts)
    packed = pack([sequences[index] for index in chosen], share_until=share_until)
    paths = {index: path.tolist() for index, path in zip(chosen, packed.nodes, strict=True)}
    if paths:
        yield from _take_apart(paths, chosen, 0, 0, max_nodes, stems)


def _take_apart(
    paths: dict[int, list[int]],
    prompts: Sequence[int],
    start: int,
    depth: int,
    max_nodes: int,
    stems: bool,
) -> Iterator[Step]:
    size = _size(paths, prompts, start)
    if size <= max_nodes or size == max(len(paths[index]) for index in prompts) - start:
        yield Step(tuple(prompts), start, None, depth)  # small enough, or nothing to take apart
        return
    fork = _fork(paths, prompts, start)
    stem = fork - start
    n_repeats = min(-(-(size - stem) // max(max_nodes - stem, 1)), len(prompts))
    if stems and stem * (n_repeats - 1) >= MIN_SAVED:
        yield Step(tuple(prompts), start, fork, depth)
        start, depth = fork, depth + 1
        prompts = [index for index in prompts if len(paths[index]) > fork]
    for group in _filled(paths, _branches(paths, prompts, fork), start, max_nodes):
        yield from _take_apart(paths, group, start, depth, max_nodes, stems)


def _size(paths: dict[int, list[int]], prompts: Sequence[int], start: int) -> int:
    return len({node for index in prompts for node in paths[index][start:]})


def _fork(paths: dict[int, list[int]], prompts: Sequence[int], start: int) -> int:
    """The first position from ``start`` on at which the prompts do not share their node."""
    first = paths[prompts[0]]
    for position in range(start, min(len(paths[index]) for index in prompts)):
        if any(paths[index][position] != first[position] for index in prompts):
            return position
    return min(len(paths[index]) for index in prompts)


def _branches(paths: dict[int, list[int]], prompts: Sequence[int], fork: int) -> list[list[int]]:
    """Prompts that go on with the same node; those that end at the fork are equal."""
    branches: dict[int | None, list[int]] = {}
    for index in prompts:
        node = paths[index][fork] if len(paths[index]) > fork else None
        branches.setdefault(node, []).append(index)
    return list(branches.values())


def _filled(
    paths: dict[int, list[int]], branches: Sequence[list[int]], start: int, max_nodes: int
) -> Iterator[list[int]]:
    """Consecutive branches together while their tree stays within the budget."""
    group: list[int] = []
    for branch in branches:
        if group and _size(paths, [*group, *branch], start) > max_nodes:
            yield group
            group = []
        group = [*group, *branch]
    if group:
        yield group
