"""Sentences for the report: each says what its numbers allow, and no more.

A number without an interval is told with the reason and claims nothing. "Raises" and "lowers" need
at least :data:`MIN_CLUSTERS` clusters, an interval that excludes zero and, where texts can be
permuted, p < .05. A map is read only where
the positive control's map shows something. Margins are in nats, + = the better answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyses.shifts import CONTROL
from interp.behaviour import Effect, OptionScores
from interp.patching import SweepResult
from interp.stats import Interval, MaxT
from interp.viz.report import format_interval

ALPHA = 0.05
MIN_CLUSTERS = 6
"""With fewer, clusters that merely agree in sign (chance: 2 / 2**n) already exclude zero."""


def count(n: Any, unit: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{n} {unit}{'s' * (n != 1)}"


def read_matching(scores: OptionScores) -> str:
    """How long a placebo is beside its instruction, to follow "a sentence of"."""
    mismatch = scores.frame["mismatch"].dropna().abs()
    if (mismatch == 0).all():
        return "the same number of tokens"
    return (
        "as nearly the same number of tokens as the bank allows (they differ by "
        f"{mismatch.mean():.1f} on average and by {mismatch.max():.0f} at most under this tokenizer)"
    )


def read_margins(scores: OptionScores) -> str:
    """How many items have no margin; empty when all have one."""
    missing = scores.frame["margin"].isna().groupby(scores.frame["item"]).any()
    if not missing.any():
        return ""
    return (
        f" {int(missing.sum())} of {len(missing)} items have no margin (no pair of options to "
        "contrast, or two that no token tells apart); they enter the levels alone."
    )


def read_effect(effect: Effect) -> str:
    """What a condition does to the margin against its placebos."""
    interval, test = effect.interval, effect.test
    what = f"On {effect.subset} items the {effect.condition} prompt"
    if np.isnan(interval.estimate):
        return f"{what} has no effect that could be measured: {interval.reason}."
    permuted = test.n_permutations > 2
    a, b = interval.texts or (1, 1)
    sample = f"{count(interval.n, 'item')}, {a} x {b} texts"
    numbers = f"{format_interval(interval)} nats against its placebo ({sample}"
    numbers += f", p = {test.p:.3f})" if permuted else ")"
    if np.isnan(interval.low):
        return f"{what} changes the margin by {numbers}: {interval.reason}, so this is no finding."
    if not interval.excludes(0):
        return f"{what} changes the margin by {numbers}: the interval does not exclude zero."
    if interval.n_clusters < MIN_CLUSTERS:
        return f"{what} changes the margin by {numbers}: {_too_few(interval.n_clusters)}."
    if permuted and test.p >= ALPHA:
        return (
            f"{what} changes the margin by {numbers}: the interval excludes zero, but wordings with "
            "their labels permuted differ as much."
        )
    return f"{what} {'raises' if interval.estimate > 0 else 'lowers'} the margin: {numbers}."


def read_control(effect: Effect) -> str:
    """Whether naming the answer raises the margin, without which nothing else is read."""
    interval = effect.interval
    rest = f"so nothing should be concluded about {effect.subset} items"
    if np.isnan(interval.low) or interval.n_clusters < MIN_CLUSTERS:
        why = interval.reason or _too_few(interval.n_clusters)
        return f"The positive control cannot be judged on {effect.subset} items ({why}), {rest}."
    numbers = f"{format_interval(interval)} nats on {effect.subset} items"
    if interval.excludes(0) and interval.estimate > 0:
        return f"The positive control works: naming the answer raises the margin by {numbers}."
    return f"The positive control fails: naming the answer moves the margin by {numbers}, {rest}."


def read_positions(bias: pd.DataFrame, agreement: float) -> str:
    """Preferred letter and position of the clean prompt; ``bias`` as ``position_bias()`` gives it."""
    clean = bias[bias["condition"] == "clean"]
    even = f"{1 / len(clean):.0%}"
    if clean["letter chosen"].isna().any():
        letters = "Under this tokenizer no single token tells the letters apart."
    else:
        top = clean.sort_values("letter chosen", kind="stable").iloc[-1]
        letters = (
            f"Read by letter and without any instruction, the model's answer is “({top['position']})” "
            f"in {top['letter chosen']:.0%} of the prompts. Every option stands at every letter "
            f"equally often, so without a preference for letters it would be near {even}."
        )
    share = clean.sort_values("chosen", kind="stable").iloc[-1]
    ranks = (
        "too few items to compare margin and option score."
        if np.isnan(agreement)
        else "over items, the margin and the options' full texts correlate with Spearman "
        f"{agreement:.2f}."
    )
    return (
        f"{letters} Here answers are scored by their text and averaged over cyclic orders; scored "
        f"so, the option listed at ({share['position']}) is chosen most often, in "
        f"{share['chosen']:.0%} of the prompts (evenly: {even}). Two readings of the text: {ranks}"
    )


def read_maps(control: SweepResult, instructed: SweepResult) -> list[str]:
    """The positive control's map, then the instruction's where the control shows something."""
    readings = [_read_map("revealing", control)]
    if _significant(control.max_t()):
        readings.append(_read_map("instructed", instructed))
    else:
        readings.append(
            "Where the positive control's map shows nothing, the instructed one is not read."
        )
    return readings


def _read_map(name: str, result: SweepResult) -> str:
    total = result.total()
    effect = result.effect().mean(-1).numpy()
    row, column = np.unravel_index(np.abs(effect).argmax(), effect.shape)
    place = f"“{result.axis_labels['span'][column]}” at layer {result.axis_labels['layer'][row]}"
    opening = (
        f"{name.capitalize()}: the whole effect on these items is {format_interval(total)} nats"
    )
    if np.isnan(total.low):
        opening += f" ({total.reason})"
    elif not total.excludes(0):
        opening += ", which does not exclude zero, so shares of it are not defined"
    largest = f"The largest cell is {place}, {effect[row, column]:+.3f} nats."
    return " ".join([f"{opening}; {_cells(result.max_t())}.", largest, *_sentences(result.notes)])


def _cells(test: MaxT) -> str:
    """How many cells differ from zero, or why none can."""
    n_cells = np.size(test.p_corrected)
    if test.n_clusters < 2:
        return "a single cluster allows no test of the cells"
    if test.exact and 2 / 2**test.n_clusters >= ALPHA:
        return f"{test.n_clusters} clusters are too few for any cell to reach family-wise p < .05"
    found = _significant(test)
    if not found:
        return "no cell differs from zero family-wise"
    return f"{found} of {n_cells} cells differ from zero family-wise"


def _significant(test: MaxT) -> int:
    return int((np.asarray(test.p_corrected) < ALPHA).sum())


def read_auc(auc: Interval, layer: int, n_layers: int) -> str:
    """Whether the direction separates held-out sentences at its best layer."""
    reading = (
        "Its interval, which does not count that choice, excludes chance."
        if auc.low > 0.5
        else "Its interval contains chance, so no shift along it can be read as moral."
    )
    return (
        f"Held-out AUC is highest at layer {layer}: {format_interval(auc)}, the best of "
        f"{count(n_layers, 'layer')} and so a little flattered. {reading}"
    )


def read_shift(here: pd.DataFrame, p: float, *, n_clusters: int, usable: bool) -> str:
    """The shift along the morality direction at one layer, beside the other directions' there.

    ``here`` holds the rows of ``projection_shifts`` at that layer, ``p`` is family-wise over layers.
    """
    moral = here[here["direction"] == "morality"].iloc[0]
    shift = Interval(moral["estimate"], moral["low"], moral["high"], 0, n_clusters)
    if np.isnan(shift.estimate):
        return "The shift cannot be scaled: the placebo prompts' projections do not vary."
    tested = "no test over layers" if np.isnan(p) else f"family-wise p over layers {p:.3f}"
    size = (
        f"The instruction shifts the state of the last token by {format_interval(shift)} standard "
        f"deviations against the placebo ({moral['class_units']:+.2f} class units, in which the two "
        f"classes lie 2 apart; {tested})."
    )
    nulls = here[here["is_null"]]["estimate"].abs()
    beaten = int((nulls < abs(shift.estimate)).sum())
    beside = (
        f"In absolute size that is more than along {beaten} of {len(nulls)} directions of non-moral "
        "contrasts (tense, number, topic ...) fitted the same way."
    )
    return f"{size} {beside} {_meaning(shift, beaten == len(nulls), usable)}".strip()


def _meaning(shift: Interval, beats_all: bool, usable: bool) -> str:
    if np.isnan(shift.low):
        return "A single cluster gives no interval: no shift is shown."
    if not shift.excludes(0):
        return "The interval does not exclude zero: no shift is shown."
    if shift.n_clusters < MIN_CLUSTERS:
        return f"{_too_few(shift.n_clusters).capitalize()}."
    if not beats_all:
        return "What non-moral directions show as well need not be about morality."
    return "No non-moral direction shows as much." if usable else ""


def read_control_shift(here: pd.DataFrame) -> str:
    """What the positive control does to the projection; it need not be moral to be a trace."""
    control = here[here["direction"] == CONTROL].iloc[0]
    shift = Interval(control["estimate"], control["low"], control["high"], 0, 0)
    if np.isnan(shift.low):
        return (
            "The revealing prompt's shift has no interval here, so there is no control to compare."
        )
    moves = "moves" if shift.excludes(0) else "does not clearly move"
    return (
        f"The revealing prompt, which names the answer and says nothing of morality, {moves} the state "
        f"along this direction: {format_interval(shift)} standard deviations."
    )


def read_layers(shifts: pd.DataFrame, test: MaxT) -> str:
    """Layers whose morality shift passes both the test over items and the two-way interval."""
    moral = shifts[shifts["direction"] == "morality"]
    clear = (test.p_corrected < ALPHA) & ((moral["low"] > 0) | (moral["high"] < 0)).to_numpy()
    layers = ", ".join(str(layer) for layer in moral["layer"][clear])
    if not layers:
        return (
            "At no layer does the shift both differ from zero over items with all layers corrected for "
            "and have an interval over texts and items that excludes zero."
        )
    return (
        f"Layers where the shift differs from zero over items with all layers corrected for, and its "
        f"interval over texts and items excludes zero: {layers}. They were not chosen beforehand; the "
        "grey lines show how far non-moral directions move there."
    )


def read_attention_mass(
    instructed: npt.NDArray[np.float64], placebo: npt.NDArray[np.float64], n_items: int
) -> tuple[str, int]:
    """The head ``[layer, head]`` that gives the instruction most above a placebo, and its layer."""
    difference = instructed - placebo
    layer, head = (int(k) for k in np.unravel_index(difference.argmax(), difference.shape))
    if difference[layer, head] <= 0:
        text = "No head gives an instruction more of later positions' attention than a placebo."
        return f"Averaged over {count(n_items, 'item')}: {text}", layer
    text = (
        f"Averaged over {count(n_items, 'item')}, the head through which later positions attend to "
        f"the instruction most beyond a placebo in its place is L{layer}H{head}: "
        f"{instructed[layer, head]:.0%} of their attention there goes to the instruction, "
        f"{placebo[layer, head]:.0%} to the placebo. Attention shows what is read, not what is used, "
        "and this head was picked because it stands out."
    )
    return text, layer


def read_control_attention(
    revealing: npt.NDArray[np.float64], placebo: npt.NDArray[np.float64]
) -> str:
    """The same head for the positive control, which must be read if it is to work."""
    difference = revealing - placebo
    layer, head = (int(k) for k in np.unravel_index(difference.argmax(), difference.shape))
    if difference[layer, head] <= 0:
        return "Not even the revealing prompt is attended to more than a placebo by any head."
    return (
        f"For the revealing prompt it is L{layer}H{head}: {revealing[layer, head]:.0%} against "
        f"{placebo[layer, head]:.0%}."
    )


def _too_few(n_clusters: int) -> str:
    return f"{count(n_clusters, 'cluster')} of items are too few for a finding"


def _sentences(notes: tuple[str, ...]) -> list[str]:
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]
