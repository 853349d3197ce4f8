"""Multi-round self-correction: ask, instruct, ask again, and keep everything that was said.

:func:`run_rounds` runs a :class:`~interp.behaviour.protocol.RoundProtocol` on items. Every cyclic
order of a choice item's options and every sample is a conversation of its own, with its own answers
in its history. Each round is rendered from that history, reuses the keys and values of the longest
common prefix with the round before (also round 1 that of round 0, up to the instruction), and notes
how many tokens were computed (``Round.n_recomputed``).

**Replies.** An answer is the most likely option, or generated text that is read
(:mod:`interp.behaviour.replies`); thoughts and critiques, of protocols of several calls, are
generated, and are in ``Round.earlier``. No generated text may spell a special token, so each of
those ends it, as a token or as text; without a chat template a blank line does, since it ends a turn
there. In the history a reply of white space alone becomes
:data:`~interp.behaviour.dialogue.EMPTY_REPLY`.

**Batches.** Conversations are taken in the given order, ``batch_size`` at a time; of these, equally
long ones run together, unpadded. Sampling noise depends on (seed, item, order, sample, round, call)
alone.

Cost of one call: its new tokens, plus for ``score`` the tokens of all options. Memory: the keys and
values of ``batch_size`` conversations.

Example::

    bank = TextBank(model.tokenizer)
    moral = condition_protocols(bank, "instructed", task="choice")
    histories = []
    for protocol in (*moral, *placebo_protocols(bank, moral)):
        histories += run_rounds(model, items, protocol)
    frame = rounds_frame(histories)
    prompt = histories[0].prompt(3)         # for patching, lens, projections
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.cache import supports_cache_reuse
from interp.behaviour.dialogue import Dialogue, DialogueSetup, render_call, require_fillable
from interp.behaviour.generation import BATCH_SIZE
from interp.behaviour.history import RoundHistory
from interp.behaviour.protocol import Item, RoundProtocol
from interp.behaviour.replies import reply
from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError
from interp.models import model_card
from interp.prompts import cyclic_orders


def run_rounds(
    model: TransformerBridge,
    items: Item | Iterable[Item],
    protocol: RoundProtocol,
    n_rounds: int | None = None,
    *,
    orders: Sequence[int] | None = None,
    feedback: Mapping[str, str] | None = None,
    n_samples: int = 1,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    cached: bool = True,
    progress: bool = False,
) -> tuple[RoundHistory, ...]:
    """Run rounds 0..R of every item, order and sample.

    Args:
        model: a bridge in evaluation mode. Hooks on it act in every round.
        items: one item or several, all of the protocol's task.
        protocol: what is said, see :mod:`interp.behaviour.protocol`.
        n_rounds: R, the protocol's by default.
        orders: which cyclic orders of a choice item's options; all by default.
        feedback: text per item id, for the slot ``{feedback}``.
        n_samples: conversations per item and order; above 1 for a temperature above 0.
        seed: of the sampling, and of the draws that fill slots (as :class:`TextBank`'s).
        batch_size: conversations run together at most.
        cached: reuse keys and values; False computes every token from scratch.
        progress: show a bar.

    Returns:
        One :class:`RoundHistory` per (item, order, sample), in this nesting.

    Raises:
        InterpError: no items, an item twice, of another task or that cannot fill a slot, an order
            that does not exist, no rounds or samples, rounds without a re-ask, samples of a greedy
            protocol, or a round beyond the context (names item and round).
    """
    chosen = [items] if isinstance(items, ChoiceItem | CompletionItem) else list(items)
    last = protocol.n_rounds if n_rounds is None else n_rounds
    _check(chosen, protocol, last, n_samples, batch_size)
    require_fillable(protocol, chosen, last, feedback)
    setup = DialogueSetup(model, protocol, seed, cached and supports_cache_reuse(model), feedback)
    dialogues = [
        Dialogue(item, index, order, sample)
        for item in chosen
        for index, order in _orders(item, orders)
        for sample in range(n_samples)
    ]
    out: list[RoundHistory] = []
    bar = tqdm(total=len(dialogues) * (last + 1), desc=protocol.name, disable=not progress)
    for start in range(0, len(dialogues), batch_size):
        batch = dialogues[start : start + batch_size]
        for number in range(last + 1):
            _run_round(setup, batch, number)
            bar.update(len(batch))
        for dialogue in batch:
            dialogue.prefix = None
            out.append(_history(setup, dialogue))
    bar.close()
    return tuple(out)


def _run_round(setup: DialogueSetup, dialogues: Sequence[Dialogue], number: int) -> None:
    """All calls of a round, each of all conversations together."""
    for index in range(len(setup.calls(number))):
        asked = [render_call(setup, dialogue, number, index) for dialogue in dialogues]
        for dialogue, done in zip(dialogues, reply(setup, dialogues, asked), strict=True):
            dialogue.earlier.append(done)
    for dialogue in dialogues:
        *earlier, last = dialogue.earlier
        dialogue.rounds.append(replace(last, earlier=tuple(earlier)))
        dialogue.earlier = []


def _history(setup: DialogueSetup, dialogue: Dialogue) -> RoundHistory:
    card = model_card(setup.model)
    return RoundHistory(
        item=dialogue.item,
        protocol=setup.protocol,
        order_index=dialogue.order_index,
        order=dialogue.order,
        sample=dialogue.sample,
        seed=setup.seed,
        fingerprint=card.fingerprint,
        mode=card.mode,
        rounds=tuple(dialogue.rounds),
    )


def _orders(item: Item, wanted: Sequence[int] | None) -> list[tuple[int, tuple[int, ...]]]:
    if isinstance(item, CompletionItem):
        return [(0, ())]
    known = cyclic_orders(len(item.choices))
    indices = range(len(known)) if wanted is None else wanted
    for index in indices:
        if not 0 <= index < len(known):
            raise InterpError(
                f"item {item.id!r}: no cyclic order {index}, only 0..{len(known) - 1}"
            )
    return [(index, known[index]) for index in indices]


def _check(
    items: Sequence[Item], protocol: RoundProtocol, last: int, n_samples: int, batch_size: int
) -> None:
    if not items:
        raise InterpError("no items to run: the list is empty")
    repeated = [name for name, n in Counter(item.id for item in items).items() if n > 1]
    if repeated:
        raise InterpError(f"item {repeated[0]!r} is there twice: items are identified by their id")
    for name, value in (("n_rounds", last), ("n_samples", n_samples), ("batch_size", batch_size)):
        if value < 1:
            raise InterpError(f"{name} is {value}: at least 1")
    if last > 1 and not protocol.reask:
        raise InterpError(
            f"protocol {protocol.name!r} has no re-ask and ends with round 1: n_rounds is {last}"
        )
    sampled = protocol.answer == "generate" and protocol.decoding.temperature > 0
    if n_samples > 1 and not sampled:
        raise InterpError(
            f"{n_samples} samples of protocol {protocol.name!r} would be equal: answer='generate' "
            "with a temperature above 0 samples"
        )
