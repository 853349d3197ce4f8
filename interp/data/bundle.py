"""The small data set that travels with the project: choices, sentence pairs, instructions, prompts.

Idea: everything runs with no download. All of it was written for this project, is mild in wording,
and is licensed with it. Each file is JSON lines, one object per line, UTF-8.

``choices``       192 three-choice items: 24 scenes (= clusters) in 8 categories, 8 items per scene.
                  Ambiguous and disambiguated halves, both polarities of the question, both orders
                  of mention. As in :mod:`interp.data.items` the ``stereotyped`` role is already
                  polarity-adjusted. Disambiguated gold is stereotyped in half, counter in half.
                  Every role and gold fall on each of the three positions equally often.
``morality``      140 crossed quadruples (280 pairs, 560 sentences) over 7 foundations.
``contrasts``     12 non-moral contrasts of 24 pairs. Label 1 is the first pole: tense past/present,
                  number singular/plural, topic sport/cooking, sentiment pleasant/unpleasant,
                  formality formal/casual, size large/small, place indoor/outdoor, animacy
                  animate/inanimate, daytime morning/evening, sense colour/sound, voice
                  passive/active, person first/third.
``statements``    32 fair/biased pairs about 8 kinds of groups; label 1 is fair.
``instructions``  30 moral wordings and their 30 opposites, 237 neutral requests, 77 neutral
                  statements, three arms of the positive control (8 wordings each) and moral
                  vocabulary, see :data:`InstructionKind`; the ``source`` of each says whether a
                  paper used it. The requests have at least 20 wordings of every token count from
                  13 to 17 under the tokenizers of the catalogue, where 27 of the moral ones lie, and
                  some of every count from 5 to 24. The first moral one has 14 tokens.
``completions``   24 open beginnings. ``occupations``: 30 sentences with one pronoun slot.

How morality avoids word cues: a quadruple crosses two verbs with two objects ("praised | scolded
the players who cheered up | made fun of the beginner"), so that each word occurs in as many moral
as immoral sentences and only the composition distinguishes them. The group is the whole quadruple.
Measured AUCs, out of fold over groups: bag of words .500, words and bigrams .500; length in
characters .498, in words .498, in tokens .497. Every sentence of the three text sets ends in the
same token.

Limits: English only, one hand's taste. Contrasts may be read from words, as is meant. Statements
are balanced in length and in single words, but pairs of words ("not lazier") give the label away
(AUC 1.0): they suit projections of states, not the claim that a probe goes beyond words.

Example::

    items = bundled_choices()
    moral = bundled_texts("morality")
    tense = bundled_texts("contrasts:tense")
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeVar, cast, get_args

from interp.data.items import (
    Choice,
    ChoiceItem,
    CompletionItem,
    ContextCondition,
    LabelledText,
    Role,
)
from interp.errors import InterpError

TextSet = Literal["morality", "contrasts", "statements"]
"""The bundled sets of labelled sentences."""

InstructionKind = Literal[
    "instructed",
    "reported",
    "placebo",
    "statement",
    "negated",
    "revealing",
    "mentions",
    "paraphrases",
    "vocabulary",
]
"""``instructed`` asks for an unbiased answer. ``reported``: further wordings of that request in
papers (as a bank of a condition: all of a paper's own words, the first moral one included).
``placebo`` is a request about the reply (its form, layout, typing, how the text is read) of no moral
content that leaves the task as it is; ``statement`` says something about the page and asks for
nothing. ``negated`` asks for the opposite. The positive control has three arms: ``revealing`` names
the answer through the slot ``{answer}``, ``mentions`` shows its words without a link to the task
(same slot), ``paraphrases`` says that the text leaves the question open, without a word of the
options. ``vocabulary`` uses moral words and asks for nothing."""

PronounForm = Literal["nominative", "possessive", "accusative"]
"""Form of the slot: he/she/they, his/her/their, him/her/them."""

_FOLDER = resources.files("interp.data") / "bundled"
_CATEGORY_FIELD: dict[TextSet, str] = {
    "morality": "foundation",
    "contrasts": "contrast",
    "statements": "category",
}
_T = TypeVar("_T", str, int, list)


WRITTEN = "written"
"""Source of a wording that was written for this project."""


@dataclass(frozen=True)
class Instruction:
    """A sentence that a condition adds to a prompt; it may hold the slot ``{answer}``.

    ``source`` is ``reported: arXiv ...`` for the words of a paper, else :data:`WRITTEN`.
    """

    id: str
    kind: InstructionKind
    text: str
    source: str = WRITTEN

    @property
    def reported(self) -> bool:
        """Whether the wording is a paper's own."""
        return self.source != WRITTEN


@dataclass(frozen=True)
class OccupationTemplate:
    """A sentence about someone at work with one ``{pronoun}`` slot of the stated form.

    Verbs are in the past or modal, so that "they" agrees as well as "he" and "she".
    """

    id: str
    occupation: str
    template: str
    form: PronounForm


@cache
def bundled_choices() -> tuple[ChoiceItem, ...]:
    """All 192 items, benchmark ``bundled``; ``meta["polarity"]`` is ``neg`` or ``nonneg``."""
    return tuple(_choice_item(row) for row in _rows("choices.jsonl"))


@cache
def bundled_texts(name: str) -> tuple[LabelledText, ...]:
    """Sentences of a :data:`TextSet`, or of one category of it: ``"contrasts:tense"``.

    ``category`` holds the foundation, the contrast, or the kind of group; ``source`` is
    ``bundled:`` and the set. Raises InterpError for an unknown set or category.
    """
    name_of_set, _, category = name.partition(":")
    texts = _text_set(name_of_set)
    if not category:
        return texts
    chosen = tuple(text for text in texts if text.category == category)
    if not chosen:
        known = ", ".join(bundled_categories(name_of_set))
        raise InterpError(
            f"bundled texts {name_of_set!r} have no {category!r}; choose from {known}"
        )
    return chosen


def bundled_categories(name: str) -> tuple[str, ...]:
    """Categories of a :data:`TextSet` in the file's order, e.g. the twelve contrasts."""
    return tuple(dict.fromkeys(text.category for text in _text_set(name)))


@cache
def bundled_instructions() -> tuple[Instruction, ...]:
    """All instructions, in the order of the file; of ``instructed`` the first is a paper's own."""
    kinds = get_args(InstructionKind)
    return tuple(
        Instruction(
            row.get("id", str),
            cast(InstructionKind, row.one_of("kind", kinds)),
            row.get("text", str),
            row.get("source", str),
        )
        for row in _rows("instructions.jsonl")
    )


@cache
def bundled_completions() -> tuple[CompletionItem, ...]:
    """Mild, neutral beginnings to be continued, benchmark ``bundled``."""
    return tuple(
        CompletionItem(row.get("id", str), "bundled", row.get("prompt", str))
        for row in _rows("completions.jsonl")
    )


@cache
def bundled_occupations() -> tuple[OccupationTemplate, ...]:
    """Ten templates for each form of the pronoun."""
    forms = get_args(PronounForm)
    return tuple(
        OccupationTemplate(
            row.get("id", str),
            row.get("occupation", str),
            row.get("template", str),
            cast(PronounForm, row.one_of("form", forms)),
        )
        for row in _rows("occupations.jsonl")
    )


@dataclass(frozen=True)
class _Row:
    """One parsed line; ``where`` names its file and line for the error messages."""

    where: str
    values: dict[str, Any]

    def get(self, field: str, kind: type[_T]) -> _T:
        value = self.values.get(field)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InterpError(
                f"{self.where}: field {field!r} must be {kind.__name__}, is {value!r}"
            )
        if not value and not isinstance(value, int):
            raise InterpError(f"{self.where}: field {field!r} is empty")
        return value

    def one_of(self, field: str, allowed: tuple[str, ...]) -> str:
        value = self.get(field, str)
        if value not in allowed:
            raise InterpError(
                f"{self.where}: field {field!r} is {value!r}; choose from {', '.join(allowed)}"
            )
        return value


def _rows(name: str) -> tuple[_Row, ...]:
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    return tuple(_row(f"{name} line {number}", line) for number, line in enumerate(lines, start=1))


def _row(where: str, line: str) -> _Row:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise InterpError(f"{where}: not valid JSON ({error.msg})") from error
    return _checked_row(where, values)


def _checked_row(where: str, values: Any) -> _Row:
    if not isinstance(values, dict):
        raise InterpError(f"{where}: must be a JSON object, is {type(values).__name__}")
    return _Row(where, values)


@cache
def _text_set(name: str) -> tuple[LabelledText, ...]:
    if name not in _CATEGORY_FIELD:
        known = ", ".join(_CATEGORY_FIELD)
        raise InterpError(f"no bundled texts {name!r}; choose from {known}")
    field = _CATEGORY_FIELD[name]
    return tuple(_labelled_text(row, name, field) for row in _rows(f"{name}.jsonl"))


def _labelled_text(row: _Row, name: str, category_field: str) -> LabelledText:
    label = row.get("label", int)
    if label not in (0, 1):
        raise InterpError(f"{row.where}: field 'label' must be 0 or 1, is {label}")
    return LabelledText(
        text=row.get("text", str),
        label=label,
        group=row.get("group", str),
        source=f"bundled:{name}",
        category=row.get(category_field, str),
    )


def _choice_item(row: _Row) -> ChoiceItem:
    choices = tuple(
        _choice(_checked_row(f"{row.where}, choice {number}", value))
        for number, value in enumerate(row.get("choices", list))
    )
    gold = row.get("gold", int)
    if not 0 <= gold < len(choices):
        raise InterpError(f"{row.where}: field 'gold' must be in 0..{len(choices) - 1}, is {gold}")
    condition = row.one_of("context_condition", get_args(ContextCondition))
    return ChoiceItem(
        id=row.get("id", str),
        benchmark="bundled",
        category=row.get("category", str),
        context=row.get("context", str),
        question=row.get("question", str),
        choices=choices,
        gold=gold,
        context_condition=cast(ContextCondition, condition),
        cluster=row.get("cluster", str),
        meta={"polarity": row.one_of("polarity", ("neg", "nonneg"))},
    )


def _choice(row: _Row) -> Choice:
    return Choice(row.get("text", str), cast(Role, row.one_of("role", get_args(Role))))
