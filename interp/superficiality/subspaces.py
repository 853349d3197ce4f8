"""Subspaces that states are exchanged in: the direction, its span, the oracle's, and null directions.

A *place* is a point of the residual stream between two layers: place l is the stream before layer l,
place L, behind the last one, is what is unembedded. A direction fitted at ``resid_post`` of layer l
stands at place l + 1. Every subspace has its own vectors at each place.

- The *span* of a direction: the direction, then further fits of the same concept (other methods, other
  sentences), orthonormal in this order, so that its first k vectors span k fits.
- The *oracle* of a pair: the leading directions of (corrected - placebo) states, fitted on pairs of
  other items *and* other wordings, at the same positions and places. Nothing of the same size that was
  fitted without the effect itself ought to carry more.
- The *parts* of the direction: what of it is read downstream, and the rest
  (:mod:`interp.superficiality.readable`).
- *Null* directions: with the covariance of the states, and fitted alike on contrasts that are not moral.

Cost of :func:`fit_subspaces`: two forwards per pair, and an eigendecomposition per place and group; what
:class:`interp.superficiality.readable.ReadFits` costs comes on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from scipy.linalg import eigh
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.data.bundle import bundled_categories, bundled_texts
from interp.data.groups import sample_groups
from interp.data.items import LabelledText
from interp.directions import Direction, DirectionStack
from interp.directions.fitting import sentence_states
from interp.directions.methods import axes
from interp.directions.names import FitMethod
from interp.display import short_repr
from interp.errors import InterpError
from interp.patching.branches import Reading
from interp.prompts import PromptPair
from interp.stats import rng
from interp.superficiality.pairs import clusters_of, folds_of
from interp.superficiality.readable import READ_PAIRS, Parts, ReadFits
from interp.superficiality.routes import prepare
from interp.superficiality.sides import CONTENT_SPANS, Sides, residual_states
from interp.superficiality.thresholds import MAX_RANK, RANKS

PairRows = Literal["all", "behind"]
"""Positions of an exchange: all from the first difference on, or those behind the instruction."""

ROWS: tuple[PairRows, ...] = get_args(PairRows)

PlaceAxes = Float[Tensor, "place d_model"]
"""A unit vector at every place of a direction."""

FAMILY_METHODS: tuple[FitMethod, ...] = ("mean_difference", "lda", "pca", "statements")
"""Fits of the family; logistic regression, which has no closed form, would take longer than all else."""

MORAL_SET, FURTHER_SET = "morality", "statements"

FIT_GROUPS = 8
"""Groups of sentences that are read of every category of the sets, and of every non-moral contrast."""

N_COVARIANCE = 8
"""Null directions drawn with the covariance of the states; a dozen contrasts come on top."""

_DEPENDENT = 1e-2
"""Length of what is left of a unit vector beside those before it below which it spans nothing new."""


@dataclass(frozen=True, eq=False)
class Subspaces:
    """What is exchanged, place by place.

    Attributes:
        places: of the direction, ascending; place l is the stream before layer l.
        own: the direction's own place, chosen on labelled sentences.
        span: orthonormal, the direction first.
        oracles: by positions; NaN for a group of pairs without others to fit on.
        groups: of every pair, which oracle is its.
        nulls: by name, ``covariance 1`` or a contrast's.
        parts: of the direction, by fold; None where they were not asked for.
    """

    places: tuple[int, ...]
    own: int
    span: Float[Tensor, "place k d_model"]
    oracles: Mapping[str, Float[Tensor, "group place rank d_model"]]
    groups: tuple[int, ...]
    nulls: Mapping[str, PlaceAxes]
    parts: Parts | None = None

    __repr__ = short_repr

    @property
    def ranks(self) -> tuple[int, ...]:
        """The dimensions that both the span and the oracle have."""
        most = min(self.span.shape[1], *(one.shape[2] for one in self.oracles.values()))
        return tuple(k for k in RANKS if k <= most)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        tensors = {"span": self.span, **{f"oracle {k}": v for k, v in self.oracles.items()}}
        tensors |= {f"null {name}": vectors for name, vectors in self.nulls.items()}
        if self.parts is not None:
            tensors["parts"] = self.parts
        tensors["places"] = torch.tensor([self.own, *self.places])
        tensors["groups"] = torch.tensor(self.groups)
        save_file({name: one.contiguous() for name, one in tensors.items()}, path)

    @classmethod
    def load(cls, path: str | Path) -> Subspaces:
        """Read what :meth:`save` wrote."""
        found = load_file(path)
        own, *places = found["places"].tolist()
        return cls(
            tuple(places),
            own,
            found["span"],
            {rows: found[f"oracle {rows}"] for rows in ROWS},
            tuple(found["groups"].tolist()),
            {k.removeprefix("null "): v for k, v in found.items() if k.startswith("null ")},
            found.get("parts"),
        )


def direction_axes(
    direction: DirectionStack | Direction,
) -> tuple[tuple[int, ...], int, PlaceAxes]:
    """A direction's places, its own place (the best layer of a stack), and its vectors.

    Raises:
        InterpError: a direction of another site than the residual stream between layers.
    """
    if direction.site not in ("resid_pre", "resid_post"):
        raise InterpError(
            f"the direction is of {direction.site}, and states are exchanged in the residual stream "
            "between layers: fit it with site='resid_post'"
        )
    after = int(direction.site == "resid_post")
    if isinstance(direction, Direction):
        return (direction.layer + after,), direction.layer + after, direction.vector[None]
    order = np.argsort(direction.layers)
    places = tuple(direction.layers[k] + after for k in order)
    return places, direction.best_layer + after, direction.vectors[order]


def fit_subspaces(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    direction: DirectionStack | Direction,
    *,
    family: Sequence[PlaceAxes] = (),
    nulls: Mapping[str, PlaceAxes] | None = None,
    n_covariance: int = N_COVARIANCE,
    n_read: int = READ_PAIRS,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> Subspaces:
    """The subspaces of a direction for some pairs, corrected -> placebo, the instruction first.

    Args:
        model: a bridge in evaluation mode.
        pairs: what is patched; oracles are fitted on them, each pair's on others.
        direction: of this model.
        family: further fits of the same concept, at the direction's places.
        nulls: null directions of one's own, at the direction's places (non-moral contrasts).
        n_covariance: null directions drawn with the covariance of the placebo's states behind the
            instruction.
        n_read: pairs that say what is read of the direction downstream; 0 leaves its parts out.
        content: the spans that are content.
        clusters: of the pairs; by default those of their items.
        seed: of the draws.

    Raises:
        InterpError: what :func:`interp.superficiality.sides.sides_of` refuses, or a direction of
            another site than the residual stream.
    """
    places, own, vectors = direction_axes(direction)
    groups = oracle_groups(clusters_of(pairs, clusters), [pair.wording for pair in pairs])
    grams: dict[PairRows, dict[int, Tensor]] = {rows: {} for rows in ROWS}
    drawn, fits = _Draws(n_covariance, seed), ReadFits(model, vectors, places, n_read)
    for pair, group in zip(pairs, groups, strict=True):
        sides = prepare(model, pair, content)
        corrected, placebo = (
            residual_states(model, Reading(prompt.ids, torch.tensor([len(prompt) - 1])))[
                list(places)
            ].float()
            for prompt in (pair.source, pair.destination)
        )
        for rows in ROWS:
            at = positions_of(sides, rows)
            change = (corrected - placebo)[:, at[at < len(pair.destination)]]
            gram = change.mT @ change
            grams[rows][group] = grams[rows][group] + gram if group in grams[rows] else gram
        fits.add(sides, group // 2, corrected, placebo)
        at = positions_of(sides, "behind")
        drawn.add(placebo[:, at[at < len(pair.destination)]])
    k = min(MAX_RANK, vectors.shape[-1])
    return Subspaces(
        places,
        own,
        orthonormal([vectors, *family], most=k),
        {rows: _oracles(grams[rows], k) for rows in ROWS},
        tuple(groups),
        {**drawn.vectors(), **(nulls or {})},
        fits.parts(),
    )


def oracle_groups(clusters: Sequence[str], wordings: Sequence[str]) -> list[int]:
    """Four groups of pairs, 2 x halves of the clusters + halves of the wordings.

    Group g is fitted on group 3 - g, which shares neither clusters nor wordings with it; with a single
    wording there are two groups, 0 and 2, and other items alone can be asked for.
    """
    slots = list(dict.fromkeys(wordings))
    half = {name: int(k >= (len(slots) + 1) // 2) for k, name in enumerate(slots)}
    return [2 * fold + half[w] for fold, w in zip(folds_of(clusters), wordings, strict=True)]


def positions_of(sides: Sides, rows: PairRows) -> Int[Tensor, " row"]:
    """The rows of an exchange, those of the options behind the prompt among them."""
    if rows == "behind":
        return sides.behind
    return torch.arange(int(sides.instruction[0]), len(sides.placebo))


def orthonormal(vectors: Sequence[PlaceAxes], *, most: int) -> Float[Tensor, "place k d_model"]:
    """The first vectors made orthonormal in their order, at most ``most``.

    A fit that lies in the span of those before it, at any place, spans nothing new and is left out.
    """
    found: list[Tensor] = []
    for one in vectors:
        rest = torch.nn.functional.normalize(one.double(), dim=-1)
        for _ in range(2):  # once more, against rounding
            for before in found:
                rest = rest - (rest * before).sum(-1, keepdim=True) * before
        length = rest.norm(dim=-1, keepdim=True)
        if len(found) < most and bool((length > _DEPENDENT).all()):
            found.append(rest / length)
    return torch.stack(found, dim=1).float()


def fitted_family(
    model: TransformerBridge,
    direction: DirectionStack | Direction,
    *,
    seed: int = 0,
    progress: bool = True,
) -> tuple[list[PlaceAxes], dict[str, PlaceAxes]]:
    """Further fits of the morality sentences, and directions of the non-moral contrasts, at its places.

    The family: the methods :data:`FAMILY_METHODS` on bundled moral sentences of all categories and on
    fair and biased statements, then difference of means and LDA in every moral category alone. A few
    hundred sentences are read in all.
    """
    of_category = {
        name: sample_groups(bundled_texts(f"{MORAL_SET}:{name}"), FIT_GROUPS, seed=seed)
        for name in bundled_categories(MORAL_SET)
    }
    whole = tuple(text for texts in of_category.values() for text in texts)
    further = sample_groups(bundled_texts(FURTHER_SET), 3 * FIT_GROUPS, seed=seed)
    both: tuple[FitMethod, ...] = ("mean_difference", "lda")
    moral = [(texts, method) for texts in (whole, further) for method in FAMILY_METHODS]
    moral += [(texts, method) for method in both for texts in of_category.values()]
    others = {
        name: sample_groups(bundled_texts(f"contrasts:{name}"), FIT_GROUPS, seed=seed)
        for name in bundled_categories("contrasts")
    }
    reader = _SentenceReader(model, direction, progress)
    family = [reader.axes(texts, method) for texts, method in moral]
    return family, {name: reader.axes(texts, "mean_difference") for name, texts in others.items()}


class _SentenceReader:
    """PlaceAxes of labelled sentences at a direction's site and layers; every sentence is run once."""

    def __init__(
        self, model: TransformerBridge, direction: DirectionStack | Direction, progress: bool
    ) -> None:
        self._model, self._direction, self._progress = model, direction, progress
        self._seen: dict[str, Tensor] = {}
        own = [direction] if isinstance(direction, Direction) else list(direction)
        self._layers = sorted(one.layer for one in own)

    def axes(self, texts: Sequence[LabelledText], method: FitMethod) -> PlaceAxes:
        new = list({text.text: text for text in texts if text.text not in self._seen}.values())
        if new:
            site = self._direction.site
            states = sentence_states(self._model, new, [site], self._progress)[site].values
            for k, text in enumerate(new):
                self._seen[text.text] = states[self._layers, k].clone()
        values = torch.stack([self._seen[text.text] for text in texts], dim=1)
        labels = torch.tensor([text.label for text in texts], dtype=torch.bool)
        return axes(method, values, labels, [text.group for text in texts])


class _Draws:
    """Vectors with the covariance of states that are seen once: sums of them with random weights."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._generator = n, rng(seed, "covariance nulls")
        self._weighted: Tensor | float = 0.0
        self._weights: Tensor | float = 0.0
        self._sum: Tensor | float = 0.0
        self._count = 0

    def add(self, states: Float[Tensor, "place row d_model"]) -> None:
        drawn = self._generator.standard_normal((self._n, states.shape[1]))
        weights = torch.from_numpy(drawn).to(states)
        self._weighted = self._weighted + weights @ states
        self._weights = self._weights + weights.sum(1)
        self._sum = self._sum + states.sum(1)
        self._count += states.shape[1]

    def vectors(self) -> dict[str, PlaceAxes]:
        if not self._n:
            return {}
        assert isinstance(self._sum, Tensor)  # there is at least one pair
        assert isinstance(self._weights, Tensor)
        assert isinstance(self._weighted, Tensor)
        mean = self._sum / self._count
        found = self._weighted - self._weights[:, None] * mean[:, None]
        unit = torch.nn.functional.normalize(found, dim=-1).cpu()
        return {f"covariance {k + 1}": unit[:, k] for k in range(self._n)}


def _oracles(grams: Mapping[int, Tensor], k: int) -> Float[Tensor, "group place k d_model"]:
    """Of every group the leading eigenvectors of the group that it shares nothing with."""
    some = next(iter(grams.values()))
    found = torch.full((4, len(some), k, some.shape[-1]), float("nan"))
    single = not any(group % 2 for group in grams)  # one wording: only the items are others
    for group in grams:
        donor = 2 - group if single else 3 - group
        if donor in grams:
            found[group] = torch.stack([_leading(one, k) for one in grams[donor].cpu()])
    return found


def _leading(gram: Float[Tensor, "d_model d_model"], k: int) -> Float[Tensor, "k d_model"]:
    d = len(gram)
    _, vectors = eigh(gram.double().numpy(), subset_by_index=[d - k, d - 1])
    return torch.from_numpy(vectors[:, ::-1].T.copy()).float()
