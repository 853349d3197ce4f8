"""Two prompts to patch between, aligned, with the margin (logit difference) measured at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.data.items import ChoiceItem
from interp.display import html_paragraph
from interp.errors import InterpError
from interp.models.native import n_outputs
from interp.prompts.align import Alignment, align
from interp.prompts.answers import MarginTarget, with_answers
from interp.prompts.conditions import Condition, TextBank, condition_conversation
from interp.prompts.conversation import Placement, cyclic_orders
from interp.prompts.fit_length import fit_condition
from interp.prompts.options import OptionTokens, margin_token, option_tokens
from interp.prompts.placebos import PLACEBO_KINDS, FitLength
from interp.prompts.texts import SpanOf, Written, with_spans, written_prompt
from interp.prompts.tokens import (
    TokenizedPrompt,
    output_texts,
    require_context,
    require_vocabulary,
    span_summary,
    token_texts,
    tokenize,
)

Side: TypeAlias = TokenizedPrompt | Written
"""One prompt of a pair of one's own: a prompt, a text, chat messages or token ids."""

SpanOfPair: TypeAlias = SpanOf | tuple[SpanOf, SpanOf]
"""Where a span is in both prompts, or (in the source, in the destination)."""


@dataclass(frozen=True, eq=False)
class PromptPair:
    """A source run to copy from and a destination run to copy into.

    In TransformerLens's words the source is the run of the ``clean_cache``, also when it is the
    corrected prompt here. ``target`` is read at the last position of both prompts; ``options`` are
    the full texts of the two options, which the option margin reads. ``wording`` names the pair of
    wordings; statistics over pairs count wordings as random. Empty: there is one.
    """

    source: TokenizedPrompt
    destination: TokenizedPrompt
    alignment: Alignment
    target: MarginTarget | None
    source_name: str
    destination_name: str
    item: ChoiceItem | None = None
    options: OptionTokens | None = None
    wording: str = ""

    @property
    def label(self) -> str:
        """``source -> destination`` and the item."""
        item = f" ({self.item.id})" if self.item is not None else ""
        return f"{self.source_name} -> {self.destination_name}{item}"

    def swap(self) -> PromptPair:
        """The pair with both roles exchanged."""
        return PromptPair(
            source=self.destination,
            destination=self.source,
            alignment=align(self.destination, self.source),
            target=self.target,
            source_name=self.destination_name,
            destination_name=self.source_name,
            item=self.item,
            options=self.options,
            wording=self.wording,
        )

    @property
    def margin_line(self) -> str:
        """Between which answers the margin (logit difference) is read, and where."""
        if self.target is None:
            return "no margin: no answers were given, or no token tells them apart"
        line = f"{self.target.a_text!r} minus {self.target.b_text!r}, nats"
        if self.options is None or self.options.single_token:
            return line
        n_a, n_b, n = len(self.options.a), len(self.options.b), self.options.n_shared
        moved = f"; the {n} that both begin with stand at the prompts' end" if n else ""
        return f"{line}: at the first token that differs, of {n_a} and {n_b}{moved}"

    def __repr__(self) -> str:
        return (
            f"PromptPair {self.label}\n  source: {span_summary(self.source)}\n"
            f"  destination: {span_summary(self.destination)}\n"
            f"  alignment: {self.alignment}\n  margin: {self.margin_line}"
        )

    def _repr_html_(self) -> str:
        target = html_paragraph(f"margin: {self.margin_line}")
        source, destination = self.source._repr_html_(), self.destination._repr_html_()
        return (
            f"{html_paragraph(self.label, bold=True)}{target}{html_paragraph('source')}{source}"
            f"{html_paragraph('destination')}{destination}{self.alignment._repr_html_()}"
        )


def make_pair(
    model: TransformerBridge,
    source: ChoiceItem | Side,
    condition: str | Side,
    *,
    against: str = "placebo",
    order: int = 0,
    slot: int = 0,
    placement: Placement = "after",
    bank: TextBank | None = None,
    answers: tuple[str, str] | tuple[()] | None = None,
    target: tuple[int, int] | None = None,
    options: tuple[Sequence[int], Sequence[int]] | None = None,
    spans: Mapping[str, SpanOfPair] | None = None,
    fit_length: FitLength | None = None,
) -> PromptPair:
    """The pair ``condition -> against`` of one item, or of two prompts of one's own.

    For an item, both prompts end in the answer prefix followed by the leading tokens that the two
    options of the margin (logit difference) share, so that it is measured at the last position.

    Two prompts of one's own are texts, chat messages, token ids (:mod:`interp.prompts.texts` says how
    each is read) or prompts. Texts and messages need ``answers``, whose logit difference is measured;
    ``answers=()`` makes a pair without, for attention and projections. Token ids take ``target`` or
    ``options``, and neither for a metric of one's own.

    Args:
        model: its tokenizer and chat template render the prompts.
        source: the item; or the source's prompt, with the destination's as ``condition``.
        condition: the source's condition; or the destination's prompt.
        against: the destination's condition. A placebo of either kind (``placebo``, ``statement``)
            is matched to the text of the other side (to ``instructed`` where that has none).
        order: which cyclic order of the options.
        slot: which text of the condition, in the order in which the bank draws them.
        placement: instruction before or after the question.
        bank: the texts of the conditions; those of the bundled ones by default.
        answers: for prompts of one's own, the texts of the better and the worse answer, put behind
            the prompts as they are written (" John"). Of answers of several tokens the shared leading
            ones are put behind the prompts, the margin is read at the first that differs, and the
            whole texts are the pair's ``options``; the pair says so when it is shown.
        target: token ids (a, b) of the margin, instead of ``answers``.
        options: all token ids of the options (a, b) behind the prompts, instead of ``answers``.
        spans: for prompts of one's own, names of parts of them (``instruction``, say, which
            :func:`interp.knockout` blocks): a part of the text, a slice or (start, stop) of token
            positions, or two of these where the prompts differ. Token ids without a name are
            ``prompt``.
        fit_length: bring the text of ``against``, a control of your own, to the token count of the
            ``condition``'s: ``"pad"`` adds neutral words, ``"trim"`` drops words from its end
            (:mod:`interp.prompts.fit_length`). None leaves it; texts of unequal length are patched
            where their tokens align alone, and every result says so. (A placebo has the count
            already; see ``require_match`` of :class:`interp.prompts.TextBank`.)

    Raises:
        InterpError: a text without answers, answers that no token tells apart, a prompt beyond the
            context, a slot the bank does not have, an unknown condition, one of several calls, a span
            that cannot be placed, ``answers``, ``target``, ``options`` or ``spans``
            with an item, or a control that cannot be fitted, or ``fit_length`` without an item.

    Example:
        >>> pair = make_pair(model, item, "instructed", against="placebo")   # doctest: +SKIP
        >>> make_pair(                                                        # doctest: +SKIP
        ...     model,
        ...     "When Mary and John went out, John gave a drink to",
        ...     "When Mary and John went out, Mary gave a drink to",
        ...     answers=(" Mary", " John"),
        ...     spans={"S2": ("John gave", "Mary gave")},
        ... )
    """
    if not isinstance(source, ChoiceItem):
        if fit_length is not None:
            raise InterpError("make_pair: fit_length is for conditions of an item")
        return _own_pair(model, source, condition, answers, target, options, spans or {})
    if not isinstance(condition, str):
        raise InterpError(
            'make_pair: an item takes a condition\'s name ("instructed"); give two prompts, or an '
            "item and a condition"
        )
    for name, given in (
        ("answers", answers),
        ("target", target),
        ("options", options),
        ("spans", spans),
    ):
        if given is not None:
            raise InterpError(
                f"make_pair: {name} is for prompts of your own; an item brings its own"
            )
    if slot < 0:
        raise InterpError(f"make_pair: slot is {slot}, texts are counted from 0")
    bank = TextBank(model.tokenizer) if bank is None else bank
    here, there = paired_conditions(
        bank, source, condition, against=against, slot=slot, fit_length=fit_length
    )
    return pair_of_conditions(model, source, here, there, order=order, placement=placement)


def paired_conditions(
    bank: TextBank,
    item: ChoiceItem,
    condition: str,
    *,
    against: str,
    slot: int = 0,
    fit_length: FitLength | None = None,
) -> tuple[Condition, Condition]:
    """The texts of the two prompts of :func:`make_pair`, by the names of their conditions.

    Raises:
        InterpError: an unknown condition, one of several calls, a slot the bank does not have, or a
            control that cannot be fitted.
    """
    for name in (condition, against):
        bank.require_single(name)
    here = _condition(bank, item, condition, slot, partner=against)
    there = _condition(bank, item, against, slot, partner=condition)
    if fit_length is None:
        return here, there
    return here, fit_condition(bank.count, there, here, fit_length)


def pair_of_conditions(
    model: TransformerBridge,
    item: ChoiceItem,
    here: Condition,
    there: Condition,
    *,
    order: int = 0,
    placement: Placement = "after",
) -> PromptPair:
    """The pair of two explicit conditions of one item; see :func:`make_pair`."""
    a = condition_prompt(model, item, here, order=order, placement=placement)
    b = condition_prompt(model, item, there, order=order, placement=placement)
    options = option_tokens(model.tokenizer, item, b)
    target, shared = target_of_options(item, options)
    if len(shared):
        tokens = tuple(token_texts(model, shared))
        a, b = a.extend(shared, tokens), b.extend(shared, tokens)
    wording = str(max(here.slot, there.slot))
    pair = PromptPair(a, b, align(a, b), target, here.label, there.label, item, options, wording)
    require_runnable(model, pair)
    if there.fitted is not None and not pair.alignment.by_index:
        raise InterpError(
            f"{pair.label}: both texts have the same number of tokens alone, and {len(a)} and {len(b)} "
            "tokens as prompts, where they join their surroundings: end both in the same mark"
        )
    return pair


def condition_prompt(
    model: TransformerBridge,
    item: ChoiceItem,
    condition: Condition,
    *,
    order: int = 0,
    placement: Placement = "after",
) -> TokenizedPrompt:
    """One item under one condition, as tokens; the condition's own placement goes first."""
    conversation = condition_conversation(
        item,
        condition,
        order=cyclic_orders(len(item.choices))[order % len(item.choices)],
        placement=placement,
    )
    cfg = model.cfg
    return tokenize(model.tokenizer, conversation, n_ctx=cfg.n_ctx, n_vocab=cfg.d_vocab)


def margin_target(
    tokenizer: Any, item: ChoiceItem, prompt: TokenizedPrompt
) -> tuple[MarginTarget | None, Int[Tensor, " shared"]]:
    """The margin's two tokens, and the leading tokens that both options share.

    None for an item without a contrast, or whose two options are equal up to the end of one.
    """
    return target_of_options(item, option_tokens(tokenizer, item, prompt))


def target_of_options(
    item: ChoiceItem, options: OptionTokens | None
) -> tuple[MarginTarget | None, Int[Tensor, " shared"]]:
    """The same of an item's options that are tokens already."""
    texts = [item.choices[index].text.strip() for index in item.contrast() or ()]
    return _target_of_options(options, texts)


def _target_of_options(
    options: OptionTokens | None, texts: Sequence[str]
) -> tuple[MarginTarget | None, Int[Tensor, " shared"]]:
    if options is None or margin_token(options.a, options.b) is None:
        return None, torch.empty(0, dtype=torch.long)
    at = options.n_shared
    target = MarginTarget(int(options.a[at]), int(options.b[at]), texts[0], texts[1])
    return target, options.a[:at]


def _condition(
    bank: TextBank, item: ChoiceItem, name: str, slot: int, *, partner: str
) -> Condition:
    if name in PLACEBO_KINDS:
        spec = bank.specs.get(partner)
        bare = partner in PLACEBO_KINDS or (spec is not None and not spec.has_text)
        matched = "instructed" if bare else partner
        return bank.placebos(bank.texts(matched, item, slot + 1), kind=name)[slot]
    texts = bank.texts(name, item, slot + 1)
    return texts[min(slot, len(texts) - 1)]


def _own_pair(
    model: TransformerBridge,
    source: Side,
    destination: Side,
    answers: Sequence[str] | None,
    target: tuple[int, int] | None,
    options: tuple[Sequence[int], Sequence[int]] | None,
    spans: Mapping[str, SpanOfPair],
) -> PromptPair:
    if (answers is not None) + (target is not None) + (options is not None) > 1:
        raise InterpError("make_pair: give one of answers, target, options: each sets the margin")
    a = _side(model, source, "source", {name: _of_side(where, 0) for name, where in spans.items()})
    b = _side(
        model, destination, "destination", {n: _of_side(where, 1) for n, where in spans.items()}
    )
    written = not (isinstance(source, Tensor) and isinstance(destination, Tensor))
    if written and answers is None and target is None and options is None:
        raise InterpError(
            "make_pair: two prompts of your own need answers=(better, worse), the texts whose logit "
            'difference is measured, such as (" Mary", " John"); answers=() makes a pair without, '
            "for attention and projections"
        )
    margin, tokens = None, None
    without = isinstance(answers, tuple | list) and not answers
    if answers is not None and not without:
        (a, b), margin, tokens = with_answers(model, [a, b], answers)
    elif options is not None:
        tokens = _tokens_of_options(model, options)
        texts = ["".join(token_texts(model, ids)) for ids in (tokens.a, tokens.b)]
        margin, shared = _target_of_options(tokens, texts)
        if len(shared):
            words = tuple(token_texts(model, shared))
            a, b = a.extend(shared, words), b.extend(shared, words)
    elif target is not None:
        margin = MarginTarget(target[0], target[1], "", "")
        require_target_in_vocabulary(model, margin)
        names = tuple(output_texts(model, torch.tensor(target)))
        margin = MarginTarget(target[0], target[1], names[0], names[1])
    pair = PromptPair(a, b, align(a, b), margin, "source", "destination", options=tokens)
    require_runnable(model, pair)
    return pair


def _side(
    model: TransformerBridge, given: Side, label: str, spans: Mapping[str, SpanOf]
) -> TokenizedPrompt:
    if isinstance(given, TokenizedPrompt):
        return with_spans(model, given, spans)
    if isinstance(given, ChoiceItem):
        raise InterpError("make_pair: give two prompts, or an item and a condition")
    return written_prompt(model, given, label=label, spans=spans)


def _of_side(where: SpanOfPair, side: int) -> SpanOf:
    """A span's place in one prompt: two integers are a range, two others are one for each prompt."""
    both = isinstance(where, tuple) and len(where) == 2 and not all(type(w) is int for w in where)
    return where[side] if both else where  # type: ignore[index, return-value]


def _tokens_of_options(
    model: TransformerBridge, options: tuple[Sequence[int], Sequence[int]]
) -> OptionTokens:
    ids = []
    for name, given in zip("ab", options, strict=True):
        flat = torch.as_tensor(given)
        if flat.ndim != 1 or (len(flat) and flat.dtype not in (torch.int64, torch.int32)):
            raise InterpError(f"make_pair: option {name} is {given!r}: give a list of token ids")
        flat = flat.to(torch.long).cpu()
        _require_option_in_vocabulary(model, f"make_pair: option {name}", flat)
        ids.append(flat)
    return OptionTokens(ids[0], ids[1], margin_token(ids[0], ids[1]) or 0)


def require_runnable(model: TransformerBridge, pair: PromptPair) -> None:
    """Refuse a pair that this model cannot run: too long, or a token beyond its vocabulary.

    Raises:
        InterpError: names the prompt or the target.
    """
    for prompt in (pair.source, pair.destination):
        require_context(prompt.label, len(prompt), model.cfg.n_ctx)
        require_vocabulary(model.tokenizer, prompt.label, prompt.ids, model.cfg.d_vocab)
    require_target_in_vocabulary(model, pair.target)
    for ids in () if pair.options is None else (pair.options.a, pair.options.b):
        _require_option_in_vocabulary(model, f"{pair.label}: an option", ids)


def _require_option_in_vocabulary(
    model: TransformerBridge, label: str, ids: Int[Tensor, " option"]
) -> None:
    """An option's tokens are predicted and, but for the last, fed: each is an output and a token."""
    for n_vocab in (int(model.cfg.d_vocab), n_outputs(model)):
        require_vocabulary(model.tokenizer, label, ids, n_vocab)


def require_target_in_vocabulary(model: TransformerBridge, target: MarginTarget | None) -> None:
    """Refuse a margin whose token ids are no logits of the model."""
    if target is None:
        return
    if not all(isinstance(token, Integral) for token in (target.a, target.b)):
        raise InterpError(f"the margin's target is {(target.a, target.b)}: give two token ids")
    ids = torch.tensor([int(target.a), int(target.b)])
    require_vocabulary(model.tokenizer, "the margin's target", ids, n_outputs(model))
