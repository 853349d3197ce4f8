"""The rows of a card that need a direction: their tables, measured together, and their findings.

What is measured of which items: shifts along the direction of all, each with one of the wordings in
turn, and of some with the instruction last too; of some with every wording, for the coupling, and
with the negated instruction; exchanges in the pairs that are patched; and statements in the format of
the study, for the instrument check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.data import ChoiceItem
from interp.directions import Direction, DirectionStack
from interp.display import short_repr
from interp.prompts import Placement, PromptPair, TextBank, pair_of_conditions
from interp.superficiality.coupling import coupling_finding
from interp.superficiality.exchanges import (
    DETAILED_PAIRS,
    DIRECTION,
    SPAN_PAIRS,
    Exchange,
    exchanges_of,
    measure_mediation,
)
from interp.superficiality.finding import Finding
from interp.superficiality.instrument import (
    instrument_check,
    instrument_finding,
    measure_instrument,
    statements_of,
)
from interp.superficiality.manifold import measure_manifold, spread
from interp.superficiality.mediation import mediation_findings
from interp.superficiality.removed import measure_removed, removed_finding
from interp.superficiality.representation import (
    SHIFTS,
    measure_representation,
    representation_findings,
)
from interp.superficiality.subspaces import Subspaces, fit_subspaces, fitted_family

OPPOSITE = "negated"
"""The condition that asks for the opposite of ``instructed``."""

OPPOSITE_OF = "instructed"

COUPLED_ITEMS = 16
"""Items whose states are read with every wording, and with the negated instruction."""

AFTER_ITEMS = 40
"""Items whose shifts are read with the instruction last too, where no content can change."""


@dataclass(frozen=True)
class ShiftUnit:
    """An item whose shifts are read: under which condition, with which wordings, where it stands."""

    item: str
    condition: str
    slots: tuple[int, ...]
    placement: Placement = "before"


@dataclass(frozen=True, eq=False)
class DirectionTables:
    """What the findings are made of; see the ``measure_`` functions.

    ``negated`` None: the condition has no opposite. ``untrained``: the direction's exchange in an
    untrained copy. ``removed``: None where no states of statements were read. ``manifold``: of the
    exchange at the direction's own place.
    """

    instrument: pd.DataFrame
    shifts: pd.DataFrame
    coupled: pd.DataFrame
    mediation: pd.DataFrame
    negated: pd.DataFrame | None = None
    untrained: pd.DataFrame | None = None
    removed: pd.DataFrame | None = None
    manifold: pd.DataFrame | None = None

    __repr__ = short_repr


def shift_units(
    items: Sequence[ChoiceItem], condition: str, n_texts: int
) -> dict[str, list[ShiftUnit]]:
    """The units of the tables ``shifts``, ``coupled`` and, where there is an opposite, ``negated``."""
    turn = [(item.id, (number % n_texts,)) for number, item in enumerate(items)]
    some = items[:COUPLED_ITEMS]
    found = {
        "shifts": [
            *(ShiftUnit(i, condition, own) for i, own in turn),
            *(ShiftUnit(i, condition, own, "after") for i, own in turn[:AFTER_ITEMS]),
        ],
        "coupled": [ShiftUnit(item.id, condition, tuple(range(n_texts))) for item in some],
    }
    if condition == OPPOSITE_OF:
        found["negated"] = [ShiftUnit(i, OPPOSITE, own) for i, own in turn[: len(some)]]
    return found


def measure_shifts(
    model: TransformerBridge,
    bank: TextBank,
    item: ChoiceItem,
    unit: ShiftUnit,
    direction: DirectionStack | Direction,
    *,
    n_texts: int,
    own_only: bool = False,
) -> pd.DataFrame:
    """The shifts of one item's pairs along the direction; at its own layer alone where ``own_only``.

    Pairs that do not align by index are left out: an item may give no rows.

    Raises:
        InterpError: an unknown condition, or fewer texts than asked for.
    """
    pairs = list(_pairs(model, bank, item, unit, n_texts))
    at = direction.best if own_only and isinstance(direction, DirectionStack) else direction
    if not pairs:
        none = pd.DataFrame(columns=list(SHIFTS))
        return none.astype({"layer": "int64", "own": "bool", "value": "float64"})
    components = (direction.site,) if own_only else None
    return measure_representation(model, pairs, at, components=components)


def _pairs(
    model: TransformerBridge, bank: TextBank, item: ChoiceItem, unit: ShiftUnit, n_texts: int
) -> Iterator[PromptPair]:
    texts = bank.texts(unit.condition, item, n_texts)
    placebos = bank.placebos(texts)
    for slot in unit.slots:
        pair = pair_of_conditions(
            model, item, texts[slot], placebos[slot], placement=unit.placement
        )
        if pair.alignment.by_index:
            yield pair


def card_subspaces(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    direction: DirectionStack | Direction,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Subspaces:
    """The subspaces that a card exchanges: the family and the contrasts are of bundled sentences."""
    direction.require(model)
    family, contrasts = fitted_family(model, direction, seed=seed, progress=progress)
    return fit_subspaces(model, pairs, direction, family=family, nulls=contrasts, seed=seed)


def measure_exchanges(
    model: TransformerBridge, pairs: Sequence[PromptPair], spaces: Subspaces, number: int
) -> pd.DataFrame:
    """The exchanges of one pair; in the first pairs all settings and null directions too."""
    return measure_mediation(
        model,
        [pairs[number]],
        spaces,
        groups=[spaces.groups[number]],
        exchanges=exchanges_of(spaces, spans=number < SPAN_PAIRS, detailed=number < DETAILED_PAIRS),
    )


def measure_untrained_exchange(
    copy: TransformerBridge, pairs: Sequence[PromptPair], spaces: Subspaces
) -> pd.DataFrame:
    """The direction's exchange alone, in an untrained copy of the model."""
    groups = [0] * len(pairs)
    return measure_mediation(copy, pairs, spaces, groups=groups, exchanges=[Exchange(DIRECTION)])


def measure_own_manifold(
    model: TransformerBridge, pairs: Sequence[PromptPair], spaces: Subspaces
) -> pd.DataFrame:
    """How far off the exchange at the direction's own place is, in the first few pairs."""
    vector = spaces.span[spaces.places.index(spaces.own), 0]
    return measure_manifold(model, spread(pairs), spaces.own, vector=vector)


def measure_card_instrument(
    model: TransformerBridge,
    direction: DirectionStack | Direction,
    spaces: Subspaces,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """The instrument check on bundled items, with the contrasts' directions as nulls."""
    row = spaces.places.index(spaces.own)
    contrasts = {
        name: vectors[row]
        for name, vectors in spaces.nulls.items()
        if not name.startswith("covariance ")
    }
    statements = statements_of(model)
    return measure_instrument(model, statements, direction, contrasts=contrasts, seed=seed)


def measure_direction_rows(
    model: TransformerBridge,
    bank: TextBank,
    items: Sequence[ChoiceItem],
    pairs: Sequence[PromptPair],
    condition: str,
    direction: DirectionStack | Direction,
    *,
    n_texts: int,
    untrained: TransformerBridge | None = None,
    untrained_items: int = 0,
    states: Float[Tensor, "pair run place layer d_model"] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DirectionTables:
    """All tables of the rows that need a direction.

    Args:
        model: a bridge in evaluation mode.
        bank: of the texts.
        items: whose shifts are read.
        pairs: that are patched (:func:`interp.superficiality.measure.causal_pairs`).
        condition: whose texts are contrasted with placebos.
        direction: of this model, in the residual stream.
        n_texts: wordings a side.
        untrained: an untrained copy of the model; None leaves that check out.
        untrained_items: of the pairs, so many are exchanged in it.
        states: of the pairs (:func:`interp.superficiality.further.measure_states`): what every request
            does is removed from the shifts; None leaves that row out.
        seed: of all draws.
        progress: show bars.

    Raises:
        InterpError: a direction of another model or site, or pairs that cannot be patched.
    """
    spaces = card_subspaces(model, pairs, direction, seed=seed, progress=progress)
    by_id = {item.id: item for item in items}
    tables = {}
    for name, units in shift_units(items, condition, n_texts).items():
        bar = tqdm(units, desc=name, disable=not progress)
        read = [
            measure_shifts(
                model,
                bank,
                by_id[unit.item],
                unit,
                direction,
                n_texts=n_texts,
                own_only=name != "shifts",
            )
            for unit in bar
        ]
        tables[name] = pd.concat(read, ignore_index=True)
    bar = tqdm(range(len(pairs)), desc="mediation", disable=not progress)
    exchanged = [measure_exchanges(model, pairs, spaces, number) for number in bar]
    few = pairs[:untrained_items]
    return DirectionTables(
        instrument=measure_card_instrument(model, direction, spaces, seed=seed),
        shifts=tables["shifts"],
        coupled=tables["coupled"],
        negated=tables.get("negated"),
        mediation=pd.concat(exchanged, ignore_index=True),
        untrained=measure_untrained_exchange(untrained, few, spaces)
        if untrained is not None and few
        else None,
        removed=None if states is None else measure_removed(states, pairs, direction),
        manifold=measure_own_manifold(model, pairs, spaces),
    )


def direction_findings(tables: DirectionTables, readings: pd.DataFrame) -> list[Finding]:
    """Instrument, representation, coupling and mediation, each with the instrument's check.

    Raises:
        InterpError: a table without what its row needs.
    """
    instrument = instrument_finding(tables.instrument)
    check = instrument_check(instrument)
    found = representation_findings(tables.shifts, negated=tables.negated, instrument=check)
    if tables.removed is not None:
        found.append(removed_finding(tables.removed, instrument=check))
    found.append(coupling_finding(tables.coupled, readings, instrument=check))
    found += mediation_findings(
        tables.mediation,
        instrument=check,
        untrained=tables.untrained,
        manifold=tables.manifold,
    )
    return [instrument, *found]
