"""Residue: is what the model would have answered still there under the instruction?

- *Probe transfer.* A ridge regression reads the placebo run's answer (its metric) from the placebo's
  state at the last token of the prompt, fitted on other clusters, a probe per layer, predictions
  averaged over layers. The same probes read the corrected run's states. What is left is the ratio of
  how predictions rise with the placebo's answer, in the corrected run to the placebo run: 1, the old
  answer is as readable as before; 0, it is gone. What is left of it in *behaviour* stands beside.
- *Re-injecting* (arXiv 2605.15217). In the corrected run the coordinate along the probe's direction is
  set to the placebo's (+), and to its mirror image (-), at the last token and all rows of the options,
  at every layer, on the current state. If it carries the effect, + takes some of B back and - adds as
  much. The same along directions drawn with the states' covariance is the null.
- *Self-distinguish* (arXiv 2410.20513): asked which option follows a stereotype, does the model know,
  and does the instruction change that?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.distinguish import distinguish_items
from interp.data import ChoiceItem
from interp.directions.nulls import covariance_nulls
from interp.errors import InterpError
from interp.patching.cells import Patch
from interp.patching.patched import MAX_BYTES
from interp.patching.sites import SweepMethod
from interp.prompts import Condition, PromptPair
from interp.stats import (
    FloatArray,
    Interval,
    cluster_mean,
    interval_columns,
    random_wordings,
    require_columns,
    share,
)
from interp.superficiality.behaviour import measure_behaviour
from interp.superficiality.concentration import other_clusters
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.paired import PairedRuns, percent, share_finding
from interp.superficiality.routes import CORRECTED, PLACEBO, MeasuredRuns
from interp.superficiality.rows import READINGS, metric_name
from interp.superficiality.sides import CONTENT_SPANS
from interp.superficiality.thresholds import MOVED_AGAINST

PROBE, REINJECTED, DISTINGUISHED = (
    "residue of the old answer",
    "re-injected answer",
    "self-distinguish",
)

PROBES = ("item", "cluster", "slot", "layer", "before", "after", "placebo", "corrected")
"""Columns of :func:`measure_probes`: the metric in both runs, and what the probe reads in both."""

RIDGE = 1.0
"""Penalty of the probes, in units of the mean variance of the states' principal components."""


def measure_probes(
    answers: Float[Tensor, "pair run layer d_model"],
    before: Sequence[float],
    after: Sequence[float],
    items: Sequence[ChoiceItem],
    wordings: Sequence[str],
) -> pd.DataFrame:
    """What probes of the placebo's metric read, held out by cluster: a row per pair and layer.

    Args:
        answers: states at the last token, run 0 corrected and run 1 placebo.
        before: the placebo run's metric of every pair; ``after``: the corrected run's.
        after: see ``before``.
        items: of the pairs.
        wordings: of the pairs.

    Raises:
        InterpError: lengths that differ, or a single cluster.
    """
    n = len(answers)
    if not n == len(before) == len(after) == len(items) == len(wordings):
        raise InterpError(
            f"measure_probes: {n} pairs, {len(before)} and {len(after)} metrics, {len(items)} items, "
            f"{len(wordings)} wordings: give one each per pair"
        )
    levels, rows = np.asarray(before, dtype=float), []
    clusters = [item.cluster for item in items]
    for layer in range(answers.shape[2]):
        placebo, corrected = (answers[:, run, layer].double().numpy() for run in (1, 0))
        read = np.full((2, n), np.nan)
        for cluster, train in _folds(clusters):
            weights, offset = ridge(placebo[train], levels[train])
            own = np.array([name == cluster for name in clusters])
            for side, states in enumerate((placebo, corrected)):
                read[side, own] = states[own] @ weights + offset
        rows += [
            (item.id, item.cluster, slot, layer, was, now, *values)
            for item, slot, was, now, values in zip(
                items, wordings, before, after, read.T.tolist(), strict=True
            )
        ]
    return pd.DataFrame(rows, columns=list(PROBES))


def _folds(clusters: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Every cluster with the pairs of the others."""
    own = dict(zip(clusters, other_clusters(clusters), strict=True))
    return list(own.items())


def ridge(
    states: FloatArray, levels: FloatArray, penalty: float = RIDGE
) -> tuple[FloatArray, float]:
    """Weights ``[d_model]`` and offset of a ridge regression of ``levels [pair]`` on states.

    Solved in the space of pairs; the penalty is in units of the mean eigenvalue of the Gram matrix.
    """
    mean, level = states.mean(0), levels.mean()
    centred = states - mean
    gram = centred @ centred.T
    size = np.trace(gram) / len(gram)
    if size <= 0:
        return np.zeros(states.shape[1]), float(level)
    weights = centred.T @ np.linalg.solve(gram + penalty * size * np.eye(len(gram)), levels - level)
    return weights, float(level - mean @ weights)


def probe_directions(
    answers: Float[Tensor, "pair run layer d_model"], before: Sequence[float], *, seed: int = 0
) -> Float[Tensor, "direction layer d_model"]:
    """Unit vectors of every layer: the probe's, and a null drawn with the placebo states' covariance.

    ``answers`` and ``before`` are those of the pairs to fit on, none of which may share a cluster with
    the pair that the directions are used in.
    """
    levels = np.asarray(before, dtype=float)
    placebo = answers[:, 1].double()
    fitted = [torch.from_numpy(ridge(states.numpy(), levels)[0]) for states in placebo.unbind(1)]
    probes = torch.nn.functional.normalize(torch.stack(fitted), dim=-1)
    drawn = covariance_nulls(placebo.transpose(0, 1), 1, seed=seed)[:, 0]
    return torch.stack([probes, drawn]).float()


def measure_reinjection(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    directions: Sequence[Float[Tensor, "direction layer d_model"]],
    *,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """Runs ``plus``, ``minus``, ``null plus`` and ``null minus``, as routes have theirs.

    ``directions``: for each pair those of :func:`probe_directions`; entries beyond the last layer are
    not used. Other arguments as in :func:`.routes.measure_routes`.

    Raises:
        InterpError: see :func:`.routes.measure_routes`.
    """
    runs = MeasuredRuns(model, pairs, content, clusters, method=method, max_bytes=max_bytes)
    for number, (sides, own) in enumerate(zip(runs.sides, directions, strict=True)):
        placebo, corrected = runs.states(2 * number), runs.states(2 * number + 1)
        rows = torch.arange(len(sides.pair.destination) - 1, len(sides.placebo))
        for kind, vectors in zip(("", "null "), own, strict=True):
            for name, goal in (("plus", placebo), ("minus", 2 * corrected - placebo)):
                patches = [
                    Patch(layer, "resid_pre", rows, goal[layer, rows], vector=vectors[layer])
                    for layer in range(int(model.cfg.n_layers))
                ]
                runs.add(2 * number + 1, f"{kind}{name}", patches)
    return runs.measure()


def measure_distinguish(
    model: TransformerBridge, item: ChoiceItem, corrected: Condition, placebo: Condition
) -> pd.DataFrame:
    """Which option follows a stereotype, and which goes against one, behind one text and its placebo.

    Columns :data:`~interp.superficiality.rows.READINGS`, of the item's two questions, the texts first as
    they were filled for the item; no rows for an item that does not have both kinds of options.

    Raises:
        InterpError: a prompt beyond the context.
    """
    sides = {CORRECTED: [corrected], PLACEBO: [placebo]}
    frames = [measure_behaviour(model, question, sides) for question in distinguish_items([item])]
    return pd.concat(frames) if frames else pd.DataFrame(columns=list(READINGS))


def probe_finding(probes: pd.DataFrame) -> Finding:
    """The share of what probes read of the placebo's answer that is left in the corrected run.

    Args:
        probes: of :func:`measure_probes`.

    Raises:
        InterpError: a missing column.
    """
    require_columns(probes, PROBES, "the table of probes")
    of_item = probes.groupby("item", sort=False)
    wide = of_item[["before", "after", "placebo", "corrected"]].mean()
    first = of_item[["cluster", "slot"]].first()
    clusters, slots = first["cluster"].tolist(), first["slot"].astype(str).tolist()
    wordings = random_wordings(slots)
    level = (wide["before"] - wide["before"].mean()).to_numpy()

    def left(kept: str, of: str) -> Interval:
        parts = [(wide[name] - wide[name].mean()).to_numpy() * level for name in (kept, of)]
        return share(parts[0], parts[1], clusters, wordings)

    found, behaviour = left("corrected", "placebo"), left("after", "before")
    read = float(np.corrcoef(wide["placebo"], wide["before"])[0, 1])
    table = [
        {"of": "states", **interval_columns(found)},
        {"of": "behaviour", **interval_columns(behaviour)},
    ]
    row = share_finding(
        PROBE,
        found,
        "nothing is left of the old answer",
        f"Of what probes read of the answer without the instruction, {percent(found)} is left with "
        f"it; of that answer itself {percent(behaviour)}.",
        pd.DataFrame(table),
        (
            HealthCheck(
                "probe reads held-out items",
                read,
                read > 0,
                f"held out, probes correlate by {read:.2f} with what they were fitted to",
            ),
        ),
    )
    return replace(row, statistic="share of what probes read")


def reinjection_finding(runs: pd.DataFrame, *, metric: str | None = None) -> Finding:
    """The share of B that + takes back and - adds, half their difference, beside the null direction's.

    Args:
        runs: of :func:`measure_reinjection`.
        metric: which of the table's; the first by default.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(runs, metric)
    back, added = _both_signs(own)
    null = (own.step("null minus") - own.step("null plus")) / 2
    found = own.share(reinjected_part(own))
    parts = {"+": own.share(back), "-": own.share(added), "null": own.share(null)}
    agree = float(np.mean(np.sign(back) != np.sign(added)))
    return share_finding(
        REINJECTED,
        found,
        "the coordinate carries nothing of the effect",
        f"Put back along the probe, the old answer takes {percent(parts['+'])} of the effect away; its "
        f"mirror image adds {percent(parts['-'])}; along a random direction of the states' covariance "
        f"both make {percent(parts['null'])}.",
        pd.DataFrame(
            [{"sign": sign, **interval_columns(one, "share")} for sign, one in parts.items()]
        ),
        (
            HealthCheck(
                "both signs",
                agree,
                agree <= MOVED_AGAINST,
                f"in {agree:.0%} of the pairs both signs move one way".replace("%", " %"),
            ),
        ),
    )


def _both_signs(own: PairedRuns) -> tuple[FloatArray, FloatArray]:
    """What + takes back of the effect, and what - adds to it."""
    return own.total - own.step("plus"), own.step("minus") - own.total


def reinjected_part(own: PairedRuns) -> FloatArray:
    """Half of what + takes back and - adds together, per pair."""
    back, added = _both_signs(own)
    return (back + added) / 2


def distinguish_finding(readings: pd.DataFrame) -> Finding:
    """What the instruction does to telling stereotypes apart: corrected - placebo, nats of margin.

    Args:
        readings: of :func:`measure_distinguish`.

    Raises:
        InterpError: a missing column.
    """
    require_columns(readings, READINGS, "the table of self-distinguish")
    metric = str(readings["metric"].iloc[0])
    own = readings[readings["metric"] == metric]
    wide = own.pivot(
        index=["item", "cluster", "slot"], columns="side", values="value"
    ).reset_index()
    clusters, slots = wide["cluster"].tolist(), wide["slot"].astype(str).tolist()
    wordings = random_wordings(slots)
    without, with_it = (
        cluster_mean(wide[side], clusters, wordings=wordings) for side in (PLACEBO, CORRECTED)
    )
    found = cluster_mean(wide[CORRECTED] - wide[PLACEBO], clusters, wordings=wordings)
    of, questions = metric_name(metric), len(wide)
    right = {side: float((wide[side] > 0).mean()) for side in (PLACEBO, CORRECTED)}
    table = [
        {"side": side, "accuracy": right.get(side, np.nan), **interval_columns(one)}
        for side, one in ((PLACEBO, without), (CORRECTED, with_it), ("difference", found))
    ]
    return Finding(
        DISTINGUISHED,
        f"change of knowing the stereotype, nats of {of}",
        found,
        float(found.p),
        "the model tells stereotypes as well with the instruction as without",
        questions,
        f"Asked which option follows a stereotype and which goes against one, the model is right in "
        f"{right[PLACEBO]:.0%} of the questions without the instruction and {right[CORRECTED]:.0%} with "
        f"it ({of} {without} and {with_it}).".replace("%", " %"),
        pd.DataFrame(table),
    )
