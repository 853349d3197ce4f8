"""Scorecards of models whose way to follow an instruction is known; nothing here opens a truth.

A model is asked all its items under six words that ask for something and under six placebos. Of every
item one answer is what was asked for. Questions of trained models, on items that the placebo prompts
answer otherwise:

- ``asked``: the instruction against placebos, answered by queries;
- ``judged``: the same, answered by judges, which take part in no shortcut: where the stored content
  stays they are not moved;
- ``negated``: the opposite instruction, on the items answered as asked: B < 0.

And of compiled ones, in ten bases: ``asked``, and ``reversed``, the instruction read as asking for the
other answer. Causal rows are measured where there is an effect to explain; other cards end at behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.known import ToyTask, load_known, load_trained
from interp.known.asked import asked_task
from interp.known.asked_task import AskedTask
from interp.known.task import ASKS, CONTENTS, JUDGES, NEGATIONS, NOTES, OTHERS, QUERIES
from interp.prompts import PromptPair, make_pair
from interp.superficiality import (
    Finding,
    Scorecard,
    behaviour_finding,
    content_findings,
    content_shift,
    edge_findings,
    measure_routes,
    onset_finding,
)
from interp.superficiality.routes import donors_of
from interp.superficiality.rows import READINGS
from interp.superficiality.verdict import NOT_IDENTIFIED

CONTENT = ("content", "other")
"""The spans between the instruction and the query."""

N_ITEMS = 32
"""Of a trained model's combinations; every content, query and other word in turn."""

NOISE = 2.0
"""Of the compiled models' bases, all but the first of which are rotated."""

Item = tuple[str, ...]
"""The tokens behind the instruction."""

ASKED, PLACEBO, NEGATED = "asked", "placebo", "negated"


@dataclass(frozen=True)
class AskedModel:
    """A model, its task, and margins of the asked answer: ``[item, word]`` by kind of word.

    ``targets``: token ids of the asked answer and of the other, by item. ``clusters``: the contents.
    ``words``: by kind; items behind them in turn are patched.
    """

    model: TransformerBridge
    task: ToyTask | AskedTask
    items: tuple[Item, ...]
    targets: tuple[tuple[int, int], ...]
    clusters: tuple[str, ...]
    words: Mapping[str, Sequence[str]]
    margins: Mapping[str, np.ndarray]

    @property
    def to_change(self) -> np.ndarray:
        """Which items the placebo prompts answer otherwise than asked."""
        return np.asarray(self.margins[PLACEBO].mean(1) < 0)

    def pair(self, number: int) -> PromptPair:
        """An item under a word that asks, and under a placebo."""
        item, slot = self.items[number], number % len(self.words[ASKED])
        source, destination = (
            self.task.ids((self.words[kind][slot], *item)) for kind in (ASKED, PLACEBO)
        )
        target, spans = self.targets[number], self.task.spans
        return make_pair(self.model, source, destination, target=target, spans=spans)


def ask_trained(
    model: TransformerBridge,
    task: ToyTask,
    queries: Sequence[str] = QUERIES,
    n_items: int = N_ITEMS,
) -> AskedModel:
    """Items under every word. Of each query's two answers the better is what ``ask`` wants."""
    every = list(product(OTHERS, queries, CONTENTS))
    chosen = [every[17 * k % len(every)] for k in range(n_items)]
    items = tuple((content, other, query) for other, query, content in chosen)
    words = {ASKED: ASKS, NEGATED: NEGATIONS, PLACEBO: NOTES}
    yes, no = task.target
    odd = [int(query[-1]) % 2 for *_, query in items]  # every second query is the other way round
    targets = tuple((yes, no) if one else (no, yes) for one in odd)
    return _ask(model, task, items, targets, tuple(content for content, *_ in items), words)


def ask_compiled(name: str, seed: int) -> AskedModel:
    """A compiled model under every word: as compiled (seed 0), or rotated among noise."""
    basis = {"rotated": True, "noise": NOISE, "seed": seed} if seed else {}
    model, _ = load_known(name, **basis)  # type: ignore[arg-type]
    task = asked_task(name)
    words = {ASKED: task.asks, PLACEBO: task.notes}
    targets = (task.target,) * len(task.items)
    return _ask(model, task, task.items, targets, tuple(map(task.content, task.items)), words)


def _ask(
    model: TransformerBridge,
    task: ToyTask | AskedTask,
    items: tuple[Item, ...],
    targets: tuple[tuple[int, int], ...],
    clusters: tuple[str, ...],
    words: Mapping[str, Sequence[str]],
) -> AskedModel:
    margins = {kind: _margins(model, task, items, targets, own) for kind, own in words.items()}
    return AskedModel(model, task, items, targets, clusters, words, margins)


@torch.no_grad()
def _margins(
    model: TransformerBridge,
    task: ToyTask | AskedTask,
    items: Sequence[Item],
    targets: Sequence[tuple[int, int]],
    words: Sequence[str],
) -> np.ndarray:
    ids = torch.stack([task.ids((word, *item)) for item in items for word in words])
    logits = model(ids)[:, -1].reshape(len(items), len(words), -1)
    better, worse = (torch.tensor(one) for one in zip(*targets, strict=True))
    rows = torch.arange(len(items))
    return np.asarray((logits[rows, :, better] - logits[rows, :, worse]).double())


def trained_cards(name: str, seed: int, *, n_items: int = N_ITEMS) -> dict[str, Scorecard]:
    """The cards of all questions of one trained model."""
    model, task = load_trained(name, seed)
    queries, judges = (ask_trained(model, task, own, n_items) for own in (QUERIES, JUDGES))
    control = _Sides(queries, queries.to_change, ASKED)
    found = {
        "asked": asked_behaviour(queries),
        "judged": _behaviour(_Sides(judges, judges.to_change, ASKED), control),
        "negated": _behaviour(_Sides(queries, ~queries.to_change, NEGATED), control),
    }
    return _cards(queries, found, f"{name}, seed {seed}")


def asked_behaviour(asked: AskedModel) -> Finding:
    """The effect of the instruction on the items to change; it is its own control."""
    control = _Sides(asked, asked.to_change, ASKED)
    return _behaviour(control, control)


def compiled_cards(name: str, seed: int) -> dict[str, Scorecard]:
    """The cards of all questions of one compiled model.

    The control names the answer by the content: that of the items whose placebo prompts are nearest to
    the asked answer stands in the place of the item's own.
    """
    asked = ask_compiled(name, seed)
    plain = asked.margins[PLACEBO]
    named = np.broadcast_to(plain[plain.mean(1).argmax()], plain.shape)
    there = AskedModel(**{**vars(asked), "margins": {ASKED: named, PLACEBO: plain}})
    control = _Sides(there, asked.to_change, ASKED)
    found = {
        "asked": _behaviour(_Sides(asked, asked.to_change, ASKED), control),
        "reversed": _behaviour(_Sides(asked, asked.to_change, ASKED, -1.0), control),
    }
    return _cards(asked, found, f"{name}, basis {seed}")


def _cards(asked: AskedModel, behaviour: Mapping[str, Finding], title: str) -> dict[str, Scorecard]:
    cards = {question: Scorecard((one,), title) for question, one in behaviour.items()}
    if cards["asked"].verdict.name == NOT_IDENTIFIED:  # an effect, and nothing that explains it yet
        cards["asked"] = Scorecard((behaviour["asked"], *_causal(asked)), title)
    return cards


def _causal(asked: AskedModel) -> list[Finding]:
    """The causal rows on the items to change; the others are the donors of the shift."""
    pairs = [asked.pair(k) for k in range(len(asked.items))]
    kept = ~asked.to_change
    rows = np.flatnonzero(asked.to_change).tolist()
    shifts = None
    if kept.any():
        donors = donors_of(asked.clusters, kept.tolist())
        given = {
            k: content_shift(asked.model, pairs[k], content=CONTENT)
            for k in np.flatnonzero(kept).tolist()
        }
        shifts = [torch.stack([given[donor] for donor in donors[k]]).mean(0) for k in rows]
    runs = measure_routes(
        asked.model,
        [pairs[k] for k in rows],
        shifts=shifts,
        content=CONTENT,
        clusters=[asked.clusters[k] for k in rows],
    )
    return [*content_findings(runs), *edge_findings(runs), onset_finding(runs)]


@dataclass(frozen=True)
class _Sides:
    """Words of one kind against placebos on some items; ``sign`` -1: the other answer is asked for."""

    asked: AskedModel
    keep: np.ndarray
    kind: str
    sign: float = 1.0

    def rows(self, names: tuple[str, str]) -> list[tuple[object, ...]]:
        return [
            (" ".join(self.asked.items[k]), self.asked.clusters[k], "", side, slot, "margin", value)
            for side, kind in zip(names, (self.kind, PLACEBO), strict=True)
            for k in np.flatnonzero(self.keep)
            for slot, value in enumerate((self.sign * self.asked.margins[kind][k]).tolist())
        ]


def _behaviour(sides: _Sides, control: _Sides) -> Finding:
    """``control``: whose effect says how small an effect counts as none."""
    rows = [
        *sides.rows(("corrected", "placebo")),
        *control.rows(("control", "control_placebo")),
    ]
    return behaviour_finding(pd.DataFrame(rows, columns=list(READINGS)))
