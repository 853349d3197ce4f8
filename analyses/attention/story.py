"""The report of an attention run: the head that stands out, its control, and pages to look at."""

from __future__ import annotations

import plotly.graph_objects as go

from analyses.attention.tables import AttentionResult, most_above_placebo, span_attention
from analyses.contrast import CONTROL, by_name, standing
from analyses.report.prose import count
from analyses.report.sections import limits, read_sample
from analyses.report.verdicts import untested
from analyses.study import Story
from interp import viz
from interp.stats import interval_of
from interp.viz import Fragment, Section, render_report
from interp.viz.attention_view import AttentionRun, draw_view
from interp.viz.report import format_interval

PAGE = "attention"
"""The page beside the report: the view alone."""

CAPTION = (
    "The maps and the table are means over items: to the instruction from all later positions over all "
    "wordings, between other spans over one wording per item. Tokens are those of one item, an example "
    "at heads that were picked for their size. Attention shows what is read, not what is used."
)


def tell(done: AttentionResult) -> Story:
    """Sections, the figure, and the page of both prompts."""
    name = done.config.condition
    figure = viz.attention_to_span(done.grid(name, "treated"), done.grid(name, "placebo"))
    view = example_view(done)
    page = render_report([Section("", figures=[(view, CAPTION)])], title="Attention", lead="")
    return Story(
        title=f"Who looks at the instruction{by_name(name)}?",
        sections=[_question(done), _looks(done, figure, view), _limits(done)],
        figures={"attention_to_instruction": figure},
        pages={PAGE: page},
        copies={} if done.config.page is None else {done.config.page: page},
        headline=read_mass(done),
    )


def _looks(done: AttentionResult, figure: go.Figure, view: Fragment) -> Section:
    """The head that stands out, the same for the control, and an example's heads."""
    return Section(
        "Who looks at the instruction",
        paragraphs=[read_mass(done), read_control_mass(done)],
        figures=[
            (
                figure,
                "Share of attention that later positions give to the instruction's tokens. A placebo "
                "may hold a token that serves as an attention sink; early layers that look redder "
                "there need not be about meaning. A difference between the maps is no result where "
                "no head is named above.",
            ),
            (view, CAPTION),
        ],
    )


def example_view(done: AttentionResult) -> Fragment:
    """All heads' mass on the instruction, means over items, and an example's tokens at those shown."""
    name = done.config.condition
    runs = [
        AttentionRun(label, span_attention(done, arm), done.patterns[label])
        for label, arm in ((name, "treated"), ("placebo", "placebo"))
    ]
    chosen = {
        "difference": "heads of the largest difference",
        "instruction": "heads of the most attention to the instruction",
        "knockout": "heads of the largest effect of a knockout",
    }.get(done.config.heads, "the heads asked for")
    title = f"{chosen}; tokens of {done.patterns[name].prompt.label}"
    lead = done.card.one_line
    return draw_view(runs, heads=done.shown, span="instruction", title=title, lead=lead)


def read_mass(done: AttentionResult) -> str:
    """The head that gives the instruction most above a placebo in its place, if any stands out."""
    said = _read_heads(done, done.config.condition, "an instruction")
    return f"Averaged over {count(done.mass['item'].nunique(), 'item')}: {said}"


def read_control_mass(done: AttentionResult) -> str:
    """The same for the positive control, which must be read if it is to work."""
    return f"The positive control: {_read_heads(done, CONTROL, 'the text that names the answer')}"


def _read_heads(done: AttentionResult, contrast: str, what: str) -> str:
    """How many heads stand out, the one that does most, and what that cannot say."""
    rows = done.heads[done.heads["contrast"] == contrast]
    blocked = untested(interval_of(rows.iloc[0]))
    if blocked:
        return f"no head is named, {blocked}."
    found = done.standing_out(contrast)
    if found.empty:
        return f"no head gives {what} more of later positions' attention than a placebo (all corrected)."
    row = most_above_placebo(found)
    return (
        f"{len(found)} of {count(len(rows), 'head')} give {what} more of later positions' attention "
        f"than a placebo in its place, all corrected for. Most in L{row['layer']}H{row['head']}: "
        f"{row['treated']:.0%} against {row['placebo']:.0%} (difference "
        f"{format_interval(interval_of(row))}, biased upward by selection)."
    )


def _question(done: AttentionResult) -> Section:
    config = done.config
    asked = f"the instruction{by_name(config.condition)}"
    how = "one wording, in turn," if config.rotate else f"{count(config.texts, 'wording')}"
    return Section(
        "What was done",
        paragraphs=[
            f"Every item is asked with {how} of {asked} and with a placebo of matched length in its "
            f"place, {standing(done.spec)}, and with one that names the answer (revealing, the "
            "positive control). For every head the attention that all later positions give to the "
            "instruction's tokens is summed over these and averaged over positions.",
            read_sample(done.items),
        ],
    )


def _limits(done: AttentionResult) -> Section:
    return limits(
        done.card,
        [
            "Attention shows what is read, not what is used: a head may look where it takes nothing "
            "from, and one token of a sentence may be a mere attention sink. Knockout (interp.knockout) "
            "asks who has to read it.",
            "Heads were looked at together: p is corrected over all of them (two-way max-t). One "
            "that is named was picked for its size and has to be reported on other items.",
        ],
    )
