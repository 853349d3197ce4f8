"""The demo's report: a short story told from its tables, whatever they turned out to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from analyses import readings
from analyses.shifts import CONTROL, projection_shifts, shift_test
from interp import viz
from interp.activations import read_attention
from interp.prompts import TokenizedPrompt
from interp.runs import Run
from interp.stats import intervals_of
from interp.viz import Fragment, Section
from interp.viz.report import format_interval

if TYPE_CHECKING:
    from analyses.demo import DemoResult

_HEADINGS = {"items": "context", "n_items": "items", "n_clusters": "clusters", "n_texts": "texts"}
_NO_TEMPLATE = " It has no chat template and was asked in a plain User/Assistant layout."
TITLE = "What does a self-correction instruction do?"


def write_report(folder: Run, model: TransformerBridge, result: DemoResult) -> None:
    """Draw the figures, tell the story, and write ``report.html``, ``figures/`` and small tables."""
    shifts = projection_shifts(result.projections, result.config.seed)
    folder.save_table("projection_shifts", shifts)
    folder.save_table("effects", result.scores.effects())
    with folder.file("figures/attention.html") as path:
        viz.attention_page(model, result.example, path=path)
    sections = [
        _question(result),
        _behaviour(folder, result),
        _positions(folder, result),
        _where(folder, result),
        _morality(folder, result, shifts),
        _attention(folder, model, result),
        _limits(result),
    ]
    lead = f"Model: {result.card.one_line}."
    folder.save_text("report.html", viz.render_report(sections, title=TITLE, lead=lead))


def _question(result: DemoResult) -> Section:
    items = result.items
    kinds = pd.Series([f"{i.benchmark}, {i.context_condition}" for i in items]).value_counts()
    counts = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    n_texts = result.config.n_texts
    wordings, placebos = (readings.count(n_texts, unit) for unit in ("wording", "placebo"))
    example = result.example
    instruction = _span_text(example.source)
    placebo = _span_text(example.destination)
    return Section(
        "The question",
        paragraphs=[
            "A model that answers multiple-choice questions is told, after the question, to be "
            "unbiased. Does it answer better? Where inside does the instruction act? And does it make "
            "the model's states more moral, or only its output?",
            "The main answers are differences between two prompts of the same item: the instruction "
            f"against a placebo, a sentence of {readings.read_matching(result.scores)}, without moral "
            "content. A negated instruction asks for the opposite. A revealing one names the right "
            "answer and is the positive control: where even that leaves no trace, nothing is "
            "concluded from the others.",
            f"The sample: {len(items)} items ({counts}) in {len({i.cluster for i in items})} clusters, "
            f"each asked in every cyclic order of its options under {wordings} of the instruction and "
            f"{placebos}. For example: “{instruction}” against “{placebo}”",
            "The metric is the margin: how much the better answer's logit exceeds the worse one's, in "
            "nats, where their texts first differ. On ambiguous items that is the abstention over the "
            "stereotyped option, on disambiguated ones the right answer over the other group's."
            + readings.read_margins(result.scores),
        ],
    )


def _behaviour(folder: Run, result: DemoResult) -> Section:
    scores = result.scores
    figures = {"effects": viz.effects(scores), "levels": viz.levels(scores)}
    for name, figure in figures.items():
        folder.save_figure(name, figure)
    summary = scores.summary()
    table = scores.effects()
    paragraphs = []
    for subset in dict.fromkeys(table["items"]):
        for condition in ("instructed", "negated"):
            paragraphs.append(readings.read_effect(scores.effect(condition, subset=subset)))
        paragraphs.append(readings.read_control(scores.effect("revealing", subset=subset)))
    return Section(
        "What the model answers",
        paragraphs=paragraphs,
        tables=[
            (
                _effect_table(table),
                "Effects on the margin, in nats (+ = a better answer), with 95 % intervals over texts "
                "x item clusters. p: permutation of the text labels on these items (it does not speak "
                "of other items, the interval does); none with one wording a side. Differences to the "
                "clean prompt are the second reading; placebo - clean is the artefact of length and "
                "position.",
            ),
            (
                summary.rename(columns=_HEADINGS),
                "Levels. P(unknown) is the option score of the abstention. The bias score runs from "
                "-1 to 1, + = follows the stereotype; undefined when every answer was unknown.",
            ),
        ],
        figures=[
            (figures["effects"], "The same effects as a picture. Pale: against the clean prompt."),
            (figures["levels"], "Accuracy and probability of abstaining under every condition."),
        ],
    )


def _positions(folder: Run, result: DemoResult) -> Section:
    figure = viz.position_bias(result.scores)
    folder.save_figure("position_bias", figure)
    scores = result.scores
    return Section(
        "Letters and positions",
        paragraphs=[readings.read_positions(scores.position_bias(), scores.agreement())],
        figures=[(figure, "An unbiased reader lies on the dashed line at every position.")],
    )


def _where(folder: Run, result: DemoResult) -> Section:
    figures = []
    for name, sweep_result in result.maps.items():
        figure = viz.heatmap(sweep_result)
        folder.save_figure(f"map_{name}", figure)
        caption = (
            f"The {name} prompt's residual stream patched into its placebo's, one span at one layer "
            "at a time. Dots: family-wise p < .05 over the cells of this map."
        )
        figures.append((figure, caption))
    for name, trajectory in result.lens.items():
        figure = viz.lens_margin(trajectory, seed=result.config.seed)
        folder.save_figure(f"lens_{name}", figure)
        caption = (
            f"Logit lens at the last position, {name} and placebo: the margin that each layer's state "
            "would give if it were the last."
        )
        figures.append((figure, caption))
    instructed = result.maps["instructed"]
    spread = (
        ""
        if instructed.notes
        else " The two prompts differ at the instruction; a later span can show an effect only at "
        "layers to which attention has carried it."
    )
    return Section(
        "Where the instruction acts",
        paragraphs=[
            f"On {len(instructed.pair_labels)} of the ambiguous items, chosen before anything was "
            "run and asked in the first order of their options, the activations of the instructed "
            "prompt are copied into its placebo: what moves the margin there is sufficient."
            + spread,
            *readings.read_maps(result.maps["revealing"], instructed),
        ],
        figures=figures,
    )


def _morality(folder: Run, result: DemoResult, shifts: pd.DataFrame) -> Section:
    direction, seed = result.direction, result.config.seed
    auc_figure = viz.direction_auc(direction, result.baselines)
    drawn = shifts.replace({"direction": {"morality": "instructed", CONTROL: "revealing"}})
    shift_figure = viz.projection_shift(
        drawn, title="Shift along the morality direction, last token", unit="placebo SDs"
    )
    folder.save_figure("direction_auc", auc_figure)
    folder.save_figure("projection_shift", shift_figure)
    layer = direction.best_layer
    row = direction.layers.index(layer)
    auc = direction.auc.at(row)
    test = shift_test(result.projections, seed)
    here = shifts[shifts["layer"] == layer]
    n_items = result.projections["item"].nunique()
    return Section(
        "What happens to the morality projection",
        paragraphs=[
            f"A direction is learned from {direction.facts.n_texts} sentences (difference of means, "
            "last token) whose moral value is not in their words: a bag of words scores "
            f"{format_interval(result.baselines['bag of words'])}. "
            + readings.read_auc(auc, layer, len(direction.layers)),
            f"At that layer, chosen on the sentences alone, on {n_items} of the ambiguous items: "
            + readings.read_shift(
                here, float(test.p_corrected[row]), n_clusters=test.n_clusters, usable=auc.low > 0.5
            ),
            readings.read_control_shift(here),
            readings.read_layers(shifts, test),
        ],
        figures=[
            (auc_figure, "Held-out AUC per layer, groups of sentences never split."),
            (
                shift_figure,
                "Shift against the placebo per layer, in standard deviations of the placebo prompts. "
                "Grey: the instructed prompts along the directions of non-moral contrasts. Where the "
                "AUC is at chance the direction means nothing.",
            ),
        ],
    )


def _attention(folder: Run, model: TransformerBridge, result: DemoResult) -> Section:
    instructed, placebo = _attention_grids(result.attention, "instructed")
    figure = viz.attention_to_span(instructed, placebo)
    folder.save_figure("attention_to_instruction", figure)
    n = result.attention["item"].nunique()
    reading, layer = readings.read_attention_mass(instructed, placebo, n)
    control = readings.read_control_attention(*_attention_grids(result.attention, "revealing"))
    heads = np.argsort(placebo[layer] - instructed[layer], kind="stable")[:3].tolist()
    patterns = read_attention(model, result.example.source, layers=[layer])
    fragment = viz.attention_fragment(patterns, layers=[layer], heads=heads)
    link = Fragment(
        '<p><a href="figures/attention.html">A page with both prompts and more heads</a></p>'
    )
    return Section(
        "Who looks at the instruction",
        paragraphs=[reading, control],
        figures=[
            (
                figure,
                "Share of attention that later positions give to the instruction's tokens. A placebo "
                "may hold a token that serves as a resting place for attention; early layers that "
                "look redder there need not be about meaning.",
            ),
            (fragment, f"The instructed prompt of item {_item_id(result)}, layer {layer}."),
            (link, ""),
        ],
    )


def _attention_grids(attention: pd.DataFrame, name: str) -> list[npt.NDArray[np.float64]]:
    """Mean mass ``[layer, head]`` of a map's treated prompts and of their placebos."""
    rows = attention[attention["map"] == name]
    return [
        rows[rows["condition"] == condition]
        .pivot_table(index="layer", columns="head", values="mass")
        .to_numpy()
        for condition in (name, "placebo")
    ]


def _limits(result: DemoResult) -> Section:
    card, config = result.card, result.config
    checks = pd.DataFrame(
        [(c.name, c.deviation, c.tolerance) for c in card.checks],
        columns=["self-check of the model", "relative deviation", "tolerance"],
    )
    return Section(
        "What these numbers can and cannot say",
        paragraphs=[
            f"They speak of one model: {card.one_line}. Another size, family or precision may behave "
            "otherwise; a small or coarsely quantised model may not understand the instruction at "
            "all." + ("" if card.chat_template else _NO_TEMPLATE),
            "Behaviour: a claim about instructions takes at least six wordings against six placebos; "
            f"here there are {config.n_texts} against {config.n_texts}. The negated and revealing "
            f"conditions have {config.n_control_texts}: with one wording an interval speaks of that "
            "wording alone.",
            "Maps: a cell says that copying those states is sufficient for a change of the margin, not "
            "that they are necessary. They rest on few items and one order of the options; a cell is "
            "read only where the positive control's map shows something.",
            "Projection: a shift of states along a direction is a correlation. Whether the direction, "
            "learned on plain sentences, means the same in these prompts, whether it causes the "
            "answer, and whether stored immorality is reduced, needs checks and interventions that "
            "this demo does not make. At positions after the instruction a shift may also be its mere "
            "wording.",
            "Margins compare two options at one token. They are not the model's free answer.",
        ],
        tables=[
            (result.identities, "Identities measured on one pair of this run."),
            (checks, "Self-checks at load."),
        ],
    )


def _effect_table(table: pd.DataFrame) -> pd.DataFrame:
    shown = table[["items", "contrast", "p", "n", "n_clusters", "texts", "token mismatch"]].copy()
    shown.insert(2, "effect (nats)", intervals_of(table))
    return shown.rename(columns={**_HEADINGS, "n": "items"})


def _span_text(prompt: TokenizedPrompt) -> str:
    return "".join(prompt.str_tokens[prompt.span("instruction")]).strip()


def _item_id(result: DemoResult) -> str:
    return result.example.item.id if result.example.item else ""
