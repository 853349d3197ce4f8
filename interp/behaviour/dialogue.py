"""One conversation under way: what is said next, rendered from its history.

Round 0 asks the item alone; round 1 asks it with the instruction and goes through the calls of the
protocol; every later round adds the last answer and the re-ask. Slots of all these texts are filled
for the item (:mod:`interp.prompts.slots`): ``{option}`` is the last answer that was given in this
conversation, and one drawn per item where there is none yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.cache import CachedPrefix
from interp.behaviour.history import Round
from interp.behaviour.protocol import Item, RoundProtocol
from interp.data.items import ChoiceItem
from interp.errors import InterpError
from interp.prompts import Call, Conversation, TokenizedPrompt, fill, follow_up, tokenize
from interp.prompts.conversation import build_completion, build_conversation

EMPTY_REPLY = "..."
"""Replaces a reply of white space in the history, which some chat templates refuse."""

_ONE_ANSWER = (Call(),)


@dataclass(frozen=True)
class DialogueSetup:
    """What is the same for all conversations."""

    model: TransformerBridge
    protocol: RoundProtocol
    seed: int
    cached: bool
    feedback: Mapping[str, str] | None = None

    def calls(self, number: int) -> tuple[Call, ...]:
        """The calls of a round; only round 1 can have several."""
        return self.protocol.calls if number == 1 else _ONE_ANSWER


@dataclass
class Dialogue:
    """One conversation under way; ``earlier`` holds the calls of the round that is not done yet."""

    item: Item
    order_index: int
    order: tuple[int, ...]
    sample: int
    rounds: list[Round] = field(default_factory=list)
    earlier: list[Round] = field(default_factory=list)
    prefix: CachedPrefix | None = None


@dataclass(frozen=True, eq=False)
class PendingCall:
    """A call before its reply; ``index`` counts the calls of a round."""

    number: int
    index: int
    call: Call
    conversation: Conversation
    prompt: TokenizedPrompt


def render_call(setup: DialogueSetup, dialogue: Dialogue, number: int, index: int) -> PendingCall:
    """Render a call of a round from the history."""
    call = setup.calls(number)[index]
    label = f"item {dialogue.item.id}, order {dialogue.order_index}, round {number}"
    if len(setup.calls(number)) > 1:
        label += f", call {index + 1}"
    conversation = replace(_conversation(setup, dialogue, number, index, call), label=label)
    model = setup.model
    prompt = tokenize(
        model.tokenizer, conversation, n_ctx=model.cfg.n_ctx, n_vocab=model.cfg.d_vocab
    )
    return PendingCall(number, index, call, conversation, prompt)


def _conversation(
    setup: DialogueSetup, dialogue: Dialogue, number: int, index: int, call: Call
) -> Conversation:
    protocol = setup.protocol
    prefix = protocol.prefix_of(call)
    if number < 2 and index == 0:
        asked = first_conversation(
            dialogue.item,
            protocol,
            instructed=number == 1,
            order=dialogue.order or None,
            seed=setup.seed,
            feedback=setup.feedback,
        )
        return replace(asked, answer_prefix=prefix)
    said = [*(dialogue.rounds if number > 1 else ()), *dialogue.earlier]
    answers = [done for done in said if done.gives == "answer"]
    request = fill_text(
        protocol,
        protocol.reask if index == 0 else call.asks or "",
        dialogue.item,
        option=answers[-1].choice if answers else None,
        seed=setup.seed,
        feedback=setup.feedback,
    )
    before = said[-1]
    reply = before.text if before.text.strip() else EMPTY_REPLY
    return follow_up(before.conversation, reply, request, answer_prefix=prefix)


def first_conversation(
    item: Item,
    protocol: RoundProtocol,
    *,
    instructed: bool,
    order: Sequence[int] | None = None,
    seed: int = 0,
    feedback: Mapping[str, str] | None = None,
) -> Conversation:
    """The conversation of round 0 (not instructed) or round 1, with the options in this order.

    Raises:
        InterpError: an item that is not of the protocol's task or cannot fill a slot, or what
            :func:`interp.prompts.build_conversation` refuses.
    """
    task = "choice" if isinstance(item, ChoiceItem) else "completion"
    if task != protocol.task:
        raise InterpError(
            f"item {item.id!r} is a {task}, and protocol {protocol.name!r} is for a "
            f"{protocol.task}: use another protocol"
        )
    text = None
    if instructed and protocol.instruction is not None:
        text = fill_text(protocol, protocol.instruction, item, seed=seed, feedback=feedback)
    if isinstance(item, ChoiceItem):
        return build_conversation(
            item,
            text,
            order=order,
            placement=protocol.placement,
            turn=protocol.turn,
            answer_prefix=protocol.answer_prefix,
        )
    asked = build_completion(item, text, placement=protocol.placement, turn=protocol.turn)
    return replace(asked, answer_prefix=protocol.answer_prefix)


def fill_text(
    protocol: RoundProtocol,
    text: str,
    item: Item,
    *,
    option: int | None = None,
    seed: int = 0,
    feedback: Mapping[str, str] | None = None,
) -> str:
    """A text of a protocol with its slots filled for an item.

    Raises:
        InterpError: names the protocol, the item and the slot.
    """
    try:
        return fill(
            text,
            item,
            verdict_accuracy=protocol.verdict_accuracy,
            seed=seed,
            feedback=feedback,
            option=option,
        )
    except InterpError as error:
        raise InterpError(f"protocol {protocol.name!r}: {error}") from error


def require_fillable(
    protocol: RoundProtocol,
    items: Iterable[Item],
    last: int,
    feedback: Mapping[str, str] | None,
) -> None:
    """Refuse an item of another task, or one that cannot fill a slot, before anything is run."""
    later = [call.asks for call in protocol.calls if call.asks]
    later += [protocol.reask] if last > 1 else []
    for item in items:
        first_conversation(item, protocol, instructed=True, feedback=feedback)
        for text in later:
            fill_text(protocol, text, item, feedback=feedback)
