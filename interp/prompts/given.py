"""What a function is given for a prompt, whatever it is: the one place that makes a prompt of it.

Rooms that read single prompts (:func:`interp.activations.read_attention`,
:func:`interp.activations.stream`, :func:`interp.behaviour.generate`) take a prompt, a text, chat
messages, token ids, or a pair, of which they read the **source**; ``pair.destination`` is a prompt too.
Rooms that compare (:func:`interp.project`, :func:`interp.lens_trajectory`,
:func:`interp.viz.attention_page`) read both runs of a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from transformer_lens.model_bridge import TransformerBridge

from interp.prompts.pair import PromptPair
from interp.prompts.texts import SpanOf, Written, is_messages, with_spans, written_prompt
from interp.prompts.tokens import TokenizedPrompt

Given: TypeAlias = PromptPair | TokenizedPrompt | Written
"""A pair (its source), a prompt, a text, chat messages or token ids."""


def as_prompt(
    model: TransformerBridge,
    given: Given,
    *,
    label: str | None = None,
    spans: Mapping[str, SpanOf] | None = None,
) -> TokenizedPrompt:
    """A prompt of whatever a user has (see :mod:`interp.prompts.texts` for how texts are read).

    Args:
        model: its tokenizer and chat template render texts.
        given: a prompt, a pair (its source), a text, chat messages, or token ids.
        label: names the prompt in errors and tables; None keeps a prompt's own.
        spans: spans of one's own: a part of the text, or a range of token positions.

    Raises:
        InterpError: anything else; a text for a model without tokenizer; a prompt that is empty,
            beyond the context or the vocabulary; a span that cannot be placed.

    Example:
        >>> as_prompt(model, "When Mary and John", spans={"name": "Mary"})     # doctest: +SKIP
    """
    prompt = given.source if isinstance(given, PromptPair) else given
    if isinstance(prompt, TokenizedPrompt):
        return with_spans(model, prompt, spans or {})
    return written_prompt(model, prompt, label=label, spans=spans)


def each_given(given: Any) -> list[Any]:
    """One prompt or several, as a list: chat messages and token ids are one."""
    several = isinstance(given, Sequence | Iterator) and not isinstance(given, str | bytes)
    if not several or is_messages(given):
        return [given]
    listed = list(given)
    return [given] if listed and all(type(one) is int for one in listed) else listed
