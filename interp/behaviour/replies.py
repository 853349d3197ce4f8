"""How a call is replied to: by the most likely option, or by generated text.

``score``: the option with the highest mean log-probability per token behind the answer prefix, as in
:mod:`interp.behaviour.scoring`; its text is what the history holds. From the same logits comes the
margin. ``generate``: free text, cut at a stop string; the answer to a choice item is read by
:func:`interp.behaviour.parse.parse_choice`, thoughts and critiques are not read. What a reasoning
model writes between thinking tags all the same is no part of the answer; the history keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.cache import (
    SequenceOutput,
    forward_branches,
    forward_cached,
    supports_branches,
)
from interp.behaviour.dialogue import Dialogue, DialogueSetup, PendingCall
from interp.behaviour.generation import Decoding, Generation, end_ids, generate
from interp.behaviour.history import Round
from interp.behaviour.options import contrast_margin, option_ids
from interp.behaviour.parse import UNFINISHED_THOUGHT, parse_choice
from interp.data.items import ChoiceItem
from interp.models.thoughts import answer_after_thought
from interp.stats import rng


def reply(
    setup: DialogueSetup, dialogues: Sequence[Dialogue], asked: Sequence[PendingCall]
) -> list[Round]:
    """The replies to one call of several conversations, all in the same round.

    The KV caches of the prompts stay with the conversations.
    """
    scored = setup.protocol.answer == "score" and asked[0].call.gives == "answer"
    return _score(setup, dialogues, asked) if scored else _generate(setup, dialogues, asked)


def _score(
    setup: DialogueSetup, dialogues: Sequence[Dialogue], asked: Sequence[PendingCall]
) -> list[Round]:
    """The most likely option of every conversation, by the mean log-probability of its tokens."""
    readings = _read_prompts(setup, dialogues, asked) if setup.cached else None
    items = [cast(ChoiceItem, dialogue.item) for dialogue in dialogues]
    options = [
        [option_ids(setup.model, a.prompt, choice.text.strip()) for choice in item.choices]
        for a, item in zip(asked, items, strict=True)
    ]
    done = []
    for k, logits in enumerate(_option_logits(setup, dialogues, asked, options, readings)):
        log_probs = _log_probs(logits, options[k])
        chosen = int(log_probs.argmax())
        text = items[k].choices[chosen].text.strip()
        done.append(
            Round(
                number=asked[k].number,
                conversation=asked[k].conversation,
                prompt=asked[k].prompt,
                text=text,
                raw_text=text,
                answer_ids=options[k][chosen],
                answered_by="score",
                choice=chosen,
                option_log_probs=tuple(log_probs.tolist()),
                margin=_margin(items[k], options[k], logits),
                n_reused=0 if readings is None else readings[k].n_reused,
            )
        )
    return done


def _read_prompts(
    setup: DialogueSetup, dialogues: Sequence[Dialogue], asked: Sequence[PendingCall]
) -> list[SequenceOutput]:
    """Run every prompt up to its end and keep its KV cache."""
    readings = forward_cached(
        setup.model,
        [a.prompt.ids for a in asked],
        [dialogue.prefix for dialogue in dialogues],
        [a.prompt.label for a in asked],
        keep=[1] * len(dialogues),
        batch_size=len(dialogues),
    )
    for dialogue, reading in zip(dialogues, readings, strict=True):
        dialogue.prefix = reading.prefix
    return readings


def _option_logits(
    setup: DialogueSetup,
    dialogues: Sequence[Dialogue],
    asked: Sequence[PendingCall],
    options: Sequence[Sequence[Int[Tensor, " _more"]]],
    readings: Sequence[SequenceOutput] | None,
) -> list[list[Float[Tensor, "_more d_vocab"]]]:
    """The logits that every token of every option is read from, per conversation and option.

    On the KV cache of a prompt its options are a tree; else every option is run behind the whole prompt.
    """
    ends = [len(a.prompt) + len(ids) for a, own in zip(asked, options, strict=True) for ids in own]
    if readings is None or not supports_branches(setup.model, max(ends)):
        return _options_apart(setup, dialogues, asked, options)
    out = []
    for a, reading, own in zip(asked, readings, options, strict=True):
        assert reading.prefix is not None
        tails = [ids[:-1] for ids in own]
        later = forward_branches(setup.model, reading.prefix, tails, a.prompt.label)
        out.append([torch.cat([reading.logits[-1:], rows]) for rows in later])
    return out


def _options_apart(
    setup: DialogueSetup,
    dialogues: Sequence[Dialogue],
    asked: Sequence[PendingCall],
    options: Sequence[Sequence[Int[Tensor, " _more"]]],
) -> list[list[Float[Tensor, "_more d_vocab"]]]:
    rows = [(k, ids) for k, listed in enumerate(options) for ids in listed]
    readings = forward_cached(
        setup.model,
        [torch.cat([asked[k].prompt.ids, ids[:-1]]) for k, ids in rows],
        [dialogues[k].prefix for k, _ in rows],
        [asked[k].prompt.label for k, _ in rows],
        keep=[len(ids) for _, ids in rows],
        batch_size=len(dialogues),
        cached=setup.cached,
        keep_prefixes=False,
    )
    out: list[list[Tensor]] = [[] for _ in dialogues]
    for (k, _), reading in zip(rows, readings, strict=True):
        out[k].append(reading.logits)
    return out


def _log_probs(
    logits: Sequence[Float[Tensor, "_more d_vocab"]], options: Sequence[Int[Tensor, " _more"]]
) -> Float[Tensor, " option"]:
    """Mean log-probability per token of every option, nats."""
    return torch.stack(
        [
            rows.log_softmax(1)[torch.arange(len(ids)), ids].mean()
            for rows, ids in zip(logits, options, strict=True)
        ]
    )


def _margin(
    item: ChoiceItem,
    options: Sequence[Int[Tensor, " _more"]],
    logits: Sequence[Float[Tensor, "_more d_vocab"]],
) -> float:
    return contrast_margin(item, options, lambda k, at: logits[k][at])


def _generate(
    setup: DialogueSetup, dialogues: Sequence[Dialogue], asked: Sequence[PendingCall]
) -> list[Round]:
    generations = generate(
        setup.model,
        [a.prompt for a in asked],
        decoding=_decoding(setup),
        stop_ids=end_ids(setup.model) | set(_special_tokens(setup.model)),
        streams=[
            rng(
                setup.seed,
                "rounds",
                dialogue.item.id,
                dialogue.order_index,
                dialogue.sample,
                a.number,
                a.index,
            )
            for dialogue, a in zip(dialogues, asked, strict=True)
        ],
        prefixes=[dialogue.prefix for dialogue in dialogues],
        batch_size=len(dialogues),
        cached=setup.cached,
    )
    done = []
    for dialogue, a, generation in zip(dialogues, asked, generations, strict=True):
        dialogue.prefix = generation.prefix
        done.append(_generated_round(dialogue, a, generation))
    return done


def _decoding(setup: DialogueSetup) -> Decoding:
    """The protocol's, ended by every special token, and by a blank line without a chat template."""
    decoding = setup.protocol.decoding
    blank_line = () if getattr(setup.model.tokenizer, "chat_template", None) else ("\n\n",)
    stop = dict.fromkeys((*decoding.stop, *_special_tokens(setup.model).values(), *blank_line))
    scored = setup.protocol.answer == "score"
    return replace(decoding, stop=tuple(stop), temperature=0.0 if scored else decoding.temperature)


def _special_tokens(model: TransformerBridge) -> dict[int, str]:
    added = model.tokenizer.added_tokens_decoder.items()
    return {i: token.content for i, token in added if token.special}


def _missing_answer(text: str) -> str:
    """Why a reply holds no answer; empty where it does."""
    spoken = answer_after_thought(text)
    if spoken is None:
        return UNFINISHED_THOUGHT
    return "" if spoken.strip() else "the answer is empty"


def _generated_round(dialogue: Dialogue, asked: PendingCall, generation: Generation) -> Round:
    choice, reason = None, _missing_answer(generation.text)
    if isinstance(dialogue.item, ChoiceItem) and asked.call.gives == "answer":
        parsed = parse_choice(
            generation.text, [dialogue.item.choices[k].text for k in dialogue.order]
        )
        choice = None if parsed.choice is None else dialogue.order[parsed.choice]
        reason = parsed.reason
    return Round(
        number=asked.number,
        conversation=asked.conversation,
        prompt=asked.prompt,
        text=generation.text,
        raw_text=generation.raw_text,
        answer_ids=generation.ids,
        answered_by=generation.ended,
        gives=asked.call.gives,
        choice=choice,
        reason=reason,
        n_reused=generation.n_reused,
    )
