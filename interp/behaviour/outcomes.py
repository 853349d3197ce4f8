"""What an intervention may change in a model's behaviour, measured the same way under each.

===============  =================================================================================
``margin``       of every choice item's clean prompt (the logit difference of its two options), mean
                 over cyclic orders, in nats; + = better
``preference``   of every group of sentences: mean log-likelihood of those with label 1 (moral) minus
                 that of those with label 0, in nats; + = the moral ones are the likelier
``nll``          of plain sentences, nats per token: what the intervention costs
``kept``         share of the unsteered greedy continuation's tokens that stay the first choice when
                 they are fed back (one forward, no generation)
``overlap``      share of those tokens that a continuation generated anew has in common with them, in
                 order (difflib on token ids)
``fluency``      mean log-likelihood per token of that new continuation under the unsteered model
===============  =================================================================================

Items, groups, sentences and prompts stay the same, so every reading is paired with the unsteered one
by ``item``. The object is made on the model as it is and keeps its continuations; an intervention is a
context manager that is entered for the readings alone::

    outcomes = Outcomes(model, items, sentences=held_out, plain=plain, completions=prompts)
    before = outcomes.measure()
    after = outcomes.measure(v.best.apply(model, strength=2))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.generation import complete
from interp.behaviour.likelihood import log_likelihood
from interp.data.items import ChoiceItem, CompletionItem, LabelledText
from interp.errors import InterpError
from interp.models import forward
from interp.prompts import (
    Condition,
    TokenizedPrompt,
    condition_prompt,
    cyclic_orders,
    decode_each,
    margin_target,
    require_tokenizer,
    sentence_ids,
)

COLUMNS = ["outcome", "subset", "item", "cluster", "value", "text"]
MAX_NEW_TOKENS = 20


@dataclass(frozen=True, eq=False)
class _MarginPrompts:
    """An item's clean prompts, up to where its two options part, and the two tokens there."""

    item: ChoiceItem
    prompts: list[Int[Tensor, " _pos"]]
    tokens: list[tuple[int, int]]


class Outcomes:
    """The texts that are read under every intervention, and the unsteered continuations.

    ``left_out``: ids of items without a margin. ``prompts``: the clean prompts (all cyclic orders)
    of the others.

    Args:
        model: a bridge in evaluation mode, without an intervention.
        items: choice items.
        sentences: labelled sentences, compared within their group; groups that lack a label are
            left out.
        plain: sentences whose likelihood is the cost.
        completions: beginnings to be continued.
        max_new_tokens: length of a continuation.

    Raises:
        InterpError: no item with a margin, no group with both labels, a text beyond the context.
    """

    def __init__(
        self,
        model: TransformerBridge,
        items: Sequence[ChoiceItem],
        *,
        sentences: Sequence[LabelledText],
        plain: Sequence[LabelledText],
        completions: Sequence[CompletionItem],
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self._model = model
        found = [_margin_prompts(model, item) for item in items]
        self._of_items = [one for one in found if one is not None]
        self.left_out = tuple(i.id for i, one in zip(items, found, strict=True) if one is None)
        if not self._of_items:
            raise InterpError(
                f"none of the {len(items)} items has a margin (two options that a token tells "
                "apart): choose other items or more of them"
            )
        self.prompts = [ids for one in self._of_items for ids in one.prompts]
        self._sentences = _with_both_labels(sentences)
        self._sentence_ids = sentence_ids(model, self._sentences)
        self._plain = list(plain)
        self._plain_ids = sentence_ids(model, self._plain)
        self._beginnings = [_beginning(model, item) for item in completions]
        self._max_new_tokens = max_new_tokens
        self._continuations = [self._complete(prompt) for prompt in self._beginnings]

    def measure(
        self, intervention: AbstractContextManager[None] | None = None, *, generate: bool = False
    ) -> pd.DataFrame:
        """One row per outcome and item, columns :data:`COLUMNS`.

        ``intervention`` is entered once. ``generate`` adds ``overlap`` and ``fluency``, whose rows
        hold the continuation in ``text``: they cost a forward per token.
        """
        with intervention or nullcontext():
            rows = [*self._margins(), *self._preferences(), *self._nlls(), *self._kept()]
            written = [self._complete(prompt) for prompt in self._beginnings] if generate else []
        # outside the intervention: the judge of a text is the model as it is
        if generate:
            for new in zip(self._beginnings, self._continuations, written, strict=True):
                rows += self._new(*new)
        return pd.DataFrame(rows, columns=COLUMNS)

    def _margins(self) -> Iterator[list[Any]]:
        for one in self._of_items:
            places = [(k, len(ids) - 1) for k, ids in enumerate(one.prompts)]
            logits = forward(self._model, one.prompts, logits_at=places).logits
            margins = [
                float(row[a] - row[b]) for row, (a, b) in zip(logits, one.tokens, strict=True)
            ]
            item = one.item
            yield _row("margin", item.context_condition, item.id, item.cluster, np.mean(margins))

    def _preferences(self) -> Iterator[list[Any]]:
        totals = log_likelihood(self._model, self._sentence_ids).total.tolist()
        groups: dict[str, tuple[list[float], list[float]]] = {}
        for text, total in zip(self._sentences, totals, strict=True):
            groups.setdefault(text.group, ([], []))[text.label].append(total)
        for name, (negative, positive) in groups.items():
            yield _row("preference", "all", name, name, np.mean(positive) - np.mean(negative))

    def _nlls(self) -> Iterator[list[Any]]:
        found = (-log_likelihood(self._model, self._plain_ids).per_token).tolist()
        for k, (text, value) in enumerate(zip(self._plain, found, strict=True)):
            yield _row("nll", "all", f"{k} {text.group}", text.group, value)

    def _kept(self) -> Iterator[list[Any]]:
        there = [p for p in self._continuations if "generated" in p.spans]
        if there:
            starts = [prompt.spans["generated"].start for prompt in there]
            found = log_likelihood(self._model, [p.ids for p in there], starts=starts)
            shares = (found.n_first / found.n_tokens).tolist()
            for prompt, share in zip(there, shares, strict=True):
                yield _row("kept", "all", prompt.label, prompt.label, share)

    def _new(
        self, begun: TokenizedPrompt, before: TokenizedPrompt, after: TokenizedPrompt
    ) -> Iterator[list[Any]]:
        n, name = len(begun), begun.label
        old, new = before.ids[n:].tolist(), after.ids[n:].tolist()
        text = after.text[len(begun.text) :]
        share = kept_share(old, new) if old else np.nan
        yield _row("overlap", "all", name, name, share, text)
        fluency = np.nan
        if new:
            fluency = float(log_likelihood(self._model, [after.ids], starts=[n]).per_token[0])
        yield _row("fluency", "all", name, name, fluency, text)

    def _complete(self, prompt: TokenizedPrompt) -> TokenizedPrompt:
        return complete(self._model, prompt, max_new_tokens=self._max_new_tokens)


def kept_share(before: Sequence[int], after: Sequence[int]) -> float:
    """Share of the tokens of ``before`` that ``after`` has too, in order."""
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(before)


def _row(
    outcome: str, subset: str, item: str, cluster: str, value: Any, text: str = ""
) -> list[Any]:
    return [outcome, subset, item, cluster, float(value), text]


def _margin_prompts(model: TransformerBridge, item: ChoiceItem) -> _MarginPrompts | None:
    prompts, tokens = [], []
    for order in range(len(cyclic_orders(len(item.choices)))):
        prompt = condition_prompt(model, item, Condition("clean", "clean", None), order=order)
        target, shared = margin_target(model.tokenizer, item, prompt)
        if target is None:
            return None
        prompts.append(torch.cat([prompt.ids, shared]))
        tokens.append((target.a, target.b))
    return _MarginPrompts(item, prompts, tokens)


def _with_both_labels(sentences: Sequence[LabelledText]) -> list[LabelledText]:
    labels: dict[str, set[int]] = {}
    for text in sentences:
        labels.setdefault(text.group, set()).add(text.label)
    kept = [text for text in sentences if len(labels[text.group]) == 2]
    if not kept:
        raise InterpError(
            f"none of the {len(labels)} groups of sentences has both labels, so none is preferred "
            "to another: give pairs or quadruples"
        )
    return kept


def _beginning(model: TransformerBridge, item: CompletionItem) -> TokenizedPrompt:
    """The raw beginning as the tokenizer encodes any text, with its BOS where it adds one."""
    require_tokenizer(model.tokenizer)
    ids = torch.tensor(model.tokenizer(item.prompt)["input_ids"], dtype=torch.long)
    plain = model.tokenizer(item.prompt, add_special_tokens=False)["input_ids"]
    return TokenizedPrompt(
        ids=ids,
        spans={"prompt": slice(0, len(ids))},
        str_tokens=tuple(decode_each(model.tokenizer, ids)),
        text=item.prompt,
        label=item.id,
        n_bos=len(ids) - len(plain),
    )
