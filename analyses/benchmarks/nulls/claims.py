"""Which sentences of a report say that the instruction has an effect.

The verbs are those of the reports' sentences; sentences about the positive control, the negated prompt
and the direction itself are not about the instruction and do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analyses.config import INSTRUCTED
from analyses.study import Story

_EFFECT = re.compile(
    r"\b(raises|lowers)\b"
    r"|\bdiffers? from zero at (?!none)\d"
    r"|\b\d+ of \d+ (cells\b.{0,60})?differs? from zero"
    r"|\bclear at layers? \d"
    r"|\bthe runs part at layer"
    r"|\bthe top gains (more|less)"
    r"|\blies (further from|nearer to)"
    r"|\bthe interval excludes 0 in [1-9]"
    r"|\bThe two nets: (higher|lower)"
)
_NOT_THE_INSTRUCTION = re.compile(
    r"^(The )?positive control|^“?(revealing|negated|clean)\b|^On \w+ items the (revealing|negated)\b"
    r"|naming the answer",
    re.IGNORECASE,
)


def claims(story: Story) -> Iterator[tuple[str, str]]:
    """Section and sentence of every effect that a story prints of the instruction."""
    for section in story.sections:
        for paragraph in section.paragraphs:
            if _NOT_THE_INSTRUCTION.search(paragraph) and INSTRUCTED not in paragraph.lower():
                continue
            for sentence in re.split(r"(?<=[.;]) (?=[A-Z“])", paragraph):
                if _EFFECT.search(sentence) and not _NOT_THE_INSTRUCTION.search(sentence):
                    yield section.title, sentence
