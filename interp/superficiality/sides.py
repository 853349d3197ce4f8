"""A pair of prompts with the instruction first, taken apart: instruction side, content, what is behind.

``corrected`` and ``placebo`` differ in the instruction alone and have equally many tokens, so a position
means the same in both. Every token from the first difference on belongs to one of three parts:

- the *instruction side*: from the first difference to the first token of the content (the instruction,
  and the template's tokens between it and the content);
- the *content*: the spans that hold what is asked about (context and question);
- the *rest*: everything else behind the instruction side (options, template, answer prefix, and the
  options' texts that the option margin reads). It reads both and is where the answer is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.display import short_repr
from interp.errors import InterpError
from interp.models.limits import require_finite
from interp.models.rope import reset_rope
from interp.models.wrapped import wrapped_logits
from interp.patching.branches import Reading
from interp.patching.cells import Patch
from interp.patching.metrics import METRICS, Metric, reading_of
from interp.prompts import PromptPair
from interp.prompts.align import EQUAL_LENGTHS

CONTENT_SPANS = ("context", "question")
"""The spans that hold what is asked about."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Both prompts of a pair as they are run, and which row belongs to which part.

    ``corrected`` and ``placebo``: prompt, teacher-forced options behind it, rows that are read.
    ``instruction``, ``content``, ``rest``: ascending rows; a row is a position, or a token of an option.
    ``spans``: the content's rows by span.
    """

    pair: PromptPair
    corrected: Reading
    placebo: Reading
    instruction: Int[Tensor, " _instruction"]
    spans: dict[str, Int[Tensor, " _span"]]
    rest: Int[Tensor, " _rest"]

    __repr__ = short_repr

    @property
    def content(self) -> Int[Tensor, " row"]:
        """The rows of all content spans, ascending."""
        return torch.cat(list(self.spans.values())).sort().values

    @property
    def prompt(self) -> Int[Tensor, " row"]:
        """All positions of the prompt from the first difference on: without the options' own rows."""
        return torch.arange(int(self.instruction[0]), len(self.placebo.prompt))

    @property
    def behind(self) -> Int[Tensor, " row"]:
        """All rows behind the instruction itself: content and rest, and the template's in between."""
        stop = self.pair.destination.span("instruction").stop
        return torch.arange(stop, len(self.placebo))


def sides_of(
    pair: PromptPair,
    metrics: dict[str, Metric],
    *,
    content: Sequence[str] = CONTENT_SPANS,
) -> Sides:
    """Take a pair apart.

    Args:
        pair: corrected -> placebo, with the instruction before the content.
        metrics: what is read at the end, by name.
        content: the spans that are content; those that a prompt does not have are left out.

    Raises:
        InterpError: prompts that are equal or not aligned by index, without an instruction or content,
            or with content before the first difference, where no state can change.
    """
    here, there = pair.source, pair.destination
    if not pair.alignment.by_index:
        raise InterpError(
            f"{pair.label}: {len(here)} and {len(there)} tokens that do not align by index, and states "
            f"are set position by position: {EQUAL_LENGTHS}"
        )
    first = pair.alignment.first_difference
    if first is None:
        raise InterpError(f"{pair.label}: both prompts are the same: nothing to explain")
    if "instruction" not in there.spans:
        raise InterpError(f"{pair.label}: no span 'instruction': name it with spans=")
    found = {name: there.span(name) for name in content if name in there.spans}
    found = {name: where for name, where in found.items() if where.start < where.stop}
    if not found:
        raise InterpError(
            f"{pair.label}: none of the content spans {', '.join(content)} in the prompt, which has "
            f"{', '.join(there.spans)}: name others with content="
        )
    begin = min(where.start for where in found.values())
    if begin < first or begin < there.span("instruction").stop:
        raise InterpError(
            f"{pair.label}: content begins at position {begin}, before the instruction ends, and states "
            "before an instruction cannot change: make the pair with placement='before'"
        )
    corrected, placebo = (reading_of(prompt.ids, pair, metrics) for prompt in (here, there))
    rows = {name: torch.arange(where.start, where.stop) for name, where in found.items()}
    behind = torch.arange(begin, len(placebo))
    inside = torch.isin(behind, torch.cat(list(rows.values())))
    return Sides(pair, corrected, placebo, torch.arange(first, begin), rows, behind[~inside])


def metrics_of(pair: PromptPair) -> dict[str, Metric]:
    """The metrics that a pair can be read by, the primary one first: option margin, then margin.

    Raises:
        InterpError: a pair without either.
    """
    names = ["option_margin"] * (pair.options is not None) + ["margin"] * (pair.target is not None)
    if not names:
        raise InterpError(f"{pair.label}: neither options nor a margin target: nothing to read")
    return {name: METRICS[name] for name in names}


def residual_states(
    model: TransformerBridge, reading: Reading
) -> Float[Tensor, "layer row d_model"]:
    """The residual stream before every layer, and behind the last one, at all rows of a reading.

    ``layer`` runs from 0 to n_layers: the last entry is the final stream.

    Raises:
        InterpError: a state that is not finite.
    """
    return activations(model, reading, residual_names(model))


def residual_names(model: TransformerBridge) -> list[str]:
    """The hooks of the residual stream before every layer, and behind the last one."""
    n_layers = int(model.cfg.n_layers)
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    return [*names, f"blocks.{n_layers - 1}.hook_resid_post"]


@torch.no_grad()
def activations(
    model: TransformerBridge, reading: Reading, names: Sequence[str]
) -> Float[Tensor, "hook row ..."]:
    """What some hooks of equal width see at all rows of a reading, in the order of their names.

    Raises:
        InterpError: an activation that is not finite.
    """
    found: Tensor | None = None
    for forward in reading.forwards:
        kept = _kept(model, forward.ids, names)
        if found is None:
            found = kept.new_empty(len(names), len(reading), *kept.shape[2:])
        found[:, forward.rows] = kept
    assert found is not None  # a reading has at least one forward
    require_finite(found, names[0], "a prompt")
    return found


def _kept(
    model: TransformerBridge, ids: Int[Tensor, " pos"], names: Sequence[str]
) -> Float[Tensor, "hook pos ..."]:
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[..., None]:
        def keep(activation: Tensor, hook: Any) -> None:
            kept[name] = activation[0].clone()  # hook.name may be an alias

        return keep

    reset_rope(model)
    with model.hooks(fwd_hooks=[(name, keeper(name)) for name in names]):
        wrapped_logits(model, ids[None].to(model.cfg.device), logits_to_keep=1)
    return torch.stack([kept[name] for name in names])


def set_states(
    states: Float[Tensor, "layer row d_model"], rows: Int[Tensor, " _row"]
) -> list[Patch]:
    """Patches that set the stream before every layer at some rows; the last entry is not used."""
    return [Patch(layer, "resid_pre", rows, own[rows]) for layer, own in enumerate(states[:-1])]


def edge_rows(
    queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], n_rows: int, n_heads: int
) -> Bool[Tensor, "query head row"]:
    """Which edges go: true from every query to every key, in all heads."""
    gone = torch.zeros(n_rows, dtype=torch.bool)
    gone[keys] = True
    return gone.expand(len(queries), n_heads, -1)
