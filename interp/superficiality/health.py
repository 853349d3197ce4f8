"""Health of the content rows: what a reading of them rests on beside their own interval.

- *Ablation value.* Edges are removed in the card's rows. Instead, in the corrected run, what is read of
  the instruction can be that of other placebos of its length: their mean, or one of them (resampled).
  For the content: its states are set to those that it has behind these placebos. For everything else:
  the instruction side's states are set to theirs, and the content's to the corrected run's own.
- *Joint against sum.* Every span of the content alone, beside all of it at once: stated, since the rows
  are of all of it.
- *Dose.* Norm of the change of the states, relative to their norm, over the rows and layers of a part.

Cost per pair: three more prompts, four patched runs and one for every span of the content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.branches import Reading
from interp.patching.patched import MAX_BYTES
from interp.patching.sites import SweepMethod
from interp.prompts import PromptPair, TokenizedPrompt
from interp.stats import Interval, interval_columns
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.paired import PairedRuns
from interp.superficiality.routes import COLUMNS, MeasuredRuns
from interp.superficiality.rows import CONTENT_EDGES, CONTENT_IN, CONTENT_OUT, OTHER_EDGES
from interp.superficiality.sides import CONTENT_SPANS, residual_states, set_states
from interp.superficiality.thresholds import SUPERFICIAL_SHARE

N_PLACEBOS = 3
"""Other placebos whose mean is taken."""

DOSE = "dose"
"""The metric of the rows that hold a dose; their runs are ``dose content`` and ``dose instruction``."""


def measure_health(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    others: Sequence[Sequence[TokenizedPrompt]],
    *,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """Runs with other ablation values, of single spans, and doses: columns of :func:`.measure_routes`.

    Args:
        model: a bridge in evaluation mode.
        pairs: corrected -> placebo, the instruction first.
        others: for each pair the item behind other placebos of its length
            (:func:`interp.superficiality.states.placebo_prompts`).
        content: as in :func:`.routes.measure_routes`.
        clusters: of the pairs without an item.
        method: as in a sweep.
        max_bytes: memory budget.

    Raises:
        InterpError: a pair without other placebos, or see :func:`.routes.measure_routes`.
    """
    runs = MeasuredRuns(model, pairs, content, clusters, method=method, max_bytes=max_bytes)
    doses = []
    for number, (sides, prompts) in enumerate(zip(runs.sides, others, strict=True)):
        if not prompts:
            raise InterpError(f"{sides.pair.label}: no other placebos: give at least one")
        there, here = 2 * number, 2 * number + 1
        placebo, corrected = runs.states(there), runs.states(here)
        rows = sides.content
        own = torch.cat([sides.instruction, rows])
        read = [_states_of(model, prompt, own) for prompt in prompts]
        for name, values in (("mean", torch.stack(read).mean(0)), ("resample", read[0])):
            replaced = corrected.clone()
            replaced[:, own] = values.to(replaced)
            runs.add(here, f"{name} content", set_states(replaced, rows))
            replaced[:, rows] = corrected[:, rows]
            runs.add(here, f"{name} other", set_states(replaced, own))
        for span, where in sides.spans.items():
            runs.add(there, f"span {span}", set_states(corrected, where))
        for part, where in (("content", rows), ("instruction", sides.instruction)):
            doses.append((number, f"dose {part}", _dose(corrected, placebo, where)))
    frame = runs.measure()
    return pd.concat([frame, _dose_rows(frame, doses)], ignore_index=True)


def _states_of(
    model: TransformerBridge, prompt: TokenizedPrompt, rows: Int[Tensor, " row"]
) -> Float[Tensor, "layer row d_model"]:
    return residual_states(model, Reading(prompt.ids, torch.tensor([len(prompt) - 1])))[:, rows]


def _dose(
    corrected: Float[Tensor, "layer row d_model"],
    placebo: Float[Tensor, "layer row d_model"],
    rows: Int[Tensor, " _row"],
) -> float:
    """Mean over layers of |change| / |state|, so that the last layers' large norms do not decide."""
    change, size = (
        x[:-1, rows].double().flatten(1).norm(dim=1) for x in (corrected - placebo, placebo)
    )
    return float((change / size).mean())


def _dose_rows(frame: pd.DataFrame, doses: Iterable[tuple[int, str, float]]) -> pd.DataFrame:
    names = [column for column in COLUMNS if column not in ("run", "layer", "metric", "value")]
    of_pair = frame.drop_duplicates(["item", "slot"])[names].to_dict("records")
    rows = [
        of_pair[number] | {"run": run, "layer": -1, "metric": DOSE, "value": value}
        for number, run, value in doses
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def add_health(
    findings: Iterable[Finding], health: pd.DataFrame, *, metric: str | None = None
) -> list[Finding]:
    """The rows with these checks; rows that none is about stay as they are.

    Args:
        findings: of :func:`~.rows.content_findings` and :func:`~.rows.edge_findings`, among others.
        health: of :func:`measure_health`.
        metric: which of the table's; the first by default.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(health, metric)
    dose = health[health["metric"] == DOSE].groupby("run")["value"].mean()
    spans = [str(name) for name in own.values if str(name).startswith("span ")]
    found = []
    for row in findings:
        checks: tuple[HealthCheck, ...] = ()
        table = row.table
        if row.name == CONTENT_IN:
            checks = (*_joint_against_sum(row, own, spans), _stated_dose("content", dose))
        elif row.name == CONTENT_OUT:
            checks = (_stated_dose("instruction", dose),)
        elif row.name in (CONTENT_EDGES, OTHER_EDGES):
            part = "content" if row.name == CONTENT_EDGES else "other"
            values = {"remove": row.interval} | {
                name: own.share(own.total - own.step(f"{name} {part}"))
                for name in ("mean", "resample")
            }
            checks = (_ablations_agree(values),)
            table = pd.DataFrame(
                [
                    {"ablation": name, **interval_columns(one, "lost")}
                    for name, one in values.items()
                ]
            )
        found.append(replace(row, table=table, health=(*row.health, *checks)))
    return found


def _joint_against_sum(
    row: Finding, own: PairedRuns, spans: Sequence[str]
) -> tuple[HealthCheck, ...]:
    """Spans one by one less all at once, in shares of B; stated, since the row is of all at once."""
    if len(spans) < 2:
        return ()
    parts = np.sum([np.nan_to_num(own.step(span)) for span in spans], axis=0)
    gap = float(own.share(parts).estimate) - float(row.interval.estimate)
    return (HealthCheck("sum of spans - joint", gap, True, f"spans one by one: {gap:+.2f} of B"),)


def _stated_dose(part: str, dose: pd.Series) -> HealthCheck:
    value = float(dose.get(f"dose {part}", np.nan))
    return HealthCheck(f"dose / norm, {part}", value, True, f"{part}: change of {value:.2f} norms")


def _ablations_agree(values: dict[str, Interval]) -> HealthCheck:
    """Removed, mean and resampled: their intervals share a point, or their estimates are close."""
    shown = [one for one in values.values() if not np.isnan(one.estimate)]
    if len(shown) < 2:
        return HealthCheck(
            "ablation values", float("nan"), True, "ablation values: no share to compare"
        )
    estimates = [float(one.estimate) for one in shown]
    spread = max(estimates) - min(estimates)
    meet = max(float(one.low) for one in shown) <= min(float(one.high) for one in shown)
    said = ", ".join(f"{name} {one.estimate:.2f}" for name, one in values.items())
    return HealthCheck(
        "ablation values",
        spread,
        bool(meet or spread <= SUPERFICIAL_SHARE),
        f"what is lost depends on the ablation value ({said})",
    )
