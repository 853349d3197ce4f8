"""The one exception a user is meant to read, and pieces of its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InterpError(ValueError):
    """A mistake the user can mend: one line with what was wrong, the value, and the remedy.

    Everything the library refuses (a malformed row, an unknown site, a wrong hash, a prompt beyond
    the context) raises this class or a subclass. The command line prints the message and exits with
    code 2; any other exception is a defect of the library.
    """


def first_line(error: BaseException) -> str:
    """What another library's error says, for the inside of a line; its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The names that ``name`` may be meant for, or all known ones: the end of an error line.

    Case does not count. A known name that begins with ``name`` is as good as a similar one.
    """
    by_folded = {other.lower(): other for other in known}
    folded = name.lower()
    begun = [other for other in by_folded if folded and other.startswith(folded)]
    close = begun or difflib.get_close_matches(folded, by_folded, n=3)
    if close:
        return f"did you mean {' or '.join(repr(by_folded[match]) for match in close[:3])}?"
    return f"known: {', '.join(by_folded.values())}"
