"""Every option's probability in one run of a pair, patched or not.

Sweeps read the contrast of two options. Here all options of the pair's item are read, each with its
full text teacher-forced behind the answer prefix, as :func:`interp.score_options` reads them: what is
patched into the prompt stays patched while the options are read.

The two options of the contrast share leading tokens that stand in the pair's prompts; the others are
read behind the prompt without these. A patch at the shared tokens is none of the other options' runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.branches import Reading
from interp.patching.cells import Cell, Patch
from interp.patching.hooked import require_one_prompt, run_reading, supports_hook
from interp.patching.metrics import target_of
from interp.patching.patched import PatchedRuns
from interp.prompts import (
    OptionTokens,
    PromptPair,
    TokenizedPrompt,
    encode_option,
    require_context,
    require_vocabulary,
)


@torch.no_grad()
def read_options(
    model: TransformerBridge,
    pair: PromptPair,
    *,
    run: Literal["source", "destination"] = "destination",
    patches: Sequence[Patch] = (),
) -> pd.DataFrame:
    """The options of one run of a pair, in the item's order.

    Args:
        model: a bridge in evaluation mode. Hooks on it act (a direction that steers, say).
        pair: with an item, all whose choices are read; without one, its two answers.
        run: which prompt.
        patches: of the destination (:func:`interp.patching.cell_patches`,
            :func:`interp.patching.blocked_edges`).

    Returns:
        One row per option: ``option`` (its text), ``role``, ``gold`` (of a pair without an item the
        better answer), ``log_prob`` (mean over the option's tokens, nats per token) and
        ``probability``, the softmax of ``log_prob`` over the options. The option margin is the
        difference of two ``log_prob``.

    Raises:
        InterpError: a pair without options, patches of the source's run, an option beyond context or
            vocabulary, or logits that are not finite.

    Example:
        >>> read_options(model, pair, patches=cell_patches(model, pair, grid=one))  # doctest: +SKIP
    """
    prompt = prompt_read(pair, run, patches)
    asked = _asked(model, pair, prompt)
    log_probs: dict[int, Tensor] = {}
    for group in _groups(prompt, asked):
        log_probs |= _read(model, group, patches, len(prompt))
    means = torch.stack([log_probs[k] for k in range(len(asked))])
    frame = pd.DataFrame([(one.text, one.role, one.gold) for one in asked])
    frame.columns = pd.Index(["option", "role", "gold"])
    return frame.assign(log_prob=means.tolist(), probability=means.softmax(0).tolist())


def prompt_read(pair: PromptPair, run: str, patches: Sequence[Patch]) -> TokenizedPrompt:
    """The prompt of a run; patches are of the destination."""
    if run not in ("source", "destination"):
        raise InterpError(f"run is {run!r}: give 'source' or 'destination'")
    if run == "source" and patches:
        raise InterpError("the patches are of the destination's run: leave out run='source'")
    return pair.source if run == "source" else pair.destination


@dataclass(frozen=True, eq=False)
class _Option:
    """One option; ``n_given``: how many of its tokens stand at the end of the pair's prompt."""

    text: str
    role: str
    gold: bool
    ids: Int[Tensor, " option"]
    n_given: int


@dataclass(frozen=True, eq=False)
class _Group:
    """Options behind one prompt, whose last ``n_given`` tokens are their first."""

    prompt: Int[Tensor, " pos"]
    n_given: int
    options: dict[int, Int[Tensor, " option"]]

    def reading(self) -> Reading:
        branches = tuple(ids[self.n_given : -1] for ids in self.options.values())
        first = len(self.prompt) - 1 - self.n_given
        stop = len(self.prompt) + sum(len(branch) for branch in branches)
        return Reading(self.prompt, torch.arange(first, stop), branches)


def _asked(model: TransformerBridge, pair: PromptPair, prompt: TokenizedPrompt) -> list[_Option]:
    """The options with their tokens, in the item's order."""
    tokens = pair.options
    if pair.item is None:
        target = target_of(pair)
        tokens = tokens or OptionTokens(torch.tensor([target.a]), torch.tensor([target.b]))
        return [
            _Option(target.a_text, "", True, tokens.a, tokens.n_shared),
            _Option(target.b_text, "", False, tokens.b, tokens.n_shared),
        ]
    contrast, n = pair.item.contrast() or (), 0 if tokens is None else tokens.n_shared
    bare = without_last(prompt, n)
    found = []
    for k, choice in enumerate(pair.item.choices):
        ids = encode_option(model.tokenizer, bare, choice.text.strip())
        n_given = n if k in contrast else 0
        require_context(prompt.label, len(bare) + len(ids) - 1, model.cfg.n_ctx)
        require_vocabulary(model.tokenizer, prompt.label, ids, model.cfg.d_vocab)
        found.append(_Option(choice.text.strip(), choice.role, k == pair.item.gold, ids, n_given))
    return found


def without_last(prompt: TokenizedPrompt, n: int) -> TokenizedPrompt:
    """The prompt without its last ``n`` tokens, which :meth:`TokenizedPrompt.extend` put there."""
    if not n:
        return prompt
    stop = len(prompt) - n
    spans = {
        name: slice(span.start, min(span.stop, stop))
        for name, span in prompt.spans.items()
        if span.start < stop
    }
    return replace(
        prompt,
        ids=prompt.ids[:stop],
        spans=spans,
        str_tokens=prompt.str_tokens[:stop],
        text=prompt.text.removesuffix("".join(prompt.str_tokens[stop:])),
    )


def _groups(prompt: TokenizedPrompt, asked: Sequence[_Option]) -> Iterator[_Group]:
    """Those behind the pair's prompt, and those behind what it is without the shared tokens."""
    most = max(one.n_given for one in asked)
    for n_given in sorted({one.n_given for one in asked}):
        options = {k: one.ids for k, one in enumerate(asked) if one.n_given == n_given}
        yield _Group(prompt.ids[: len(prompt) - most + n_given], n_given, options)


def _read(
    model: TransformerBridge, group: _Group, patches: Sequence[Patch], n: int
) -> dict[int, Float[Tensor, ""]]:
    """Mean log-probability per token of each option of a group; the pair's prompt has ``n`` tokens."""
    reading = group.reading()
    logits = _logits(model, reading, [one for p in patches for one in rows_of_patch(p, reading, n)])
    log_p = logits.float().cpu().log_softmax(-1)
    found, start = {}, group.n_given + 1
    for (k, ids), branch in zip(group.options.items(), reading.branches, strict=True):
        rows = torch.tensor([*range(group.n_given + 1), *range(start, start + len(branch))])
        found[k] = log_p[rows, ids].mean()
        start += len(branch)
    return found


def rows_of_patch(patch: Patch, reading: Reading, n: int) -> Iterator[Patch]:
    """A patch of a prompt of ``n`` tokens, of which the one that is read may lack the last.

    Edges that the last position loses are lost by the rows behind it too, as in
    :func:`interp.knockout`.
    """
    own = len(reading.prompt)
    kept = patch.positions < own
    positions, values = patch.positions[kept], patch.values[kept.to(patch.values.device)]
    if patch.site in ("edges", "pattern"):
        values = values[..., :own]
    if patch.site == "edges" and int(patch.positions[-1]) == n - 1:
        more = torch.arange(own, len(reading))
        last = patch.values[-1:, :, :own].expand(len(more), -1, -1)
        positions, values = torch.cat([positions, more]), torch.cat([values, last])
    if len(positions):
        yield replace(patch, positions=positions, values=values)


def _logits(
    model: TransformerBridge, reading: Reading, patches: Sequence[Patch]
) -> Float[Tensor, "read d_vocab"]:
    """Through hooks, and where these cannot set a site through the exact engine."""
    if all(supports_hook(model, patch.site) for patch in patches):
        require_one_prompt(model, reading)
        return run_reading(model, reading, patches)
    runs = PatchedRuns(model, [reading.prompt], [reading.read], branches=[reading.branches])
    found: list[Tensor] = []
    runs.run([Cell(0, tuple(patches))], lambda indices, logits: found.append(logits[0]))
    return found[0]
