"""The report of a steering run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: does the direction separate held-out sentences, does the step change the outcome
at all (its interval excludes zero), does it change it more than steps of the same length along
directions without a meaning. What fails a gate is shown and not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analyses.page import write_page
from analyses.readings import ALPHA, MIN_CLUSTERS, count, read_auc
from analyses.steer_tables import LEARNED, SWINGING, place_among
from interp import viz
from interp.data.bundle import bundled_completions
from interp.runs import Run
from interp.stats import interval_of, intervals_of
from interp.viz import Section
from interp.viz.report import format_interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from analyses.steer import SteerRun

TITLE = "Does steering along the direction move the answers?"
_KINDS = {
    "covariance": "drawn with the covariance of the evaluation prompts' states",
    "placebo": "differences between placebo texts",
    "contrast": "of non-moral contrasts fitted the same way",
}
_OUTCOMES = {
    "margin": "the margin of {} items",
    "preference": "the preference for moral over immoral sentences",
    "nll": "the cost",
    "kept": "the unsteered continuation",
}
_WORTHLESS = 0.1
"""A mean cost, nats per token, above which a step is said to damage the model."""


def write_story(folder: Run, done: SteerRun) -> None:
    """Write ``report.html`` and every figure as HTML."""
    figures: dict[str, go.Figure] = {}
    sections = [
        _question(done),
        _margins(done, figures),
        _preference(done, figures),
        _cost(done, figures),
        _completions(done),
        _limits(done),
    ]
    write_page(folder, sections, figures, title=TITLE, card=done.card)


def _question(done: SteerRun) -> Section:
    config, stack, place = done.config, done.stack, done.place
    kinds = pd.Series([f"{i.benchmark}, {i.context_condition}" for i in done.items]).value_counts()
    counts = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    best = stack.best
    row = stack.layers.index(best.layer)
    largest = max(config.strengths)
    step = largest * best.scale
    null_counts = _own(done, "nll", "all", learned=False)["kind"].value_counts(sort=False)
    nulls = "; ".join(f"{n} {_KINDS[str(kind)]}" for kind, n in null_counts.items())
    left_out = (
        f" {count(len(done.left_out), 'item')} without a margin left out." if done.left_out else ""
    )
    return Section(
        "What was done",
        paragraphs=[
            f"A direction was learned from {stack.facts.n_texts} sentences ({stack.facts.source}, "
            f"{stack.facts.method.replace('_', ' ')}, {stack.site} of the last token); + is its "
            "positive, moral class. " + read_auc(stack.auc.at(row), best.layer, len(stack.layers)),
            f"Then every state at {best.site} of layer {best.layer}, at every position, was moved "
            f"along it by {_listed(config.strengths)} class units (the two classes lie 2 apart). "
            f"{largest:g} class units are {step:.2f} in length; the states of the evaluation prompts "
            f"at their last token lie {place['spread']:.2f} from their mean (root mean square), so "
            f"that is {step / place['spread']:.0%} of their spread.",
            "The same steps, equal in length, were made along directions without a meaning at the "
            f"same place, at {largest:g} and {-largest:g} class units: {nulls}.",
            f"Read under each step: {count(len(done.items), 'item')} ({counts}), without any "
            f"instruction, all cyclic orders.{left_out} Sentences: {done.sentences}. A swing is half "
            f"the difference between the effects at {largest:+g} and {-largest:+g}: what any push of "
            "that size does to an answer cancels in it.",
        ],
    )


def _margins(done: SteerRun, figures: dict[str, go.Figure]) -> Section:
    cells = {("margin", subset): f"margin, {subset} items" for subset in _subsets(done)}
    figures["margin"] = viz.dose_response(
        done.effects, cells, title="Margin under a step along the direction"
    )
    return Section(
        "Does it move the margin?",
        paragraphs=[read_outcome(done, "margin", subset) for subset in _subsets(done)],
        tables=[
            (
                _table(done, "margin"),
                "Swings at the largest step, nats, 95 % intervals over clusters of items; of the nulls, "
                "absolute swings. p: the share of directions (nulls and this one) with a swing at "
                "least as large. Per cost: the swing's size per nat per token of cost, a "
                "dash where no cost is shown.",
            ),
            (
                _signs(done),
                "The same, each sign of the step for itself: effects, and p among the "
                "null steps of both signs.",
            ),
        ],
        figures=[
            (
                figures["margin"],
                "A line that rises: steps towards the moral class bring the better answer. Grey: "
                "null directions, read at both ends.",
            )
        ],
    )


def _preference(done: SteerRun, figures: dict[str, go.Figure]) -> Section:
    cells = {("preference", "all"): "moral − immoral sentences"}
    figures["preference"] = viz.dose_response(
        done.effects,
        cells,
        title="Preference for moral sentences under a step",
        unit="nats of log-likelihood",
    )
    return Section(
        "Does it make moral sentences likelier?",
        paragraphs=[read_outcome(done, "preference", "all")],
        tables=[
            (
                _table(done, "preference"),
                "Change of the mean log-likelihood of moral minus "
                "immoral sentences within a group; columns as above.",
            )
        ],
        figures=[
            (
                figures["preference"],
                "Groups cross verbs with objects, so that the same words "
                "stand on both sides; only their composition tells moral from immoral."
                if "morality" in done.sentences.split(",")[0]
                else "Pairs of a fair and a biased statement.",
            )
        ],
    )


def _cost(done: SteerRun, figures: dict[str, go.Figure]) -> Section:
    cells = {("margin", s): f"margin, {s} items" for s in _subsets(done)}
    figures["cost"] = viz.effect_against_cost(
        done.effects, {**cells, ("preference", "all"): "preference for moral sentences"}
    )
    return Section(
        "At what cost?",
        paragraphs=[read_cost(done)],
        tables=[
            (
                _costs(done),
                "Change of the mean negative log-likelihood per token of plain "
                "sentences (nats; perplexity grows by its exponential), learned direction.",
            )
        ],
        figures=[
            (
                figures["cost"],
                "Points far to the right damage the model: an effect there says "
                "little about the direction.",
            )
        ],
    )


def _completions(done: SteerRun) -> Section:
    table = done.completions.assign(
        level=pd.Series(intervals_of(done.completions), dtype=object)
    ).pivot(index="strength", columns="outcome", values="level")
    table = table[[name for name in ("kept", "overlap", "fluency") if name in table]]
    names = {
        "kept": "first choice kept",
        "overlap": "tokens kept",
        "fluency": "log-likelihood per token",
    }
    table = table.rename(columns=names).reset_index()
    table["strength"] = table["strength"].map(_signed)
    begun = {item.id: f"{item.prompt} …" for item in bundled_completions()}
    texts = done.texts.assign(
        prompt=done.texts["prompt"].map(begun), strength=done.texts["strength"].map(_signed)
    )
    return Section(
        "What does it write?",
        paragraphs=[read_kept(done)],
        tables=[
            (
                table,
                "Greedy continuations of the learned direction, with 95 % intervals over prompts. "
                "First choice kept: share of the unsteered continuation's tokens that stay the first "
                "choice when they are fed back. Tokens kept: share of them in the continuation "
                "written anew. Log-likelihood: of the new continuation under the unsteered model, "
                "nats per token.",
            ),
            (texts, "The continuations. Null directions were read by feeding back only."),
        ],
    )


def _limits(done: SteerRun) -> Section:
    checks = pd.DataFrame(
        [(c.name, c.deviation, c.tolerance) for c in done.card.checks],
        columns=["self-check of the model", "relative deviation", "tolerance"],
    )
    n = int((_own(done, "nll", "all", learned=False)).shape[0])
    return Section(
        "What these numbers can and cannot say",
        paragraphs=[
            f"They speak of one model ({done.card.one_line}) and of one layer, which was picked on "
            "labelled sentences.",
            "An effect beyond the nulls' says that the model uses this direction on the way to the "
            "answer, not that an instruction does. Where none is shown, a step of this length at this "
            "layer does not matter here; longer steps or other layers and directions might.",
            f"With {n} null directions p cannot be below {1 / (n + 1):.3f}, and "
            f"{count(len(_subsets(done)) + 1, 'outcome')} are read side by side, uncorrected.",
            "Steps move every position, the chat template's too. Likelihoods of moral and immoral "
            "sentences say what the model expects to read, not what it would do.",
        ],
        tables=[(checks, "Self-checks at load.")],
    )


def read_outcome(done: SteerRun, outcome: str, subset: str) -> str:
    """Whether the learned direction moves an outcome, more than nulls do, and which way."""
    own = _own(done, outcome, subset).iloc[0]
    nulls = _own(done, outcome, subset, learned=False)
    swing = interval_of(own)
    what = _OUTCOMES[outcome].format(subset)
    opening = f"Steering swings {what} by {format_interval(swing)} nats"
    if np.isnan(swing.low):
        return f"{opening} ({own['reason']}): nothing can be claimed."
    if swing.n_clusters < MIN_CLUSTERS:
        return f"{opening}: {count(swing.n_clusters, 'cluster')} are too few for a finding."
    larger = int((nulls["estimate"].abs() >= abs(own["estimate"])).sum())
    beside = f"{larger} of {count(len(nulls), 'null direction')} swing it at least as far"
    placed = f"{beside} (p = {own['p']:.3f})"
    if not swing.excludes(0):
        return f"{opening}: the interval contains 0, no effect is shown. {placed}."
    if own["p"] >= ALPHA:
        return (
            f"{opening}. But {placed}: it does not move {what} more than directions without a "
            "meaning do, so nothing here is special to this direction."
        )
    way = "towards" if own["estimate"] > 0 else "against"
    better = "the better answer" if outcome == "margin" else "the moral sentences"
    reading = (
        f"{opening}, and {placed}: it moves {what} more than directions without a meaning do, "
        f"{way} {better} as the step points to the moral class."
    )
    gates = []
    if not _usable(done):
        gates.append("the direction does not separate held-out sentences")
    if "not a held-out" in done.sentences and outcome == "preference":
        gates.append("the direction was fitted on these very sentences")
    return f"{reading} It is not read: {' and '.join(gates)}." if gates else reading


def read_cost(done: SteerRun) -> str:
    """What the largest step costs, beside the nulls', and what the effects come to per cost."""
    own = _own(done, "nll", "all").iloc[0]
    nulls = _own(done, "nll", "all", learned=False)
    cost = interval_of(own)
    reading = (
        f"At the largest step, averaged over both signs, the cost on plain sentences is "
        f"{format_interval(cost)} nats per token (perplexity x {np.exp(cost.estimate):.2f}); along "
        f"null directions of the same length {nulls['estimate'].median():.3f} in the median, "
        f"{nulls['estimate'].min():.3f} to {nulls['estimate'].max():.3f}."
    )
    if cost.estimate > _WORTHLESS:
        reading += " A step of this length damages the model."
    parts = []
    for outcome, subset in [("margin", s) for s in _subsets(done)] + [("preference", "all")]:
        row = _own(done, outcome, subset).iloc[0]
        if not np.isnan(row["per_cost"]):
            what = _OUTCOMES[outcome].format(subset)
            parts.append(f"{what} {row['per_cost']:.1f} (p among nulls {row['p_per_cost']:.3f})")
    if not parts:
        return f"{reading} No cost is shown, so there is no effect per unit of cost."
    return f"{reading} Swing per unit of cost: {'; '.join(parts)}."


def read_kept(done: SteerRun) -> str:
    """How much of the unsteered continuation survives, beside the nulls."""
    rows = _own(done, "kept", "all")
    if rows.empty:
        return "The unsteered model ends every text at once: there is nothing to keep."
    own = rows.iloc[0]
    nulls = _own(done, "kept", "all", learned=False)
    level = 1 + own["estimate"]
    return (
        f"At the largest step {level:.0%} of the unsteered continuation's tokens stay the first "
        f"choice (mean of both signs); along null directions {1 + nulls['estimate'].median():.0%} in "
        f"the median (p = {own['p']:.3f}). This says how much is changed, not which way."
    )


def _table(done: SteerRun, outcome: str) -> pd.DataFrame:
    rows = []
    for subset in _subsets(done) if outcome == "margin" else ["all"]:
        own = _own(done, outcome, subset).iloc[0]
        nulls = _own(done, outcome, subset, learned=False)["estimate"].abs()
        rows.append(
            {
                "items": subset,
                "swing": interval_of(own),
                "p": own["p"],
                "nulls: median, largest": f"{nulls.median():.3f}, {nulls.max():.3f}",
                "per cost": own["per_cost"],
                "p per cost": own["p_per_cost"],
                "n": own["n"],
                "clusters": own["n_clusters"],
            }
        )
    table = pd.DataFrame(rows)
    return table if outcome == "margin" else table.drop(columns="items")


def _signs(done: SteerRun) -> pd.DataFrame:
    """Effects of both signs of the largest step, and their place among the null steps."""
    largest = max(done.config.strengths)
    rows = []
    for subset in _subsets(done):
        cell = done.effects[
            (done.effects["outcome"] == "margin") & (done.effects["subset"] == subset)
        ]
        nulls = cell[cell["kind"] != LEARNED]["estimate"].abs()
        own = cell[cell["kind"] == LEARNED]
        for strength, effect in zip(own["strength"], intervals_of(own), strict=True):
            size = abs(float(effect.estimate))
            at_end = abs(strength) == largest
            p = place_among(size, nulls.to_numpy(float)) if at_end else np.nan
            rows.append({"items": subset, "step": f"{strength:+g}", "effect": effect, "p": p})
    return pd.DataFrame(rows)


def _costs(done: SteerRun) -> pd.DataFrame:
    own = done.effects[(done.effects["outcome"] == "nll") & (done.effects["kind"] == LEARNED)]
    return pd.DataFrame(
        {
            "step": [f"{s:+g}" for s in own["strength"]],
            "cost": intervals_of(own),
            "perplexity": [f"x {np.exp(e):.3f}" for e in own["estimate"]],
        }
    )


def _own(done: SteerRun, outcome: str, subset: str, *, learned: bool = True) -> pd.DataFrame:
    """The swings of one outcome: the learned direction's row, or the nulls'."""
    rows = done.swings[(done.swings["outcome"] == outcome) & (done.swings["subset"] == subset)]
    return rows[(rows["kind"] == LEARNED) == learned]


def _subsets(done: SteerRun) -> list[str]:
    rows = done.swings[done.swings["outcome"] == SWINGING[0]]
    return list(dict.fromkeys(rows["subset"]))


def _usable(done: SteerRun) -> bool:
    row = done.stack.layers.index(done.stack.best_layer)
    return bool(done.stack.auc.at(row).low > 0.5)


def _listed(strengths: tuple[float, ...]) -> str:
    return ", ".join(_signed(s) for s in strengths)


def _signed(strength: float) -> str:
    return f"{strength:+g}" if strength else "0"
