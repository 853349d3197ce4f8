"""Scoring the answer options of choice items by their text.

For every prompt (item x condition x cyclic order of the options) two readings are taken after the
answer prefix:

- **margin**, in nats: logit(a) - logit(b) at the first token where the two options of
  :meth:`~interp.data.ChoiceItem.contrast` differ, after their common leading tokens. Positive is
  the better answer. The main metric everywhere.
- **option score**: softmax over the options of the mean log-probability of each option's tokens
  (arXiv 2407.15286); the rank of gold and the chosen option come from it.

Beside them the **option margin**, the difference of the two options' mean log-probabilities (the
log-odds of their option scores), and the probability of answering with each letter, because small
models answer by letter.

All prompts and answers of one item and order go through :func:`interp.models.forward` together, so
what they share is computed once; the result equals one forward per (prompt, option) to about 1e-5.
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
    encode_continuation,
    margin_token,
    require_context,
)
from interp.prompts.conversation import LETTERS

_SCORED_ROLES: tuple[Role, ...] = ("unknown", "stereotyped", "counter")


@dataclass(frozen=True)
class ScoringPlan:
    """What is asked of every item.

    Args:
        conditions: names, see :data:`interp.prompts.CONDITION_NAMES`.
        n_texts: wordings of ``instructed``, each with its own placebo.
        n_control_texts: wordings of ``negated`` and ``revealing``.
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


def score_options(
    model: TransformerBridge,
    items: Iterable[ChoiceItem],
    *,
    conditions: Sequence[str] = ("clean", "instructed", "placebo"),
    n_texts: int = 6,
    n_control_texts: int = 2,
    placement: Placement = "after",
    seed: int = 0,
    progress: bool = True,
) -> OptionScores:
    """Score every item under every condition, text and cyclic order.

    Args:
        model: a bridge in evaluation mode.
        items: choice items.
        conditions: ``clean``, ``instructed``, ``placebo``, ``negated``, ``revealing``.
        n_texts: wordings of the instruction, each with its own placebo (6: the least for a claim).
        n_control_texts: wordings of ``negated`` and ``revealing``.
        placement: instruction ``"after"`` or ``"before"`` the question.
        seed: seed of the bootstrap and permutations of the result.
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
        raise InterpError(f"item {repeated[0]!r} is there twice: items are told apart by their id")
    plan = ScoringPlan(tuple(conditions), n_texts, n_control_texts, placement)
    bank = TextBank(model.tokenizer)
    bar = tqdm(items, desc="scoring items", disable=not progress)
    frames = [score_item(model, bank, item, plan) for item in bar]
    return OptionScores(pd.concat(frames, ignore_index=True), model_card(model), seed)


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
    rows: list[dict[str, Any]] = []
    for k, order in enumerate(cyclic_orders(len(item.choices))):
        rows += _score_order(model, item, variants, k, order, plan.placement, max_nodes)
    return _with_mismatch(pd.DataFrame(rows))


def _score_order(
    model: TransformerBridge,
    item: ChoiceItem,
    variants: Sequence[Condition],
    order_index: int,
    order: tuple[int, ...],
    placement: Placement,
    max_nodes: int,
) -> list[dict[str, Any]]:
    prompts = [
        condition_prompt(model, item, variant, order=order_index, placement=placement)
        for variant in variants
    ]
    sequences: list[Tensor] = []
    branches: list[tuple[list[_Branch], list[_Branch]]] = []
    for prompt in prompts:
        texts = [choice.text.strip() for choice in item.choices]
        letters = [f"({LETTERS[k]})" for k in range(len(order))]
        branches.append(
            (
                _branches(model, prompt, texts, sequences),
                _branches(model, prompt, letters, sequences),
            )
        )
    places = [place for pair in branches for group in pair for b in group for place in b.places()]
    unique = list(dict.fromkeys(places))
    logits = forward(model, sequences, logits_at=unique, max_nodes=max_nodes).logits
    row_of = {place: row for row, place in enumerate(unique)}
    log_probs = logits.log_softmax(dim=-1)
    rows = []
    for variant, prompt, (options, letter_branches) in zip(
        variants, prompts, branches, strict=True
    ):
        token_log_probs = [_token_log_probs(log_probs, row_of, branch) for branch in options]
        means = torch.stack([values.mean() for values in token_log_probs])
        letters_p = _first_difference_probabilities(log_probs, row_of, letter_branches)
        rows.append(
            {
                **_item_columns(item),
                "condition": variant.name,
                "text_id": variant.text_id,
                "slot": variant.slot,
                "control_of": variant.control_of,
                "order": order_index,
                "instruction_tokens": _span_length(prompt, "instruction"),
                "prompt_tokens": len(prompt),
                "margin": _margin(item, options, logits, row_of),
                "option_margin": _option_margin(item, means),
                **_score_columns(item, order, means.softmax(0)),
                **{f"letter_{LETTERS[k]}": float(p) for k, p in enumerate(letters_p)},
            }
        )
    return rows


def _branches(
    model: TransformerBridge,
    prompt: TokenizedPrompt,
    continuations: Sequence[str],
    sequences: list[Tensor],
) -> list[_Branch]:
    """Append one sequence per continuation (without its last token, which is never an input)."""
    out = []
    for continuation in continuations:
        ids = encode_continuation(model.tokenizer, prompt, f" {continuation}")
        require_context(prompt.label, len(prompt) + len(ids) - 1, model.cfg.n_ctx)
        out.append(_Branch(ids, len(sequences), len(prompt)))
        sequences.append(torch.cat([prompt.ids, ids[:-1]]))
    return out


def _token_log_probs(
    log_probs: Float[Tensor, "place d_vocab"], row_of: dict[Place, int], branch: _Branch
) -> Float[Tensor, " more"]:
    rows = torch.tensor([row_of[place] for place in branch.places()])
    return log_probs[rows, branch.ids]


def _first_difference_probabilities(
    log_probs: Tensor, row_of: dict[Place, int], branches: Sequence[_Branch]
) -> Float[Tensor, " option"]:
    """Softmax over continuations at the first token that tells all of them apart."""
    length = min(len(b.ids) for b in branches)
    for k in range(length):
        tokens = [int(b.ids[k]) for b in branches]
        if len(set(tokens)) == len(tokens):
            row = row_of[(branches[0].sequence, branches[0].start - 1 + k)]
            return log_probs[row, torch.tensor(tokens)].softmax(0)
        if len(set(tokens)) > 1:
            break
    return torch.full((len(branches),), float("nan"))


def _margin(
    item: ChoiceItem,
    options: Sequence[_Branch],
    logits: Float[Tensor, "place d_vocab"],
    row_of: dict[Place, int],
) -> float:
    contrast = item.contrast()
    if contrast is None:
        return float("nan")
    a, b = (options[index] for index in contrast)
    shared = margin_token(a.ids, b.ids)
    if shared is None:
        return float("nan")
    row = logits[row_of[(a.sequence, a.start - 1 + shared)]]
    return float(row[a.ids[shared]] - row[b.ids[shared]])


def _option_margin(item: ChoiceItem, means: Float[Tensor, " option"]) -> float:
    contrast = item.contrast()
    return np.nan if contrast is None else float(means[contrast[0]] - means[contrast[1]])


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
