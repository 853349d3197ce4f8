"""Multi-round self-correction: ask, instruct, ask again, and keep everything that was said.

:func:`run_rounds` runs a :class:`~interp.behaviour.protocol.RoundProtocol` on items. Every cyclic
order of a choice item's options and every sample is a conversation of its own, with its own answers
in its history. Each round is rendered from that history, reuses the keys and values of the longest
common prefix with the round before (also round 1 that of round 0, up to the instruction), and notes
how many tokens were computed (``Round.n_recomputed``).

**Answers.** ``score``: the option with the highest mean log-probability per token behind the answer
prefix, as in :mod:`interp.behaviour.scoring`; its text is what the history holds. ``generate``: free
text, cut at a stop string; of a choice item it is read by :func:`interp.behaviour.parse.parse_choice`.
No answer may spell a special token, so each of those ends it, as a token or as text; without a chat
template a blank line does, since it ends a turn there. An answer of white space alone stands in the
history as :data:`EMPTY_REPLY`.

**Batches.** Conversations are taken in the given order, ``batch_size`` at a time; of these, equally
long ones run together, unpadded. Sampling noise depends on (seed, item, order, sample, round) alone.

Cost of one round: its new tokens, plus for ``score`` the tokens of all options. Memory: the keys and
values of ``batch_size`` conversations.

Example::

    moral = study_protocol("bbq")
    control = placebo_protocol(moral, model.tokenizer)
    histories = run_rounds(model, items, moral) + run_rounds(model, items, control)
    frame = rounds_frame(histories)
    prompt = histories[0].prompt(3)         # for patching, lens, projections
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.cache import CachedPrefix, read_on, reuses_keys
from interp.behaviour.generation import BATCH_SIZE, Generation, end_ids, generate
from interp.behaviour.history import Round, RoundHistory
from interp.behaviour.parse import parse_choice
from interp.behaviour.protocol import Item, RoundProtocol, first_conversation
from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError
from interp.models import model_card
from interp.prompts import (
    Conversation,
    TokenizedPrompt,
    cyclic_orders,
    encode_continuation,
    require_context,
    tokenize,
)
from interp.prompts.conversation import follow_up
from interp.stats.resampling import rng

EMPTY_REPLY = "..."
"""Stands in the history for an answer of white space, which some chat templates refuse."""


@dataclass(frozen=True)
class _Run:
    """What is the same for all conversations."""

    model: TransformerBridge
    protocol: RoundProtocol
    seed: int
    cached: bool


@dataclass
class _Talk:
    """One conversation under way."""

    item: Item
    order_index: int
    order: tuple[int, ...]
    sample: int
    rounds: list[Round] = field(default_factory=list)
    prefix: CachedPrefix | None = None


@dataclass(frozen=True, eq=False)
class _Asked:
    """A round before its answer."""

    number: int
    conversation: Conversation
    prompt: TokenizedPrompt


def run_rounds(
    model: TransformerBridge,
    items: Item | Iterable[Item],
    protocol: RoundProtocol,
    n_rounds: int | None = None,
    *,
    orders: Sequence[int] | None = None,
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
        n_samples: conversations per item and order; above 1 for a temperature above 0.
        seed: of the sampling.
        batch_size: conversations run together at most.
        cached: reuse keys and values; False computes every token from scratch.
        progress: show a bar.

    Returns:
        One :class:`RoundHistory` per (item, order, sample), in this nesting.

    Raises:
        InterpError: no items, an item twice or of another task, an order that does not exist, no
            rounds or samples, samples of a greedy protocol, or a round beyond the context (names
            item and round).
    """
    chosen = [items] if isinstance(items, ChoiceItem | CompletionItem) else list(items)
    last = protocol.n_rounds if n_rounds is None else n_rounds
    _check(chosen, protocol, last, n_samples, batch_size)
    run = _Run(model, protocol, seed, cached and reuses_keys(model))
    talks = [
        _Talk(item, index, order, sample)
        for item in chosen
        for index, order in _orders(item, orders)
        for sample in range(n_samples)
    ]
    answer = _score if protocol.answer == "score" else _generate
    out: list[RoundHistory] = []
    bar = tqdm(total=len(talks) * (last + 1), desc=protocol.name, disable=not progress)
    for start in range(0, len(talks), batch_size):
        batch = talks[start : start + batch_size]
        for number in range(last + 1):
            asked = [_ask(run, talk, number) for talk in batch]
            for talk, done in zip(batch, answer(run, batch, asked), strict=True):
                talk.rounds.append(done)
            bar.update(len(batch))
        for talk in batch:
            talk.prefix = None
            out.append(_history(run, talk))
    bar.close()
    return tuple(out)


def _history(run: _Run, talk: _Talk) -> RoundHistory:
    card = model_card(run.model)
    return RoundHistory(
        item=talk.item,
        protocol=run.protocol,
        order_index=talk.order_index,
        order=talk.order,
        sample=talk.sample,
        seed=run.seed,
        fingerprint=card.fingerprint,
        mode=card.mode,
        rounds=tuple(talk.rounds),
    )


def _ask(run: _Run, talk: _Talk, number: int) -> _Asked:
    """Render a round from the history."""
    model, protocol = run.model, run.protocol
    if number < 2:
        order = talk.order or None
        conversation = first_conversation(talk.item, protocol, instructed=number == 1, order=order)
    else:
        before = talk.rounds[-1]
        conversation = follow_up(
            before.conversation,
            before.text if before.text.strip() else EMPTY_REPLY,
            protocol.reask,
            answer_prefix=protocol.answer_prefix,
        )
    label = f"item {talk.item.id}, order {talk.order_index}, round {number}"
    conversation = replace(conversation, label=label)
    prompt = tokenize(model.tokenizer, conversation, n_ctx=model.cfg.n_ctx)
    return _Asked(number, conversation, prompt)


def _score(run: _Run, talks: Sequence[_Talk], asked: Sequence[_Asked]) -> list[Round]:
    """The most likely option of every conversation, by the mean log-probability of its tokens."""
    n_reused = _read_prompts(run, talks, asked) if run.cached else [0] * len(talks)
    choices = [cast(ChoiceItem, talk.item).choices for talk in talks]
    texts = [[choice.text.strip() for choice in listed] for listed in choices]
    options = [
        [_option_ids(run.model, a.prompt, text) for text in listed]
        for a, listed in zip(asked, texts, strict=True)
    ]
    done = []
    for k, log_probs in enumerate(_option_log_probs(run, talks, asked, options)):
        chosen = int(log_probs.argmax())
        done.append(
            Round(
                number=asked[k].number,
                conversation=asked[k].conversation,
                prompt=asked[k].prompt,
                text=texts[k][chosen],
                raw_text=texts[k][chosen],
                answer_ids=options[k][chosen],
                answered_by="score",
                choice=chosen,
                option_log_probs=tuple(log_probs.tolist()),
                n_reused=n_reused[k],
            )
        )
    return done


def _read_prompts(run: _Run, talks: Sequence[_Talk], asked: Sequence[_Asked]) -> list[int]:
    """Keep every prompt's keys and values; returns how many tokens were kept from before."""
    readings = read_on(
        run.model,
        [a.prompt.ids for a in asked],
        [talk.prefix for talk in talks],
        [a.prompt.label for a in asked],
        keep=[1] * len(talks),
        batch_size=len(talks),
    )
    for talk, reading in zip(talks, readings, strict=True):
        talk.prefix = reading.prefix
    return [reading.n_reused for reading in readings]


def _option_ids(
    model: TransformerBridge, prompt: TokenizedPrompt, option: str
) -> Int[Tensor, " more"]:
    gap = "" if prompt.text[-1:].isspace() else " "
    ids = encode_continuation(model.tokenizer, prompt, gap + option)
    require_context(prompt.label, len(prompt) + len(ids) - 1, model.cfg.n_ctx)
    return ids


def _option_log_probs(
    run: _Run,
    talks: Sequence[_Talk],
    asked: Sequence[_Asked],
    options: Sequence[Sequence[Int[Tensor, " _more"]]],
) -> list[Float[Tensor, " _option"]]:
    """Mean log-probability per token of every option behind its prompt, nats."""
    rows = [(k, ids) for k, listed in enumerate(options) for ids in listed]
    readings = read_on(
        run.model,
        [torch.cat([asked[k].prompt.ids, ids[:-1]]) for k, ids in rows],
        [talks[k].prefix for k, _ in rows],
        [asked[k].prompt.label for k, _ in rows],
        keep=[len(ids) for _, ids in rows],
        batch_size=len(talks),
        cached=run.cached,
        keep_prefixes=False,
    )
    means: list[list[Tensor]] = [[] for _ in talks]
    for (k, ids), reading in zip(rows, readings, strict=True):
        means[k].append(reading.logits.log_softmax(1)[torch.arange(len(ids)), ids].mean())
    return [torch.stack(values) for values in means]


def _generate(run: _Run, talks: Sequence[_Talk], asked: Sequence[_Asked]) -> list[Round]:
    tokenizer, decoding = run.model.tokenizer, run.protocol.decoding
    added = tokenizer.added_tokens_decoder.items()
    special = {i: token.content for i, token in added if token.special}
    blank_line = () if getattr(tokenizer, "chat_template", None) else ("\n\n",)
    stop = dict.fromkeys((*decoding.stop, *special.values(), *blank_line))
    generations = generate(
        run.model,
        [a.prompt for a in asked],
        decoding=replace(decoding, stop=tuple(stop)),
        stop_ids=end_ids(run.model) | set(special),
        streams=[
            rng(run.seed, "rounds", talk.item.id, talk.order_index, talk.sample, a.number)
            for talk, a in zip(talks, asked, strict=True)
        ],
        prefixes=[talk.prefix for talk in talks],
        batch_size=len(talks),
        cached=run.cached,
    )
    done = []
    for talk, a, generation in zip(talks, asked, generations, strict=True):
        talk.prefix = generation.prefix
        done.append(_generated_round(talk, a, generation))
    return done


def _generated_round(talk: _Talk, asked: _Asked, generation: Generation) -> Round:
    choice, reason = None, "" if generation.text.strip() else "the answer is empty"
    if isinstance(talk.item, ChoiceItem):
        parsed = parse_choice(generation.text, [talk.item.choices[k].text for k in talk.order])
        choice = None if parsed.choice is None else talk.order[parsed.choice]
        reason = parsed.reason
    return Round(
        number=asked.number,
        conversation=asked.conversation,
        prompt=asked.prompt,
        text=generation.text,
        raw_text=generation.raw_text,
        answer_ids=generation.ids,
        answered_by=generation.ended,
        choice=choice,
        reason=reason,
        n_reused=generation.n_reused,
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
        raise InterpError(f"item {repeated[0]!r} is there twice: items are told apart by their id")
    for name, value in (("n_rounds", last), ("n_samples", n_samples), ("batch_size", batch_size)):
        if value < 1:
            raise InterpError(f"{name} is {value}: at least 1")
    sampled = protocol.answer == "generate" and protocol.decoding.temperature > 0
    if n_samples > 1 and not sampled:
        raise InterpError(
            f"{n_samples} samples of protocol {protocol.name!r} would be equal: answer='generate' "
            "with a temperature above 0 samples"
        )
