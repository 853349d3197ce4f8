"""Attention as something to look at: a map of all heads, one head of one or two runs, a table.

One small script of our own (15 kB) draws it, inline in Jupyter and on pages. circuitsvis, which
:func:`interp.viz.attention_fragment` offers, shows heads of one prompt side by side; it has no choice
of layers, no two runs linked position by position with their difference, no spans, no dark page, and
its script is 1.3 MB with every piece of a notebook. So the page that compares runs is this one.

Probabilities travel as 16-bit numbers in base64, each row up to the diagonal: 12 heads of two prompts of
300 tokens are 3 MB, the difference is taken in the browser. Token text lies in a JSON block that it
cannot end and is set as text, never as HTML. The view takes its page's text colour, and is dark where
that is light. Without JavaScript a table of the chosen heads is left.

Example::

    interp.viz.attention_view(interp.activations.read_attention(model, "The sky is"))
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor

from interp.activations import AttentionPatterns, SpanAttention
from interp.activations.span_attention import LATER
from interp.display import escape_html, html_table, visible_token
from interp.errors import InterpError
from interp.parsing import parse_head
from interp.prompts import TokenizedPrompt
from interp.prompts.align import align
from interp.viz.report import Fragment, json_block
from interp.viz.tokens import whole_tokens

Head: TypeAlias = tuple[int, int]
"""A head: (layer, head)."""

HeadName: TypeAlias = Head | str
"""A head as it is given: (layer, head), or its label, ``"L15H5"``."""

MOST_HEADS = 12
"""How many heads are chosen where none are named."""

_TOP = 65534
_MISSING = 65535
_LONGEST_TOKEN = 120


@dataclass(frozen=True)
class AttentionRun:
    """One run (or the mean of several) of a view: its masses, and patterns of some layers."""

    name: str
    masses: SpanAttention
    patterns: AttentionPatterns | None = None


def attention_view(
    patterns: AttentionPatterns,
    destination: AttentionPatterns | None = None,
    *,
    heads: Sequence[HeadName] | None = None,
    span: str | None = None,
    names: tuple[str, str] = ("source", "destination"),
) -> Fragment:
    """Patterns that were read, of one prompt or of two side by side with their difference.

    Args:
        patterns: of one prompt, or of the source.
        destination: of the other prompt, at the same layers.
        heads: those that are shown token by token, as (layer, head) or ``"L15H5"``; None takes twelve:
            of two prompts those whose mass on the span exceeds the destination's most, of one those
            that look least at the first position.
        span: the span whose mass the map shows first; None takes ``instruction``, or the first there is.
        names: what the two runs are called.

    Returns:
        A fragment, shown inline by Jupyter and taken by sections and :func:`interp.viz.save`.

    Raises:
        InterpError: patterns of other layers, a layer that was not read, or an unknown head or span.
    """
    both = [patterns] if destination is None else [patterns, destination]
    if destination is not None and destination.layers != patterns.layers:
        raise InterpError(
            f"patterns are of layers {list(patterns.layers)}, and those of the destination of "
            f"{list(destination.layers)}: read the same"
        )
    runs = [
        AttentionRun(name, one.by_span(), one)
        for name, one in zip(
            names if len(both) == 2 else (patterns.prompt.label,), both, strict=True
        )
    ]
    span = default_span(patterns.prompt) if span is None else span
    patterns.prompt.span(span)
    layers, n_heads = patterns.layers, patterns.values.shape[1]
    chosen = _heads_of(runs, span) if heads is None else parse_heads(heads, layers, n_heads)
    return draw_view(runs, heads=chosen, span=span, title=patterns.prompt.label)


def draw_view(
    runs: Sequence[AttentionRun],
    *,
    heads: Sequence[Head],
    span: str,
    title: str,
    lead: str = "",
) -> Fragment:
    """The fragment of one run or two (see :func:`attention_view`); ``lead`` names the model."""
    masses = runs[0].masses
    for run in runs:
        known = masses.layers if run.patterns is None else run.patterns.layers
        require_heads(heads, known, masses.values.shape[1])
    queries, keys = (
        list(dict.fromkeys(name for run in runs for name in getattr(run.masses, which)))
        for which in ("queries", "keys")
    )
    data = {
        "title": title,
        "lead": lead,
        "layers": list(masses.layers),
        "n_heads": masses.values.shape[1],
        "queries": queries,
        "keys": keys,
        "key": keys.index(span),
        "heads": [list(head) for head in heads],
        "aligned": _aligned([run.patterns.prompt for run in runs if run.patterns is not None]),
        "runs": [_run_data(run, heads, queries, keys) for run in runs],
    }
    block = json_block(data)
    return Fragment(
        f'<div class="attention-view">{block}'
        f"<p><b>{escape_html(title)}</b> {escape_html(lead)}</p>{_static(runs, heads, span)}</div>",
        script=_script(),
    )


def parse_heads(heads: Sequence[HeadName], layers: Sequence[int], n_heads: int) -> list[Head]:
    """Heads as (layer, head), each there is.

    Raises:
        InterpError: something else, no head, or one that there is not.
    """
    found: list[Head] = []
    for head in heads:
        if isinstance(head, str):
            head = parse_head(head)
        pair = isinstance(head, tuple | list) and len(head) == 2
        if not pair or not all(isinstance(k, Integral) and not isinstance(k, bool) for k in head):
            raise InterpError(
                f"{head!r} is no head: give (layer, head), such as [(15, 5), (24, 2)]"
            )
        found.append((int(head[0]), int(head[1])))
    require_heads(found, layers, n_heads)
    return list(dict.fromkeys(found))


def require_heads(heads: Sequence[Head], layers: Sequence[int], n_heads: int) -> None:
    """Refuse an empty list, or a head that there is not."""
    if not len(heads):
        raise InterpError("no heads to show: the list is empty; None chooses some")
    for layer, head in heads:
        if layer not in layers:
            raise InterpError(f"no attention at layer {layer}; read at {list(layers)}")
        if not 0 <= head < n_heads:
            raise InterpError(f"no head {head}; there are 0..{n_heads - 1}")


def largest(values: Tensor, layers: Sequence[int], n: int = MOST_HEADS) -> list[Head]:
    """The heads of the largest values ``[layer, head]``, NaN last."""
    order = values.nan_to_num(nan=-float("inf")).flatten().argsort(descending=True, stable=True)
    n_heads = values.shape[1]
    return [(layers[k // n_heads], k % n_heads) for k in order[:n].tolist()]


def default_span(prompt: TokenizedPrompt) -> str:
    """``instruction``, or the first span that there is."""
    return "instruction" if "instruction" in prompt.spans else next(iter(prompt.spans))


def mass_on(run: AttentionRun, span: str) -> Tensor:
    """Mass ``[layer, head]`` from later positions to a span; NaN where the run has no such span."""
    masses = run.masses
    if span not in masses.keys:
        return masses.values.new_full(masses.values.shape[:2], float("nan"))
    return masses.mass(span)


def difference_on(runs: Sequence[AttentionRun], span: str) -> Tensor:
    """Mass on the span, source minus destination ``[layer, head]``; a span that is not there gets 0."""
    source, destination = (mass_on(run, span).nan_to_num() for run in runs)
    return source - destination


def _heads_of(runs: Sequence[AttentionRun], span: str) -> list[Head]:
    if len(runs) == 2:
        return largest(difference_on(runs, span), runs[0].masses.layers)
    patterns = runs[0].patterns
    assert patterns is not None
    return largest(1 - patterns.values[:, :, :, 0].mean(dim=-1), patterns.layers)


def _aligned(prompts: Sequence[TokenizedPrompt]) -> list[int] | None:
    """The destination's position of every position of the source; None where they are the same."""
    if len(prompts) < 2:
        return None
    alignment = align(*prompts)
    return None if alignment.by_index else alignment.to_destination.tolist()


def _run_data(
    run: AttentionRun, heads: Sequence[Head], queries: Sequence[str], keys: Sequence[str]
) -> dict[str, Any]:
    masses, patterns = run.masses, run.patterns
    full = np.full((*masses.values.shape[:2], len(queries), len(keys)), np.nan)
    rows = np.array([queries.index(name) for name in masses.queries])
    columns = np.array([keys.index(name) for name in masses.keys])
    full[:, :, rows[:, None], columns] = masses.values.double().numpy()
    data: dict[str, Any] = {"name": run.name, "n": masses.n_prompts, "mass": _packed(full)}
    if patterns is None:
        return data
    prompt = patterns.prompt
    lower = np.tril_indices(len(prompt))
    values = [
        patterns.values[patterns.layers.index(layer), head].double().numpy()
        for layer, head in heads
    ]
    return data | {
        "tokens": [_short(visible_token(token)) for token in whole_tokens(prompt)],
        "spans": [[name, span.start, span.stop] for name, span in prompt.spans.items()],
        "patterns": [_packed(value[lower]) for value in values],
    }


def _packed(values: np.ndarray) -> str:
    """Numbers from 0 to 1 as little-endian 16-bit numbers of 1/65534, NaN as 65535, in base64."""
    scaled = np.where(np.isnan(values), _MISSING, np.rint(np.nan_to_num(values).clip(0, 1) * _TOP))
    return b64encode(scaled.astype("<u2").tobytes()).decode("ascii")


def _short(token: str) -> str:
    if len(token) <= _LONGEST_TOKEN:
        return token
    return f"{token[:_LONGEST_TOKEN]}… ({len(token):,} characters)"


def _static(runs: Sequence[AttentionRun], heads: Sequence[Head], span: str) -> str:
    """What is shown without JavaScript: the chosen heads' mass on the span."""
    at = runs[0].masses.layers.index
    columns: dict[str, Any] = {"head": [f"L{layer}H{head}" for layer, head in heads]}
    for run in runs:
        mass = mass_on(run, span)
        columns[run.name] = [float(mass[at(layer), head]) for layer, head in heads]
    frame = pd.DataFrame(columns)
    if len(runs) == 2:
        frame["difference"] = frame.iloc[:, 1] - frame.iloc[:, 2]
    said = f"Mean attention from {LATER} to the span “{span}” (the figure needs JavaScript):"
    return f"<p>{escape_html(said)}</p>{html_table(frame, decimals=3)}"


@cache
def _script() -> str:
    """The view's script, which holds its style."""
    folder = files("interp.viz").joinpath("templates")
    style = folder.joinpath("attention.css").read_text(encoding="utf-8")
    script = folder.joinpath("attention.js").read_text(encoding="utf-8")
    return script.replace('"STYLE"', json.dumps(style).replace("<", "\\u003c"))
