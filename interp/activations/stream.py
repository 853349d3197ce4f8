"""Streaming reads: any number of prompts through chosen hooks, in constant memory.

Every hook may come with a *reduction*, applied to the rows that are asked for inside the hook:
``rows @ directions`` keeps a few numbers where the activation had ``d_model``, so that projecting
10,000 prompts stores no activation. Prompts go through :func:`interp.models.forward` in batches that
depend on the arguments alone (short ones share a forward, nothing is padded), and come out one by
one, in their order.

Averages are taken after the reduction: the mean over a span of a dot product is the dot product of
the span's mean, the mean of a cosine is the mean of the positions' cosines.

Example::

    hooks = {"blocks.3.hook_resid_post": lambda rows: rows @ directions}     # [row, k]
    for index, values in stream(model, prompts, hooks, positions="instruction"):
        values["blocks.3.hook_resid_post"]                                   # [1, k]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.activations.places import Places, places_of
from interp.errors import InterpError
from interp.models import forward
from interp.models.forward import MAX_NODES
from interp.models.limits import NotFiniteError, out_of_memory
from interp.prompts import Given, TokenizedPrompt, as_prompt, each_given, require_vocabulary

Reducer: TypeAlias = Callable[[Tensor], Tensor]
"""Rows ``[row, ...]`` of a hook, on the model's device, to what is kept of them, ``[row, ...]``."""

Prompt: TypeAlias = TokenizedPrompt | Int[Tensor, " _pos"]

MAX_BYTES = 256 << 20
"""Default budget for the rows of one batch."""

_PROMPTS_AT_ONCE = 64
_REDUCED_WIDTH = 64  # assumed of a reduction, to count its bytes


def stream(
    model: TransformerBridge,
    prompts: Given | Sequence[Given],
    hooks: Mapping[str, Reducer | None],
    *,
    positions: str | Sequence[int] = "last",
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
    description: str = "reading",
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Run every prompt once and yield ``(index, {hook: values [place, ...]})`` in their order.

    Args:
        model: a bridge in evaluation mode.
        prompts: one or several of: a prompt, a pair (its source), a text, chat messages, token ids.
        hooks: TransformerLens's hook names, each with its reduction (None keeps the rows).
        positions: which places of each prompt, see :mod:`interp.activations.places`; or one
            position per prompt (negative ones count from its end).
        max_bytes: budget for the rows of one batch; halved when memory runs out all the same.
        progress: show a bar.
        description: the bar's text.

    Yields:
        Values in float32 on the CPU; the first axis has length 1 for averages and single positions.

    Raises:
        InterpError: no prompts, one without tokens or beyond the context, positions that a prompt
            does not have, an unknown hook.
        NotFiniteError: an activation that is not finite; names hook and prompt.
    """
    prompts = readable(model, prompts)
    where = resolve_places(model, prompts, positions)
    ids = [prompt.ids if isinstance(prompt, TokenizedPrompt) else prompt for prompt in prompts]
    widest = max(int(model.cfg.d_model), int(model.cfg.n_heads * model.cfg.d_head))
    row_bytes = 4 * sum(widest if reduce is None else _REDUCED_WIDTH for reduce in hooks.values())
    start, at_once, max_nodes = 0, _PROMPTS_AT_ONCE, MAX_NODES
    with tqdm(total=len(prompts), desc=description, disable=not progress) as bar:
        while start < len(prompts):
            stop = _batch_end(where, start, at_once, max_bytes // max(row_bytes, 1))
            try:
                found = _run(model, ids, where, hooks, range(start, stop), max_nodes)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or stop - start == 1:
                    raise
                at_once, max_nodes = (stop - start) // 2, max(max_nodes // 2, 1)
                continue
            yield from found
            bar.update(stop - start)
            start = stop


def readable(model: TransformerBridge, prompts: Given | Sequence[Given]) -> list[Prompt]:
    """Prompts to read, of whatever a user has; rows of token ids stay as they are.

    Raises:
        InterpError: see :func:`interp.prompts.as_prompt`.
    """
    # thousands of sentences come as ids: their tokens' texts are not needed here
    return [
        one if isinstance(one, Tensor) and one.ndim == 1 else as_prompt(model, one)
        for one in each_given(prompts)
    ]


def resolve_places(
    model: TransformerBridge, prompts: Sequence[Prompt], positions: str | Sequence[int]
) -> list[Places]:
    """The places of every prompt, with every prompt's length checked.

    Raises:
        InterpError: see :func:`stream`.
    """
    if not prompts:
        raise InterpError("no prompts to read: the list is empty")
    for index, prompt in enumerate(prompts):
        if not 1 <= len(prompt) <= model.cfg.n_ctx:
            raise InterpError(
                f"prompt {index} has {len(prompt)} tokens, must be 1 to {model.cfg.n_ctx}"
            )
        ids = prompt.ids if isinstance(prompt, TokenizedPrompt) else prompt
        require_vocabulary(model.tokenizer, f"prompt {index}", ids, model.cfg.d_vocab)
    if isinstance(positions, str):
        named = model.tokenizer is not None and positions == "mean"
        special = set(model.tokenizer.all_special_ids) if named else set()
        return [places_of(prompt, positions, special) for prompt in prompts]
    if len(positions) != len(prompts):
        raise InterpError(f"{len(positions)} positions for {len(prompts)} prompts: give one each")
    for index, (prompt, position) in enumerate(zip(prompts, positions, strict=True)):
        if not -len(prompt) <= position < len(prompt):
            raise InterpError(
                f"position {position} is outside prompt {index}, 0..{len(prompt) - 1}"
            )
    return [Places((p % len(prompt),)) for prompt, p in zip(prompts, positions, strict=True)]


def _batch_end(where: Sequence[Places], start: int, at_once: int, max_rows: int) -> int:
    """The end of the batch that begins at ``start``: as many prompts as the rows allow."""
    rows, stop = 0, start
    while stop < min(start + at_once, len(where)):
        rows += len(where[stop].positions)
        if rows > max_rows and stop > start:
            break
        stop += 1
    return stop


def _run(
    model: TransformerBridge,
    ids: Sequence[Tensor],
    where: Sequence[Places],
    hooks: Mapping[str, Reducer | None],
    batch: range,
    max_nodes: int,
) -> list[tuple[int, dict[str, Tensor]]]:
    asked = [(k, p) for k, index in enumerate(batch) for p in where[index].positions]
    try:
        states = forward(
            model,
            [ids[index] for index in batch],
            read=dict.fromkeys(hooks, asked),
            through={name: reduce for name, reduce in hooks.items() if reduce is not None},
            max_nodes=max_nodes,
        ).states
    except NotFiniteError as error:
        if error.prompt is None:
            raise
        index = batch[error.prompt]
        raise NotFiniteError(error.what, f"prompt {index}", prompt=index) from error
    found, row = [], 0
    for index in batch:
        rows = slice(row, row + len(where[index].positions))
        values = {name: values[rows] for name, values in states.items()}
        if where[index].averaged:
            values = {name: part.mean(0, keepdim=True) for name, part in values.items()}
        found.append((index, values))
        row = rows.stop
    return found
