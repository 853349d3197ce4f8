"""Scoring the answer options of choice items by their text.

For every prompt (item x condition x cyclic order of the options) two readings are taken after the
answer prefix:

- **margin**, the *logit difference* in nats: logit(a) - logit(b) at the first token where the two
  options of :meth:`~interp.data.ChoiceItem.contrast` differ, after their common leading tokens.
  Positive is the better answer. The main metric everywhere.
- **option score**: softmax over the options of the mean log-probability of each option's tokens
  (arXiv 2407.15286); the rank of gold and the chosen option come from it.

Also reported: the **option margin**, the difference of the two options' mean log-probabilities (the
log-odds of their option scores, nats per token), beside it the form of the option that names a person
(``option_form``) and whether both options are single tokens, where it is the margin
(``single_token``); and the probability of answering with each letter, because small
models answer by letter.

All prompts and answers of one item go through :func:`interp.models.forward` together, so what they
share (chat header, context and question; with an order of the options also those) is computed once;
the result equals one forward per (prompt, option) to about 1e-5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.options import contrast_margin, option_form, option_ids
from interp.behaviour.scores import OptionScores
from interp.data.items import ChoiceItem, Role
from interp.errors import InterpError
from interp.models import forward, model_card
from interp.models.forward import MAX_NODES, Place
from interp.prompts import (
    Condition,
    Placement,
    TextBank,
    TokenizedPrompt,
    condition_prompt,
    cyclic_orders,
)
from interp.prompts.conversation import LETTERS

_SCORED_ROLES: tuple[Role, ...] = ("unknown", "stereotyped", "counter")


@dataclass(frozen=True)
class ScoringPlan:
    """What is asked of every item.

    Args:
        conditions: names of the bank's conditions.
        n_texts: wordings of ``instructed``, each with its own placebo.
        n_control_texts: wordings of every other condition.
        placement: instruction before or after the question.
    """

    conditions: tuple[str, ...] = ("clean", "instructed", "placebo")
    n_texts: int = 6
    n_control_texts: int = 2
    placement: Placement = "after"


@dataclass(frozen=True)
class _Branch:
    """A continuation of one prompt: its tokens and where its log-probabilities are read."""

    ids: Int[Tensor, " more"]
    sequence: int
    start: int

    def places(self) -> list[Place]:
        return [(self.sequence, self.start - 1 + k) for k in range(len(self.ids))]


@dataclass(frozen=True)
class _Asked:
    """One prompt, its options in the item's order, and where its letters are distinguished."""

    variant: Condition
    order_index: int
    order: tuple[int, ...]
    prompt: TokenizedPrompt
    options: tuple[_Branch, ...]
    letter_ids: tuple[int, ...]
    letter_place: Place | None

    def places(self) -> list[Place]:
        letters = [] if self.letter_place is None else [self.letter_place]
        return [place for option in self.options for place in option.places()] + letters


@dataclass(frozen=True)
class _Read:
    """What one forward gave: rows of logits and their log of summed exponentials, by place."""

    logits: Float[Tensor, "place d_vocab"]
    norms: Float[Tensor, " place"]
    row_of: dict[Place, int]


def score_options(
    model: TransformerBridge,
    items: Iterable[ChoiceItem],
    *,
    conditions: Sequence[str] = ("clean", "instructed", "placebo"),
    n_texts: int = 6,
    n_control_texts: int = 2,
    placement: Placement = "after",
    bank: TextBank | None = None,
    progress: bool = True,
) -> OptionScores:
    """Score every item under every condition, text and cyclic order.

    Args:
        model: a bridge in evaluation mode.
        items: choice items.
        conditions: names of the bank's conditions that take one call (``interp conditions``).
        n_texts: wordings of the instruction, each with its own placebo (6: the least for a claim).
        n_control_texts: wordings of every other condition, each with its placebo.
        placement: instruction ``"after"`` or ``"before"`` the question.
        bank: texts of the conditions; the bundled ones by default.
        progress: show a bar.

    Returns:
        :class:`OptionScores`, one row per prompt.

    Raises:
        InterpError: no items, an item given twice, an unknown condition, or a prompt (with its
            longest option) beyond the context.

    Example:
        >>> scores = score_options(model, items)                 # doctest: +SKIP
        >>> print(scores.effect("instructed", subset="ambiguous"))  # doctest: +SKIP
    """
    items = list(items)
    if not items:
        raise InterpError("no items to score: the list is empty")
    repeated = [name for name, n in Counter(item.id for item in items).items() if n > 1]
    if repeated:
        raise InterpError(f"item {repeated[0]!r} is there twice: items are identified by their id")
    plan = ScoringPlan(tuple(conditions), n_texts, n_control_texts, placement)
    bank = TextBank(model.tokenizer) if bank is None else bank
    bar = tqdm(items, desc="scoring items", disable=not progress)
    frames = [score_item(model, bank, item, plan) for item in bar]
    return OptionScores(pd.concat(frames, ignore_index=True), model_card(model))


def score_item(
    model: TransformerBridge,
    bank: TextBank,
    item: ChoiceItem,
    plan: ScoringPlan,
    *,
    max_nodes: int = MAX_NODES,
) -> pd.DataFrame:
    """All prompts of one item: one row per (condition, text, cyclic order).

    The rows depend on the arguments alone, which makes an item the unit of work of a resumable run.
    """
    variants = bank.conditions(
        item, plan.conditions, n_texts=plan.n_texts, n_control_texts=plan.n_control_texts
    )
    return score_variants(model, item, variants, placement=plan.placement, max_nodes=max_nodes)


def score_variants(
    model: TransformerBridge,
    item: ChoiceItem,
    variants: Sequence[Condition],
    *,
    placement: Placement = "after",
    orders: Sequence[int] | None = None,
    max_nodes: int = MAX_NODES,
) -> pd.DataFrame:
    """The same for any prompt variants of an item (a treated one before its placebo or after).

    ``orders`` are the numbers of the cyclic orders to ask in, all of them by default.
    """
    sequences: list[Tensor] = []
    prompts = [
        _ask(model, item, variant, k, order, placement, sequences)
        for k, order in enumerate(cyclic_orders(len(item.choices)))
        if orders is None or k in orders
        for variant in variants
    ]
    places = dict.fromkeys(place for asked in prompts for place in asked.places())
    logits = forward(model, sequences, logits_at=list(places), max_nodes=max_nodes).logits
    read = _Read(logits, logits.logsumexp(dim=-1), {place: k for k, place in enumerate(places)})
    return _with_mismatch(pd.DataFrame([_row(item, asked, read) for asked in prompts]))


def _ask(
    model: TransformerBridge,
    item: ChoiceItem,
    variant: Condition,
    order_index: int,
    order: tuple[int, ...],
    placement: Placement,
    sequences: list[Tensor],
) -> _Asked:
    """Append one sequence per option, and one that leads to where the letters differ."""
    prompt = condition_prompt(model, item, variant, order=order_index, placement=placement)
    options = []
    for choice in item.choices:
        ids = option_ids(model, prompt, choice.text.strip())
        options.append(_Branch(ids, len(sequences), len(prompt)))
        sequences.append(torch.cat([prompt.ids, ids[:-1]]))  # the last token is never an input
    letters = [option_ids(model, prompt, f"({LETTERS[k]})") for k in range(len(order))]
    shared = _first_difference(letters)
    place = None
    if shared is not None:
        place = (len(sequences), len(prompt) - 1 + shared)
        sequences.append(torch.cat([prompt.ids, letters[0][:shared]]))
    return _Asked(
        variant,
        order_index,
        order,
        prompt,
        tuple(options),
        tuple(int(ids[shared]) for ids in letters) if shared is not None else (),
        place,
    )


def _first_difference(continuations: Sequence[Int[Tensor, " _more"]]) -> int | None:
    """Index of the first token, if it distinguishes all of them and not only some."""
    for k in range(min(len(ids) for ids in continuations)):
        different = len({int(ids[k]) for ids in continuations})
        if different > 1:
            return k if different == len(continuations) else None
    return None


def _row(item: ChoiceItem, asked: _Asked, read: _Read) -> dict[str, Any]:
    variant = asked.variant
    means = torch.stack([_token_log_probs(read, option).mean() for option in asked.options])
    return {
        **_item_columns(item),
        "condition": variant.name,
        "text_id": variant.text_id,
        "slot": variant.slot,
        "control_of": variant.control_of,
        "order": asked.order_index,
        "instruction_tokens": _span_length(asked.prompt, "instruction"),
        "prompt_tokens": len(asked.prompt),
        "margin": contrast_margin(
            item,
            [option.ids for option in asked.options],
            lambda k, at: read.logits[read.row_of[asked.options[k].places()[at]]],
        ),
        "option_margin": _option_margin(item, means),
        "option_form": option_form(item),
        "single_token": _single_token(item, asked.options),
        **_score_columns(item, asked.order, means.softmax(0)),
        **_letter_columns(asked, read),
    }


def _token_log_probs(read: _Read, branch: _Branch) -> Float[Tensor, " more"]:
    rows = torch.tensor([read.row_of[place] for place in branch.places()])
    return read.logits[rows, branch.ids] - read.norms[rows]


def _letter_columns(asked: _Asked, read: _Read) -> dict[str, float]:
    """Softmax over the letters where they differ; NaN where no token distinguishes all of them."""
    values = [float("nan")] * len(asked.order)
    if asked.letter_place is not None:
        row = read.logits[read.row_of[asked.letter_place]]
        values = row[torch.tensor(asked.letter_ids)].softmax(0).tolist()
    return {f"letter_{LETTERS[k]}": value for k, value in enumerate(values)}


def _option_margin(item: ChoiceItem, means: Float[Tensor, " option"]) -> float:
    contrast = item.contrast()
    return np.nan if contrast is None else float(means[contrast[0]] - means[contrast[1]])


def _single_token(item: ChoiceItem, options: Sequence[_Branch]) -> bool:
    """Whether both options of the contrast are one token here: then both margins are one."""
    contrast = item.contrast()
    return contrast is not None and all(len(options[index].ids) == 1 for index in contrast)


def _item_columns(item: ChoiceItem) -> dict[str, Any]:
    return {
        "item": item.id,
        "benchmark": item.benchmark,
        "category": item.category,
        "cluster": item.cluster,
        "context_condition": item.context_condition,
    }


def _score_columns(
    item: ChoiceItem, order: tuple[int, ...], scores: Float[Tensor, " option"]
) -> dict[str, Any]:
    gold = float(scores[item.gold])
    chosen = int(scores.argmax())
    return {
        "gold_rank": 1 + int((scores > gold).sum()),
        "correct": chosen == item.gold,
        "chosen_role": item.choices[chosen].role,
        "gold_role": item.choices[item.gold].role,
        "chosen_position": order.index(chosen),
        "p_gold": gold,
        **{f"p_{role}": _score_of_role(item, role, scores) for role in _SCORED_ROLES},
        **{f"p_position_{k}": float(scores[choice]) for k, choice in enumerate(order)},
    }


def _score_of_role(item: ChoiceItem, role: Role, scores: Float[Tensor, " option"]) -> float:
    index = item.index_of(role)
    return np.nan if index is None else float(scores[index])


def _span_length(prompt: TokenizedPrompt, name: str) -> int:
    span = prompt.spans.get(name)
    return 0 if span is None else span.stop - span.start


def _with_mismatch(frame: pd.DataFrame) -> pd.DataFrame:
    """Tokens by which a placebo is longer than the text it is matched with (NaN elsewhere)."""
    treated = frame[frame["condition"] != "placebo"]
    lengths = treated.set_index(["condition", "slot", "order"])["instruction_tokens"].to_dict()
    mismatch = [
        row.instruction_tokens - lengths.get((row.control_of, row.slot, row.order), np.nan)
        if row.condition == "placebo"
        else np.nan
        for row in frame.itertuples()
    ]
    return frame.assign(mismatch=np.array(mismatch, dtype=float))
