"""The report of a steering run: what its numbers allow, in plain sentences, and its figures.

Order of the gates: does the direction separate held-out sentences, does the step change the outcome
at all (its interval excludes 0), does it change it more than steps of the same length along null
directions. What fails a gate is shown but not interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analyses.report.claims import Claim
from analyses.report.prose import count
from analyses.report.sections import MARGIN, left_out, limits, sample_counts
from analyses.report.verdicts import bare, is_finding, p_of, read_direction, read_effect, read_gated
from analyses.steer.tables import SteerResult
from analyses.study import Story
from interp import viz
from interp.directions.swings import LEARNED, SWINGING, place_among
from interp.stats import interval_of, intervals_of
from interp.viz import Section
from interp.viz.report import format_interval

_KINDS = {
    "covariance": "drawn with the covariance of the evaluation prompts' states",
    "placebo": "differences between placebo texts",
    "contrast": "of non-moral contrasts fitted the same way",
}
_OUTCOMES = {
    "margin": "the margin of {} items",
    "preference": "the preference for moral over immoral sentences",
}
_DAMAGE = 0.1
"""A mean cost, nats per token, above which a step is said to damage the model."""


def tell(done: SteerResult) -> Story:
    """Sections and figures."""
    figures = dict(_figures(done))
    return Story(
        title="Does steering along the direction move the answers?",
        sections=[
            _question(done),
            _margins(done, figures["margin"]),
            _preference(done, figures["preference"]),
            _cost(done, figures["cost"]),
            _completions(done),
            _limits(done),
        ],
        figures=figures,
        headline=read_outcome(done, "margin", _subsets(done)[0]),
    )


def _figures(done: SteerResult) -> Iterator[tuple[str, go.Figure]]:
    margins = {("margin", subset): f"margin, {subset} items" for subset in _subsets(done)}
    preference = ("preference", "all")
    yield (
        "margin",
        viz.dose_response(done.effects, margins, title="Margin under a step along the direction"),
    )
    yield (
        "preference",
        viz.dose_response(
            done.effects,
            {preference: "moral − immoral sentences"},
            title="Preference for moral sentences under a step",
            unit="nats of log-likelihood",
        ),
    )
    yield (
        "cost",
        viz.effect_against_cost(
            done.effects, {**margins, preference: "preference for moral sentences"}
        ),
    )


def _question(done: SteerResult) -> Section:
    config, place, best = done.config, done.place, done.stack.best
    largest = max(config.strengths)
    step = largest * best.scale
    kinds = _swings(done, "nll", "all", learned=False)["kind"].value_counts(sort=False)
    nulls = "; ".join(f"{n} {_KINDS[str(kind)]}" for kind, n in kinds.items())
    dropped = left_out(len(done.left_out))
    return Section(
        "What was done",
        paragraphs=[
            read_direction(done.stack),
            f"Then every state at {best.site} of layer {best.layer}, at every position, was moved "
            f"along it by {', '.join(map(_signed, config.strengths))} class units (the two classes "
            f"lie 2 apart). {largest:g} class units are {step:.2f} in length; the states of the "
            f"evaluation prompts at their last token lie {place['spread']:.2f} from their mean (root "
            f"mean square), so that is {step / place['spread']:.0%} of their spread.",
            "The same steps, equal in length, were made along null directions at the same place, at "
            f"{largest:g} and {-largest:g} class units: {nulls}.",
            f"Measured under each step: {count(len(done.items), 'item')} "
            f"({sample_counts(done.items)}), without any instruction, all cyclic orders."
            f"{' ' * bool(dropped)}{dropped} {MARGIN} "
            f"Sentences: {done.sentences.source}. A swing is half the difference between the effects "
            f"at {largest:+g} and {-largest:+g}: what any push of that size does to an answer cancels "
            "in it.",
        ],
    )


def _margins(done: SteerResult, figure: go.Figure) -> Section:
    return Section(
        "Does it move the margin?",
        paragraphs=[read_outcome(done, "margin", subset) for subset in _subsets(done)],
        tables=[
            (
                _table(done, "margin"),
                "Swings at the largest step, nats, 95 % intervals over clusters of items; of the null "
                "directions, absolute swings. Beyond the largest null: the interval of the "
                "difference. p, nulls: the share of directions (null directions and this one) with "
                "a swing at least as large. Per cost: the swing's size per nat per token of cost, a "
                "dash where no cost is shown.",
            ),
            (
                _signs(done),
                "The same, each sign of the step for itself: effects, and their place among the "
                "null steps of both signs.",
            ),
        ],
        figures=[
            (
                figure,
                "A line that rises: steps towards the moral class bring the better answer. Grey: "
                "null directions, measured at both ends.",
            )
        ],
    )


def _preference(done: SteerResult, figure: go.Figure) -> Section:
    crossed = done.sentences.name == "bundled:morality"
    return Section(
        "Does it make moral sentences likelier?",
        paragraphs=[read_outcome(done, "preference", "all")],
        tables=[
            (
                _table(done, "preference").drop(columns="items"),
                "Change of the mean log-likelihood of moral minus immoral sentences within a group; "
                "columns as above.",
            )
        ],
        figures=[
            (
                figure,
                "Groups cross verbs with objects, so that the same words stand on both sides; only "
                "their composition tells moral from immoral."
                if crossed
                else "Pairs of a fair and a biased statement.",
            )
        ],
    )


def _cost(done: SteerResult, figure: go.Figure) -> Section:
    own = done.effects[(done.effects["outcome"] == "nll") & (done.effects["kind"] == LEARNED)]
    table = pd.DataFrame(
        {
            "step": [f"{s:+g}" for s in own["strength"]],
            "cost": intervals_of(own),
            "perplexity": [f"x {np.exp(e):.3f}" for e in own["estimate"]],
        }
    )
    return Section(
        "At what cost?",
        paragraphs=[read_cost(done)],
        tables=[
            (
                table,
                "Change of the mean negative log-likelihood per token of plain sentences (nats; "
                "perplexity grows by its exponential), learned direction.",
            )
        ],
        figures=[
            (
                figure,
                "Points far to the right damage the model: an effect there says little about the "
                "direction.",
            )
        ],
    )


def _completions(done: SteerResult) -> Section:
    levels = pd.Series(intervals_of(done.completions), dtype=object)
    table = done.completions.assign(level=levels)
    table = table.pivot(index="strength", columns="outcome", values="level")
    names = {
        "kept": "first choice kept",
        "overlap": "tokens kept",
        "fluency": "log-likelihood per token",
    }
    table = table[[name for name in names if name in table]].rename(columns=names).reset_index()
    table["strength"] = table["strength"].map(_signed)
    texts = done.texts.assign(
        prompt=done.texts["prompt"].map(lambda name: f"{done.beginnings[name]} …"),
        strength=done.texts["strength"].map(_signed),
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
            (texts, "The continuations. Null directions were measured by feeding back only."),
        ],
    )


def _limits(done: SteerResult) -> Section:
    n = len(_swings(done, "nll", "all", learned=False))
    return limits(
        done.card,
        [
            "They speak of one layer, which was picked on labelled sentences.",
            "An effect beyond the null directions' says that the model uses this direction on the way "
            "to the answer, not that an instruction does. Where none is shown, a step of this length "
            "at this layer does not matter here; longer steps or other layers and directions might.",
            f"With {n} null directions p among them cannot be below {1 / (n + 1):.3f}, however "
            "large the swing. The swings' own p is corrected over "
            f"{count(len(_subsets(done)) + 1, 'outcome')} (Holm).",
            "Steps move every position, the chat template's too. Likelihoods of moral and immoral "
            "sentences say what the model expects to read, not what it would do.",
        ],
    )


def read_outcome(done: SteerResult, outcome: str, subset: str) -> str:
    """Whether steps towards the moral class move an outcome, more than null directions do."""
    own = _swings(done, outcome, subset).iloc[0]
    nulls = _swings(done, outcome, subset, learned=False)["estimate"].abs()
    swing, what = interval_of(own), _OUTCOMES[outcome].format(subset)
    larger = int((nulls >= abs(own["estimate"])).sum())
    beside = (
        f"{larger} of {count(len(nulls), 'null direction')} swing it at least as far; beyond the "
        f"largest {bare(interval_of(own, 'beyond'))}"
    )
    p = max(done.family.p_holm[outcome, subset], own["p_null"])
    claim = Claim(swing, p)
    subject, sample = "Steering towards the moral class", (beside, p_of(own["p_null"]))
    gates = []
    if not done.stack.auc.at(done.stack.best_row).low > 0.5:
        gates.append("the direction does not separate held-out sentences")
    if outcome == "preference" and not done.sentences.held_out:
        gates.append("the direction was fitted on these very sentences")
    if gates and claim.is_effect:
        return read_gated(subject, swing, gates, of=what, sample=sample)
    return read_effect(subject, claim, of=what, sample=sample)


def read_cost(done: SteerResult) -> str:
    """What the largest step costs, beside null directions', and the swings per unit of cost."""
    cost = interval_of(_swings(done, "nll", "all").iloc[0])
    nulls = _swings(done, "nll", "all", learned=False)["estimate"]
    reading = (
        f"At the largest step, averaged over both signs, the cost on plain sentences is "
        f"{format_interval(cost)} nats per token (perplexity x {np.exp(cost.estimate):.2f}); along "
        f"null directions of the same length {nulls.median():.3f} in the median, "
        f"{nulls.min():.3f} to {nulls.max():.3f}."
    )
    if is_finding(cost) and cost.estimate > _DAMAGE:
        reading += " A step of this length damages the model."
    parts = []
    for outcome, subset in [("margin", s) for s in _subsets(done)] + [("preference", "all")]:
        row = _swings(done, outcome, subset).iloc[0]
        if not np.isnan(row["per_cost"]):
            what = _OUTCOMES[outcome].format(subset)
            parts.append(f"{what} {row['per_cost']:.1f} (p among nulls {row['p_per_cost']:.3f})")
    if not parts:
        return f"{reading} No cost is shown, so there is no effect per unit of cost."
    return f"{reading} Swing per unit of cost: {'; '.join(parts)}."


def read_kept(done: SteerResult) -> str:
    """How much of the unsteered continuation survives, beside null directions."""
    rows = _swings(done, "kept", "all")
    if rows.empty:
        return "The unsteered model ends every text at once: there is nothing to keep."
    own = rows.iloc[0]
    nulls = _swings(done, "kept", "all", learned=False)["estimate"]
    return (
        f"At the largest step {1 + own['estimate']:.0%} of the unsteered continuation's tokens stay "
        f"the first choice (mean of both signs); along null directions {1 + nulls.median():.0%} in "
        f"the median ({p_of(own['p_null'])} among them). This says how much is changed, not which way."
    )


def _table(done: SteerResult, outcome: str) -> pd.DataFrame:
    rows = []
    for subset in _subsets(done) if outcome == "margin" else ["all"]:
        own = _swings(done, outcome, subset).iloc[0]
        nulls = _swings(done, outcome, subset, learned=False)["estimate"].abs()
        rows.append(
            {
                "items": subset,
                "swing": interval_of(own),
                "beyond the largest null": interval_of(own, "beyond"),
                "p, nulls": own["p_null"],
                "nulls: median, largest": f"{nulls.median():.3f}, {nulls.max():.3f}",
                "per cost": own["per_cost"],
                "p per cost": own["p_per_cost"],
                "n": own["n"],
                "clusters": own["n_clusters"],
            }
        )
    return pd.DataFrame(rows)


def _signs(done: SteerResult) -> pd.DataFrame:
    """Effects of every step of the learned direction; the largest's place among the null steps."""
    margins = done.effects[done.effects["outcome"] == "margin"]
    rows = []
    for subset in _subsets(done):
        cell = margins[margins["subset"] == subset]
        nulls = cell.loc[cell["kind"] != LEARNED, "estimate"].abs().to_numpy(float)
        own = cell[cell["kind"] == LEARNED]
        for strength, effect in zip(own["strength"], intervals_of(own), strict=True):
            at_end = abs(strength) == max(done.config.strengths)
            p = place_among(abs(float(effect.estimate)), nulls) if at_end else np.nan
            rows.append(
                {"items": subset, "step": f"{strength:+g}", "effect": effect, "p, nulls": p}
            )
    return pd.DataFrame(rows)


def _swings(done: SteerResult, outcome: str, subset: str, *, learned: bool = True) -> pd.DataFrame:
    """The swings of one outcome: the learned direction's row, or the null directions'."""
    rows = done.swings[(done.swings["outcome"] == outcome) & (done.swings["subset"] == subset)]
    return rows[(rows["kind"] == LEARNED) == learned]


def _subsets(done: SteerResult) -> list[str]:
    rows = done.swings[done.swings["outcome"] == SWINGING[0]]
    return list(dict.fromkeys(rows["subset"]))


def _signed(strength: float) -> str:
    return f"{strength:+g}" if strength else "0"
