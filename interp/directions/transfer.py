"""Does a direction learned on one data set separate another? Every set is a test of every other.

A direction that reads what its sentences have in common with "moral" transfers; one that reads their
topic, their template or their words does not. The layer is the best one on the training set's own
held-out folds; the diagonal is that held-out score. Every cell also has a bag of words, trained and
tested on the same sentences.

Example::

    sets = {"morality": load_texts("bundled:morality"), "crows": load_texts("crows-pairs", limit=400)}
    transfer_matrix(model, sets).table()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import Site, States
from interp.data.items import LabelledText
from interp.directions.baselines import grouped_auc, words_auc, words_classifier
from interp.directions.direction import DirectionStack
from interp.directions.fitting import facts_of, fit_states, labels_and_groups, sentence_states
from interp.directions.methods import FitMethod
from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError
from interp.stats import FloatArray, Interval, interval_columns


@dataclass(frozen=True)
class Transfer:
    """ROC-AUC of directions and of bags of words over data sets, tidy.

    Columns: ``trained_on``, ``tested_on``, ``reader`` (``direction`` or ``bag of words``), ``layer``
    (-1 for words) and an interval's under the name ``auc`` (:mod:`interp.stats.columns`; 95 %,
    ``auc_n`` the tested set's texts): on the diagonal of repeated cross-validation
    (:func:`interp.stats.corrected_cv`), elsewhere, where nothing is fitted to the tested set, a
    jackknife over its groups. .5 is chance; below it the direction points the
    other way there.
    """

    frame: pd.DataFrame
    method: FitMethod
    site: Site

    __repr__ = short_repr

    def to_dataframe(self) -> pd.DataFrame:
        """A copy of the rows."""
        return self.frame.copy()

    def table(self, reader: str = "direction") -> pd.DataFrame:
        """AUC as a table, trained on (rows) by tested on (columns)."""
        rows = self.frame[self.frame["reader"] == reader]
        wide = rows.pivot_table(index="trained_on", columns="tested_on", values="auc", sort=False)
        return wide[wide.index]

    def _repr_html_(self) -> str:
        head = f"AUC of {self.method} at {self.site}: trained on (rows), tested on (columns)"
        return html_paragraph(head, bold=True) + html_table(self.table(), decimals=2, index=True)


def transfer_matrix(
    model: TransformerBridge,
    sets: Mapping[str, Sequence[LabelledText]],
    *,
    method: FitMethod = "mean_difference",
    site: Site = "resid_post",
    n_folds: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> Transfer:
    """Fit on every set, test on every set.

    The states of all sets at one site are held at once (4 bytes x texts x layers x d_model).

    Raises:
        InterpError: fewer than two sets, or what :func:`interp.directions.fit_direction` refuses;
            names the set.
    """
    if len(sets) < 2:
        raise InterpError(f"transfer needs at least two data sets, has {len(sets)}")
    fitted: dict[str, tuple[DirectionStack, States]] = {}
    for name, texts in tqdm(sets.items(), desc="fitting on each set", disable=not progress):
        try:
            labels, groups = labels_and_groups(texts, n_folds)
            states = sentence_states(model, texts, [site], progress=False)[site]
            facts = facts_of(model, texts, method)
            fitted[name] = fit_states(states, labels, groups, facts, n_folds, 0, seed), states
        except InterpError as error:
            raise InterpError(f"{name}: {error}") from error
    rows = []
    for trained_on, (stack, _) in fitted.items():
        words = words_classifier().fit(*_texts_and_labels(sets[trained_on]))
        for tested_on, texts in sets.items():
            own = tested_on == trained_on
            if own:
                auc = stack.auc.at(stack.best_row)
                of_words = words_auc(texts, n_folds=n_folds, seed=seed)
            else:
                auc = _auc(_dots(stack, fitted[tested_on][1]), texts)
                of_words = _auc(words.decision_function([t.text for t in texts]), texts)
            rows += [
                _row(trained_on, tested_on, "direction", stack.best_layer, auc),
                _row(trained_on, tested_on, "bag of words", -1, of_words),
            ]
    return Transfer(pd.DataFrame(rows), method, site)


def _dots(stack: DirectionStack, states: States) -> FloatArray:
    vector: Float[Tensor, " d_model"] = stack.best.vector
    layer = states.layers.index(stack.best_layer)
    return (states.values[layer] @ vector).double().numpy()


def _texts_and_labels(texts: Sequence[LabelledText]) -> tuple[list[str], list[int]]:
    return [text.text for text in texts], [text.label for text in texts]


def _auc(scores: FloatArray, texts: Sequence[LabelledText]) -> Interval:
    labels = np.array([text.label for text in texts], dtype=bool)
    return grouped_auc(scores, labels, [text.group for text in texts])


def _row(
    trained_on: str, tested_on: str, reader: str, layer: int, auc: Interval
) -> dict[str, object]:
    return {
        "trained_on": trained_on,
        "tested_on": tested_on,
        "reader": reader,
        "layer": layer,
        **interval_columns(auc, "auc"),
    }
