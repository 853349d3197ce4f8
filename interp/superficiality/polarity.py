"""Polarity and shared shift: is it what the instruction asks for, or that something is asked?

- *Polarity.* The negated instruction asks for the opposite, in the same form and with nearly the same
  words. What it does against its own placebos is B(negated); the row is B - B(negated). Where both have
  one sign, words or form act, not what is asked.
- *Vocabulary*: sentences with moral words that ask for nothing.
- *Shared shift.* States move when anything is asked. With statements of equal length as the reference,
  each side its own, the mean change that moral instructions make is compared with that of non-moral
  requests: their cosine, per dimension in units of the spread over items. What halves of the items
  share with each other is the ceiling that noise leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.data import ChoiceItem
from interp.errors import InterpError
from interp.prompts import Condition, Placement, TextBank
from interp.stats import (
    FloatArray,
    Interval,
    cluster_mean,
    effect,
    interval_columns,
    require_columns,
)
from interp.superficiality.behaviour import measure_behaviour
from interp.superficiality.finding import Finding
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.rows import READINGS, metric_name
from interp.superficiality.states import PLACES

POLARITY, VOCABULARY, SHARED = "polarity", "vocabulary without a request", "shared shift"

NEGATED_TEXTS, VOCABULARY_TEXTS = "negated", "vocabulary"
"""The conditions; each side's placebos are ``negated_placebo`` and ``vocabulary_placebo``."""

SHIFTS = ("place", "layer", "scale", "without", "shared", "moral", "request")
"""Columns of :func:`measure_shared_shift`. ``without``: the cluster left out, empty for none;
``shared``: cosine of the moral and the non-moral shift; ``moral``, ``request``: of halves of the items
with each other, Spearman-Brown corrected to the whole."""


def measure_polarity(
    model: TransformerBridge,
    bank: TextBank,
    item: ChoiceItem,
    condition: str,
    *,
    texts: int,
    placement: Placement = "before",
    orders: int = 1,
) -> pd.DataFrame:
    """Behaviour under negated instructions and moral vocabulary, each with placebos: columns READINGS.

    Empty where the condition asked about is itself one of the two.

    Raises:
        InterpError: a condition that the bank lacks, or a prompt beyond the context.
    """
    return measure_behaviour(
        model,
        item,
        polarity_texts(bank, item, condition, texts),
        placement=placement,
        orders=orders,
    )


def polarity_texts(
    bank: TextBank, item: ChoiceItem, condition: str, texts: int
) -> dict[str, tuple[Condition, ...]]:
    """The texts of all sides; those of the condition that is asked about itself are left out."""
    sides: dict[str, tuple[Condition, ...]] = {}
    for name in (NEGATED_TEXTS, VOCABULARY_TEXTS):
        if name != condition:
            own = bank.texts(name, item, min(texts, bank.n_texts(name)))
            sides |= {name: own, f"{name}_placebo": bank.placebos(own)}
    return sides


def polarity_findings(readings: pd.DataFrame, polarity: pd.DataFrame) -> list[Finding]:
    """B - B(negated), and B of moral words without a request, on the items that were asked both.

    Args:
        readings: behaviour, columns :data:`~interp.superficiality.rows.READINGS`.
        polarity: of :func:`measure_polarity`.

    Raises:
        InterpError: a missing column, or no item in both.
    """
    for given in (readings, polarity):
        require_columns(given, READINGS, "the table of behaviour")
    metric = str(readings["metric"].iloc[0])
    both = pd.concat([readings, polarity])
    both = both[both["metric"] == metric]
    items = [item for item in dict.fromkeys(polarity["item"]) if item in set(readings["item"])]
    if not items:
        raise InterpError("no item was asked the instruction and its opposite: ask the same items")
    clusters = both.drop_duplicates("item").set_index("item")["cluster"][items].tolist()
    sides = set(both["side"])
    own = _arm(both, CORRECTED, items) - _arm(both, PLACEBO, items)
    whole = effect(own, np.zeros((1, len(items))), clusters)
    findings, of = [], metric_name(metric)
    if NEGATED_TEXTS in sides:
        against = _arm(both, NEGATED_TEXTS, items) - _arm(both, f"{NEGATED_TEXTS}_placebo", items)
        negated = effect(against, np.zeros((1, len(items))), clusters)
        found = effect(own, against, clusters)
        table = [("instruction", whole), ("negated", negated), ("difference", found)]
        findings.append(
            _effect_finding(
                POLARITY,
                f"B - B(negated), nats of {of}",
                found,
                "the negated instruction does what the instruction does",
                f"Asking for the opposite moves the {of} by {negated}, the instruction by {whole}: "
                f"{_signs(whole, negated)}.",
                table,
            )
        )
    if VOCABULARY_TEXTS in sides:
        words = _arm(both, VOCABULARY_TEXTS, items) - _arm(
            both, f"{VOCABULARY_TEXTS}_placebo", items
        )
        found = effect(words, np.zeros((1, len(items))), clusters)
        findings.append(
            _effect_finding(
                VOCABULARY,
                f"B of moral words that ask for nothing, nats of {of}",
                found,
                "moral words that ask for nothing do what their placebos do",
                f"Moral words that ask for nothing move the {of} by {found}, the instruction by "
                f"{whole}.",
                [("vocabulary", found), ("instruction", whole)],
            )
        )
    return findings


def _arm(rows: pd.DataFrame, side: str, items: Sequence[str]) -> FloatArray:
    own = rows[rows["side"] == side]
    if own.empty:
        raise InterpError(f"the table of behaviour has no rows of side {side!r}")
    return own.pivot(index="slot", columns="item", values="value")[list(items)].to_numpy(float)


def side_effect(readings: pd.DataFrame, side: str) -> Interval:
    """What the texts of a side do against their own placebos, in the table's first metric.

    Raises:
        InterpError: no rows of the side or of its placebos.
    """
    own = readings[readings["metric"] == readings["metric"].iloc[0]]
    items = list(dict.fromkeys(own["item"]))
    clusters = own.drop_duplicates("item").set_index("item")["cluster"][items].tolist()
    moved = _arm(own, side, items) - _arm(own, f"{side}_placebo", items)
    return effect(moved, np.zeros((1, len(items))), clusters)


def _signs(whole: Interval, negated: Interval) -> str:
    if not whole.excludes(0) or not negated.excludes(0):
        return "not both differ from 0, so their signs say nothing"
    if whole.estimate * negated.estimate < 0:
        return "opposite signs, as what is asked would have it"
    return "one sign, so that words or form act and not what is asked"


def _effect_finding(
    name: str,
    statistic: str,
    found: Interval,
    null: str,
    reading: str,
    table: Sequence[tuple[str, Interval]],
) -> Finding:
    rows = [{"side": side, **interval_columns(one)} for side, one in table]
    return Finding(
        name, statistic, found, float(found.p), null, int(found.n), reading, pd.DataFrame(rows)
    )


def measure_shared_shift(
    states: Float[Tensor, "pair run place layer d_model"], clusters: Sequence[str], layer: int
) -> pd.DataFrame:
    """Cosines of mean shifts at one layer, with all clusters and without each: columns :data:`SHIFTS`.

    The moral shift is corrected - statement, the other one placebo - other statement: no run is in
    both, so that nothing but what the two share makes them alike.

    Args:
        states: of :func:`interp.superficiality.states.pair_states`, pair by pair.
        clusters: of the pairs.
        layer: which of the states' layers.

    Raises:
        InterpError: clusters that do not match.
    """
    if len(states) != len(clusters):
        raise InterpError(f"{len(clusters)} clusters for {len(states)} pairs: give one per pair")
    names = np.asarray(clusters)
    rows = []
    for number, place in enumerate(PLACES[: states.shape[2]]):
        here = states[:, :, number, layer].double().numpy()
        for scale, spread in (("raw", None), ("standardised", here[:, 1].std(0))):
            moral, request = here[:, 0] - here[:, 2], here[:, 1] - here[:, 3]
            if spread is not None:
                moving = spread > 1e-9 * max(float(spread.max()), 1e-300)
                moral, request = (x[:, moving] / spread[moving] for x in (moral, request))
            for without in ("", *dict.fromkeys(names)):
                kept = names != without
                rows.append(
                    (
                        place,
                        layer,
                        scale,
                        without,
                        _cosine(moral[kept].mean(0), request[kept].mean(0)),
                        _halves(moral[kept], names[kept]),
                        _halves(request[kept], names[kept]),
                    )
                )
    return pd.DataFrame(rows, columns=list(SHIFTS))


def _halves(shifts: FloatArray, clusters: np.ndarray) -> float:
    """Cosine of the mean shifts of every second cluster and of the others, corrected to the whole."""
    codes = {name: k for k, name in enumerate(dict.fromkeys(clusters))}
    even = np.array([codes[name] % 2 == 0 for name in clusters])
    if even.all():
        return float("nan")
    half = _cosine(shifts[even].mean(0), shifts[~even].mean(0))
    return 2 * half / (1 + half) if half > -1 else float("nan")


def _cosine(a: FloatArray, b: FloatArray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else float("nan")


def shared_finding(shifts: pd.DataFrame, *, place: str = "answer") -> Finding:
    """The cosine of the moral and the non-moral shift, mean over layers, with a jackknife interval.

    Standardised; the raw one is in the table. Layers are averaged, so that none is chosen. It tests
    nothing: what it is to be compared with is the ceiling in its table and its reading.

    Args:
        shifts: of :func:`measure_shared_shift`, of all layers.
        place: where the states are read.

    Raises:
        InterpError: a missing column or place.
    """
    require_columns(shifts, SHIFTS, "the table of shifts")
    own = shifts[(shifts["place"] == place) & (shifts["scale"] == "standardised")]
    if own.empty:
        raise InterpError(f"the table of shifts has no place {place!r}; it has {', '.join(PLACES)}")
    means = own.groupby("without", sort=False)[["shared", "moral", "request"]].mean()
    whole, clusters = means.loc[""], means.drop("")
    n = len(clusters)
    pseudo = n * whole["shared"] - (n - 1) * clusters["shared"].to_numpy(float)
    found = cluster_mean(pseudo, range(n))
    ceiling = float(np.sqrt(max(whole["moral"], 0.0) * max(whole["request"], 0.0)))
    table = shifts[shifts["without"] == ""].drop(columns="without").reset_index(drop=True)
    return Finding(
        SHARED,
        "cosine of the moral with the non-moral shift, mean over layers",
        found,
        float("nan"),
        "",
        n,
        f"Moral instructions and non-moral requests move the states before the answer alike by a cosine "
        f"of {found}; noise leaves a ceiling of {ceiling:.2f}.",
        table,
    )
