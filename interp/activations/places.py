"""Places: the positions of a prompt that a read is about, by name.

==================  ============================================================================
``last``            the last position
``all``             every position, one by one
``mean``            the mean over all positions but the first and the special tokens, whose norms
                    dwarf the others'
``instruction``     the mean over a span (any span's name)
``instruction:last``  the last position of a span
``instruction:all``   every position of a span, one by one
==================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from interp.errors import InterpError
from interp.prompts import TokenizedPrompt


@dataclass(frozen=True)
class Places:
    """Positions of one prompt; ``averaged``: one number for all of them instead of one each."""

    positions: tuple[int, ...]
    averaged: bool = False


def places_of(
    prompt: TokenizedPrompt | Tensor, where: str, special_ids: Collection[int] = ()
) -> Places:
    """The places of a prompt that ``where`` names (see the module).

    Raises:
        InterpError: a span that the prompt does not have (bare token ids have none), an unknown
            ending after the colon, or nothing left to average.
    """
    ids = prompt.ids if isinstance(prompt, TokenizedPrompt) else prompt
    if where == "last":
        return Places((len(ids) - 1,))
    if where == "all":
        return Places(tuple(range(len(ids))))
    if where == "mean":
        kept = [k for k, token in enumerate(ids.tolist()) if k > 0 and token not in special_ids]
        if not kept:
            raise InterpError("no position is left to average beside the first and special tokens")
        return Places(tuple(kept), averaged=True)
    return _in_span(prompt, *_span_and_part(where))


def _span_and_part(where: str) -> tuple[str, str]:
    span, _, part = where.partition(":")
    if part not in ("", "last", "all"):
        raise InterpError(
            f"positions {where!r}: after the span's name comes nothing (its mean), ':last' or ':all'"
        )
    return span, part


def _in_span(prompt: TokenizedPrompt | Tensor, span: str, part: str) -> Places:
    if not isinstance(prompt, TokenizedPrompt):
        raise InterpError(
            f"positions {span!r}: bare token ids have no spans; choose last, all or mean, or give "
            "prompts"
        )
    found = prompt.span(span)
    positions = tuple(range(found.start, found.stop))
    return Places(positions[-1:]) if part == "last" else Places(positions, averaged=part == "")
