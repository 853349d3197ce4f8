"""What runs go on to say, beside each other, with what differs from the first one underlined.

Text takes the page's own colours, and the piece needs neither a script nor a network.
"""

from __future__ import annotations

from collections.abc import Mapping

from interp.display import escape_html, visible_token
from interp.errors import InterpError
from interp.prompts import TokenizedPrompt
from interp.viz.report import Fragment
from interp.viz.tokens import whole_tokens

GENERATED = "generated"
_ROW = "display:flex;flex-wrap:wrap;gap:.6em 2em"
_COLUMN = "flex:1 1 16em;min-width:0;overflow-wrap:anywhere"
_OTHER = "text-decoration:underline;text-decoration-thickness:2px;text-underline-offset:3px"


def continuations(runs: Mapping[str, TokenizedPrompt]) -> Fragment:
    """Continuations in columns; from the first token that is another than the first run's, underlined.

    Args:
        runs: by name, each a prompt with its continuation as the span ``generated``
            (:func:`interp.patching.read_continuation`, :func:`interp.behaviour.complete`). One without
            that span ended at once.

    Raises:
        InterpError: no run, or one that is no prompt.

    Example:
        >>> edited = interp.patching.read_continuation(model, pair, patches=p)  # doctest: +SKIP
        >>> continuations({"plain": interp.patching.read_continuation(model, pair),
        ...                "edited": edited})                                   # doctest: +SKIP
    """
    prompts = list(runs.values()) if isinstance(runs, Mapping) else []
    if not prompts or not all(isinstance(one, TokenizedPrompt) for one in prompts):
        raise InterpError(
            "runs is no mapping from names to prompts with their continuations: give "
            '{"plain": interp.patching.read_continuation(model, pair)}'
        )
    first = _ids(prompts[0])
    columns = "".join(_column(name, prompt, first) for name, prompt in runs.items())
    return Fragment(f'<div style="{_ROW}">{columns}</div>')


def first_other(one: list[int], other: list[int]) -> int | None:
    """Where two continuations part; None where they are equal."""
    n = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return min(len(one), len(other)) if n is None and len(one) != len(other) else n


def _ids(prompt: TokenizedPrompt) -> list[int]:
    return [int(i) for i in prompt.ids[_span(prompt)]]


def _span(prompt: TokenizedPrompt) -> slice:
    return prompt.spans.get(GENERATED, slice(len(prompt), len(prompt)))


def _column(name: str, prompt: TokenizedPrompt, first: list[int]) -> str:
    tokens = whole_tokens(prompt)[_span(prompt)]
    shown = [escape_html(visible_token(token)).replace("⏎", "⏎<br>") for token in tokens]
    parts = first_other(first, _ids(prompt))
    kept, other = "".join(shown[:parts]), "".join(shown[parts:] if parts is not None else [])
    text = kept + (f'<span style="{_OTHER}">{other}</span>' if other else "")
    body = text or "<i>ends at once</i>"
    return f'<div style="{_COLUMN}"><b>{escape_html(name)}</b><div>{body}</div></div>'
