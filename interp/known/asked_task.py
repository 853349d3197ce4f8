"""What a reader of a compiled model is given: words that ask, placebos, items, and two answers.

The instruction stands at position 1, behind the BOS, the content behind it, and the answer is read at
the last position. How a program follows its instruction is its truth
(:func:`interp.known.asked_truth.asked_truth`); nothing here says it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import InterpError
from interp.known.causal import BOS, ProgramRun, program
from interp.known.stored import load_card

LAYOUT = ("instruction", "content", "other", "end")
"""Roles of the positions behind the BOS, where a program does not say otherwise."""

NUMBER_ANSWERS = ("value", "zero")
"""The answers of a program of numbers, whose margin is the number."""


@dataclass(frozen=True)
class AskedTask:
    """What a reader of a compiled model is given.

    ``asks`` want the first of ``answers``, ``notes`` are placebos and want nothing. ``items``: what
    stands behind the instruction, in the order of ``layout``, which begins with the BOS.
    """

    name: str
    asks: tuple[str, ...]
    notes: tuple[str, ...]
    items: tuple[tuple[str, ...], ...]
    layout: tuple[str, ...]
    answers: tuple[str, str]

    @property
    def tokens(self) -> tuple[str, ...]:
        """The names of the model's token ids."""
        return tuple(load_card(self.name)["tokens"])

    @property
    def spans(self) -> dict[str, slice]:
        """The roles of the positions, for :func:`interp.make_pair`."""
        return {role: slice(k, k + 1) for k, role in enumerate(self.layout)}

    @property
    def target(self) -> tuple[int, int]:
        """Token ids of the two answers, whose margin is read behind the last token."""
        first, second = map(self.tokens.index, self.answers)
        return first, second

    def ids(self, tokens: Sequence[str]) -> Int[Tensor, " pos"]:
        """Token ids of an instruction and an item, the BOS put in front.

        Raises:
            InterpError: another number of tokens, or an unknown one.
        """
        if len(tokens) != len(self.layout) - 1:
            raise InterpError(f"{self.name} takes {len(self.layout) - 1} tokens, not {len(tokens)}")
        known = self.tokens
        unknown = [token for token in tokens if token not in known]
        if unknown:
            raise InterpError(f"{self.name} has no token {unknown[0]!r}; it has {', '.join(known)}")
        return torch.tensor([known.index(token) for token in (BOS, *tokens)])

    def content(self, item: Sequence[str]) -> str:
        """The content of an item: items that share it are one cluster."""
        return item[self.layout.index("content") - 2]


TASKS: dict[str, AskedTask] = {}
"""By program, in the order in which they are written down."""


def asked_program(
    source: str,
    positions: Mapping[str, Sequence[int]],
    *,
    asks: Sequence[str],
    notes: Sequence[str],
    contents: Sequence[str],
    others: Sequence[str],
    end: str = "?",
    answers: tuple[str, str] = NUMBER_ANSWERS,
    layout: tuple[str, ...] = LAYOUT,
    **more: Any,
) -> Callable[[Callable[[ProgramRun], None]], Callable[[ProgramRun], None]]:
    """Register a program and what may be asked of it."""
    own = {"content": contents, "other": others, "end": (end,)}
    behind = [own[role] for role in layout[1:]]
    register = program(source, [(*asks, *notes), *behind], positions, layout=layout, **more)

    def keep(compute: Callable[[ProgramRun], None]) -> Callable[[ProgramRun], None]:
        name = str(more.get("name", compute.__name__))
        items = tuple(product(*behind))
        TASKS[name] = AskedTask(name, tuple(asks), tuple(notes), items, ("bos", *layout), answers)
        return register(compute)

    return keep
