"""Measuring a card: behaviour of all items, patched runs of some, with the instruction first.

What is measured becomes tidy tables, and :func:`interp.superficiality.scorecard.card_of` makes the card
of them; a study saves the tables and makes the same card of what it saved.

Cost: for behaviour one prompt per text, placement and order; for the causal rows some twenty full runs
per item. The rows along a direction take some thirty more, those behind the route some eighty for each
of their few items.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.data import ChoiceItem
from interp.directions import Direction, DirectionStack
from interp.errors import InterpError
from interp.models import model_card, untrained_copy
from interp.prompts import Placement, PromptPair, TextBank, pair_of_conditions
from interp.prompts.align import EQUAL_LENGTHS
from interp.stats import MIN_WORDINGS
from interp.superficiality.behaviour import asked_texts, measure_behaviour
from interp.superficiality.direction_rows import measure_direction_rows
from interp.superficiality.further import (
    FurtherBench,
    measure_further,
    measure_states,
    needs_states,
)
from interp.superficiality.groups import FURTHER, FURTHER_ITEMS, FurtherRows, require_further
from interp.superficiality.routes import (
    CORRECTED,
    PLACEBO,
    content_shift,
    donated_shift,
    measure_routes,
)
from interp.superficiality.scorecard import Scorecard, card_of, low_items
from interp.superficiality.subspaces import direction_axes

CAUSAL_ITEMS = 60
"""Items of the causal rows where nothing else is asked for."""

UNTRAINED_ITEMS = 12
"""Items that the untrained copy is asked."""


def superficiality(
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    condition: str = "instructed",
    *,
    texts: int = MIN_WORDINGS,
    orders: int = 1,
    causal_items: int = CAUSAL_ITEMS,
    untrained_items: int = UNTRAINED_ITEMS,
    further: Sequence[FurtherRows] = FURTHER,
    further_items: int = FURTHER_ITEMS,
    direction: DirectionStack | Direction | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Scorecard:
    """Is the effect of an instruction superficial? The scorecard of a model and some items.

    Args:
        model: a bridge in evaluation mode.
        items: choice items of one data set.
        condition: whose texts are contrasted with placebos of their token counts.
        texts: wordings a side; a claim takes six.
        orders: cyclic orders of the options that behaviour is a mean over, at most; patched runs have
            the first.
        causal_items: the first so many items are patched, each with one of the wordings in turn.
        untrained_items: of these, so many are asked of an untrained copy; 0 leaves that check out.
        further: the groups of rows behind the route (:mod:`interp.superficiality.further`); () leaves
            them out.
        further_items: so many of the patched items are in those of them that cost most.
        direction: of this model, in the residual stream (:func:`interp.fit_direction`): adds the rows
            that ask what lies along it, and a second verdict. The instrument check, its nulls and its
            family are made of bundled items and sentences.
        seed: of the draws of wordings and placebos.
        progress: show a bar.

    Raises:
        InterpError: no items, an unknown condition, pairs of which none align by index, or a direction
            of another model or site.

    Example:
        >>> card = interp.superficiality(model, items)                     # doctest: +SKIP
        >>> print(card.verdict)                                             # doctest: +SKIP
    """
    if not items:
        raise InterpError("superficiality: no items: the list is empty")
    if orders < 1 or min(causal_items, further_items) < 2 or untrained_items < 0:
        raise InterpError(
            f"superficiality: orders is {orders}, causal_items {causal_items}, further_items "
            f"{further_items}, untrained_items {untrained_items}: ask in at least 1 order, patch at "
            "least 2 items, and ask 0 or more of an untrained copy"
        )
    require_further(tuple(further))
    if direction is not None:  # refused before anything is measured
        direction.require(model)
        direction_axes(direction)
    bank = TextBank(model.tokenizer, require_match=0, n_ctx=model.cfg.n_ctx, seed=seed)
    placements: tuple[Placement, ...] = ("before", "after")
    rows: dict[Placement, list[pd.DataFrame]] = {placement: [] for placement in placements}
    for item in tqdm(items, desc="behaviour", disable=not progress):
        words = asked_texts(bank, item, condition, texts)
        for placement in placements:
            found = measure_behaviour(model, item, words, placement=placement, orders=orders)
            rows[placement].append(found)
    readings, after = (pd.concat(rows[placement]) for placement in placements)
    pairs = causal_pairs(model, bank, items[:causal_items], condition, texts)
    asked = [pair.item for pair in pairs if pair.item is not None]
    low = low_items(readings, [item.id for item in asked])
    donated = donated_shift(
        torch.stack([content_shift(model, pair) for pair in pairs]),
        [item.cluster for item in asked],
        [item.id not in low for item in asked],
    )
    bar = tqdm(list(zip(pairs, donated, strict=True)), desc="causal rows", disable=not progress)
    runs = pd.concat([measure_routes(model, [pair], shifts=[shift]) for pair, shift in bar])
    untrained, copy = None, untrained_copy(model, seed) if untrained_items else None
    if copy is not None:
        untrained = measure_routes(copy, pairs[:untrained_items], onset=False)
    states = None
    if needs_states(further):
        states = measure_states(model, bank, pairs, condition, progress=progress)
    given = (model, bank, condition, texts, tuple(pairs), further_items, states, seed)
    bench = FurtherBench(*given, untrained=copy, untrained_pairs=untrained_items)
    along = None
    if direction is not None:
        along = measure_direction_rows(
            model,
            bank,
            items,
            pairs,
            condition,
            direction,
            n_texts=texts,
            untrained=copy,
            untrained_items=untrained_items,
            states=states,
            seed=seed,
            progress=progress,
        )
    return card_of(
        readings,
        runs,
        after=after,
        untrained=untrained,
        further=measure_further(bench, runs, further, progress=progress),
        seed=seed,
        direction=along,
        title=f"{model_card(model).name}, {condition!r} on {len(items)} items",
    )


def causal_pairs(
    model: TransformerBridge,
    bank: TextBank,
    items: Sequence[ChoiceItem],
    condition: str,
    n_texts: int,
) -> list[PromptPair]:
    """corrected -> placebo of every item with one of the wordings in turn, the instruction first.

    Items without two options that a token tells apart, and pairs that do not align by index, are left
    out.

    Raises:
        InterpError: none is left.
    """
    found, unaligned = [], 0
    for number, item in enumerate(items):
        slot = number % n_texts
        texts = asked_texts(bank, item, condition, n_texts)
        pair = pair_of_conditions(
            model, item, texts[CORRECTED][slot], texts[PLACEBO][slot], placement="before"
        )
        if not pair.alignment.by_index:
            unaligned += 1
        elif pair.target is not None:
            found.append(pair)
    if not found:
        raise InterpError(
            f"no pair of {len(items)} items can be patched ({unaligned} do not align by index, the rest "
            f"have no two options that a token tells apart): {EQUAL_LENGTHS}"
        )
    return found
