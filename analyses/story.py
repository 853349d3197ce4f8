"""The demo's report: a short story told from its tables, whatever they turned out to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp import viz
from interp.activations import read_attention
from interp.behaviour import Effect
from interp.prompts import TokenizedPrompt
from interp.runs import Run
from interp.stats import Interval, MaxT, sign_flip_max_t, two_way_bootstrap
from interp.viz import Fragment, Section
from interp.viz.report import format_interval

if TYPE_CHECKING:
    from analyses.demo import DemoResult
    from interp.patching import SweepResult

_HEADINGS = {"items": "context", "n_items": "items", "n_clusters": "clusters", "n_texts": "texts"}
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


def projection_shifts(projections: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Instructed minus placebo per direction and layer, texts x clusters bootstrap.

    ``estimate``, ``low`` and ``high`` are in standard deviations of the placebo prompts' projections
    on the same direction and layer, so that directions whose classes lie close together or far apart
    can be compared; ``class_units`` is the estimate with the class means at +1 and -1.
    """
    frames = []
    for name, rows in projections.groupby("direction", sort=False):
        layers = sorted(set(rows["layer"]))
        tables = {
            condition: rows[rows["condition"] == condition].pivot_table(
                index=["layer", "slot"], columns="item", values="projection", sort=True
            )
            for condition in ("instructed", "placebo")
        }
        shape = (len(layers), -1, tables["placebo"].shape[1])
        instructed, placebo = (tables[c].to_numpy().reshape(shape) for c in tables)
        spread = placebo.std(axis=(1, 2))
        clusters = rows.drop_duplicates("item").set_index("item")["cluster"]
        interval = two_way_bootstrap(
            instructed,
            placebo,
            clusters.loc[tables["placebo"].columns],
            seed=seed,
            labels=(name,),
        )
        frames.append(
            pd.DataFrame(
                {
                    "direction": name,
                    "layer": layers,
                    "estimate": interval.estimate / spread,
                    "low": interval.low / spread,
                    "high": interval.high / spread,
                    "class_units": interval.estimate,
                    "is_null": name != "morality",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def shift_test(projections: pd.DataFrame, seed: int) -> MaxT:
    """Sign-flip max-T over layers of each item's morality shift, clusters as units."""
    rows = projections[projections["direction"] == "morality"]
    means = rows.groupby(["condition", "layer", "item"])["projection"].mean().unstack("item")
    shift = means.loc["instructed"] - means.loc["placebo"]
    clusters = rows.drop_duplicates("item").set_index("item")["cluster"].loc[shift.columns]
    return sign_flip_max_t(shift.to_numpy(), clusters, seed=seed)


def _question(result: DemoResult) -> Section:
    items = result.items
    kinds = pd.Series([f"{i.benchmark}, {i.context_condition}" for i in items]).value_counts()
    counts = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    n_texts = result.config.n_texts
    example = result.example
    instruction = _span_text(example.source)
    placebo = _span_text(example.destination)
    return Section(
        "The question",
        paragraphs=[
            "A model that answers multiple-choice questions about people is told, after the question, "
            "to be unbiased. Does it answer better? Where inside does the instruction act? And does "
            "it make the model's states more moral, or only its output?",
            "Every answer here is a difference between two prompts of the same item with the same "
            "number of tokens: the instruction against a placebo, a sentence of equal length without "
            "moral content. A negated instruction asks for the opposite. A revealing one names the "
            "right answer and is the positive control: where even that leaves no trace, nothing is "
            "concluded from the others.",
            f"The sample: {len(items)} items ({counts}) in {len({i.cluster for i in items})} clusters, "
            f"each asked in every cyclic order of its options under {n_texts} wordings of the "
            f"instruction and {n_texts} placebos. For example: “{instruction}” against “{placebo}”",
            "The metric is the margin: how much the better answer's logit exceeds the worse one's, in "
            "nats, where their texts first differ. On ambiguous items that is the abstention over the "
            "stereotyped option, on disambiguated ones the right person over the other.",
        ],
    )


def _behaviour(folder: Run, result: DemoResult) -> Section:
    scores = result.scores
    figures = {"effects": viz.effects(scores), "levels": viz.levels(scores)}
    for name, figure in figures.items():
        folder.save_figure(name, figure)
    summary = scores.summary()
    table = scores.effects()
    readings = []
    for subset in dict.fromkeys(table["items"]):
        for condition in ("instructed", "negated"):
            readings.append(_read_effect(scores.effect(condition, subset=subset)))
        readings.append(_read_control(scores.effect("revealing", subset=subset)))
    return Section(
        "What the model answers",
        paragraphs=readings,
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
    bias = result.scores.position_bias()
    clean = bias[bias["condition"] == "clean"]
    top = clean.sort_values("letter chosen", kind="stable").iloc[-1]
    share = clean.sort_values("chosen", kind="stable").iloc[-1]
    return Section(
        "Letters and positions",
        paragraphs=[
            f"Asked for a letter without any instruction, the model prefers “({top['position']})” in "
            f"{top['letter chosen']:.0%} of the prompts, whatever stands there. This is why "
            "answers are scored by their text and averaged over cyclic orders. Scored that way, the "
            f"option listed at ({share['position']}) is still chosen most often, in "
            f"{share['chosen']:.0%} of the prompts. Margin and option score rank the items alike: "
            f"Spearman {result.scores.agreement():.2f}.",
        ],
        figures=[(figure, "An unbiased reader lies on the dashed line at every position.")],
    )


def _where(folder: Run, result: DemoResult) -> Section:
    figures, readings = [], []
    for name, sweep_result in result.maps.items():
        figure = viz.heatmap(sweep_result)
        folder.save_figure(f"map_{name}", figure)
        caption = (
            f"The {name} prompt's residual stream patched into its placebo's, one span at one layer "
            "at a time. Dots: family-wise p < .05 over the cells of this map."
        )
        figures.append((figure, caption))
    readings.append(_read_map("revealing", result.maps["revealing"]))
    readings.append(_read_map("instructed", result.maps["instructed"]))
    for name, trajectory in result.lens.items():
        figure = viz.lens_margin(trajectory, seed=result.config.seed)
        folder.save_figure(f"lens_{name}", figure)
        caption = (
            f"Logit lens at the last position, {name} and placebo: the margin that each layer's state "
            "would give if it were the last."
        )
        figures.append((figure, caption))
    n = len(result.maps["instructed"].pair_labels)
    return Section(
        "Where the instruction acts",
        paragraphs=[
            f"On {n} ambiguous items, chosen before anything was run, the activations of the instructed "
            "prompt are copied into its placebo: what moves the margin there is sufficient. The first "
            "layers carry the effect at the instruction itself, the last ones at the answer prefix; "
            "in between one sees where it is handed over.",
            *readings,
        ],
        figures=figures,
    )


def _morality(folder: Run, result: DemoResult, shifts: pd.DataFrame) -> Section:
    direction, seed = result.direction, result.config.seed
    auc_figure = viz.direction_auc(direction, result.baselines)
    shift_figure = viz.projection_shift(
        shifts, title="Instructed - placebo, last token, along each direction", unit="placebo SDs"
    )
    folder.save_figure("direction_auc", auc_figure)
    folder.save_figure("projection_shift", shift_figure)
    layer = direction.best_layer
    row = direction.layers.index(layer)
    auc = direction.auc.at(row)
    here = shifts[shifts["layer"] == layer]
    moral = here[~here["is_null"]].iloc[0]
    nulls = here[here["is_null"]]["estimate"].abs()
    beaten = int((nulls < abs(moral["estimate"])).sum())
    test = shift_test(result.projections, seed)
    along = shifts[~shifts["is_null"]]
    clear = (test.p_corrected < 0.05) & ((along["low"] > 0) | (along["high"] < 0)).to_numpy()
    significant = [n for n, keep in zip(direction.layers, clear, strict=True) if keep]
    usable = auc.low > 0.5
    n_items = result.projections["item"].nunique()
    return Section(
        "What happens to the morality projection",
        paragraphs=[
            f"A direction is learned from {direction.n_texts} sentences (difference of means, last "
            "token) whose moral value is not in their words: a bag of words scores "
            f"{format_interval(result.baselines['bag of words'])}. Held-out AUC is highest at layer "
            f"{layer}: {format_interval(auc)}. "
            + (
                "It separates the sentences better than chance, so it is read there; not where the "
                "curve lies at chance."
                if usable
                else "Its interval contains chance, so no shift along it can be read as moral."
            ),
            "At that layer, chosen on the sentences alone, the instruction shifts the state of the "
            f"last token by {moral['estimate']:.2f} [{moral['low']:.2f}, {moral['high']:.2f}] standard "
            f"deviations against the placebo ({moral['class_units']:+.2f} class units, in which the "
            f"two classes lie 2 apart; {n_items} ambiguous items; family-wise p over layers "
            f"{test.p_corrected[row]:.3f}). In absolute size that is more than along {beaten} of "
            f"{len(nulls)} directions of non-moral contrasts (tense, number, topic ...) fitted the "
            f"same way. {_read_shift(moral, beaten, len(nulls))}",
            _read_layers(significant),
        ],
        figures=[
            (auc_figure, "Held-out AUC per layer, groups of sentences never split."),
            (
                shift_figure,
                "Shift per layer, in standard deviations of the placebo prompts. Grey: the directions "
                "of non-moral contrasts. Where the AUC is at chance the direction means nothing.",
            ),
        ],
    )


def _read_shift(moral: pd.Series, beaten: int, n_nulls: int) -> str:
    if moral["low"] <= 0 <= moral["high"]:
        return "The interval does not exclude zero: no shift is shown."
    if beaten < n_nulls:
        return "A shift that non-moral directions show as well is one of wording, not of morality."
    return "It is larger than along every non-moral direction."


def _read_layers(significant: list[int]) -> str:
    if not significant:
        return (
            "At no layer does the shift both differ from zero over items with all layers corrected for "
            "and have an interval over texts and items that excludes zero."
        )
    layers = ", ".join(map(str, significant))
    return (
        f"At layers {layers} the shift differs from zero over items with all layers corrected for, and "
        "its interval over texts and items excludes zero. Those layers were not chosen beforehand; the "
        "grey lines show how far non-moral directions move there."
    )


def _attention(folder: Run, model: TransformerBridge, result: DemoResult) -> Section:
    means = result.attention.groupby(["condition", "layer", "head"])["mass"].mean()
    grids = {c: means.loc[c].unstack("head").to_numpy() for c in ("instructed", "placebo")}
    figure = viz.attention_to_span(grids["instructed"], grids["placebo"])
    folder.save_figure("attention_to_instruction", figure)
    difference = grids["instructed"] - grids["placebo"]
    layer, head = (int(k) for k in np.unravel_index(difference.argmax(), difference.shape))
    heads = np.argsort(-difference[layer], kind="stable")[:3].tolist()
    patterns = read_attention(model, result.example.source, layers=[layer])
    fragment = viz.attention_fragment(patterns, layers=[layer], heads=heads)
    link = Fragment(
        '<p><a href="figures/attention.html">A page with both prompts and more heads</a></p>'
    )
    n = result.attention["item"].nunique()
    return Section(
        "Who looks at the instruction",
        paragraphs=[
            f"Averaged over {n} items, the head that later positions use more for the instruction than "
            f"for a placebo in its place is L{layer}H{head}: it spends "
            f"{grids['instructed'][layer, head]:.0%} of their attention on the instruction, "
            f"{grids['placebo'][layer, head]:.0%} on the placebo. Attention shows what is read, not "
            "what is used, and this head was picked because it stands out.",
        ],
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


def _limits(result: DemoResult) -> Section:
    card = result.card
    n_texts = result.config.n_texts
    checks = pd.DataFrame(
        [(c.name, c.deviation, c.tolerance) for c in card.checks],
        columns=["self-check of the model", "relative deviation", "tolerance"],
    )
    return Section(
        "What these numbers can and cannot say",
        paragraphs=[
            f"They speak of one model: {card.one_line}. A small model, de-quantised from few bits, may "
            "not understand the instruction at all; what it does here says little about larger ones.",
            f"Behaviour: {n_texts} wordings against {n_texts} placebos are the least that lets the "
            "texts be a random factor. The negated and revealing conditions have one wording here, so "
            "their intervals speak of that wording alone.",
            "Maps: a cell says that copying those states is sufficient for a change of the margin, not "
            "that they are necessary. They rest on few items; a cell is read only where the positive "
            "control's map shows something.",
            "Projection: a shift of states along a direction is a correlation. Whether it causes the "
            "answer, and whether stored immorality is reduced, needs interventions that this demo does "
            "not make. At positions after the instruction a shift may also be its mere wording.",
            "Margins compare two options at one token. They are not the model's free answer.",
        ],
        tables=[
            (result.identities, "Identities measured on one pair of this run."),
            (checks, "Self-checks at load."),
        ],
    )


def _read_effect(effect: Effect) -> str:
    interval = effect.interval
    what = f"On {effect.subset} items the {effect.condition} prompt"
    numbers = f"by {format_interval(interval)} nats against its placebo"
    numbers += f" ({interval.n} items, {_texts(interval)}"
    tested = f", p = {effect.test.p:.3f})" if effect.test.n_permutations > 2 else ")"
    if np.isnan(interval.low) or not interval.excludes(0):
        return f"{what} changes the margin {numbers}{tested}: the interval does not exclude zero."
    word = "raises" if interval.estimate > 0 else "lowers"
    return f"{what} {word} the margin {numbers}{tested}."


def _read_control(effect: Effect) -> str:
    interval = effect.interval
    numbers = f"{format_interval(interval)} nats on {effect.subset} items"
    if interval.excludes(0) and interval.estimate > 0:
        return f"The positive control works: naming the answer moves the margin by {numbers}."
    return (
        f"The positive control fails: naming the answer moves the margin by {numbers}, so nothing "
        f"about {effect.subset} items should be concluded from the rows above."
    )


def _read_map(name: str, result: SweepResult) -> str:
    total = result.total()
    test = result.max_t()
    effect = result.effect().mean(-1).numpy()
    significant = int((test.p_corrected < 0.05).sum())
    row, column = np.unravel_index(np.abs(effect).argmax(), effect.shape)
    place = f"“{result.axis_labels['span'][column]}” at layer {result.axis_labels['layer'][row]}"
    opening = (
        f"{name.capitalize()}: the whole effect on these items is {format_interval(total)} nats"
    )
    if not total.excludes(0):
        opening += ", which does not exclude zero, so shares of it are not defined"
    reading = (
        f"{significant} of {effect.size} cells differ from zero family-wise"
        if significant
        else "no cell differs from zero family-wise"
    )
    largest = effect[row, column]
    return f"{opening}; {reading}. The largest cell is {place}, {largest:+.3f} nats."


def _effect_table(table: pd.DataFrame) -> pd.DataFrame:
    intervals = [
        Interval(r.effect, r.low, r.high, r.n_items, r.n_clusters) for r in table.itertuples()
    ]
    kept = table.drop(columns=["effect", "low", "high"])
    kept.insert(2, "effect (nats)", intervals)
    return kept.rename(columns=_HEADINGS)


def _texts(interval: Interval) -> str:
    a, b = interval.texts or (1, 1)
    return f"{a} x {b} texts"


def _span_text(prompt: TokenizedPrompt) -> str:
    return "".join(prompt.str_tokens[prompt.span("instruction")]).strip()


def _item_id(result: DemoResult) -> str:
    return result.example.item.id if result.example.item else ""
