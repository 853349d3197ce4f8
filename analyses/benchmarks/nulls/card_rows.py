"""The rows of a data set (:mod:`.card_sets`), by the card's own functions.

Of two rows the null hypothesis has to be made true: *coupling* reads the behaviour of other wordings
than those whose states it reads, *residue of the old answer* the states of other items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.nulls.card_sets import OTHERS, DataSet, Plant
from analyses.benchmarks.nulls.sentences import (
    REPLY,
    option_logits,
    prompt_ids,
    spans_of,
    states_of,
)
from interp.behaviour.edits import edit_shares
from interp.data import ChoiceItem
from interp.directions import DirectionStack
from interp.prompts import Placement, PromptPair
from interp.stats import MIN_WORDINGS, share
from interp.superficiality import (
    Finding,
    append_finding,
    behaviour_finding,
    content_findings,
    coupling_finding,
    distinguish_finding,
    edge_findings,
    fit_subspaces,
    head_finding,
    measure_heads,
    measure_mediation,
    measure_probes,
    measure_reinjection,
    measure_tokens,
    measure_top_heads,
    mediation_findings,
    polarity_findings,
    probe_finding,
    rank_finding,
    reinjection_finding,
    representation_findings,
    token_findings,
)
from interp.superficiality.append import EDITS
from interp.superficiality.concentration import other_clusters
from interp.superficiality.direction_rows import AFTER_ITEMS, COUPLED_ITEMS
from interp.superficiality.exchanges import DETAILED_PAIRS, exchanges_of
from interp.superficiality.heads import choose_heads
from interp.superficiality.measure import CAUSAL_ITEMS
from interp.superficiality.rank import RANKS_OF
from interp.superficiality.representation import CONTENT, LAST, SHIFTS
from interp.superficiality.residue import probe_directions
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.rows import BEHAVIOUR_AFTER
from interp.superficiality.subspaces import PlaceAxes


def behaviour_rows(data: DataSet, plant: Plant) -> list[Finding]:
    """Behaviour in both placements, polarity, vocabulary; of few: knowing, replies; rank; residue."""
    few, slots = data.few, data.slots(data.few)
    readings = plant.add(data.readings, "side")
    after = plant.add(data.after, "side")
    found = [behaviour_finding(readings), behaviour_finding(after, name=BEHAVIOUR_AFTER)]
    found += polarity_findings(readings, data.against)
    if plant.size:
        return found
    own = data.readings[data.readings["item"].isin([item.id for item in few])]
    of_slot = {item.id: slot for item, slot in zip(few, slots, strict=True)}
    own = own[own["slot"] == own["item"].map(of_slot)]
    return [
        *found,
        distinguish_finding(own),  # its statistic, of another question than the stereotypes'
        append_finding(replies(data)),
        rank_finding(ranks(data)),
        probe_finding(probes_of_others(data)),
    ]


def replies(data: DataSet) -> pd.DataFrame:
    """Greedy replies with the instruction and another placebo against the placebo's: columns EDITS."""
    sides = (PLACEBO, CORRECTED, OTHERS[0])
    slots = data.slots(data.few)
    every = [item for item in data.few for _ in sides]
    wordings = torch.stack([data.sides[side][slot] for slot in slots for side in sides])
    ids = prompt_ids(every, wordings)
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(REPLY):
            ids = torch.cat([ids, data.model(ids)[:, -1:].argmax(-1)], dim=1)
    said = ids[:, start:].reshape(len(data.few), len(sides), -1).tolist()
    rows = []
    for item, slot, (first, *others) in zip(data.few, slots, said, strict=True):
        for against, reply in zip(("instruction", "placebo"), others, strict=True):
            edit = edit_shares(first, reply)
            shares = [edit.kept_prefix, edit.kept_tokens, edit.appended]
            counts = [edit.n_before, edit.n_after, edit.kind]
            key = (item.id, item.cluster, str(slot), against)
            rows.append((*key, *shares, *counts, str(first), str(reply)))
    return pd.DataFrame(rows, columns=list(EDITS))


def ranks(data: DataSet) -> pd.DataFrame:
    """Gold's rank in the clean prompt's place (a further wording) and order 0, gains in the others."""
    items = data.items[:CAUSAL_ITEMS]
    slots = data.slots(items)
    asked = [("clean", OTHERS[0], 0)]
    asked += [(name, side, order) for order in (1, 2) for name, side in
              (("instructed", CORRECTED), (PLACEBO, PLACEBO))]  # fmt: skip
    rows = []
    for condition, side, order in asked:
        logits = option_logits(data.model, items, data.sides[side], order=order)
        for item, slot, own in zip(items, slots, logits, strict=True):
            better, worse, _ = own[slot].tolist()
            rank = 1 + int((own[slot] > own[slot, 0]).sum())
            control_of = "instructed" if condition == PLACEBO else ""
            key = (item.id, item.cluster, condition, control_of, slot, order)
            rows.append((*key, rank, better - worse, rank == 1))
    return pd.DataFrame(rows, columns=list(RANKS_OF))


def probes_of_others(data: DataSet) -> pd.DataFrame:
    """Probes of the old answer that read the corrected states of other items: nothing is left there."""
    items = data.items[:CAUSAL_ITEMS]
    before, after = data.margins(items)
    answers = data.states[:, :, -1].clone()
    order = np.roll(np.arange(len(items)), MIN_WORDINGS)  # another cluster, the same wording
    answers[:, 0] = answers[order, 0]
    wordings = [str(slot) for slot in data.slots(items)]
    return measure_probes(answers, before.tolist(), after[order].tolist(), items, wordings)


def state_rows(data: DataSet, direction: DirectionStack) -> list[Finding]:
    """Representation of the instruction and the negated one, and coupling with others' behaviour."""
    some = data.items[:COUPLED_ITEMS]

    def shifts(pairs: list[PromptPair], placement: Placement = "before") -> pd.DataFrame:
        return read_shifts(data.model, pairs, direction, placement)

    slots = data.slots(data.items)
    later = data.items[:AFTER_ITEMS]
    moved = [
        shifts(data.some_pairs(data.items, slots)),
        shifts(data.some_pairs(later, slots[: len(later)], placement="after"), "after"),
    ]
    negated = shifts(data.some_pairs(some, slots[: len(some)], side="negated"))
    every = [(item, slot) for item in some for slot in range(MIN_WORDINGS)]
    coupled = shifts(data.some_pairs(*map(list, zip(*every, strict=True))))
    others = data.read(some, OTHERS[1:])
    others["side"] = others["side"].map(dict(zip(OTHERS[1:], (CORRECTED, PLACEBO), strict=True)))
    return [
        *representation_findings(pd.concat(moved), negated=negated),
        coupling_finding(coupled, others),
    ]


def read_shifts(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    direction: DirectionStack,
    placement: Placement,
) -> pd.DataFrame:
    """What :func:`~interp.superficiality.measure_representation` reads of the direction's site."""
    states = states_of(model, pairs)[:, :, :, 1:].double()  # resid_post
    axes = torch.stack([one.vector / one.scale for one in direction]).double()
    along = torch.einsum("psrld,ld->psrl", states, axes)
    change = along[:, 0] - along[:, 1]
    spans = spans_of(placement)
    places = {LAST: change[:, -1]}
    if placement == "before":
        rows = slice(spans["context"].start, spans["question"].stop)
        places = {CONTENT: change[:, rows].mean(1), **places}
    found = []
    for k, pair in enumerate(pairs):
        assert pair.item is not None  # pairs are made of items
        for position, values in places.items():
            for one, value in zip(direction, values[k].tolist(), strict=True):
                own = one.layer == direction.best_layer
                key = (pair.item.id, pair.item.cluster, pair.wording, placement, position)
                found.append((*key, direction.site, one.layer, own, value))
    return pd.DataFrame(found, columns=list(SHIFTS))


def has_effect(data: DataSet, items: Sequence[ChoiceItem]) -> bool:
    """Whether shares of the effect in these items' pairs are defined."""
    before, after = data.margins(items)
    total = after - before
    clusters = [item.cluster for item in items]
    return not np.isnan(share(total, total, clusters, data.slots(items)).estimate)


def route_rows(data: DataSet, plant: Plant) -> list[Finding]:
    """The content's rows and the edges'."""
    runs = plant.add(data.runs, "run")
    return [*content_findings(runs, low=data.low), *edge_findings(runs)]


def further_rows(data: DataSet) -> list[Finding]:
    """Tokens, heads and the re-injected answer; none where no share of the effect is defined."""
    if not has_effect(data, data.few):
        return []
    model, pairs = data.model, data.pairs[: len(data.few)]
    states = data.states[: len(pairs)]
    others = other_clusters([item.cluster for item in data.few])
    start = pairs[0].source.span("instruction").stop
    behind = states[:, :, start:].mean(2)
    change = behind[:, 0] - behind[:, 1]
    tokens = measure_tokens(model, pairs, constants=[change[own].mean(0) for own in others])
    heads = measure_heads(model, pairs)
    chosen = choose_heads(heads)
    top = measure_top_heads(model, pairs, [chosen[i.id] for i in data.few], seed=data.seed)
    before, answers = data.margins(data.few)[0], states[:, :, -1]
    directions = [
        probe_directions(answers[own], before[own].tolist(), seed=data.seed) for own in others
    ]
    injected = measure_reinjection(model, pairs, directions)
    return [*token_findings(tokens), head_finding(top, heads), reinjection_finding(injected)]


def mediation_rows(
    data: DataSet, direction: DirectionStack, family: Sequence[PlaceAxes]
) -> list[Finding]:
    """What exchanging the direction's coordinate carries, beside its oracle and null directions.

    ``family``: further directions, which span with it. Spans and null directions are exchanged in as
    many pairs as a card exchanges null directions in.
    """
    spaces = fit_subspaces(data.model, data.pairs, direction, family=family, seed=data.seed)
    few = DETAILED_PAIRS
    parts = [
        measure_mediation(
            data.model,
            data.pairs[own],
            spaces,
            groups=spaces.groups[own],
            exchanges=exchanges_of(spaces, spans=detailed, detailed=detailed),
        )
        for own, detailed in ((slice(few), True), (slice(few, None), False))
    ]
    return mediation_findings(pd.concat(parts, ignore_index=True))
