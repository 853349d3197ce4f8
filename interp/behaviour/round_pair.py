"""The pair of one round: two conversations of an item that had other instructions, at one round.

Round 1 is the question with its instruction, the pair of :func:`interp.make_pair`; later rounds go on
with the model's own answers and the conditions' own re-asks, so the two prompts differ in more than an
instruction, and are seldom of equal length: results say which tokens have no counterpart.
"""

from __future__ import annotations

from dataclasses import replace

from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.protocol import RoundProtocol, condition_protocols, placebo_protocols
from interp.behaviour.rounds import run_rounds
from interp.data.items import ChoiceItem
from interp.errors import InterpError
from interp.prompts import PLACEBO_KINDS, PromptPair, TextBank, TokenizedPrompt, make_pair


def round_pair(
    model: TransformerBridge,
    item: ChoiceItem,
    condition: str,
    *,
    number: int,
    against: str = "placebo",
    order: int = 0,
    slot: int = 0,
    bank: TextBank | None = None,
) -> PromptPair:
    """The pair ``condition -> against`` of one item in a later round.

    Args:
        model: answers every round before, by the score of the options.
        item: the item.
        condition: the source's condition.
        number: the round, from 1 on.
        against: the destination's condition; ``placebo`` is matched to the source's text.
        order: which cyclic order of the options.
        slot: which text of the conditions (the last of one that has fewer).
        bank: the texts of the conditions; those of the bundled ones by default.

    Raises:
        InterpError: a round below 1, or beyond the first of a condition that asks once, a slot or order
            that there is not, another control than those of the placebos' kinds, or a round beyond the
            context.

    Example:
        >>> round_pair(model, item, "instructed", number=3)                 # doctest: +SKIP
    """
    if number < 1:
        raise InterpError(f"round {number}: instructions differ from round 1 on")
    if slot < 0:
        raise InterpError(f"round_pair: slot is {slot}, texts are counted from 0")
    bank = TextBank(model.tokenizer) if bank is None else bank
    here = _protocol(bank, condition, slot)
    if against == "placebo":
        (there,) = placebo_protocols(bank, [here]) or (_protocol(bank, against, slot),)
    elif against in PLACEBO_KINDS:
        raise InterpError(
            f"rounds of {against!r} are not matched to a text: give against='placebo'"
        )
    else:
        there = _protocol(bank, against, slot)
    prompts = [_prompt(model, item, one, number, order) for one in (here, there)]
    pair = make_pair(model, *prompts, answers=_answers(item, prompts[1]))
    return replace(
        pair, item=item, source_name=condition, destination_name=against, wording=str(slot)
    )


def _protocol(bank: TextBank, name: str, slot: int) -> RoundProtocol:
    n = min(slot + 1, bank.n_texts(name))
    return condition_protocols(bank, name, task="choice", n_texts=n)[-1]


def _prompt(
    model: TransformerBridge, item: ChoiceItem, protocol: RoundProtocol, number: int, order: int
) -> TokenizedPrompt:
    (history,) = run_rounds(model, item, protocol, number, orders=[order])
    return history.prompt(number)


def _answers(item: ChoiceItem, prompt: TokenizedPrompt) -> tuple[str, str] | tuple[()]:
    """The contrasted options as :func:`interp.make_pair` takes them, with the space before a word."""
    contrast = item.contrast()
    if contrast is None:
        return ()
    started = prompt.span_of(len(prompt) - 1) == "answer_start" or prompt.text[-1:].isspace()
    gap = "" if started else " "
    a, b = (f"{gap}{item.choices[index].text.strip()}" for index in contrast)
    return a, b
