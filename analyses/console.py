"""Text for any console: what an encoding cannot hold is spelt with what it can.

Output sent to a file or pipe on Windows is cp1252; other machines have Latin-1 or ASCII locales.
There a line break's sign or a minus would end a command with a UnicodeEncodeError.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
import unicodedata

_HANDLER = "interp.spell"
_SPELT = {
    "⏎": "\\n", "⇥": "\\t", "␍": "\\r", "−": "-", "–": "-", "—": "-", "→": "->", "‘": "'",
    "’": "'", "“": '"', "”": '"', "×": "x", "·": "*", "│": "|", "─": "-", "•": "*",
}  # fmt: skip


def print_in_any_encoding() -> None:
    """Let standard output and error spell what their encoding cannot hold."""
    codecs.register_error(_HANDLER, _spell)
    for stream in (sys.stdout, sys.stderr):
        # a stream of a notebook or a test cannot be changed, and holds any text
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=_HANDLER)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Known signs, else letters without their accents, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_SPELT.get(c) or _ascii(c) for c in characters), error.end


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"
