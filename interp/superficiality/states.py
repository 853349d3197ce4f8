"""States of a pair and of statements of its length: what shifts and probes are made of.

Four runs: the corrected prompt, its placebo, and the same item behind two *statements*, texts of the
same token count that ask for nothing. Three places of each: the mean over everything behind the
instruction, the last token of the prompt, where the answer is made, and the mean over the content.
Position 0 and the header stand before the instruction and are part of none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.branches import Reading
from interp.prompts import PlaceboKind, PromptPair, TextBank, TokenizedPrompt, condition_prompt
from interp.superficiality.sides import CONTENT_SPANS, activations, residual_names

RUNS = ("corrected", "placebo", "statement", "other statement")
"""The runs whose states are kept, in this order."""

PLACES = ("behind", "answer", "content")
"""The places of every run: mean over all tokens behind the instruction; the prompt's last one; mean over
its content."""

_SPARE = 3
"""Texts drawn beyond those that are needed: a border may join tokens, one may be the pair's own."""

PairStates = Float[Tensor, "run place layer d_model"]
"""``layer`` runs to n_layers: the last entry is the final stream."""


def statement_prompts(
    model: TransformerBridge, bank: TextBank, pair: PromptPair, condition: str
) -> list[TokenizedPrompt]:
    """The pair's item behind two statements of its instruction's token count.

    Raises:
        InterpError: a pair without an item, or statements that cannot be had in this length.
    """
    return placebo_prompts(model, bank, pair, condition, 2, kind="statement")


def placebo_prompts(
    model: TransformerBridge,
    bank: TextBank,
    pair: PromptPair,
    condition: str,
    n: int,
    *,
    kind: PlaceboKind = "placebo",
) -> list[TokenizedPrompt]:
    """The pair's item behind ``n`` other texts that ask for nothing moral, of its token count.

    None of them is the pair's own placebo.

    Raises:
        InterpError: a pair without an item, a text that cannot be matched, or too few prompts of the
            pair's length.
    """
    item = pair.item
    if item is None:
        raise InterpError(f"{pair.label}: no item, so no other text can stand before it")
    slot = int(pair.wording)
    own = bank.texts(condition, item, slot + 1)[slot]
    drawn = bank.placebos([own] * (n + _SPARE), kind=kind)
    there = pair.destination
    stop = there.span("instruction").stop
    found = []
    for text in drawn:
        prompt = condition_prompt(model, item, text, placement="before")
        # leading tokens that both options share stand at the end of the pair's prompts
        same_behind = torch.equal(prompt.ids[stop:], there.ids[stop : len(prompt)])
        if same_behind and not torch.equal(prompt.ids, there.ids[: len(prompt)]):
            found.append(prompt)
    if len(found) < n:
        raise InterpError(
            f"{pair.label}: {len(found)} of {len(drawn)} other texts of its token count give prompts of "
            f"its length, {n} are needed: end the condition's texts in a full stop"
        )
    return found[:n]


def pair_states(
    model: TransformerBridge, pair: PromptPair, statements: Sequence[TokenizedPrompt]
) -> PairStates:
    """The states of :data:`RUNS` at :data:`PLACES`, every layer, float32 on the CPU.

    Raises:
        InterpError: not two statements; a state that is not finite.
    """
    if len(statements) != 2:
        raise InterpError(f"{len(statements)} statements: give two")
    length = len(statements[0])  # without the leading tokens that both options share
    return torch.stack(
        [
            _at_places(model, prompt, length)
            for prompt in (pair.source, pair.destination, *statements)
        ]
    )


def _at_places(
    model: TransformerBridge, prompt: TokenizedPrompt, length: int
) -> Float[Tensor, "place layer d_model"]:
    reading = Reading(prompt.ids[:length], torch.tensor([length - 1]))
    states = activations(model, reading, residual_names(model)).float().cpu()
    start = prompt.span("instruction").stop
    spans = [prompt.span(name) for name in CONTENT_SPANS if name in prompt.spans]
    content = [p for span in spans for p in range(span.start, span.stop)]
    return torch.stack([states[:, start:].mean(1), states[:, -1], states[:, content].mean(1)])
