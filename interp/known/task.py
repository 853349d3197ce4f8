"""The toy task of trained models: its words, and what may be asked of a model without its truth.

A prompt is ``BOS instruction content other query``; the answer is the margin of ``yes`` over ``no``
behind the query. Sixteen contents have four attributes of +1 or -1. ``ask`` wants something of the
answer, ``neg`` its opposite, ``note`` is a placebo and wants nothing; six tokens each. Every second
query is put the other way round; two *judges* ask what is held of the content.

Nothing here says how a model follows the instruction: that is its truth
(:class:`interp.known.TrainedTruth`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InterpError
from interp.known.causal import BOS

INSTRUCTION, CONTENT, OTHER, QUERY = 1, 2, 3, 4
"""Positions."""

LAYOUT = ("bos", "instruction", "content", "other", "query")
"""Their roles."""

ASKS, NOTES, NEGATIONS = (
    tuple(f"{name}{k}" for k in range(1, 7)) for name in ("ask", "note", "neg")
)
CONTENTS = tuple(f"content{k}" for k in range(16))
OTHERS = tuple(f"other{k}" for k in range(1, 5))
QUERIES = tuple(f"query{k}" for k in range(1, 5))
JUDGES = ("judge1", "judge2")
ANSWERS = ("yes", "no")
TOKENS = (BOS, *ASKS, *NOTES, *NEGATIONS, *CONTENTS, *OTHERS, *QUERIES, *JUDGES, *ANSWERS)


@dataclass(frozen=True)
class ToyTask:
    """What a reader of a trained model is given.

    ``labels``: sentences are labelled by their content, +1 or -1; contents without a label occur in no
    sentence. A direction is learned from them, right or wrong.
    """

    name: str
    seed: int
    labels: Mapping[str, float]

    @property
    def spans(self) -> dict[str, slice]:
        """The roles of the positions, for :func:`interp.make_pair`."""
        return {role: slice(k, k + 1) for k, role in enumerate(LAYOUT)}

    @property
    def target(self) -> tuple[int, int]:
        """Token ids of ``yes`` and ``no``, whose margin is the answer."""
        return TOKENS.index("yes"), TOKENS.index("no")

    def ids(self, tokens: Sequence[str]) -> Int[Tensor, " pos"]:
        """Token ids of instruction, content, other and query, the BOS put in front.

        Raises:
            InterpError: another number of tokens, or an unknown one.
        """
        if len(tokens) != len(LAYOUT) - 1:
            raise InterpError(f"a prompt has {len(LAYOUT) - 1} tokens, not {len(tokens)}")
        unknown = [token for token in tokens if token not in TOKENS]
        if unknown:
            raise InterpError(f"no token {unknown[0]!r}; a prompt is {', '.join(LAYOUT[1:])}")
        return torch.tensor([TOKENS.index(token) for token in (BOS, *tokens)])

    def sentences(self) -> tuple[list[Int[Tensor, " pos"]], Float[Tensor, " sentence"], list[str]]:
        """Labelled prompts without an instruction: ids, labels of +1 or -1, and contents (clusters).

        Every label stands beside every placebo, ``other`` and query, so that these tell nothing.
        """
        every = list(product(self.labels, NOTES, OTHERS, QUERIES))
        ids = [self.ids((note, content, other, query)) for content, note, other, query in every]
        labels = torch.tensor([self.labels[content] for content, *_ in every])
        return ids, labels, [content for content, *_ in every]
