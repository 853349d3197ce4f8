"""From sentences to states, and from states to a direction: the steps that all fits share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from threadpoolctl import threadpool_limits
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import Site, States, read_sites
from interp.data.catalogue import dataset_hash
from interp.data.items import LabelledText
from interp.data.labels import require_both_labels
from interp.directions.direction import DirectionFacts, DirectionStack
from interp.directions.methods import FitMethod, Labels, axes, class_units
from interp.directions.scores import folds, score_and_null
from interp.models import model_card
from interp.prompts import sentence_ids


def fit_states(
    states: States,
    labels: Labels,
    groups: Sequence[str],
    facts: DirectionFacts,
    n_folds: int,
    n_shuffles: int,
    seed: int,
) -> DirectionStack:
    """One direction per layer from states that were read before.

    Raises:
        InterpError: see :func:`interp.directions.fit_direction`.
    """
    # small systems: a second thread costs more in waking than it computes
    with threadpool_limits(limits=1):
        vectors = axes(facts.method, states.values, labels, groups)
        scales, offsets = class_units(states.values, labels, vectors)
        auc, shuffled = score_and_null(
            facts.method,
            states.values,
            labels,
            groups,
            n_folds=n_folds,
            n_shuffles=n_shuffles,
            seed=seed,
        )
    return DirectionStack(
        vectors, scales, offsets, states.layers, states.site, facts, auc, shuffled
    )


def labels_and_groups(texts: Sequence[LabelledText], n_folds: int) -> tuple[Labels, list[str]]:
    """Labels and group names of texts that can be fitted and split.

    Raises:
        InterpError: one label only, or too few groups.
    """
    require_both_labels(texts)
    labels = torch.tensor([text.label for text in texts], dtype=torch.bool)
    groups = [text.group for text in texts]
    folds(labels, groups, n_folds)  # refuses what cannot be split
    return labels, groups


def sentence_states(
    model: TransformerBridge, texts: Sequence[LabelledText], sites: Sequence[Site], progress: bool
) -> dict[Site, States]:
    """States of the last token of every sentence, at every layer of some sites."""
    return read_sites(model, sentence_ids(model, texts), sites=sites, progress=progress)


def facts_of(
    model: TransformerBridge, texts: Sequence[LabelledText], method: FitMethod
) -> DirectionFacts:
    """How a direction of these texts on this model is made."""
    card = model_card(model)
    return DirectionFacts(
        method=method,
        source=", ".join(dict.fromkeys(text.source for text in texts)),
        data_hash=dataset_hash(texts),
        n_texts=len(texts),
        fingerprint=card.fingerprint,
        mode=card.mode,
    )
