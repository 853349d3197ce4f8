"""The units of the behaviour study, and how each becomes rows: prompts, conversations, questions.

A single prompt is an item under one text of a condition of one call; a conversation follows one
trajectory (:class:`~interp.behaviour.RoundProtocol`). ``placebo`` among the conditions gives every
text that has a control its own, in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses.behaviour.asked import is_single_prompt
from analyses.behaviour.config import BehaviourConfig
from analyses.contrast import digest_prompts
from interp.behaviour import (
    CompletionPair,
    RoundProtocol,
    ToxicityScorer,
    completion_nll,
    condition_protocols,
    distinguish_items,
    history_line,
    less_toxic_items,
    placebo_protocols,
    rounds_frame,
    run_rounds,
    score_variants,
)
from interp.behaviour.dialogue import EMPTY_REPLY, fill_text, first_conversation
from interp.behaviour.protocol import Task
from interp.data import ChoiceItem, CompletionItem
from interp.prompts import (
    Condition,
    Conversation,
    TextBank,
    cyclic_orders,
    follow_up,
    prompts_digest,
)
from interp.prompts.conversation import LETTERS

ITEMS_AT_ONCE = 8
"""Items whose conversations are one unit of work."""

SAMPLED = "+sampled"
"""Ends the name of a trajectory that is sampled beside the greedy one; no condition's name does."""

_CLEAN = Condition("clean", "clean", None)

_Item = TypeVar("_Item", ChoiceItem, CompletionItem)


@dataclass(frozen=True)
class BehaviourBench:
    """What units are computed with. ``n_options``: the most options that a choice item has."""

    config: BehaviourConfig
    model: TransformerBridge
    bank: TextBank
    feedback: Mapping[str, str] | None = None
    scorer: ToxicityScorer | None = None
    n_options: int = 3


@dataclass(frozen=True)
class Talk:
    """The conversations of one trajectory over a few items."""

    protocol: RoundProtocol
    items: tuple[ChoiceItem | CompletionItem, ...]


def prompts_key(bench: BehaviourBench, item: ChoiceItem) -> dict[str, str]:
    """What decides the rows of :func:`score_prompts`."""
    variants, place = _variants(bench.bank, item, bench.config), bench.config.placement
    tokenizer = bench.model.tokenizer
    n_orders = bench.config.orders
    digest = digest_prompts(tokenizer, item, variants, placement=place, n_orders=n_orders)
    return {"item": item.id, "prompts": digest}


def question_key(bench: BehaviourBench, item: ChoiceItem) -> dict[str, str]:
    """What decides the rows of :func:`score_question`."""
    n_orders = bench.config.orders
    digest = digest_prompts(bench.model.tokenizer, item, (_CLEAN,), n_orders=n_orders)
    return {"item": item.id, "prompts": digest}


def talk_key(bench: BehaviourBench, talk: Talk) -> dict[str, Any]:
    """What decides the rows of :func:`hold_talk`, as far as it is known before the model replies.

    The digest is over the prompts of rounds 0 and 1, and over what is asked later behind a stand-in
    for the replies.
    """
    conversations = list(_conversations(bench, talk))
    return {
        "protocol": talk.protocol.name,
        "items": [item.id for item in talk.items],
        "prompts": prompts_digest(bench.model.tokenizer, conversations),
    }


def score_prompts(bench: BehaviourBench, item: ChoiceItem) -> pd.DataFrame:
    """An item under every single prompt; NaN for options that it does not have and others do."""
    variants = _variants(bench.bank, item, bench.config)
    frame = score_variants(
        bench.model,
        item,
        variants,
        placement=bench.config.placement,
        orders=_orders(bench.config),
    )
    positions = [f"p_position_{k}" for k in range(bench.n_options)]
    letters = [f"letter_{LETTERS[k]}" for k in range(bench.n_options)]
    rest = [name for name in frame if not str(name).startswith(("p_position_", "letter_"))]
    return frame.reindex(columns=[*rest, *positions, *letters])


def score_question(bench: BehaviourBench, item: ChoiceItem) -> pd.DataFrame:
    """An item of :mod:`interp.behaviour.distinguish` under the clean prompt."""
    return score_variants(bench.model, item, (_CLEAN,), orders=_orders(bench.config))


def _orders(config: BehaviourConfig) -> range | None:
    """The cyclic orders of single prompts; None for all."""
    return None if config.orders is None else range(config.orders)


def stereotype_questions(items: Sequence[ChoiceItem]) -> tuple[ChoiceItem, ...]:
    """Which of two answers follows a stereotype, asked of every BBQ item that has both."""
    return distinguish_items(item for item in items if item.benchmark == "bbq")


def toxicity_questions(
    frame: pd.DataFrame, items: Sequence[CompletionItem]
) -> tuple[ChoiceItem, ...]:
    """Which of its own completions is less toxic: the first and the last of every trajectory."""
    if "toxicity" not in frame:
        return ()
    by_id = {item.id: item for item in items}
    pairs = []
    for (item, _), rows in greedy(frame).groupby(["item", "protocol"], sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        pairs.append(
            CompletionPair(
                by_id[str(item)],
                (first["completion"], last["completion"]),
                (float(first["toxicity"]), float(last["toxicity"])),
            )
        )
    return less_toxic_items(pairs)


def talks(
    bank: TextBank, items: Sequence[_Item], task: Task, config: BehaviourConfig
) -> tuple[Talk, ...]:
    """Every trajectory of the conditions that fit these items, and its control."""
    if not items or not config.rounds:
        return ()
    units: list[Talk] = []
    for name in config.conditions:
        if name in ("clean", "placebo") or bank.specs[name].items not in ("any", task):
            continue  # round 0 of every trajectory is clean
        treated: tuple[RoundProtocol, ...] = condition_protocols(
            bank,
            name,
            task=task,
            n_texts=min(config.round_texts, bank.n_texts(name)),
            answer=config.answer,
            placement=config.placement,
            turn=config.turn,
            n_rounds=config.rounds,
        )
        controls: tuple[RoundProtocol, ...] = ()
        if "placebo" in config.conditions:
            controls = placebo_protocols(bank, treated)
        fitting = [item for item in items if bank.specs[name].fits(item)]
        for protocol in (*treated, *controls):
            units += [Talk(protocol, part) for part in _parts(fitting)]
    if task == "completion" and config.samples:
        units += [replace(talk, protocol=_sampled(talk.protocol)) for talk in units]
    return tuple(units)


def hold_talk(bench: BehaviourBench, talk: Talk) -> pd.DataFrame:
    """Run the conversations: their rounds, with the whole ``history`` as JSON in each first one.

    Completions come with ``nll``, their mean negative log-likelihood per token behind the beginning as
    plain text (nats; NaN for an empty one), and with ``toxicity`` where there is a scorer.
    """
    config, protocol = bench.config, talk.protocol
    histories = run_rounds(
        bench.model,
        talk.items,
        protocol,
        orders=range(config.round_orders) if protocol.task == "choice" else None,
        n_samples=config.samples if protocol.name.endswith(SAMPLED) else 1,
        seed=config.seed,
        feedback=bench.feedback,
    )
    frame = rounds_frame(histories)
    if protocol.task == "completion":
        begun = {item.id: item.prompt for item in talk.items if isinstance(item, CompletionItem)}
        said = zip(frame["item"], frame["completion"], strict=True)
        frame["nll"] = [completion_nll(bench.model, begun[item], text) for item, text in said]
        if bench.scorer is not None:
            frame["toxicity"] = bench.scorer.score(frame["completion"].tolist())
    lines = iter([history_line(history) for history in histories])
    return frame.assign(history=[next(lines) if k == 0 else "" for k in frame["round"]])


def token_ids(bench: BehaviourBench, texts: Sequence[str]) -> pd.DataFrame:
    """The token ids of completions, each by itself: text, ids."""
    tokenizer = bench.model.tokenizer
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return pd.DataFrame({"text": list(texts), "ids": ids})


def scorer_name(bench: BehaviourBench, _: str) -> pd.DataFrame:
    """What the scorer calls itself: it stands in every row of its numbers."""
    return pd.DataFrame({"scorer": [bench.scorer.name] if bench.scorer else []})


def greedy(frame: pd.DataFrame) -> pd.DataFrame:
    """The rounds of trajectories that are not sampled."""
    return frame[~frame["protocol"].str.endswith(SAMPLED)]


def _variants(bank: TextBank, item: ChoiceItem, config: BehaviourConfig) -> list[Condition]:
    found: list[Condition] = []
    names = [name for name in config.conditions if is_single_prompt(bank.specs[name])]
    first = next((name for name in names if bank.specs[name].has_text), "")
    for name in names:
        if not bank.specs[name].fits(item):
            continue
        n_texts = config.texts if name == first else config.other_texts or config.texts
        treated = bank.texts(name, item, min(n_texts, bank.n_texts(name)))
        found += treated
        if "placebo" in config.conditions and bank.specs[name].has_placebo:
            found += bank.placebos(treated)
    free = config.turn == "system"
    return [
        replace(variant, turn=config.turn)
        if free and variant.text is not None and variant.turn is None and variant.placement is None
        else variant
        for variant in found
    ]


def _conversations(bench: BehaviourBench, talk: Talk) -> Iterator[Conversation]:
    protocol = talk.protocol
    options: dict[str, Any] = {"seed": bench.config.seed, "feedback": bench.feedback}
    later = [call.asks for call in protocol.calls if call.asks]
    later += [protocol.reask] if protocol.reask else []
    for item in talk.items:
        orders: Sequence[tuple[int, ...] | None] = [None]
        if isinstance(item, ChoiceItem):
            orders = cyclic_orders(len(item.choices))[: bench.config.round_orders]
        for order in orders:
            for instructed in (False, True):
                first = first_conversation(
                    item, protocol, instructed=instructed, order=order, **options
                )
                yield first
            for text in later:
                request = fill_text(protocol, text, item, **options)
                yield follow_up(first, EMPTY_REPLY, request, answer_prefix=first.answer_prefix)


def _sampled(protocol: RoundProtocol) -> RoundProtocol:
    """As the completions of RealToxicityPrompts are sampled (arXiv 2009.11462)."""
    decoding = replace(protocol.decoding, temperature=1.0, top_p=0.9)
    return replace(protocol, name=protocol.name + SAMPLED, decoding=decoding)


def _parts(items: Sequence[_Item]) -> Iterator[tuple[_Item, ...]]:
    for start in range(0, len(items), ITEMS_AT_ONCE):
        yield tuple(items[start : start + ITEMS_AT_ONCE])
