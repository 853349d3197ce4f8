"""What the units of a card's run are computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from analyses.superficiality.config import SuperficialityConfig
from interp.data import ChoiceItem
from interp.directions import DirectionStack
from interp.prompts import PromptPair, TextBank
from interp.superficiality import Subspaces
from interp.superficiality.further import FurtherBench


@dataclass(frozen=True)
class AlongBench:
    """The direction, and the subspaces that are exchanged in the pairs."""

    direction: DirectionStack
    spaces: Subspaces


@dataclass(frozen=True)
class CardBench:
    """The model, its untrained copy where one is asked, and the pairs that are patched, by item.

    ``shifts [pair, span, layer, d_model]``: the content's mean change of every pair, in their order.
    ``along``: what the rows along a direction take; None without one.
    """

    config: SuperficialityConfig
    model: TransformerBridge
    untrained: TransformerBridge | None
    bank: TextBank
    items: tuple[ChoiceItem, ...]
    pairs: Mapping[str, PromptPair]
    shifts: Tensor
    further: FurtherBench
    along: AlongBench | None = None
