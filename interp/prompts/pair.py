"""Two prompts to patch between, aligned, with the margin (logit difference) measured at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.data.items import ChoiceItem
from interp.display import html_paragraph
from interp.errors import InterpError
from interp.models.native import n_outputs
from interp.prompts.align import Alignment, align
from interp.prompts.conditions import Condition, TextBank, condition_conversation
from interp.prompts.conversation import Placement, cyclic_orders
from interp.prompts.fit_length import fit_condition
from interp.prompts.options import OptionTokens, margin_token, option_tokens
from interp.prompts.placebos import PLACEBO_KINDS, FitLength
from interp.prompts.tokens import (
    TokenizedPrompt,
    output_texts,
    require_context,
    require_vocabulary,
    token_texts,
    tokenize,
)


@dataclass(frozen=True)
class MarginTarget:
    """The two tokens of the margin, the logit difference a - b at the last position, in nats.

    Positive is the better answer: a = the abstention (ambiguous items) or gold (disambiguated),
    b = the stereotyped option or the other group's.
    """

    a: int
    b: int
    a_text: str
    b_text: str


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

    def _repr_html_(self) -> str:
        target = ""
        if self.target is not None:
            target = html_paragraph(f"margin: {self.target.a_text!r} minus {self.target.b_text!r}")
        source, destination = self.source._repr_html_(), self.destination._repr_html_()
        return (
            f"{html_paragraph(self.label, bold=True)}{target}{html_paragraph('source')}{source}"
            f"{html_paragraph('destination')}{destination}{self.alignment._repr_html_()}"
        )


def make_pair(
    model: TransformerBridge,
    source: ChoiceItem | Int[Tensor, "... source_pos"],
    condition: str | Int[Tensor, "... destination_pos"],
    *,
    against: str = "placebo",
    order: int = 0,
    slot: int = 0,
    placement: Placement = "after",
    bank: TextBank | None = None,
    target: tuple[int, int] | None = None,
    options: tuple[Sequence[int], Sequence[int]] | None = None,
    spans: Mapping[str, slice] | None = None,
    fit_length: FitLength | None = None,
) -> PromptPair:
    """The pair ``condition -> against`` of one item, or of two token tensors.

    For an item, both prompts end in the answer prefix followed by the leading tokens that the two
    options of the margin (logit difference) share, so that it is measured at the last position.

    Args:
        model: its tokenizer and chat template render the prompts.
        source: the item; or the source's token ids ``[pos]`` or ``[1, pos]``, with the destination's
            ids as ``condition``.
        condition: the source's condition.
        against: the destination's condition. A placebo of either kind (``placebo``, ``statement``)
            is matched to the text of the other side (to ``instructed`` where that has none).
        order: which cyclic order of the options.
        slot: which text of the condition, in the order in which the bank draws them.
        placement: instruction before or after the question.
        bank: the texts of the conditions; those of the bundled ones by default.
        target: token ids (a, b) of the margin, for token tensors.
        options: for token tensors, all token ids of the options (a, b) behind the prompts, instead
            of ``target``: leading ones that both share are put behind the prompts, as for an item.
        spans: for token tensors, names of positions of both prompts (``instruction``, say, which
            :func:`interp.knockout` blocks); positions without a name are ``prompt``.
        fit_length: bring the text of ``against``, a control of your own, to the token count of the
            ``condition``'s: ``"pad"`` adds neutral words, ``"trim"`` drops words from its end
            (:mod:`interp.prompts.fit_length`). None leaves it; texts of unequal length are patched
            where their tokens align alone, and every result says so. (A placebo has the count
            already; see ``require_match`` of :class:`interp.prompts.TextBank`.)

    Raises:
        InterpError: a prompt beyond the context, a slot the bank does not have, an unknown
            condition, one of several calls, spans that overlap or reach beyond a prompt, or a
            ``target``, ``options`` or ``spans`` with an item; a control that cannot be fitted, or
            ``fit_length`` with token tensors.

    Example:
        >>> pair = make_pair(model, item, "instructed", against="placebo")   # doctest: +SKIP
        >>> pair.alignment.first_difference                                   # doctest: +SKIP
    """
    if isinstance(source, Tensor):
        if not isinstance(condition, Tensor):
            raise InterpError("make_pair: give two token tensors, or an item and a condition")
        if fit_length is not None:
            raise InterpError("make_pair: fit_length is for conditions of an item, not for tensors")
        return _pair_of_tensors(model, source, condition, target, options, spans or {})
    if isinstance(condition, Tensor):
        raise InterpError("make_pair: give two token tensors, or an item and a condition")
    for name, given in (("target", target), ("options", options), ("spans", spans)):
        if given is not None:
            raise InterpError(f"make_pair: {name} is for token tensors; an item brings its own")
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


def _pair_of_tensors(
    model: TransformerBridge,
    source: Tensor,
    destination: Tensor,
    target: tuple[int, int] | None,
    options: tuple[Sequence[int], Sequence[int]] | None,
    spans: Mapping[str, slice],
) -> PromptPair:
    a = prompt_of_ids(model, source, "source", spans)
    b = prompt_of_ids(model, destination, "destination", spans)
    if options is not None:
        if target is not None:
            raise InterpError("make_pair: give target or options; options bring their own margin")
        tokens = _tokens_of_options(model, options)
        texts = ["".join(token_texts(model, ids)) for ids in (tokens.a, tokens.b)]
        margin, shared = _target_of_options(tokens, texts)
        if len(shared):
            words = tuple(token_texts(model, shared))
            a, b = a.extend(shared, words), b.extend(shared, words)
        pair = PromptPair(a, b, align(a, b), margin, "source", "destination", options=tokens)
        require_runnable(model, pair)
        return pair
    margin = None
    if target is not None:
        margin = MarginTarget(target[0], target[1], "", "")
        require_target_in_vocabulary(model, margin)
        words = tuple(output_texts(model, torch.tensor(target)))
        margin = MarginTarget(target[0], target[1], words[0], words[1])
    return PromptPair(a, b, align(a, b), margin, "source", "destination")


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


def prompt_of_ids(
    model: TransformerBridge, ids: Tensor, label: str, spans: Mapping[str, slice] | None = None
) -> TokenizedPrompt:
    """A prompt of token ids ``[pos]`` or ``[1, pos]``, its tokens named as the model names them.

    Raises:
        InterpError: ids that are no prompt of this model, or spans that overlap or lie outside.
    """
    if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        raise InterpError(f"make_pair: {label} is a tensor of {ids.dtype}: give integer token ids")
    flat = ids.reshape(-1).to(torch.long).cpu()
    if ids.ndim > 1 and ids.shape[0] != 1:
        raise InterpError(f"make_pair: {label} is a batch of {ids.shape[0]} prompts, give one")
    if len(flat) == 0:
        raise InterpError(f"make_pair: {label} has no tokens")
    require_vocabulary(model.tokenizer, f"make_pair: {label}", flat, model.cfg.d_vocab)
    require_context(f"make_pair: {label}", len(flat), model.cfg.n_ctx)
    tokens = tuple(token_texts(model, flat))
    text = ("" if model.tokenizer is not None else " ").join(tokens)
    return TokenizedPrompt(flat, _cover(spans or {}, len(flat), label), tokens, text, label)


def _cover(spans: Mapping[str, slice], n: int, label: str) -> dict[str, slice]:
    """Spans in order, with every gap between them named ``prompt``, ``prompt_1``, ..."""
    named: dict[str, slice] = {}
    at = 0
    for name, span in sorted(spans.items(), key=lambda item: item[1].start):
        if span.step not in (None, 1) or not at <= span.start < span.stop <= n:
            raise InterpError(
                f"make_pair: span {name!r} is {span.start}:{span.stop} of {label}, which has {n} "
                "tokens: give slices that hold tokens and do not overlap"
            )
        if at < span.start:
            named[_gap(named)] = slice(at, span.start)
        named[name] = slice(span.start, span.stop)
        at = span.stop
    if at < n:
        named[_gap(named)] = slice(at, n)
    return named


def _gap(named: Mapping[str, slice]) -> str:
    n = sum(name.partition("_")[0] == "prompt" for name in named)
    return f"prompt_{n}" if n else "prompt"
