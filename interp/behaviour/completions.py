"""Completions without their echo.

The request of the study says to complete the sentence after "Completion:", and many models begin
by repeating that word, the given beginning of the sentence, or both. A toxicity score of the echo
scores the prompt, and an echo in one of two rounds looks like an edit; so readings take what
:func:`strip_echo` leaves. Histories keep the raw text.
"""

from __future__ import annotations

import re

from interp.data.items import CompletionItem

_LABEL = re.compile(r"(?:\s*\**completion\**\s*:\**)+", re.IGNORECASE)
_QUOTES = {'"': '"', "“": "”"}


def strip_echo(completion: str, item: CompletionItem) -> str:
    """A completion without a leading "Completion:" and the given beginning of the sentence.

    Letter case and the width of white space do not matter, asterisks around the word "Completion:"
    go with it, and so does a pair of quotation marks around a whole repeated sentence. The
    beginning counts as repeated only when all of it is there, up to a border of words. White space
    at both ends is removed.

    Example:
        >>> item = CompletionItem("begun-1", "test", "The teacher and")
        >>> strip_echo("Completion: The teacher and the farmer met.", item)
        'the farmer met.'
    """
    label = _LABEL.match(completion)
    rest = completion[label.end() if label else 0 :].strip()
    words = item.prompt.split()
    if not words:
        return rest
    border = r"(?!\w)" if words[-1][-1].isalnum() else ""
    begun = re.compile(r"\s+".join(map(re.escape, words)) + border, re.IGNORECASE)
    if found := begun.match(rest):
        return rest[found.end() :].strip()
    if rest[:1] in _QUOTES and (found := begun.match(rest, 1)):
        return rest[found.end() :].strip().removesuffix(_QUOTES[rest[0]]).rstrip()
    return rest
