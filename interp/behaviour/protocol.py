"""What is said in every round of self-correction, as data that comes from the condition registry.

The protocol of the study (arXiv 2407.15286): round 0 asks the question alone, in a conversation of
its own; round 1 asks it with the instruction, as a fresh first turn; rounds 2..R continue that
conversation with a re-ask. :func:`condition_protocols` makes one such trajectory of every text of a
condition (:mod:`interp.prompts.presets`, which holds all wordings); :func:`study_protocol` names the
three of the study. A variant is ``dataclasses.replace`` of one of them.

A condition of several calls (chain of thought, critique) makes them all in round 1, in order: the
reply to each is part of the conversation of the next, the last one is the round's answer.

**The control.** Being asked again moves answers whatever is asked, and so do longer prompts. So
every trajectory has a placebo (:func:`placebo_protocols`): the same turns and calls, the instruction
replaced by the bank's matched placebo, the re-ask by one that only asks again, without review, doubt
or toxicity; each as near as possible in token count under the tokenizer at hand. Calls that speak of
morals are replaced by the condition's ``control_calls``. An effect of round
r is treated minus placebo at round r.

Limit: a text with slots is matched as it is written (``{answer}`` counts as its own few tokens), so
that one placebo serves all items; ``instruction_tokens`` of :func:`~interp.behaviour.rounds_frame`
says how long both became.

Example::

    bank = TextBank(model.tokenizer)
    moral = condition_protocols(bank, "instructed", task="choice", n_texts=6)
    control = placebo_protocols(bank, moral)
    spoken = replace(moral[0], answer="generate", decoding=Decoding(stop=("\\n",)))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from interp.behaviour.generation import Decoding
from interp.data.bundle import bundled_instructions
from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError, did_you_mean
from interp.prompts import (
    ANSWER_PREFIX,
    Call,
    Condition,
    ConditionSpec,
    InstructionTurn,
    Placement,
    TextBank,
    condition_texts,
    load_conditions,
)

Item: TypeAlias = ChoiceItem | CompletionItem
Task = Literal["choice", "completion"]
AnswerMode = Literal["score", "generate"]
"""``score``: the option of the highest mean log-probability per token; ``generate``: free text."""

_ANSWER, _COMPLETION, _THOUGHT = (Decoding(max_new_tokens=n) for n in (20, 40, 100))
_STUDY: dict[str, tuple[str, Task, int]] = {
    "bbq": ("instructed", "choice", 5),
    "winogender": ("gender", "choice", 5),
    "rtp": ("nontoxic", "completion", 7),
}


@dataclass(frozen=True)
class RoundProtocol:
    """One trajectory of rounds.

    Texts may hold slots (:mod:`interp.prompts.slots`), which are filled per item; in a re-ask
    ``{option}`` is the model's own answer before it, and ``{verdict}`` judges that one.

    Args:
        name: names the protocol in tables.
        instruction: what round 1 adds to the question; None asks it as round 0 does.
        reask: the user's turn of rounds 2..R; empty for a trajectory that ends with round 1.
        task: which items it is for. A completion is always generated.
        answer: how a round is answered. Thoughts and critiques are always generated.
        answer_prefix: what an answer of the assistant begins with, in every round; a call's own
            ``begins`` goes first. Empty for none.
        placement: the instruction before or after the question.
        turn: the instruction in the user's turn or in a system turn before it.
        n_rounds: R, the number of the last round.
        decoding: of everything generated; at temperature 0 where answers are scored.
        calls: of round 1, in order.
        verdict_accuracy: for the slot ``{verdict}``.
        condition: the condition of the registry that it comes from, ``placebo`` for a control.
        text_id: which text of the condition.
        slot: the number of that text, from 0; a control has that of what it is matched with.
        control_of: of a control, the condition (or hand-made protocol) that it is matched with.
    """

    name: str
    instruction: str | None
    reask: str = ""
    task: Task = "choice"
    answer: AnswerMode = "score"
    answer_prefix: str = ANSWER_PREFIX
    placement: Placement = "after"
    turn: InstructionTurn = "user"
    n_rounds: int = 5
    decoding: Decoding = field(default_factory=Decoding)
    calls: tuple[Call, ...] = (Call(),)
    verdict_accuracy: float | None = None
    condition: str = ""
    text_id: str = ""
    slot: int = 0
    control_of: str = ""

    def __post_init__(self) -> None:
        for problem, present in self._problems().items():
            if present:
                raise InterpError(f"protocol {self.name!r}: {problem}")

    def _problems(self) -> dict[str, bool]:
        later = [self.reask, *(call.asks for call in self.calls if call.asks)]
        return {
            "name is empty": not self.name.strip(),
            "the instruction is empty; give None to ask without one": (
                self.instruction is not None and not self.instruction.strip()
            ),
            f"n_rounds is {self.n_rounds}, at least 1": self.n_rounds < 1,
            "reask is empty; give one, or n_rounds=1": (
                self.n_rounds > 1 and not self.reask.strip()
            ),
            "a completion has no options to score; set answer='generate'": (
                self.task == "completion" and self.answer == "score"
            ),
            f"the answer prefix {self.answer_prefix!r} begins or ends in white space, which chat "
            "templates trim: remove it": self.answer_prefix != self.answer_prefix.strip(),
            "its calls do not end in one that gives the answer": (
                not self.calls or self.calls[-1].gives != "answer"
            ),
            "speaks of the model's own answer with {option} or {verdict}, and a generated one "
            "cannot always be read; set answer='score'": (
                self.answer == "generate"
                and any(slot in text for text in later for slot in ("{option}", "{verdict}"))
            ),
        }

    def prefix_of(self, call: Call) -> str:
        """How the reply to a call begins: its own words, or the prefix where it gives an answer."""
        return call.begins or (self.answer_prefix if call.gives == "answer" else "")


def condition_protocols(
    bank: TextBank,
    name: str,
    *,
    task: Task,
    n_texts: int = 1,
    answer: AnswerMode = "score",
    decoding: Decoding | None = None,
    placement: Placement = "after",
    turn: InstructionTurn = "user",
    n_rounds: int = 5,
) -> tuple[RoundProtocol, ...]:
    """The trajectories of a condition: one per text, one for a condition without text.

    Text k goes with re-ask k of the condition, over and over where it has fewer. A condition that
    asks nothing again (``clean``, chain of thought, ...) has rounds 0 and 1 only, whatever
    ``n_rounds``.

    Args:
        bank: the registry, and its texts.
        name: a condition; not ``placebo``, see :func:`placebo_protocols`.
        task: which items it is for.
        n_texts: how many texts.
        answer: how choices are answered; completions are always generated.
        decoding: greedy by default, with 100 new tokens where the condition takes several calls,
            else 40 for a completion and 20 for a choice.
        placement: where the instruction goes, unless the condition fixes it.
        turn: in whose turn, unless the condition fixes it.
        n_rounds: R, the number of the last round.

    Raises:
        InterpError: an unknown condition, one that is not for the task, or more texts than it has.
    """
    if name == "placebo":
        raise InterpError(
            "condition 'placebo' is the control of others: use placebo_protocols on their protocols"
        )
    wordings = bank.wordings(name, n_texts)
    spec = bank.specs[name]
    if spec.items not in ("any", task):
        raise InterpError(f"condition {name!r} is for {spec.items} items, not for {task} items")
    if decoding is None:
        short = _COMPLETION if task == "completion" else _ANSWER
        decoding = _THOUGHT if len(spec.calls) > 1 else short
    stands, whose = wordings[0].place(placement, turn)
    return tuple(
        replace(
            _protocol(spec, wording, task, answer, n_rounds),
            decoding=decoding,
            placement=stands,
            turn=whose,
        )
        for wording in wordings
    )


def placebo_protocols(
    bank: TextBank, protocols: Sequence[RoundProtocol]
) -> tuple[RoundProtocol, ...]:
    """The controls of trajectories, in their order; those whose condition has no control are left out.

    The instruction is the placebo that the bank gives this text after those of the slots before it
    (as in single prompts), the re-ask the neutral one nearest in token count. A protocol without
    instruction keeps none; the calls are the condition's ``control_calls``, where it has some.

    Raises:
        InterpError: what :meth:`TextBank.placebos` refuses, or a bank whose condition ``placebo``
            has no re-ask.
    """
    controlled = [
        protocol
        for protocol in protocols
        if protocol.condition not in bank.specs or bank.specs[protocol.condition].has_control
    ]
    return tuple(_placebo(bank, protocol) for protocol in controlled)


def study_protocol(name: str) -> RoundProtocol:
    """A trajectory of arXiv 2407.15286 as reported: ``bbq``, ``winogender`` or ``rtp``.

    The first texts of the conditions ``instructed``, ``gender`` and ``nontoxic``. Winogender's
    re-ask was not reported and is that of BBQ.

    Raises:
        InterpError: an unknown name.
    """
    if name not in _STUDY:
        raise InterpError(f"no protocol {name!r}: {did_you_mean(name, _STUDY)}")
    condition, task, n_rounds = _STUDY[name]
    spec = load_conditions()[condition]
    first = condition_texts(spec, bundled_instructions())[0]
    wording = Condition(condition, first.id, first.text, source=first.source)
    return replace(_protocol(spec, wording, task, "score", n_rounds), name=name)


def placebo_protocol(protocol: RoundProtocol, tokenizer: Any) -> RoundProtocol:
    """The control of one trajectory, with the bundled conditions; see :func:`placebo_protocols`."""
    return _placebo(TextBank(tokenizer), protocol)


def _protocol(
    spec: ConditionSpec, wording: Condition, task: Task, answer: AnswerMode, n_rounds: int
) -> RoundProtocol:
    reasks = spec.reasks(task)
    return RoundProtocol(
        name=spec.name if wording.text is None else f"{spec.name}-{wording.slot}",
        instruction=wording.text,
        reask=reasks[wording.slot % len(reasks)] if reasks else "",
        task=task,
        answer=answer if task == "choice" else "generate",
        answer_prefix=ANSWER_PREFIX if task == "choice" else "",
        n_rounds=n_rounds if reasks else 1,
        decoding=_ANSWER if task == "choice" else _COMPLETION,
        calls=spec.calls,
        verdict_accuracy=spec.verdict_accuracy,
        condition=spec.name,
        text_id=wording.text_id,
        slot=wording.slot,
    )


def _placebo(bank: TextBank, protocol: RoundProtocol) -> RoundProtocol:
    instruction, text_id = None, "placebo"
    if protocol.instruction is not None:
        own = Condition(protocol.condition, protocol.text_id, protocol.instruction, protocol.slot)
        known = protocol.slot > 0 and protocol.condition in bank.specs
        before = bank.wordings(protocol.condition, protocol.slot) if known else ()
        placebo = bank.placebos((*before, own))[-1]
        instruction, text_id = placebo.text, placebo.text_id
    return replace(
        protocol,
        name=f"{protocol.name}-placebo",
        instruction=instruction,
        reask=_neutral(bank, protocol),
        calls=_control_calls(bank, protocol),
        verdict_accuracy=None,
        condition="placebo",
        text_id=text_id,
        control_of=protocol.condition or protocol.name,
    )


def _control_calls(bank: TextBank, protocol: RoundProtocol) -> tuple[Call, ...]:
    spec = bank.specs.get(protocol.condition)
    return (spec.control_calls if spec else ()) or protocol.calls


def _neutral(bank: TextBank, protocol: RoundProtocol) -> str:
    """The neutral re-ask of the nearest token count, the first of equals; none for none."""
    if not protocol.reask:
        return ""
    spec = bank.specs.get("placebo")
    reasks = () if spec is None else spec.reasks(protocol.task)
    if not reasks:
        raise InterpError(
            f"protocol {protocol.name!r}: condition 'placebo' has no 'reask', which its control "
            "needs: add neutral re-asks to it"
        )
    wanted = bank.count(protocol.reask)
    return min(reasks, key=lambda text: abs(bank.count(text) - wanted))
