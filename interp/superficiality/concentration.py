"""Concentration: how much of the effect single tokens of the instruction carry.

- *Tokens.* The placebo run with the corrected states of one position of the instruction side, at all
  layers. All positions at once are the corrected run, an identity, so what single ones bring can be
  summed and compared with the whole. The top token of a pair is chosen on other clusters' pairs of the
  same wording.
- *A constant vector everywhere* (arXiv 2605.03907): the mean change of other clusters' pairs behind the
  instruction, the same vector at every position behind it, layer by layer of the pair's own mean norm.
  What it brings needs neither the place nor the item.

Cost per pair: a full run for every token of the instruction side, and one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.patching.patched import MAX_BYTES
from interp.patching.sites import SweepMethod
from interp.prompts import PromptPair
from interp.stats import FloatArray
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.paired import PairedRuns, moved_against, percent, share_finding
from interp.superficiality.routes import MeasuredRuns
from interp.superficiality.sides import (
    CONTENT_SPANS,
    Sides,
    set_states,
)
from interp.superficiality.thresholds import INTERACTION_SHARE

TOP_TOKEN = "top token"
CONSTANT = "constant vector everywhere"


def measure_tokens(
    model: TransformerBridge,
    pairs: Sequence[PromptPair],
    *,
    constants: Sequence[Float[Tensor, "layer d_model"]] | None = None,
    content: Sequence[str] = CONTENT_SPANS,
    clusters: Sequence[str] | None = None,
    method: SweepMethod = "exact",
    max_bytes: int = MAX_BYTES,
) -> pd.DataFrame:
    """Runs ``token 0``, ``token 1``, ... and ``constant``, as :func:`.routes.measure_routes` has them.

    Args:
        model: a bridge in evaluation mode.
        pairs: corrected -> placebo, the instruction first.
        constants: of each pair the vector of every layer, the mean shift of the pairs of other clusters
            (:func:`other_clusters`); its direction is taken, the norm is the pair's own.
        content: as in :func:`.routes.measure_routes`.
        clusters: of the pairs without an item.
        method: as in a sweep.
        max_bytes: memory budget.

    Returns:
        The columns of runs, and ``token``: the source's and the destination's token at that position.

    Raises:
        InterpError: see :func:`.routes.measure_routes`.
    """
    runs = MeasuredRuns(model, pairs, content, clusters, method=method, max_bytes=max_bytes)
    for number, sides in enumerate(runs.sides):
        placebo, corrected = runs.states(2 * number), runs.states(2 * number + 1)
        for k, row in enumerate(sides.instruction):
            runs.add(2 * number, f"token {k}", set_states(corrected, row[None]))
        if constants is not None:
            moved = _with_constant(corrected, placebo, sides, constants[number])
            runs.add(2 * number, "constant", set_states(moved, sides.behind))
    frame = runs.measure()
    names = {}
    for sides in runs.sides:
        item = str(frame["item"].iloc[0]) if sides.pair.item is None else sides.pair.item.id
        here, there = sides.pair.source.str_tokens, sides.pair.destination.str_tokens
        for k, row in enumerate(sides.instruction.tolist()):
            names[item, f"token {k}"] = f"{here[row]!r} for {there[row]!r}"
    keys = zip(frame["item"], frame["run"], strict=True)
    return frame.assign(token=[names.get((str(item), str(run)), "") for item, run in keys])


def _with_constant(
    corrected: Float[Tensor, "layer row d_model"],
    placebo: Float[Tensor, "layer row d_model"],
    sides: Sides,
    constant: Float[Tensor, "layer d_model"],
) -> Float[Tensor, "layer row d_model"]:
    """The placebo's states, one vector per layer added behind the instruction, of the pair's norm."""
    norm = (corrected - placebo)[:-1, sides.behind].norm(dim=-1).mean(-1)
    unit = torch.nn.functional.normalize(constant.to(placebo), dim=-1)
    moved = placebo.clone()
    moved[:-1, sides.behind] += (norm[:, None] * unit[: len(norm)])[:, None]
    return moved


def other_clusters(clusters: Sequence[str]) -> list[list[int]]:
    """For each pair the numbers of those of other clusters.

    Raises:
        InterpError: a single cluster.
    """
    names = np.asarray(clusters)
    found = [np.flatnonzero(names != own).tolist() for own in names]
    if not all(found):
        raise InterpError("all pairs are of one cluster: nothing can be chosen on others")
    return found


def token_findings(tokens: pd.DataFrame, *, metric: str | None = None) -> list[Finding]:
    """The share of B that one token carries, and that of a constant vector everywhere.

    Args:
        tokens: of :func:`measure_tokens`.
        metric: which of the table's; the first by default.

    Raises:
        InterpError: a missing run, metric or column.
    """
    own = PairedRuns.of(tokens, metric)
    effects = _token_effects(own)
    part, place = _chosen_tokens(own, effects)
    top, together = own.share(part), own.share(np.nansum(effects, axis=1))
    findings = [
        share_finding(
            TOP_TOKEN,
            top,
            "the token carries nothing",
            f"One token of the instruction, chosen on other items, carries {percent(top)} of the "
            f"effect; single tokens sum to {percent(together)}, all at once are the whole.",
            _token_table(tokens, own, effects, place),
            (*moved_against(own, part), additive("sum of tokens", float(together.estimate) - 1)),
        )
    ]
    if "constant" in own.values:
        moved = own.share(own.step("constant"))
        findings.append(
            share_finding(
                CONSTANT,
                moved,
                "a vector that is the same everywhere brings nothing",
                f"Other items' mean change, the same at every position behind the instruction and of "
                f"equal norm, brings {percent(moved)} of the effect.",
                own.per_pair(constant=own.step("constant")),
                (),
            )
        )
    return findings


def _token_effects(own: PairedRuns) -> FloatArray:
    """``[pair, position]``, NaN where a pair's instruction is shorter."""
    names = [name for name in own.values if str(name).startswith("token ")]
    if not names:
        raise InterpError(
            "the table of tokens has no run 'token 0': measure it with measure_tokens"
        )
    names.sort(key=lambda name: int(str(name).split()[1]))
    return np.stack([own.step(str(name)) for name in names], axis=1)


def _chosen_tokens(own: PairedRuns, effects: FloatArray) -> tuple[FloatArray, list[int]]:
    """Of each pair the effect of the position that is largest in other clusters, same wording."""
    part, place = np.full(len(effects), np.nan), [-1] * len(effects)
    for k, (cluster, wording) in enumerate(zip(own.clusters, own.wordings, strict=True)):
        others = [
            other
            for other, (theirs, said) in enumerate(zip(own.clusters, own.wordings, strict=True))
            if theirs != cluster and said == wording
        ]
        if others:
            there = ~np.isnan(effects[[k, *others]]).any(0)
            means = np.where(there, effects[others].mean(0), 0.0)
            place[k] = int(np.argmax(np.sign(own.total[others].mean()) * means))
            part[k] = effects[k, place[k]]
    return part, place


def top_token_part(own: PairedRuns, other: PairedRuns) -> FloatArray:
    """What the tokens that are chosen in ``own`` bring in other runs of its pairs, of another model."""
    _, place = _chosen_tokens(own, _token_effects(own))
    of_pair = dict(zip(own.values.index, place, strict=True))
    effects = _token_effects(other)
    chosen = [of_pair.get(pair, -1) for pair in other.values.index]
    return np.array(
        [effects[k, at] if at >= 0 else np.nan for k, at in enumerate(chosen)], dtype=float
    )


def _token_table(
    tokens: pd.DataFrame, own: PairedRuns, effects: FloatArray, place: list[int]
) -> pd.DataFrame:
    """Per wording and position: token, mean effect in nats, its share, how often it is chosen."""
    named = tokens[tokens["token"] != ""].drop_duplicates(["slot", "run"])
    texts = {(str(r.slot), str(r.run)): r.token for r in named.itertuples()}
    rows = []
    for slot in sorted(set(own.wordings)):
        here = np.array([wording == slot for wording in own.wordings])
        total = own.total[here].mean()
        for position in range(effects.shape[1]):
            if np.isnan(effects[here, position]).all():
                continue
            mean = float(np.nanmean(effects[here, position]))
            chosen = sum(p == position for p, kept in zip(place, here, strict=True) if kept)
            token = texts.get((slot, f"token {position}"), "")
            rows.append((slot, position, token, mean, mean / total, int(here.sum()), chosen))
    columns = ["slot", "position", "token", "mean", "of_mean_effect", "n", "chosen"]
    return pd.DataFrame(rows, columns=columns)


def additive(name: str, gap: float) -> HealthCheck:
    """Whether parts that are patched singly sum to what they do together, in shares of B."""
    passed = bool(np.isnan(gap) or abs(gap) <= INTERACTION_SHARE)
    return HealthCheck(name, gap, passed, f"{name}: parts miss the whole by {gap:+.2f} of B")
