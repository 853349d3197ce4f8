"""The demo's report: a short story of the studies' sections, whatever they turned out to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from analyses.composition import pick_sections
from analyses.demo.tables import DemoResult
from analyses.report.prose import count
from analyses.report.sections import limits, sample_counts, say_contrasts
from analyses.report.verdicts import wordings_caveat
from analyses.study import Story
from interp.viz import Section

SECTIONS = (
    ("behaviour", "Does the instruction change the answer?"),
    ("behaviour", "How does it answer?"),
    ("patch", "What was done"),
    ("patch", "Is there an effect to localise?"),
    ("patch", "Where: resid_pre"),
    ("lens", "At which layer?"),
    ("project", "What was done"),
    ("project", "The projection at “last”"),
    ("attention", "Who looks at the instruction"),
)
"""What is shown of each study, in a reader's order."""

_RETITLED = {"patch": "Looking inside: patching", "project": "Looking inside: a direction"}


def tell(done: DemoResult, stories: Mapping[str, Story]) -> Story:
    """The question, some sections of each study, and what all of it cannot say."""
    middle = []
    for study, title in SECTIONS:
        for section in pick_sections(stories[study], title):
            opens = title == "What was done"
            middle.append(replace(section, title=_RETITLED[study]) if opens else section)
    return Story(
        title="What does a self-correction instruction do?",
        sections=[_question(done), *middle, _limits(done)],
        figures={
            f"{study}-{name}": figure
            for study, story in stories.items()
            for name, figure in story.figures.items()
        },
        pages=stories["attention"].pages,
        headline=stories["behaviour"].headline,
    )


def _question(done: DemoResult) -> Section:
    wordings, placebos = (count(done.config.texts, unit) for unit in ("wording", "placebo"))
    clusters = len({item.cluster for item in done.items})
    contrasts = say_contrasts(done.items)
    kind = done.patch.items[0].context_condition
    looked_into = "item" if kind == "plain" else f"{kind} item"
    return Section(
        "The question",
        paragraphs=[
            "A model that answers multiple-choice questions is told, after the question, to be "
            "unbiased. Does it answer better? Where inside does the instruction act? And does it make "
            "the model's states more moral, or only its output?",
            "The main answers are differences between two prompts of the same item: the instruction "
            "against a placebo of as nearly the same number of tokens as the bank allows, without moral "
            "content. A revealing instruction names the right answer and is the positive control. "
            "What it does is mostly copying, so two more arms stand beside it where items are "
            "looked into: one mentions the answer's words without asking for it, one asks for it "
            "without its words.",
            f"The sample: {count(len(done.items), 'item')} ({sample_counts(done.items)}) in "
            f"{count(clusters, 'cluster')}, each asked in one order of its options under "
            f"{wordings} of the instruction and {placebos}. The metric is the option margin: how much "
            "likelier the better answer's text is than the worse one's, in nats per token. The "
            "margin, or logit difference, is the same at the first token where they differ (nats): "
            f"one row of the model instead of all, which is what is patched and followed. {contrasts}",
            f"{count(len(done.patch.items), looked_into)}, chosen before anything was run, and the "
            f"first order of their options are patched; {len(done.lens.items)} of them serve to "
            "read lens, projections and attention.",
            wordings_caveat(done.config.texts),
        ],
    )


def _limits(done: DemoResult) -> Section:
    plain = (
        "" if done.card.chat_template else " It has no chat template: the layout was a plain one."
    )
    return limits(
        done.card,
        [
            "Another size, family or precision may behave otherwise; a small or coarsely quantised "
            f"model may not understand the instruction at all.{plain}",
            "The instruction is looked at in five ways: every p is corrected for that as well. "
            "Maps, layers and projections rest on few items and one order of the options.",
            "Copying states that change the margin is sufficient, not shown to be necessary; a shift "
            "along a direction is a correlation; attention shows what is read, not what is used. "
            "Margins compare two options at one token and are not the model's free answer.",
        ],
        tables=[(done.identities, "Identities measured on one pair of this run.")],
    )
