"""What was said in every round: text and token ids, roles and spans, saved as JSON lines.

A :class:`Round` holds the conversation up to its answer (turns with roles, made of named segments),
the prompt that the model read (ids, spans), and the answer. Rendering the conversation again gives
the prompt's ids exactly; :meth:`RoundHistory.verify` checks that, for example after a change of
tokenizer. A round of several calls (chain of thought, critique) holds those before its answer too,
in ``earlier``. ``prompt(r)`` is a :class:`~interp.prompts.TokenizedPrompt` like any other, so patching,
lens and projections run on any round. Its spans are those of the first turn (``question``,
``instruction``, ...) and, for the k-th reply in the conversation, ``answer_prefix_k``, ``reply_k``
and ``request_{k+1}`` (what is asked next), as :func:`interp.prompts.conversation.follow_up` names
them: with one call per round, k is the round.

One line per history, UTF-8, no pickle::

    save_histories(path, histories)
    frame = rounds_frame(load_histories(path))
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.behaviour.answers import option_entropy
from interp.behaviour.completions import strip_echo
from interp.behaviour.generation import Decoding, Ended
from interp.behaviour.protocol import Item, RoundProtocol
from interp.data.items import Choice, ChoiceItem, CompletionItem
from interp.display import short_repr
from interp.errors import InterpError
from interp.models.thoughts import answer_after_thought
from interp.parsing import parse_json, read_text
from interp.prompts import Call, Conversation, Segment, TokenizedPrompt, Turn, tokenize

AnsweredBy = Literal["score"] | Ended
"""How an answer came about: chosen by score, or what ended its generation."""

Gives = Literal["answer", "thought", "critique"]
"""What the reply to a call is."""

_FORMAT = 2


@dataclass(frozen=True, eq=False)
class Round:
    """One answer and all that led to it.

    ``text``: the answer without the answer prefix, as the next round's history has it;
    ``raw_text`` and ``answer_ids``: all that was generated, also behind a stop string (the option's
    tokens where it was scored). ``choice``: index into the item's choices, None for completions, for
    thoughts and critiques, and for what the parser could not read (``reason``).
    ``option_log_probs``: mean log-probability per token of every choice, nats, in the item's order;
    empty when the answer was generated.
    ``margin``: the logit difference, logit(a) - logit(b) at the first token where the two options of
    the item's contrast differ, nats, + is the better answer; NaN where it was generated or where no
    token distinguishes them. ``n_reused``: tokens of the prompt whose KV cache was reused.
    ``earlier``: the calls of this round before this one, each with what it ``gives``.
    """

    number: int
    conversation: Conversation
    prompt: TokenizedPrompt
    text: str
    raw_text: str
    answer_ids: Int[Tensor, " new"]
    answered_by: AnsweredBy
    choice: int | None = None
    reason: str = ""
    option_log_probs: tuple[float, ...] = ()
    margin: float = math.nan
    n_reused: int = 0
    gives: Gives = "answer"
    earlier: tuple[Round, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Tokens of the prompt that was answered (of the last call)."""
        return len(self.prompt)

    @property
    def thoughts_dropped(self) -> int:
        """Earlier replies whose thought the chat template left out of the prompt.

        ``conversation`` and the rounds before have them whole.
        """
        said = [turn.content for turn in self.conversation.turns if turn.role == "assistant"]
        return sum(content not in self.prompt.text for content in said)

    @property
    def n_recomputed(self) -> int:
        """Tokens of prompts that were computed in this round, over all its calls."""
        return self.n_tokens - self.n_reused + sum(call.n_recomputed for call in self.earlier)

    @property
    def option_scores(self) -> tuple[float, ...]:
        """Softmax of ``option_log_probs``, as in :class:`~interp.behaviour.OptionScores`."""
        return tuple(torch.tensor(self.option_log_probs, dtype=torch.float64).softmax(0).tolist())


@dataclass(frozen=True, eq=False)
class RoundHistory:
    """Rounds 0..R of one item, in one order of its options, one sample.

    ``order[k]`` is the choice listed at position k; ``order_index`` counts cyclic orders (0 for
    completions). ``fingerprint`` and ``mode`` are those of the model's card.
    """

    item: Item
    protocol: RoundProtocol
    order_index: int
    order: tuple[int, ...]
    sample: int
    seed: int
    fingerprint: str
    mode: str
    rounds: tuple[Round, ...]

    __repr__ = short_repr

    def prompt(self, number: int) -> TokenizedPrompt:
        """What the model read in a round, up to where it answered.

        Raises:
            InterpError: no such round.
        """
        return self[number].prompt

    def __getitem__(self, number: int) -> Round:
        if not 0 <= number < len(self.rounds):
            raise InterpError(
                f"item {self.item.id!r}: no round {number}, only 0..{len(self.rounds) - 1}"
            )
        return self.rounds[number]

    def verify(self, tokenizer: Any) -> None:
        """Render every call of every round from scratch and compare with the ids that were read.

        Raises:
            InterpError: they differ; names item, round and position.
        """
        for done in (call for last in self.rounds for call in (*last.earlier, last)):
            again = tokenize(tokenizer, done.conversation)
            if not torch.equal(again.ids, done.prompt.ids):
                n = min(len(again), len(done.prompt))
                differs = (again.ids[:n] != done.prompt.ids[:n]).nonzero()
                at = int(differs[0]) if len(differs) else n
                raise InterpError(
                    f"{done.prompt.label}: rendered again, its ids differ from position {at} on: "
                    "load the tokenizer and chat template it was run with"
                )

    def save(self, path: str | Path) -> Path:
        """Write a file of this history alone; returns its path."""
        return save_histories(path, [self])


def save_histories(path: str | Path, histories: Iterable[RoundHistory]) -> Path:
    """Write one JSON line per history; returns the path.

    Raises:
        InterpError: the file cannot be written.
    """
    path = Path(path)
    try:
        with path.open("w", encoding="utf-8") as file:
            for history in histories:
                file.write(history_line(history) + "\n")
    except (OSError, ValueError) as error:  # a name that the file system cannot hold
        raise InterpError(f"{str(path)!r}: cannot write the histories ({error})") from error
    return path


def history_line(history: RoundHistory) -> str:
    """One history as :func:`save_histories` writes it: a line of JSON, without its end."""
    return json.dumps(_to_json(history), ensure_ascii=False)


def load_histories(path: str | Path) -> tuple[RoundHistory, ...]:
    """Read what :func:`save_histories` wrote.

    Raises:
        InterpError: no such file, or a line that holds no history; names file and line.
    """
    path = Path(path)
    # not splitlines(): texts may hold other line separators of Unicode
    lines = read_text(path).rstrip("\n").split("\n")
    out = []
    for number, line in enumerate(lines, start=1):
        try:
            out.append(_from_json(parse_json(line, f"{path}, line {number}", allow_nan=True)))
        except InterpError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InterpError(
                f"{path}, line {number}: holds no history as save_histories writes it ({error})"
            ) from error
    return tuple(out)


def rounds_frame(histories: Sequence[RoundHistory]) -> pd.DataFrame:
    """One row per history and round, tidy.

    Columns of every row: item, benchmark, category, cluster, context_condition, protocol,
    condition, text_id, slot, control_of, order, sample, round, text, answered_by, reason,
    instruction_tokens, n_tokens, n_recomputed, thoughts_dropped (earlier replies whose thought the
    chat template left out of this prompt). Of completion items also completion, the text without a
    thought and without its echo (:func:`~interp.behaviour.completions.strip_echo`). Of choice items
    choice, chosen_position (its index among the listed options), chosen_role, gold_role, correct (NaN
    where the answer could not be read, with the ``reason``), and of scored ones gold_rank, margin
    (logit difference, nats), option_margin (the same contrast in option scores, nats per token),
    p_gold, p_chosen, p_<role> and entropy (of the option scores, nats), named as in
    :class:`~interp.behaviour.OptionScores`.
    """
    return pd.DataFrame([_row(history, done) for history in histories for done in history.rounds])


def _row(history: RoundHistory, done: Round) -> dict[str, Any]:
    item, span = history.item, done.prompt.spans.get("instruction")
    row: dict[str, Any] = {
        "item": item.id,
        "benchmark": item.benchmark,
        "category": getattr(item, "category", ""),
        "cluster": getattr(item, "cluster", item.id),
        "context_condition": getattr(item, "context_condition", ""),
        "protocol": history.protocol.name,
        "condition": history.protocol.condition,
        "text_id": history.protocol.text_id,
        "slot": history.protocol.slot,
        "control_of": history.protocol.control_of,
        "order": history.order_index,
        "sample": history.sample,
        "round": done.number,
        "text": done.text,
        "answered_by": done.answered_by,
        "reason": done.reason,
        "instruction_tokens": 0 if span is None else span.stop - span.start,
        "n_tokens": done.n_tokens,
        "n_recomputed": done.n_recomputed,
        "thoughts_dropped": done.thoughts_dropped,
    }
    if isinstance(item, ChoiceItem):
        return row | _choice_columns(item, history.order, done)
    return row | {"completion": strip_echo(answer_after_thought(done.text) or "", item)}


def _choice_columns(item: ChoiceItem, order: tuple[int, ...], done: Round) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "choice": math.nan if done.choice is None else done.choice,
        "chosen_position": math.nan if done.choice is None else order.index(done.choice),
        "chosen_role": "" if done.choice is None else item.choices[done.choice].role,
        "gold_role": item.choices[item.gold].role,
        "correct": math.nan if done.choice is None else float(done.choice == item.gold),
    }
    scores = done.option_scores
    if not scores or done.choice is None:
        return columns
    gold = scores[item.gold]
    roles = {f"p_{role}": item.index_of(role) for role in ("unknown", "stereotyped", "counter")}
    return columns | {
        "gold_rank": 1 + sum(score > gold for score in scores),
        "margin": done.margin,
        "option_margin": _option_margin(item, scores),
        "p_gold": gold,
        "p_chosen": scores[done.choice],
        **{name: math.nan if k is None else scores[k] for name, k in roles.items()},
        "entropy": float(option_entropy(np.array(scores))),
    }


def _option_margin(item: ChoiceItem, scores: Sequence[float]) -> float:
    """log score(a) - log score(b): scores are a softmax, so that is the difference of mean log P."""
    contrast = item.contrast()
    return math.nan if contrast is None else math.log(scores[contrast[0]] / scores[contrast[1]])


def _to_json(history: RoundHistory) -> dict[str, Any]:
    item = history.item
    fields = {name: getattr(item, name) for name in item.__dataclass_fields__}
    fields["meta"] = dict(item.meta)
    if isinstance(item, ChoiceItem):
        fields["choices"] = [asdict(choice) for choice in item.choices]
    spoken = asdict(history.protocol)
    spoken["calls"] = [call.model_dump() for call in history.protocol.calls]
    return {
        "format": _FORMAT,
        "item": fields,
        "protocol": spoken,
        "order_index": history.order_index,
        "order": list(history.order),
        "sample": history.sample,
        "seed": history.seed,
        "fingerprint": history.fingerprint,
        "mode": history.mode,
        "rounds": [_round_to_json(done) for done in history.rounds],
    }


def _round_to_json(done: Round) -> dict[str, Any]:
    prompt = done.prompt
    return {
        "number": done.number,
        "conversation": asdict(done.conversation),
        "prompt": {
            "ids": prompt.ids.tolist(),
            "spans": {name: [span.start, span.stop] for name, span in prompt.spans.items()},
            "str_tokens": list(prompt.str_tokens),
            "text": prompt.text,
            "label": prompt.label,
            "n_bos": prompt.n_bos,
        },
        "text": done.text,
        "raw_text": done.raw_text,
        "answer_ids": done.answer_ids.tolist(),
        "answered_by": done.answered_by,
        "choice": done.choice,
        "reason": done.reason,
        "option_log_probs": list(done.option_log_probs),
        "margin": None if math.isnan(done.margin) else done.margin,
        "n_reused": done.n_reused,
        "gives": done.gives,
        "earlier": [_round_to_json(call) for call in done.earlier],
    }


def _from_json(saved: dict[str, Any]) -> RoundHistory:
    if saved["format"] != _FORMAT:
        raise ValueError(f"format {saved['format']}, this version reads {_FORMAT}")
    fields = dict(saved["item"])
    item: Item
    if "choices" in fields:
        fields["choices"] = tuple(Choice(**choice) for choice in fields["choices"])
        item = ChoiceItem(**fields)
    else:
        item = CompletionItem(**fields)
    spoken = dict(saved["protocol"])
    decoding = dict(spoken.pop("decoding"))
    decoding["stop"] = tuple(decoding["stop"])
    calls = tuple(Call(**call) for call in spoken.pop("calls"))
    return RoundHistory(
        item=item,
        protocol=RoundProtocol(**spoken, decoding=Decoding(**decoding), calls=calls),
        order_index=saved["order_index"],
        order=tuple(saved["order"]),
        sample=saved["sample"],
        seed=saved["seed"],
        fingerprint=saved["fingerprint"],
        mode=saved["mode"],
        rounds=tuple(_round_from_json(done) for done in saved["rounds"]),
    )


def _round_from_json(saved: dict[str, Any]) -> Round:
    conversation, prompt = saved["conversation"], dict(saved["prompt"])
    turns = tuple(
        Turn(turn["role"], tuple(Segment(**segment) for segment in turn["segments"]))
        for turn in conversation["turns"]
    )
    prompt["ids"] = torch.tensor(prompt["ids"], dtype=torch.long)
    prompt["spans"] = {name: slice(*span) for name, span in prompt["spans"].items()}
    prompt["str_tokens"] = tuple(prompt["str_tokens"])
    return Round(
        **{
            **saved,
            "conversation": Conversation(**{**conversation, "turns": turns}),
            "prompt": TokenizedPrompt(**prompt),
            "answer_ids": torch.tensor(saved["answer_ids"], dtype=torch.long),
            "option_log_probs": tuple(saved["option_log_probs"]),
            "margin": math.nan if saved["margin"] is None else saved["margin"],
            "earlier": tuple(_round_from_json(call) for call in saved["earlier"]),
        }
    )
