"""Which option a generated answer names, by its text or its letter, or why that cannot be said.

Rules, in this order:

1. The answer *begins* with an option's text, a letter ("(b)", "b.", "b)", "b" alone), or both: that
   option, whatever is said later. A letter and a text that do not belong together, or two options
   joined by "and", "or", a comma or a slash, name none.
2. Otherwise options and bracketed letters anywhere in the answer count; it must be exactly one
   option, and not right behind a negation ("not", "neither", "nor", "never").

A thought before the answer (``<think>...</think>``) is not read; one without an end is no answer.

Case, white space, quotes and a leading article do not count; an option must occur there as whole
words, and a shorter option inside a longer one is not named. Nothing is guessed: an answer that fits
no rule has ``choice`` None and a ``reason``, which tables keep, so that the share of answers that
could not be parsed is reported with every number taken from the others.

Limits: English; paraphrases ("nobody can tell" for "Unknown") are not understood.

Example::

    parse_choice(" (b) The farmer.", ["The teacher", "The farmer"]).choice    # 1
    parse_choice("Both of them", ["The teacher", "The farmer"]).reason        # "names no option"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from interp.errors import InterpError
from interp.models.thoughts import answer_after_thought
from interp.prompts.conversation import LETTERS

Found = Literal["text", "letter", "both", "nothing"]
"""What in the answer named the option."""

UNFINISHED_THOUGHT = "the thought is unfinished"
"""Why there is no answer in a reply that is a thought without an end."""

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
_ARTICLE = r"(?:the |an? )?"
_LEAD_LETTER = re.compile(r"\(([a-j])\)|([a-j])(?=[).:]|$)[).:]?")
_LETTER = re.compile(r"\(([a-j])\)")
_JOINED = re.compile(r"\s*(?:,|/|&|and\b|or\b)\s*(?:or\b|and\b)?\s*")
_NEGATED = re.compile(r"(?:\bnot|\bneither|\bnor|\bnever|n't)\s+" + _ARTICLE + "$")


@dataclass(frozen=True)
class ParsedAnswer:
    """``choice``: index of the option among those given, None with a ``reason`` where unknown."""

    choice: int | None
    found: Found
    reason: str = ""


@dataclass(frozen=True)
class _Mention:
    option: int
    start: int
    stop: int


def parse_choice(answer: str, options: Sequence[str]) -> ParsedAnswer:
    """The option that an answer names.

    Args:
        answer: the generated text, without the answer prefix.
        options: the options' texts in the order in which they were listed: the first is "(a)".

    Raises:
        InterpError: no options, or more than there are letters.
    """
    if not 1 <= len(options) <= len(LETTERS):
        raise InterpError(f"{len(options)} options: give 1 to {len(LETTERS)}")
    spoken = answer_after_thought(answer)
    if spoken is None:
        return ParsedAnswer(None, "nothing", UNFINISHED_THOUGHT)
    text = _normal(spoken)
    if not text:
        return ParsedAnswer(None, "nothing", "the answer is empty")
    mentions = _mentions(text, [_normal(option) for option in options])
    return _at_the_start(text, mentions, len(options)) or _anywhere(text, mentions, len(options))


def _at_the_start(text: str, mentions: Sequence[_Mention], n: int) -> ParsedAnswer | None:
    lettered = _LEAD_LETTER.match(text)
    letter, at = None, 0
    if lettered is not None:
        letter = LETTERS.index(lettered.group(1) or lettered.group(2))
        if letter >= n:
            return _unknown_letter(letter, n)
        at = (
            lettered.end()
            + len(text[lettered.end() :])
            - len(text[lettered.end() :].lstrip(" \"'"))
        )
    named = next((mention for mention in mentions if mention.start == at), None)
    if named is None:
        return None if letter is None else ParsedAnswer(letter, "letter")
    if letter is not None and named.option != letter:
        return ParsedAnswer(
            None,
            "nothing",
            f"({LETTERS[letter]}) and the text of ({LETTERS[named.option]}) disagree",
        )
    joint = _JOINED.match(text, named.stop)
    if joint and any(m.start == joint.end() and m.option != named.option for m in mentions):
        return ParsedAnswer(None, "nothing", "names several options")
    return ParsedAnswer(named.option, "text" if letter is None else "both")


def _anywhere(text: str, mentions: Sequence[_Mention], n: int) -> ParsedAnswer:
    letters = {LETTERS.index(match.group(1)) for match in _LETTER.finditer(text)}
    if letters and max(letters) >= n:
        return _unknown_letter(max(letters), n)
    texts = {mention.option for mention in mentions}
    if not texts | letters:
        return ParsedAnswer(None, "nothing", "names no option")
    if len(texts | letters) > 1:
        return ParsedAnswer(None, "nothing", "names several options")
    starts = [mention.start for mention in mentions]
    starts += [match.start() for match in _LETTER.finditer(text)]
    if any(_NEGATED.search(text[:start]) for start in starts):
        return ParsedAnswer(None, "nothing", "names an option only to deny it")
    found: Found = "both" if texts and letters else ("text" if texts else "letter")
    return ParsedAnswer((texts | letters).pop(), found)


def _mentions(text: str, options: Sequence[str]) -> list[_Mention]:
    """Where options occur as whole words, none of them inside a longer one."""
    found = []
    for index, option in enumerate(options):
        bare = re.sub(f"^{_ARTICLE}", "", option) or option
        pattern = rf"(?<!\w){_ARTICLE}{re.escape(bare)}(?!\w)"
        found += [_Mention(index, *match.span()) for match in re.finditer(pattern, text)]
    return [
        mention
        for mention in found
        if not any(
            other.start <= mention.start
            and mention.stop <= other.stop
            and other.stop - other.start > mention.stop - mention.start
            for other in found
        )
    ]


def _normal(text: str) -> str:
    flat = " ".join(text.translate(_QUOTES).casefold().split())
    return flat.strip(" \"'*.,;:!?").strip()


def _unknown_letter(letter: int, n: int) -> ParsedAnswer:
    return ParsedAnswer(None, "nothing", f"({LETTERS[letter]}) is none of the {n} options")
