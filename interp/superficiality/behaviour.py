"""Measuring behaviour: the metrics of an item under several texts, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour import score_variants
from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.prompts import Condition, Placement, TextBank
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.rows import CONTROL, CONTROL_PLACEBO, READINGS

NAMES_THE_ANSWER = "revealing"
"""The condition whose effect delta is a tenth of."""

METRICS = ("option_margin", "margin", "p_gold")
"""Of behaviour; the first is the one that is explained."""


def asked_texts(
    bank: TextBank, item: ChoiceItem, condition: str, n_texts: int
) -> dict[str, tuple[Condition, ...]]:
    """The texts of both sides, and of the control that names the answer where the item has one.

    The control takes one wording an item, in turn over the items by their names: only the mean of its
    effect is read, and a text costs as much as one of the instruction.

    Raises:
        InterpError: a condition of several calls or without placebos, or fewer texts than asked for.
    """
    bank.require_single(condition)
    corrected = bank.texts(condition, item, n_texts)
    sides = {CORRECTED: corrected, PLACEBO: bank.placebos(corrected)}
    spec = bank.specs.get(NAMES_THE_ANSWER)
    if spec is not None and spec.fits(item) and condition != NAMES_THE_ANSWER:
        n = min(n_texts, bank.n_texts(NAMES_THE_ANSWER))
        try:
            control = bank.texts(NAMES_THE_ANSWER, item, n)
        except InterpError:  # the item cannot fill a slot of it
            return sides
        own = slice(slot := crc32(item.id.encode()) % n, slot + 1)
        sides |= {CONTROL: control[own], CONTROL_PLACEBO: bank.placebos(control)[own]}
    return sides


def measure_behaviour(
    model: TransformerBridge,
    item: ChoiceItem,
    texts: Mapping[str, Sequence[Condition]],
    *,
    placement: Placement = "before",
    orders: int = 1,
) -> pd.DataFrame:
    """The metrics of an item under every text, mean over the first cyclic orders: columns READINGS.

    ``texts``: of :func:`asked_texts`. ``orders``: how many, at most as many as there are options.
    An item without a contrast of two options has NaN margins.

    Raises:
        InterpError: a prompt beyond the context.
    """
    variants = list(dict.fromkeys(text for side in texts.values() for text in side))
    asked = range(min(orders, len(item.choices)))
    scored = score_variants(model, item, variants, placement=placement, orders=asked)
    n_orders = len(scored) // len(variants)
    means = scored[list(METRICS)].to_numpy(float).reshape(n_orders, len(variants), -1).mean(0)
    row_of = {text: k for k, text in enumerate(variants)}
    rows = [
        (item.id, item.cluster, item.context_condition, side, text.slot, metric, float(value))
        for side, own in texts.items()
        for text in own
        for metric, value in zip(METRICS, means[row_of[text]], strict=True)
    ]
    return pd.DataFrame(rows, columns=list(READINGS))
