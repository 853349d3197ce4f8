"""Pairs of the toy task of trained models, the instruction first, and of items on a tiny model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from interp.activations import read_states
from interp.data import LabelledText, load_items, load_texts
from interp.directions import DirectionStack, fit_direction
from interp.directions.fitting import facts_of, fit_states
from interp.known import ToyTask, load_trained
from interp.known.task import ASKS, CONTENTS, NOTES, OTHERS, QUERIES
from interp.known.task import CONTENT as CONTENT_AT
from interp.prompts import PromptPair, TextBank, make_pair

CONTENT = ("content", "other")


def toy_pairs(
    name: str, seed: int = 0, *, n: int = 16, words: Sequence[str] = ASKS
) -> tuple[Any, ToyTask, list[PromptPair], list[str]]:
    """Model, task, pairs ``words -> note`` whose better answer is the asked one, and clusters."""
    model, task = load_trained(name, seed)
    yes, no = task.target
    pairs, clusters = [], []
    every = list(product(OTHERS, QUERIES, CONTENTS))
    for k in range(n):
        other, query, content = every[17 * k % len(every)]  # every content, query and word in turn
        target = (yes, no) if int(query[-1]) % 2 else (no, yes)
        ids = [
            task.ids((word, content, other, query))
            for word in (words[k % len(words)], NOTES[k % len(NOTES)])
        ]
        pairs.append(make_pair(model, *ids, target=target, spans=task.spans))
        clusters.append(content)
    return model, task, pairs, clusters


def toy_direction(model: Any, task: ToyTask) -> DirectionStack:
    """The direction of the content's label, fitted on sentences where the content stands."""
    ids, labels, groups = task.sentences()
    some = range(0, len(ids), 17)  # every content, placebo and query in turn
    ids, groups, labels = [ids[k] for k in some], [groups[k] for k in some], labels[list(some)]
    states = read_states(model, ids, positions=[CONTENT_AT] * len(ids), progress=False)
    texts = [LabelledText("-", int(y > 0), g, "toy") for y, g in zip(labels, groups, strict=True)]
    facts = facts_of(model, texts, "mean_difference")
    return fit_states(states, labels > 0, groups, facts, 4, 0, 0)


def tiny_direction(model: Any, site: Any = "resid_post") -> DirectionStack:
    """A direction of a tiny random model, fitted on a few sentences; its best layer means nothing."""
    texts = load_texts("bundled:statements")[:16]
    return fit_direction(model, texts, site=site, n_folds=2, n_shuffles=0, progress=False)


def item_pairs(model: Any, n: int = 2, placement: Any = "before") -> list[PromptPair]:
    """Bundled items, the instruction and a placebo of equal length."""
    bank = TextBank(model.tokenizer, require_match=0)
    items = load_items("bundled", limit=n, seed=0)
    return [make_pair(model, item, "instructed", bank=bank, placement=placement) for item in items]


def margin_by_hooks(model: Any, pair: PromptPair, ids: Any, states: dict[str, Any]) -> float:
    """The margin of a run whose residual stream is set by plain hooks: ``{hook: {position: state}}``."""

    def setter(at: dict[int, Any]) -> Any:
        def hook(activation: Any, hook: Any) -> Any:
            changed = activation.clone()
            for position, state in at.items():
                changed[:, position] = state
            return changed

        return hook

    with torch.no_grad():
        hooks = [(name, setter(at)) for name, at in states.items()]
        logits = model.run_with_hooks(ids[None], fwd_hooks=hooks)[0, -1]
    assert pair.target is not None
    return float(logits[pair.target.a] - logits[pair.target.b])
