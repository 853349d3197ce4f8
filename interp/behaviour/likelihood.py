"""How likely a model finds given texts: log-likelihoods of token sequences, in nats.

Token ``k`` of a sequence is predicted from the tokens before it, so the first one (the BOS where the
tokenizer has one) is given and never scored. Sequences go through :func:`interp.models.forward`, so
common beginnings are computed once, nothing is padded, and hooks on the model act as they do
everywhere. Logits exist for at most ``max_rows`` places at a time and are reduced at once.

    scores = log_likelihood(model, sentence_ids(model, texts))
    scores.total        # [n], nats
    scores.perplexity   # of all scored tokens together
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.display import short_repr
from interp.errors import InterpError
from interp.models import forward
from interp.models.forward import Place
from interp.parsing import require_unicode
from interp.prompts.align import first_difference
from interp.prompts.tokenizer import require_tokenizer

MAX_ROWS = 512
"""Logit rows held at a time: 96 MiB with the default model's vocabulary."""


@dataclass(frozen=True, eq=False)
class LogLikelihoods:
    """Log-likelihoods of some sequences.

    ``total``: sum over a sequence's scored tokens, in nats; ``n_tokens``: how many those are;
    ``n_first``: how many of them are the model's first choice (what greedy decoding would write).
    """

    total: Float[Tensor, " sequence"]
    n_tokens: Int[Tensor, " sequence"]
    n_first: Int[Tensor, " sequence"]

    __repr__ = short_repr

    @property
    def per_token(self) -> Float[Tensor, " sequence"]:
        """Mean log-likelihood of a sequence's tokens, nats per token."""
        return self.total / self.n_tokens

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood of all scored tokens together, nats per token."""
        return float(-self.total.double().sum() / self.n_tokens.sum())

    @property
    def perplexity(self) -> float:
        """exp of :attr:`nll`."""
        return math.exp(self.nll)


def log_likelihood(
    model: TransformerBridge,
    sequences: Sequence[Int[Tensor, " _pos"]],
    *,
    starts: Sequence[int] | None = None,
    max_rows: int = MAX_ROWS,
) -> LogLikelihoods:
    """Log-likelihood of every sequence, in float32.

    Args:
        model: a bridge in evaluation mode.
        sequences: token ids, one tensor per text.
        starts: index of the first scored token of every sequence, 1 by default; a later one scores
            a continuation given its prompt.
        max_rows: how many rows of logits exist at a time.

    Raises:
        InterpError: no sequences, a sequence without a token to score or beyond the context, or
            ``starts`` that do not match.
    """
    starts = [1] * len(sequences) if starts is None else list(starts)
    _check(sequences, starts)
    total = torch.zeros(len(sequences))
    n_first = torch.zeros(len(sequences), dtype=torch.long)
    for places in _chunks(sequences, starts, max_rows):
        # consecutive, so that equal beginnings of neighbours meet in one forward
        used = {k: index for index, k in enumerate(dict.fromkeys(k for k, _ in places))}
        row_of: dict[tuple[int, ...], int] = {}  # equal beginnings have equal logits: read once
        rows = [row_of.setdefault(_before(sequences, place), len(row_of)) for place in places]
        read = [places[rows.index(row)] for row in range(len(row_of))]
        logits = forward(
            model,
            [sequences[k][:-1] for k in used],  # the last token is predicted, never read
            logits_at=[(used[k], position - 1) for k, position in read],
        ).logits
        tokens = torch.stack([sequences[k][position] for k, position in places]).cpu()
        picked = logits[rows, tokens] - logits.logsumexp(1)[rows]
        owners = torch.tensor([sequence for sequence, _ in places])
        total.index_add_(0, owners, picked)
        n_first.index_add_(0, owners, (logits.argmax(1)[rows] == tokens).long())
    n_tokens = [len(ids) - start for ids, start in zip(sequences, starts, strict=True)]
    return LogLikelihoods(total, torch.tensor(n_tokens), n_first)


def completion_nll(model: TransformerBridge, beginning: str, completion: str) -> float:
    """Of a completion behind its beginning as plain text, a space between: nats per token.

    A token that straddles the border belongs to the completion. NaN for an empty completion.

    Raises:
        InterpError: a text that is no valid Unicode, or longer than the context.
    """
    if not completion:
        return math.nan
    require_unicode(beginning, "the beginning")
    require_unicode(completion, "the completion")
    require_tokenizer(model.tokenizer)
    begun, whole = (
        torch.tensor(model.tokenizer(text)["input_ids"], dtype=torch.long)
        for text in (beginning, f"{beginning} {completion}")
    )
    return log_likelihood(model, [whole], starts=[_first_scored(begun, whole)]).nll


def _first_scored(begun: Int[Tensor, " _begun"], whole: Int[Tensor, " _whole"]) -> int:
    """The first token that differs from the beginning's; never the first of all, always one."""
    shared = first_difference(begun, whole)
    last = len(whole) - 1
    return max(last if shared is None else min(shared, last), 1)


def _before(sequences: Sequence[Tensor], place: Place) -> tuple[int, ...]:
    """The tokens that a token is predicted from."""
    return tuple(sequences[place[0]][: place[1]].tolist())


def _check(sequences: Sequence[Tensor], starts: Sequence[int]) -> None:
    if not len(sequences):
        raise InterpError("no sequences to score: the list is empty")
    if len(starts) != len(sequences):
        raise InterpError(f"{len(starts)} starts for {len(sequences)} sequences: give one each")
    for index, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        if not 1 <= start < len(ids):
            raise InterpError(
                f"sequence {index} has {len(ids)} tokens and is to be scored from token {start}: "
                "at least one token must be scored, and one must precede it"
            )


def _chunks(
    sequences: Sequence[Tensor], starts: Sequence[int], max_rows: int
) -> Iterator[list[Place]]:
    """Scored tokens ``(sequence, position)``, whole sequences together where they fit."""
    chunk: list[Place] = []
    for index, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        places = [(index, position) for position in range(start, len(ids))]
        if chunk and len(chunk) + len(places) > max_rows:
            yield chunk
            chunk = []
        while len(places) > max_rows:
            yield places[:max_rows]
            places = places[max_rows:]
        chunk = chunk + places
    if chunk:
        yield chunk
