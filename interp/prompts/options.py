"""The two options of a margin as tokens behind the answer prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.data.items import ChoiceItem
from interp.display import short_repr
from interp.errors import InterpError
from interp.prompts.align import first_difference
from interp.prompts.tokens import TokenizedPrompt, encode_continuation


@dataclass(frozen=True, eq=False)
class OptionTokens:
    """All tokens of the two options, as they follow the answer prefix.

    ``n_shared``: how many leading ones, equal in both, stand at the end of the prompt already, so
    that the margin (logit difference) is read at its last position.

    Raises:
        InterpError: an option without tokens, or tokens that are said to be shared and are not.
    """

    a: Int[Tensor, " a"]
    b: Int[Tensor, " b"]
    n_shared: int = 0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        n = min(len(self.a), len(self.b))
        if not n:
            raise InterpError("an option has no tokens: give at least one token id for each")
        if self.n_shared >= n or not torch.equal(self.a[: self.n_shared], self.b[: self.n_shared]):
            raise InterpError(
                f"the options {self.a.tolist()} and {self.b.tolist()} do not share their first "
                f"{self.n_shared} tokens, or end with them"
            )

    @property
    def single_token(self) -> bool:
        """Whether each option is one token: then their margins differ by no normaliser."""
        return len(self.a) == len(self.b) == 1

    @property
    def branches(self) -> tuple[Int[Tensor, " _more"], Int[Tensor, " _more"]]:
        """What each option adds behind the prompt when it is read.

        Not the tokens that stand in the prompt, nor the last one, which is read and never fed.
        """
        return self.a[self.n_shared : -1], self.b[self.n_shared : -1]


def encode_option(tokenizer: Any, prompt: TokenizedPrompt, text: str) -> Int[Tensor, " more"]:
    """The tokens of an answer behind a prompt, a space between them unless the prompt ends in one.

    Behind the span ``answer_start`` there is none either: an answer follows its header at once.

    Raises:
        InterpError: the answer changes the tokens of the prompt itself.
    """
    started = prompt.span_of(len(prompt) - 1) == "answer_start"
    gap = "" if started or prompt.text[-1:].isspace() else " "
    return encode_continuation(tokenizer, prompt, gap + text)


def option_tokens(tokenizer: Any, item: ChoiceItem, prompt: TokenizedPrompt) -> OptionTokens | None:
    """The options that an item's margin contrasts, with the leading tokens they share.

    ``n_shared`` counts what a pair moves into its prompts: all tokens before the first that differs,
    and none where one option is the beginning of the other. None for an item without a contrast.
    """
    contrast = item.contrast()
    if contrast is None:
        return None
    a, b = (
        encode_option(tokenizer, prompt, item.choices[index].text.strip()) for index in contrast
    )
    return OptionTokens(a, b, margin_token(a, b) or 0)


def margin_token(a: Int[Tensor, " a"], b: Int[Tensor, " b"]) -> int | None:
    """Where the margin (logit difference) of two options is read: their first token that differs.

    None when one option is the beginning of the other.
    """
    first = first_difference(a, b)
    return None if first is None or first == min(len(a), len(b)) else first
