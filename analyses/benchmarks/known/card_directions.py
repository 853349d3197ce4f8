"""The direction's verdict on trained models, by rule 5; nothing here opens a truth.

The direction is learned from the task's labelled sentences, at the content's position, right labels or
wrong ones. What it is an instrument *of* is what the model's own judges say of a content without an
instruction: in two folds, statements are of contents that the fold's direction was not fitted on. Null
directions are fitted alike on random splits of the contents that go with no label, and drawn with the
covariance of the states; spans are made of other fits of the same labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.cards import ASKED, CONTENT, NEGATED, PLACEBO, AskedModel
from interp.activations import States
from interp.data import LabelledText
from interp.directions import DirectionStack
from interp.directions.fitting import facts_of, fit_states
from interp.directions.methods import FitMethod, axes
from interp.errors import InterpError
from interp.known import ToyTask
from interp.known.task import CONTENT as AT
from interp.known.task import CONTENTS, JUDGES, NOTES, OTHERS
from interp.prompts import PromptPair, make_pair
from interp.stats import rng
from interp.superficiality import (
    Finding,
    Statement,
    fit_subspaces,
    instrument_finding,
    measure_instrument,
    measure_mediation,
    measure_representation,
    mediation_findings,
    representation_findings,
)
from interp.superficiality.instrument import instrument_check
from interp.superficiality.subspaces import PlaceAxes

N_SPLITS = 12
"""Random splits of the contents that null directions are fitted on."""

EVERY = 17
"""Of the labelled sentences so many are passed over: every content, placebo and query in turn."""

STATEMENTS = 8
"""Pairs of statements in each fold, one that the judge answers one way and one the other way."""

SHIFTED = 16
"""Items whose shifts are read: every content once."""

COVARIANCE = "covariance"
"""How the names of null directions that are drawn with the states' covariance begin."""

METHODS: tuple[FitMethod, ...] = ("mean_difference", "lda")


@dataclass(frozen=True)
class LabelledStates:
    """States of labelled sentences where their content stands, every layer."""

    model: TransformerBridge
    states: States
    labels: Float[Tensor, " sentence"]
    contents: tuple[str, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, model: TransformerBridge, task: ToyTask) -> LabelledStates:
        """Read them, in one batch: all prompts have one length."""
        ids, labels, contents = task.sentences()
        some = list(range(0, len(ids), EVERY))
        layers = tuple(range(int(model.cfg.n_layers)))
        names = [f"blocks.{layer}.hook_resid_post" for layer in layers]
        _, cache = model.run_with_cache(torch.stack([ids[k] for k in some]), names_filter=names)
        states = States(torch.stack([cache[name][:, AT] for name in names]), layers, "resid_post")
        return cls(model, states, labels[some], tuple(contents[k] for k in some))

    def among(self, contents: Sequence[str]) -> list[int]:
        """The sentences of some contents."""
        return [k for k, content in enumerate(self.contents) if content in contents]

    def direction(self, rows: Sequence[int], seed: int) -> DirectionStack:
        """The mean difference of some sentences, a vector per layer; the layer of the best AUC."""
        states = States(self.states.values[:, rows], self.states.layers, self.states.site)
        labels, groups = self.labels[list(rows)], self._pairs(rows)
        texts = [
            LabelledText("-", int(y > 0), g, "toy") for y, g in zip(labels, groups, strict=True)
        ]
        facts = facts_of(self.model, texts, "mean_difference")
        return fit_states(states, labels > 0, groups, facts, min(3, len(set(groups))), 0, seed)

    def _pairs(self, rows: Sequence[int]) -> list[str]:
        """Groups of sentences: a content of either label in each, so that every fold holds both."""
        rank: dict[str, int] = {}
        of_label: dict[float, int] = {}
        for k in rows:
            if self.contents[k] not in rank:
                label = float(self.labels[k])
                rank[self.contents[k]] = of_label[label] = of_label.get(label, -1) + 1
        n = min(of_label.values()) + 1  # of unequal numbers the last group has more
        return [str(min(rank[self.contents[k]], n - 1)) for k in rows]

    def axes(
        self, rows: Sequence[int], method: FitMethod, labels: Tensor | None = None
    ) -> PlaceAxes:
        """Unit vectors of another fit, a row per layer."""
        chosen = (self.labels if labels is None else labels)[list(rows)] > 0
        groups = [self.contents[k] for k in rows]
        found: PlaceAxes = axes(method, self.states.values[:, rows], chosen, groups)
        return found


@dataclass(frozen=True, eq=False)
class MeasuredDirection:
    """The tables of the rows: instrument, shifts under both instructions, and exchanges."""

    instrument: pd.DataFrame
    shifts: pd.DataFrame
    negated: pd.DataFrame
    mediation: pd.DataFrame

    def findings(self, *, covariance: bool = True) -> list[Finding]:
        """Instrument, representation and mediation.

        ``covariance`` False: null directions are the contrasts alone. States of models of a few
        variables differ most along these, so that vectors with their covariance may be the concept.
        """
        read, runs = self.instrument, self.mediation
        if not covariance:
            read = read[~read["name"].str.startswith(COVARIANCE)]
            runs = runs[~runs["run"].str.contains(f" {COVARIANCE} ")]
        instrument = instrument_finding(read)
        check = instrument_check(instrument)
        return [
            instrument,
            *representation_findings(self.shifts, negated=self.negated, instrument=check),
            *mediation_findings(runs, instrument=check),
        ]


def measure_direction(asked: AskedModel) -> MeasuredDirection:
    """What the rows of a trained model's own direction are made of.

    Raises:
        InterpError: judges that say the same of all contents.
    """
    assert isinstance(asked.task, ToyTask)
    model, task, seed = asked.model, asked.task, asked.task.seed
    labelled = LabelledStates.of(model, task)
    every, splits = labelled.among(list(task.labels)), _splits(task)
    folds = [set(_fold(task, k)) for k in (0, 1)]
    some = [*folds, *({c for c, side in split.items() if side > 0} for split in splits)]
    parts = [every, *(labelled.among(sorted(contents)) for contents in some)]
    direction = labelled.direction(every, seed)
    shifts, negated = (
        measure_representation(
            model,
            [_pair(asked, k, kind) for k in range(SHIFTED)],
            direction,
            components=(direction.site,),
            content=CONTENT,
            clusters=asked.clusters[:SHIFTED],
        )
        for kind in (ASKED, NEGATED)
    )
    change = np.flatnonzero(asked.to_change).tolist()
    pairs, clusters = [asked.pair(k) for k in change], [asked.clusters[k] for k in change]
    spaces = fit_subspaces(
        model,
        pairs,
        direction,
        family=[labelled.axes(rows, method) for rows in parts for method in METHODS],
        nulls=_nulls(labelled, every, splits),
        content=CONTENT,
        clusters=clusters,
        seed=seed,
    )
    return MeasuredDirection(
        pd.concat(
            _instrument(labelled, task, fitted, held_out, splits, seed)
            for fitted, held_out in (folds, folds[::-1])
        ),
        shifts,
        negated,
        measure_mediation(model, pairs, spaces, content=CONTENT, clusters=clusters),
    )


def _pair(asked: AskedModel, number: int, kind: str) -> PromptPair:
    slot = number % len(asked.words[kind])
    source, destination = (
        asked.task.ids((asked.words[one][slot], *asked.items[number])) for one in (kind, PLACEBO)
    )
    target, spans = asked.targets[number], asked.task.spans
    return make_pair(asked.model, source, destination, target=target, spans=spans)


def _fold(task: ToyTask, which: int) -> list[str]:
    """Half of the contents, as many of either label as there are."""
    order = rng(task.seed, "folds", task.name).permutation(len(CONTENTS))
    by_label: dict[float, list[str]] = {}
    for k in order:
        by_label.setdefault(task.labels.get(CONTENTS[k], 0.0), []).append(CONTENTS[k])
    return [content for own in by_label.values() for content in own[which::2]]


def _splits(task: ToyTask) -> list[dict[str, float]]:
    """Random halves of the contents of either label, in either fold: contrasts that go with no label."""
    generator, found = rng(task.seed, "splits", task.name), []
    for _ in range(N_SPLITS):
        split: dict[str, float] = {}
        for label, fold in product((1.0, -1.0), (0, 1)):
            own = [content for content in _fold(task, fold) if task.labels.get(content) == label]
            for rank, k in enumerate(generator.permutation(len(own))):
                split[own[k]] = 1.0 if rank % 2 else -1.0
        found.append(split)
    return found


def _nulls(
    labelled: LabelledStates, rows: Sequence[int], splits: Sequence[dict[str, float]]
) -> dict[str, PlaceAxes]:
    found = {}
    for k, split in enumerate(splits):
        labels = torch.tensor([split[content] for content in labelled.contents])
        found[f"split {k + 1}"] = labelled.axes(rows, "mean_difference", labels)
    return found


def _instrument(
    labelled: LabelledStates,
    task: ToyTask,
    fitted: set[str],
    held_out: set[str],
    splits: Sequence[dict[str, float]],
    seed: int,
) -> pd.DataFrame:
    """What a direction of some contents reads of statements of the others, and whether judges follow."""
    rows = labelled.among(sorted(fitted))
    direction = labelled.direction(rows, seed)
    own = direction.layers.index(direction.best_layer)
    contrasts = {name: vectors[own] for name, vectors in _nulls(labelled, rows, splits).items()}
    found = measure_instrument(
        labelled.model,
        statements_of_judges(labelled.model, task, sorted(held_out)),
        direction,
        contrasts=contrasts,
        seed=seed,
    )
    return found


@torch.no_grad()
def statements_of_judges(
    model: TransformerBridge, task: ToyTask, contents: Sequence[str]
) -> list[Statement]:
    """Pairs of contents that a judge answers differently, as he does without an instruction.

    Raises:
        InterpError: he says the same of all.
    """
    yes, no = task.target
    judged = {}
    for content in contents:
        ids = torch.stack([task.ids((n, content, OTHERS[0], JUDGES[0])) for n in NOTES])
        logits = model(ids)[:, -1]
        judged[content] = float((logits[:, yes] - logits[:, no]).mean())
    sides = [[c for c in contents if (judged[c] > 0) == fair] for fair in (False, True)]
    if not all(sides):
        raise InterpError(f"{task.name}, seed {task.seed}: the judge says the same of all contents")
    found = []
    for k in range(STATEMENTS):
        for fair, own in enumerate(sides):
            content = own[k % len(own)]
            prompt = (NOTES[k % len(NOTES)], content, OTHERS[k % len(OTHERS)], JUDGES[0])
            item = f"{sides[0][k % len(sides[0])]}, {sides[1][k % len(sides[1])]}, {k}"
            found.append(
                Statement(
                    ids=task.ids(prompt),
                    stated=AT,
                    fair=bool(fair),
                    item=item,
                    cluster=content,
                    category=content,
                    polarity="",
                    target=(yes, no),
                )
            )
    return found
