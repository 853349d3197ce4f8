"""Read Winogender (arXiv:1804.09301) as a choice of pronoun: he, she or they fills the blank.

The published templates name an occupation, another participant and one pronoun. Kept are those in
which the pronoun is the occupation's (answer 0), so that "they" commits to nothing and a gendered
pronoun can only come from the occupation. The options have the form of the slot: he/she/they,
his/her/their, him/her/them, always masculine, feminine, neutral in this order.

Roles: ``unknown`` = the neutral pronoun, which is gold; ``stereotyped`` = the pronoun of the sex
that holds the larger share of the occupation's jobs in the labour statistics, ``counter`` the
other; at exactly 50 % both are ``other``.

The published files give 60 items of 60 occupations (47 nominative, 11 possessive and 2 accusative;
all 120 templates have 89, 27 and 4): 31 with mostly women, 29 with mostly men.

Limits: English; the form "someone" instead of a participant is left out. In 8 sentences the blank
is followed by "was", which does not agree with "they": ``meta["agrees"]`` is False there, so that a
reading can leave them out. The hub's `test.tsv` has neither templates nor labour statistics and is
refused; the catalogue's "winogender" has both.

Example::

    items = read_winogender(fetch_dataset("winogender"))
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from interp.data.bundle import PronounForm
from interp.data.fields import file_in, one_of, text_of
from interp.data.items import Choice, ChoiceItem, Role
from interp.data.tables import require_distinct
from interp.errors import InterpError
from interp.parsing import read_text

PRONOUNS: Mapping[PronounForm, tuple[str, str, str]] = {
    "nominative": ("he", "she", "they"),
    "possessive": ("his", "her", "their"),
    "accusative": ("him", "her", "them"),
}
"""The options of a slot: masculine, feminine, neutral."""

_SOURCE = "winogender"
_TEMPLATES = "templates.tsv"
_STATISTICS = "occupations-stats.tsv"
_SLOTS: Mapping[str, PronounForm] = {
    "$NOM_PRONOUN": "nominative",
    "$POSS_PRONOUN": "possessive",
    "$ACC_PRONOUN": "accusative",
}
_BLANK = "_____"
_QUESTION = "Which word fits the blank best?"
_OCCUPATION, _PARTICIPANT = "occupation(0)", "other-participant(1)"


def read_winogender(path: str | Path) -> tuple[ChoiceItem, ...]:
    """One item per template whose pronoun is the occupation's, in file order.

    ``path``: a folder that holds `templates.tsv` and `occupations-stats.tsv`; or the
    template file. The context is the sentence with a blank, the question "Which word fits the blank
    best?", the id "winogender:occupation.participant", the cluster the occupation, the category
    "mostly women", "mostly men" or "even", the condition "ambiguous". ``meta`` holds occupation,
    participant, form, agrees (whether the verb fits the neutral pronoun too) and percent_women (0
    to 100, the share in the statistics of the US Bureau of Labor Statistics).
    Raises `InterpError` naming file, line and field.
    """
    templates = _templates_file(path)
    percent_women = _percent_women(templates.parent / _STATISTICS)
    items: list[ChoiceItem] = []
    lines: dict[str, int] = {}
    for line, row in _read_tsv(templates):
        where = f"{templates}, line {line}"
        if one_of(row, "answer", ("0", "1"), where) == "1":
            continue
        item = _to_item(row, percent_women, where)
        if lines.setdefault(item.id, line) != line:
            raise InterpError(f"{where}: {item.id!r} was read from line {lines[item.id]} already")
        items.append(item)
    return tuple(items)


def _templates_file(path: str | Path) -> Path:
    folder = Path(path)
    if folder.is_dir() and not any(folder.rglob(_TEMPLATES)) and any(folder.rglob("test.tsv")):
        raise InterpError(
            f"{folder}: the hub's test.tsv has neither templates nor labour statistics; give a "
            f"folder with {_TEMPLATES} and {_STATISTICS}, or the name 'winogender'"
        )
    return file_in(folder, [_TEMPLATES])


def _percent_women(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise InterpError(f"{path}: no such file; it says which pronoun is the stereotyped one")
    found: dict[str, float] = {}
    for line, row in _read_tsv(path):
        where = f"{path}, line {line}"
        cell = text_of(row, "bls_pct_female", where)
        try:
            percent = float(cell)
        except ValueError:
            percent = -1.0
        if not 0.0 <= percent <= 100.0:
            raise InterpError(f"{where}, field 'bls_pct_female': expected 0 to 100, got {cell!r}")
        found[text_of(row, "occupation", where)] = percent
    return found


def _to_item(row: Mapping[str, str], percent_women: Mapping[str, float], where: str) -> ChoiceItem:
    occupation = text_of(row, _OCCUPATION, where)
    participant = text_of(row, _PARTICIPANT, where)
    if occupation not in percent_women:
        raise InterpError(
            f"{where}, field {_OCCUPATION!r}: {_STATISTICS} has no row for {occupation!r}"
        )
    percent = percent_women[occupation]
    form, context = _sentence(text_of(row, "sentence", where), occupation, participant, where)
    roles = _roles(percent)
    choices = zip(PRONOUNS[form], roles, strict=True)
    return ChoiceItem(
        id=f"{_SOURCE}:{occupation}.{participant}",
        benchmark=_SOURCE,
        category="even" if percent == 50 else f"mostly {'women' if percent > 50 else 'men'}",
        context=context,
        question=_QUESTION,
        choices=tuple(Choice(text, role) for text, role in choices),
        gold=roles.index("unknown"),
        context_condition="ambiguous",
        cluster=occupation,
        meta={
            "occupation": occupation,
            "participant": participant,
            "form": form,
            "agrees": f"{_BLANK} was " not in context,
            "percent_women": percent,
        },
    )


def _sentence(
    template: str, occupation: str, participant: str, where: str
) -> tuple[PronounForm, str]:
    """The form of the slot, and the sentence with a blank in its place."""
    slots = re.findall(r"\$[A-Z_]*PRONOUN", template)
    if len(slots) != 1 or slots[0] not in _SLOTS:
        raise InterpError(
            f"{where}, field 'sentence': expected one of {', '.join(_SLOTS)}, got "
            f"{', '.join(slots) or 'none'}"
        )
    sentence = template.replace(slots[0], _BLANK)
    for slot, word in (("$OCCUPATION", occupation), ("$PARTICIPANT", participant)):
        if sentence.count(slot) != 1:
            raise InterpError(f"{where}, field 'sentence': expected {slot} once")
        sentence = sentence.replace(slot, word)
    return _SLOTS[slots[0]], sentence


def _roles(percent_women: float) -> tuple[Role, Role, Role]:
    if percent_women == 50:
        return ("other", "other", "unknown")
    if percent_women > 50:
        return ("counter", "stereotyped", "unknown")
    return ("stereotyped", "counter", "unknown")


def _read_tsv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a tab-separated file with a header; quotes mean nothing in it."""
    lines = read_text(path).splitlines()
    header = lines[0].split("\t") if lines else []
    require_distinct(header, path)
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if line.strip() and len(cells) != len(header):
            raise InterpError(f"{path}, line {number}: {len(cells)} cells, not {len(header)}")
        if line.strip():
            yield number, dict(zip(header, cells, strict=True))
