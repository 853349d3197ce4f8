"""Sentences of random tokens, and a tiny random model that they move: data sets without end for nulls.

A wording is four random words, so that wordings are drawn from a population that has no end and no
moral; an item is a context, a question and three options. The better answer and the worse one are the
same two words in every item (as yes and no), so that a wording can favour one of them in all items
alike. The model has three layers and random weights, large enough that every word has an effect far
above rounding. Nothing in it knows of instructions: whatever a card finds of a wording against another
is chance. :func:`spread` says how much its margins vary over wordings and items: a model that wordings
do not move would pass every test.

Words are numbers of tokens, also in the texts of items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import native
from transformer_lens.model_bridge.sources.native import initialize_native_model

from interp.data import Choice, ChoiceItem
from interp.models import Provenance
from interp.models.card import attach_card
from interp.prompts import Placement, PromptPair, make_pair
from interp.superficiality.behaviour import METRICS
from interp.superficiality.rows import READINGS
from interp.superficiality.sides import residual_names

BOS, PREFIX, N_WORDS = 0, 1, 96

WORDS = {
    "instruction": range(2, 42),
    "context": range(42, 66),
    "question": range(66, 82),
    "third": range(84, 96),
}
"""The words that each part of a prompt is drawn from."""

ANSWERS = (82, 83)
"""The better answer and the worse one."""

LENGTHS = {"instruction": 4, "context": 3, "question": 2, "options": 3}
"""Words of each part of a prompt; BOS stands before them, the answer prefix behind."""

REPLY = 8
"""Words of a greedy reply."""

WEIGHT_SD = 0.3

Wordings = Int[Tensor, "wording word"]


def random_model(seed: int = 0) -> TransformerBridge:
    """Three layers, four heads, LayerNorm; all matrices normal with standard deviation .3."""
    length = 2 + sum(LENGTHS.values()) + REPLY
    shape = {"d_model": 32, "n_layers": 3, "n_heads": 4, "d_head": 8, "d_mlp": 64}
    words = {"d_vocab": N_WORDS, "d_vocab_out": N_WORDS, "n_ctx": length}
    made = {"act_fn": "gelu", "normalization_type": "LN", "init_weights": False}
    model = native.boot({**shape, **words, **made}, model_name="random")
    initialize_native_model(model.original_model, model.cfg, seed)  # norms and biases
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.original_model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, WEIGHT_SD, generator=generator)
    model.eval()
    attach_card(model, Provenance("random", f"normal weights, seed {seed}", "none"))
    return model


def draw_items(rng: np.random.Generator, n_items: int) -> tuple[ChoiceItem, ...]:
    """Items of random words; two after each other share their question and are one cluster."""

    def some(part: str, n: int) -> list[int]:
        return list(rng.choice(WORDS[part], n, replace=False))

    items, question = [], ""
    for k in range(n_items):
        if k % 2 == 0:
            question = _text(some("question", LENGTHS["question"]))
        choices = tuple(Choice(str(word), "other") for word in (*ANSWERS, *some("third", 1)))
        context = _text(some("context", LENGTHS["context"]))
        items.append(
            ChoiceItem(
                id=f"i{k}",
                benchmark="random words",
                category="random words",
                context=context,
                question=question,
                choices=choices,
                gold=0,
                context_condition="plain",
                cluster=f"c{k // 2}",
            )
        )
    return tuple(items)


def _text(words: Sequence[int]) -> str:
    return " ".join(map(str, words))


def draw_wordings(rng: np.random.Generator, n_wordings: int) -> Wordings:
    """So many different wordings."""
    found: dict[tuple[int, ...], None] = {}
    while len(found) < n_wordings:
        found[tuple(rng.choice(WORDS["instruction"], LENGTHS["instruction"]).tolist())] = None
    return torch.tensor(list(found))


def prompt_ids(
    items: Sequence[ChoiceItem],
    wordings: Wordings,
    *,
    placement: Placement = "before",
    order: int = 0,
) -> Int[Tensor, "item pos"]:
    """BOS, instruction, context, question (or the instruction behind them), options, prefix.

    ``wordings``: one for each item.
    """
    asked = torch.tensor([[*_words(item.context), *_words(item.question)] for item in items])
    options = torch.tensor([[int(choice.text) for choice in item.choices] for item in items])
    parts = [wordings, asked] if placement == "before" else [asked, wordings]
    ends = (torch.full((len(items), 1), word) for word in (BOS, PREFIX))
    first, last = ends
    return torch.cat([first, *parts, options.roll(-order, dims=1), last], dim=1)


def _words(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def spans_of(placement: Placement) -> dict[str, slice]:
    """The parts of a prompt."""
    names = list(LENGTHS)
    if placement == "after":
        names = ["context", "question", "instruction", "options"]
    found, start = {}, 1
    for name in names:
        found[name] = slice(start, start + LENGTHS[name])
        start += LENGTHS[name]
    return found | {"answer_prefix": slice(start, start + 1)}


@torch.no_grad()
def option_logits(
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    wordings: Wordings,
    *,
    placement: Placement = "before",
    order: int = 0,
) -> Float[Tensor, "item wording option"]:
    """What the model says of every item's options behind every wording."""
    n = len(wordings)
    every = [item for item in items for _ in range(n)]
    ids = prompt_ids(every, wordings.repeat(len(items), 1), placement=placement, order=order)
    logits = model(ids)[:, -1].double()
    options = torch.tensor([[int(choice.text) for choice in item.choices] for item in every])
    return logits.gather(-1, options).reshape(len(items), n, -1)


def read_behaviour(
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    sides: Mapping[str, Wordings],
    *,
    placement: Placement = "before",
) -> pd.DataFrame:
    """The table of behaviour: columns :data:`~interp.superficiality.rows.READINGS`.

    Options are single words, of which option margin and margin are the same.
    """
    frames = []
    for side, wordings in sides.items():
        logits = option_logits(model, items, wordings, placement=placement)
        margin = logits[..., 0] - logits[..., 1]
        values = dict(zip(METRICS, (margin, margin, logits.softmax(-1)[..., 0]), strict=True))
        for metric, own in values.items():
            wide = pd.DataFrame(own.numpy()).assign(item=[item.id for item in items])
            long = wide.melt(id_vars="item", var_name="slot", value_name="value")
            frames.append(long.assign(side=side, metric=metric, slot=long["slot"].astype(int)))
    frame = pd.concat(frames, ignore_index=True)
    clusters = {item.id: item.cluster for item in items}
    return frame.assign(context="", cluster=frame["item"].map(clusters))[list(READINGS)]


def pairs_of(
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    corrected: Wordings,
    placebo: Wordings,
    slots: Sequence[int],
    *,
    placement: Placement = "before",
) -> list[PromptPair]:
    """corrected -> placebo of every item with the wordings of its slot."""
    found, spans = [], spans_of(placement)
    sources, destinations = (
        prompt_ids(items, side[list(slots)], placement=placement) for side in (corrected, placebo)
    )
    for item, slot, *ids in zip(items, slots, sources, destinations, strict=True):
        pair = make_pair(model, *ids, target=ANSWERS, spans=spans)
        found.append(replace(pair, item=item, wording=str(slot)))
    return found


@torch.no_grad()
def states_of(
    model: TransformerBridge, pairs: Sequence[PromptPair]
) -> Float[Tensor, "pair side pos layer d_model"]:
    """The residual stream of both prompts of every pair, the corrected one first.

    ``layer`` runs to n_layers: the last entry is the final stream.
    """
    ids = torch.stack([p.ids for pair in pairs for p in (pair.source, pair.destination)])
    kept: list[Tensor] = []
    hooks = [
        (name, lambda states, hook: kept.append(states.clone())) for name in residual_names(model)
    ]
    model.run_with_hooks(ids, fwd_hooks=hooks)
    return torch.stack(kept, dim=3).unflatten(0, (len(pairs), 2)).transpose(-1, -2)


def spread(model: TransformerBridge, *, seed: int = 0) -> dict[str, float]:
    """Standard deviations of the margin, nats: between wordings, between items, of the rest."""
    rng = np.random.default_rng(seed)
    logits = option_logits(model, draw_items(rng, 200), draw_wordings(rng, 100))
    margins = (logits[..., 0] - logits[..., 1]).numpy()
    of_items, of_wordings = margins.mean(1), margins.mean(0)
    rest = margins - of_items[:, None] - of_wordings + margins.mean()
    # the mean over items of a wording still has a share of the rest
    between = max(float(of_wordings.var(ddof=1) - rest.var() / len(margins)), 0.0)
    return {
        "wordings": between**0.5,
        "items": float(of_items.std(ddof=1)),
        "wording x item": float(rest.std()),
    }
