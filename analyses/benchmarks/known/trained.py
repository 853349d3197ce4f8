"""Trained models: whether each is what its truth says, and what the methods find in it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.directions import METHODS as FITTING
from analyses.benchmarks.known.position_edges import position_edge_rows
from analyses.benchmarks.known.scored import by_method
from interp.activations import read_states
from interp.directions.methods import axes
from interp.errors import InterpError
from interp.known import ToyTask, TrainedTruth, load_trained, open_truth
from interp.known.arms import NOT_VALID
from interp.known.task import ASKS, CONTENT, CONTENTS, LAYOUT, NOTES, OTHERS, QUERIES
from interp.known.trained_truth import TOLERANCE, VariablePlace, margins_after
from interp.patching import attribute, sweep
from interp.patching.result import SweepResult
from interp.patching.sites import AttributionMethod
from interp.prompts import PromptPair, make_pair
from interp.stats import rng

FIDELITY, SHARES, EDGES, DIRECTIONS = (
    f"{name}.parquet" for name in ("fidelity", "shares", "trained_edges", "trained_directions")
)

EDGE_PAIRS = 40
"""Pairs of any two prompts; one batch."""

LABELLED = 64
"""Sentences of each label that a direction is fitted on."""


def measure_trained(
    names: Sequence[str], *, seeds: int, n_pairs: int, progress: bool = True
) -> dict[str, pd.DataFrame]:
    """By file, fidelity, shares, edges and directions of every model, with ``arm`` and ``seed``."""
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in (FIDELITY, SHARES, EDGES, DIRECTIONS)
    }
    tasks = list(product(names, range(seeds)))
    for name, seed in tqdm(tasks, desc="trained models", disable=not progress):
        model, task = load_trained(name, seed)
        truth = open_truth(name, seed)
        labels = {
            "arm": name,
            "seed": seed,
            "localised": truth.localised,
            "backup": bool(truth.backups),
            "valid": truth.verdict != NOT_VALID,
        }
        rows[FIDELITY].append(labels | fidelity_row(model, task, truth))
        rows[SHARES] += [labels | row for row in share_rows(model, task, truth, n_pairs=n_pairs)]
        edges = position_edge_rows(model, task, truth, n_pairs=EDGE_PAIRS)
        rows[EDGES] += [labels | row for row in edges]
        rows[DIRECTIONS] += [labels | row for row in direction_rows(model, task, truth)]
    return {name: pd.DataFrame(own) for name, own in rows.items()}


def fidelity_row(
    model: TransformerBridge, task: ToyTask, truth: TrainedTruth
) -> dict[str, float | int]:
    """Shares of prompts answered as the program does, and of exchanges after which the model does.

    ``accuracy``: the likeliest token is the program's answer (ties of the program left out).
    ``agreement``: the margin misses the program's by at most .75 nats, a quarter of what the concept is
    worth, and has its sign. ``unseen``: the accuracy on prompts that were not trained; nan without any.
    """
    margins = margins_after(
        model,
        task,
        [one.base for one in truth.interventions],
        [one.source for one in truth.interventions],
        [[truth.places[k] for k in one.exchanged] for one in truth.interventions],
        truth.places,
    )
    expected = torch.tensor([one.margin for one in truth.interventions])
    return {
        "accuracy": _accuracy(model, task, truth.answers),
        "agreement": float(_agree(margins, expected).float().mean()),
        "unseen": _accuracy(model, task, truth.unseen) if truth.unseen else float("nan"),
        "prompts": len(truth.answers),
        "exchanges": len(truth.interventions),
    }


def share_rows(
    model: TransformerBridge, task: ToyTask, truth: TrainedTruth, *, n_pairs: int
) -> list[dict[str, object]]:
    """Per method the share of the instruction's effect that passes content and query behind block 0.

    ``auroc``: of the sizes at the four positions, against those that the program uses.
    """
    pairs = _pairs(model, task, n_pairs)
    sweeps = by_method(model, pairs, exact=_exact, estimate=_attributed)
    found = {method: _shares(result) for method, result in sweeps.items()}
    found["random"] = rng(task.seed, "random shares", task.name).random(len(LAYOUT))
    true = truth.shares or {"content": 1.0, "query": 1.0}
    used = np.array([true.get(role, 0) > 0 for role in LAYOUT[1:]])
    return [
        {
            "method": method,
            "content": float(shares[CONTENT]),
            "query": float(shares[-1]),
            "true_content": float("nan") if truth.shares is None else truth.shares["content"],
            "auroc": float(roc_auc_score(used, np.abs(shares[1:]).round(2))),
        }
        for method, shares in found.items()
    ]


def direction_rows(
    model: TransformerBridge, task: ToyTask, truth: TrainedTruth
) -> list[dict[str, object]]:
    """Per fitting method |cos| with the concept's direction, and agreement of exchanges along it.

    Of the exchanges of the concept after which the program's answer changes, the share after which the
    model gives that answer.
    """
    number = next(k for k, place in enumerate(truth.places) if place.position == CONTENT)
    place = truth.places[number]
    assert place.vector is not None
    ids, labels, contents = task.sentences()
    chosen = _balanced(labels, contents, rng(task.seed, "sentences", task.name))
    states = read_states(
        model,
        [ids[k] for k in chosen],
        positions=[CONTENT] * len(chosen),
        layers=[place.block],
        progress=False,
    ).values
    rows: list[dict[str, object]] = []
    pairs = [str(k // 2) for k in range(len(chosen))]  # one sentence of each label
    fitted = {"true direction": place.vector}
    for name in FITTING:
        with suppress(InterpError):  # states that do not differ have no direction
            fitted[name] = axes(name, states, labels[chosen] > 0, pairs)[0]
    for method, vector in fitted.items():
        along = VariablePlace(place.variable, place.block, place.position, vector)
        agreed = _agreed(model, task, truth, number, along)
        rows.append(
            {
                "variable": place.variable,
                "method": method,
                "cosine": abs(float(vector.float() @ place.vector)),
                "agreement": float(agreed.float().mean()),
                "exchanged": len(agreed),
            }
        )
    return rows


def _accuracy(
    model: TransformerBridge, task: ToyTask, answers: Sequence[tuple[Sequence[str], float]]
) -> float:
    told = [(tokens, margin) for tokens, margin in answers if abs(margin) > 1e-6]
    logits = _last(model, torch.stack([task.ids(tokens) for tokens, _ in told]))
    yes, no = task.target
    expected = torch.tensor([yes if margin > 0 else no for _, margin in told])
    return float((logits.argmax(-1) == expected).float().mean())


def _agree(found: Float[Tensor, " n"], expected: Float[Tensor, " n"]) -> Tensor:
    close = (found - expected).abs() <= TOLERANCE
    return close & ((expected.abs() < 1e-6) | (found.sign() == expected.sign()))


def _pairs(model: TransformerBridge, task: ToyTask, n: int) -> list[PromptPair]:
    """The instructed prompt into the placebo's, of prompts whose answer the instruction turns over.

    Of others a shortcut moves the margin too, and the shares of the effect are different ones.
    """
    every = list(product(CONTENTS, OTHERS, QUERIES))
    asked, plain = (
        torch.stack([task.ids((words[k % len(words)], *rest)) for k, rest in enumerate(every)])
        for words in (ASKS, NOTES)
    )
    yes, no = task.target
    one, other = (
        logits[:, yes] - logits[:, no] for logits in (_last(model, asked), _last(model, plain))
    )
    turned = (one * other < 0) & ((one - other).abs() > TOLERANCE)
    order = rng(task.seed, "pairs", task.name).permutation(len(every))
    return [
        make_pair(model, asked[k], plain[k], target=task.target, spans=task.spans)
        for k in [k for k in order if turned[k]][:n]
    ]


@torch.no_grad()
def _last(
    model: TransformerBridge, ids: Int[Tensor, "prompt pos"]
) -> Float[Tensor, "prompt d_vocab"]:
    """Logits behind the last token."""
    logits: Tensor = model(ids)
    return logits[:, -1]


def _exact(model: TransformerBridge, pairs: Sequence[PromptPair]) -> SweepResult:
    return sweep(
        model, pairs, site="resid_post", cells="layer_pos", positions="all", layers=[0],
        progress=False,
    )  # fmt: skip


def _attributed(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    method: AttributionMethod = "gradient",
    steps: int = 1,
) -> SweepResult:
    return attribute(
        model, pairs, sites=["resid_post"], cells="layer_pos", positions="all",
        method=method, steps=steps, progress=False,
    )["resid_post"]  # fmt: skip


def _shares(result: SweepResult) -> np.ndarray:
    """Mean effect at every position behind block 0, in units of the mean total effect."""
    effects = (result.values - result.baseline)[0]
    total = result.source_baseline - result.baseline
    return ((effects * total.sign()).mean(-1) / total.abs().mean()).numpy()


def _balanced(
    labels: Float[Tensor, " sentence"], contents: Sequence[str], generator: np.random.Generator
) -> list[int]:
    """As many sentences of one label as of the other, one of each in turn, and all contents alike.

    So that no other attribute goes with the labels by chance.
    """
    of_content = pd.Series(generator.permutation(len(contents))).groupby(np.asarray(contents))
    nth = of_content.rank().to_numpy()  # how many of its content a sentence comes after
    order = np.lexsort((generator.permutation(len(contents)), nth))
    drawn = [[k for k in order if labels[k] == sign][:LABELLED] for sign in (1, -1)]
    return [int(k) for pair in zip(*drawn, strict=False) for k in pair]


def _agreed(
    model: TransformerBridge, task: ToyTask, truth: TrainedTruth, number: int, along: VariablePlace
) -> Tensor:
    """Of the exchanges of one place that change the answer: whether those ``along`` it do as they do."""
    alone = [one for one in truth.interventions if one.exchanged == (number,)]
    bases, sources = [one.base for one in alone], [one.source for one in alone]
    expected = torch.tensor([one.margin for one in alone])
    places = [place for place in truth.places if place is not truth.places[number]] + [along]
    own = margins_after(model, task, bases, sources, [[]] * len(alone), places)
    found = margins_after(model, task, bases, sources, [[along]] * len(alone), places)
    changes = (expected - own).abs() > TOLERANCE
    return _agree(found[changes], expected[changes])
