"""The report of a circuit run: is there anything to explain, how faithful is a circuit, what is in it.

A curve is read only where m(full) - m(empty) differs from 0 over clusters and wordings, and there are
enough of both; else it is shown but not interpreted.
"""

from __future__ import annotations

import pandas as pd

from analyses.circuit.config import CircuitConfig
from analyses.circuit.tables import CircuitResult
from analyses.contrast import by_name, standing
from analyses.report.prose import count
from analyses.report.sections import METRICS, UNITS, limits, named, read_sample
from analyses.report.verdicts import untested
from analyses.study import Story
from interp import viz
from interp.circuits import CircuitNode
from interp.stats import interval_column_names, intervals_of
from interp.viz import Section
from interp.viz.report import format_interval

_REPLACED = {
    "resample": "what they give in the placebo's run, position by position",
    "mean": "their mean over the placebo prompts (the first position has its own)",
    "zero": "nothing",
}
_ALONG = {
    "resample": "what the sender gives in the placebo's run, position by position",
    "mean": "the sender's mean over the placebo prompts (the first position has its own)",
    "zero": "nothing of the sender",
}
_UNASKED = {
    "nodes": "A circuit of nodes keeps every connection between them: which of these matter is not "
    "asked.",
    "edges": "An edge is one for all positions: at which of them it matters is not asked.",
}
_SCORED = {
    "nodes": "every head and MLP",
    "edges": "every edge (from the embedding, a head or an MLP into the queries, keys or values of a "
    "head, an MLP or the logits)",
}
_WHICH = {"nodes": "heads and MLPs", "edges": "edges between heads and MLPs"}
_MOST_ROWS = 20


def tell(done: CircuitResult) -> Story:
    """Sections and figures."""
    name, unit = by_name(done.config.condition), done.config.unit
    curve = viz.faithfulness(done.curve, done.random)
    graph = viz.circuit_graph(done.scores, done.circuit)
    return Story(
        title=f"Which {_WHICH[done.config.unit]} carry the instruction{name}?",
        sections=[
            _question(done),
            Section(
                "How faithful are circuits?",
                paragraphs=[read_total(done), read_curve(done)],
                tables=[(_areas(done), f"Areas over the share of {unit} kept, from .001 to 1.")],
                figures=[
                    (
                        curve,
                        f"Faithfulness of the {unit} with the largest scores, and of random ones. Both "
                        "areas are of the curve of means over a linear scale of shares.",
                    )
                ],
            ),
            Section(
                "What is in the circuit?",
                paragraphs=[read_circuit(done)],
                tables=[(_top(done), "The largest scores, with their place in the ranking.")],
                figures=[(graph, _drawn(done))],
            ),
            Section(
                "Which tests does it pass?",
                paragraphs=[read_tests(done)],
                tables=[
                    (
                        done.tests_table,
                        "Hypothesis tests of arXiv 2410.13032 at 5 %. Where the null hypothesis is the "
                        "good case, retaining it on few items shows little.",
                    )
                ],
            ),
            Section(
                "Can the circuit be relied on?",
                paragraphs=[read_joint(done), read_ablations(done)],
                tables=[
                    (
                        _with_intervals(done.joint_table),
                        f"What the {named(done.config.metric)} of the instructed prompt loses when the "
                        f"largest {unit} of the circuit are ablated in the whole model: one by one, as "
                        "a sum, and together.",
                    ),
                    (
                        _with_intervals(done.by_ablation),
                        "The circuit's faithfulness by what stands in for the rest.",
                    ),
                ],
            ),
            _limits(done),
        ],
        figures={"faithfulness": curve, "circuit": graph},
        printed=_areas(done),
        headline=headline(done),
    )


def headline(done: CircuitResult) -> str:
    """The area under the faithfulness curve beside random circuits, or why it is not read."""
    why = blocked(done)
    if why:
        return f"{read_total(done)} Shown but not interpreted: {why}."
    return f"{read_curve(done)} {read_circuit(done)}"


def _question(done: CircuitResult) -> Section:
    config = done.config
    asked = f"the instruction{by_name(config.condition)}"
    n = len(done.curve.runs.pair_labels)
    lost = (
        f" {count(done.left_out, 'pair')} whose placebo has another number of tokens "
        f"{'is' if done.left_out == 1 else 'are'} left out."
        if done.left_out
        else ""
    )
    return Section(
        "What was done",
        paragraphs=[
            f"Every item is asked with {asked}, {standing(done.spec)}, and with a placebo in its place. "
            f"For example: “{done.example[config.condition]}” against “{done.example['placebo']}” On "
            f"{count(done.n_scored, 'pair')} {_SCORED[config.unit]} was scored by patching it from the "
            f"instructed prompt into the placebo ({config.method}).",
            f"On {count(n, 'other pair')}, of other clusters of items, the instructed prompt was run "
            f"with the {config.unit} of the largest scores alone: {_others(config)} Faithfulness is "
            "the share of m(full) - m(empty) that a circuit keeps.",
            f"{read_sample(done.items)}{lost} {METRICS[config.metric]}",
        ],
    )


def _others(config: CircuitConfig) -> str:
    """What takes the place of all that is not in the circuit."""
    if config.unit == "nodes":
        replaced = _REPLACED[config.ablation]
        return f"all others gave {replaced}; the embeddings are the instructed prompt's throughout."
    return f"along all others what reads the stream was given {_ALONG[config.ablation]}."


def _drawn(done: CircuitResult) -> str:
    if done.config.unit == "nodes":
        return "The nodes of the model. circuit.graphml holds the same graph."
    return "The edges of the circuit, from below upwards. circuit.graphml holds the same graph."


def blocked(done: CircuitResult) -> str:
    """Why no curve is interpreted; empty where it can be."""
    few = untested(done.total)
    if few:
        return few
    if not done.total.excludes(0):
        return "the full model does not differ from the empty circuit"
    return ""


def read_total(done: CircuitResult) -> str:
    """How much there is that a circuit could keep."""
    metric = named(done.config.metric)
    return (
        f"All {done.config.unit} together carry {format_interval(done.total)}"
        f"{UNITS[done.config.metric]} of the {metric}: that of the model minus that with "
        "every one of them ablated."
    )


def read_curve(done: CircuitResult) -> str:
    """CPR and CMD beside random circuits."""
    why = blocked(done)
    if why:
        return f"The curve is shown but not interpreted: {why}."
    cpr, cmd = done.curve.cpr_interval(), done.curve.cmd_interval()
    above = "above" if cpr.low > done.random.cpr().high else "not clearly above"
    return (
        f"The area under the curve (CPR) is {format_interval(cpr)}, {above} that of random circuits "
        f"({format_interval(done.random.cpr())}). Its distance from 1 (CMD) is {format_interval(cmd)} "
        f"against {format_interval(done.random.cmd())}."
    )


def read_circuit(done: CircuitResult) -> str:
    """The circuit that is drawn and tested, and its faithfulness."""
    unit, size = done.config.unit, len(done.circuit)
    nodes = [node for node in done.circuit if isinstance(node, CircuitNode)]
    heads = sum(node.head is not None for node in nodes)
    kinds = f", {count(heads, 'head')} and {count(size - heads, 'MLP')}" if nodes else ""
    said = (
        f"The circuit is the {count(size, unit[:-1])} with the largest scores{kinds} of "
        f"{len(done.scores)} {unit}."
    )
    if blocked(done):
        return f"{said} Its faithfulness is not read (see above)."
    return f"{said} Its faithfulness is {done.faithful:.2f}."


def read_tests(done: CircuitResult) -> str:
    """Which tests the circuit passes."""
    why = blocked(done)
    if why:
        return f"No test is interpreted: {why}."
    table = done.tests_table
    passed = table.loc[table["passed"], "test"].tolist()
    failed = table.loc[~table["passed"], "test"].tolist()
    return f"It passes: {', '.join(passed) or 'none'}. It fails: {', '.join(failed) or 'none'}."


def read_joint(done: CircuitResult) -> str:
    """Whether the circuit's largest parts do more together than one by one."""
    few, joint = untested(done.total), done.joint
    if len(joint.units) < 2:
        return "Of one alone it cannot be asked whether it is backed up."
    largest = f"The {len(joint.units)} largest {done.config.unit} of the circuit"
    if few:
        return f"Whether {largest[0].lower()}{largest[1:]} back each other up is not read: {few}."
    excess = format_interval(joint.excess)
    if joint.backed_up:
        return (
            f"{largest} back each other up: what they carry together less the sum of what each carries "
            f"alone is {excess}{UNITS[done.config.metric]}. Scores of single ones are too small."
        )
    return (
        f"{largest} are not seen to back each other up: what they carry together less the sum of what "
        f"each carries alone is {excess}{UNITS[done.config.metric]}."
    )


def read_ablations(done: CircuitResult) -> str:
    """Whether the circuit's faithfulness depends on what stands in for the rest."""
    if blocked(done):
        return "The faithfulness by ablation value is shown but not interpreted (see above)."
    intervals = dict(zip(done.by_ablation["ablation"], intervals_of(done.by_ablation), strict=True))
    told = {name: found for name, found in intervals.items() if found.low == found.low}
    own = told.get(done.config.ablation)
    apart = [
        name
        for name, found in told.items()
        if own is not None and (found.low > own.high or found.high < own.low)
    ]
    if not apart:
        return "Intervals of its faithfulness with other ablation values overlap this one's."
    return (
        f"Its faithfulness depends on the ablation value: with {' and '.join(apart)} ablation its "
        "interval lies apart."
    )


def _areas(done: CircuitResult) -> pd.DataFrame:
    return _with_intervals(done.areas)


def _with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """What names its rows, and each row's interval in one column."""
    own = [name for name in table.columns if name not in interval_column_names()]
    return pd.DataFrame({**table[own], "95 % interval": intervals_of(table)})


def _top(done: CircuitResult) -> pd.DataFrame:
    rows = done.scores.sort_values("rank").head(_MOST_ROWS)
    return rows[["rank", done.config.unit[:-1], "score", "kept"]].reset_index(drop=True)


def _limits(done: CircuitResult) -> Section:
    return limits(
        done.card,
        [
            f"{_UNASKED[done.config.unit]} What backs each other up has small scores and may be "
            "missing.",
            "Circuits were chosen on other items than the curve is of, and sizes were fixed before. "
            f"Random ones are drawn from all {done.config.unit}, and their interval is over draws on "
            "these items.",
            "Resampled outputs come from a prompt of another meaning and may be unlike anything that "
            "the model meets together; with mean and zero ablation more so.",
        ],
    )
