"""The attention page: which heads look at a span, in two runs and in their difference.

For every head the page has the mean attention from any span to any other, as a map and as a table that
sorts; for the chosen heads it has every token of both prompts. It works offline, is written to a file
or shown inline by Jupyter, and :mod:`interp.viz.attention_view` draws it (and says why not circuitsvis).

Example::

    interp.viz.attention_page(model, pair)                                    # in a notebook
    interp.viz.attention_page(model, pair, heads=[(15, 5), (24, 2)], path="attention.html")
    interp.viz.attention_page(model, pairs, heads="knockout", path="mean.html")  # many, by span
    interp.viz.attention_page(model, "The sky is blue. The grass is")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import pandas as pd
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import SpanAttention, read_attention, read_span_attention
from interp.errors import InterpError
from interp.models import model_card
from interp.patching import knockout
from interp.prompts import Given, PromptPair, TokenizedPrompt, as_prompt
from interp.prompts.given import each_given
from interp.viz.attention_view import (
    AttentionRun,
    Head,
    HeadName,
    difference_on,
    draw_view,
    largest,
    mass_on,
    parse_heads,
)
from interp.viz.report import Fragment, Section, render_report

HeadChoice: TypeAlias = Literal["difference", "instruction", "knockout"]
"""By what heads are chosen (:func:`attention_page`)."""

_CAPTION = (
    "Attention shows what is read, not what is used: a head may look where it takes nothing from, and "
    "one token may be a mere attention sink. Knockout and patching ask what is used."
)
_FIRST = "first token"
_MOST_BYTES = 2**29


@dataclass(frozen=True)
class AttentionPage(Fragment):
    """An attention page: shown inline by Jupyter, taken by sections and :func:`interp.viz.save`.

    ``heads`` are those whose tokens it shows, in the order of their choice; ``masses`` the attention
    from span to span of every head, by run; ``span`` what it shows first; ``path`` where it was written.
    """

    heads: tuple[Head, ...] = ()
    span: str = ""
    masses: Mapping[str, SpanAttention] = field(default_factory=dict, repr=False)
    path: Path | None = None

    def to_dataframe(self) -> pd.DataFrame:
        """Every head's mass from later positions to the span: ``layer, head``, runs, ``difference``."""
        first = next(iter(self.masses.values()))
        cells = pd.MultiIndex.from_product(
            [first.layers, range(first.values.shape[1])], names=["layer", "head"]
        )
        runs = [AttentionRun(name, masses) for name, masses in self.masses.items()]
        columns = {run.name: mass_on(run, self.span).flatten().tolist() for run in runs}
        if len(runs) == 2:
            columns["difference"] = difference_on(runs, self.span).flatten().tolist()
        return pd.DataFrame(columns, index=cells).reset_index()


def attention_page(
    model: TransformerBridge,
    given: Given | Sequence[Given],
    *,
    heads: HeadChoice | Sequence[HeadName] | None = None,
    span: str | None = None,
    path: str | Path | None = None,
    progress: bool = True,
) -> AttentionPage:
    """Attention of a pair's two runs side by side, of one prompt, or of many averaged by span.

    The reader chooses layer and head, from which span to which the map of all heads is read, and a
    position whose attention the prompts' text shows. Where a token of the source has no counterpart in
    the destination, there is no difference.

    Args:
        model: a bridge in evaluation mode.
        given: a pair, whose two prompts are run once each; or one prompt: a prompt, a text, chat
            messages or token ids. A list of pairs, or of prompts, is averaged span by span.
        heads: those shown token by token, ``[(15, 5), (24, 2)]`` or ``["L15H5"]``; or the twelve with
            the largest ``"difference"`` of mass on the span, source minus destination (None takes these
            for pairs), the most mass on it in the source run (``"instruction"``;
            None takes these for prompts), or the largest effect, of either sign, of no longer reading it
            (``"knockout"``: :func:`interp.knockout` of the source run, one head at a time, which needs
            pairs with a margin).
        span: whose mass is shown first, and decides. None takes ``instruction``; where a pair has none
            the first span that differs; of a single prompt the first position, the usual attention
            sink, and heads are those that look there least.
        path: also write the page there, whole or not at all: one HTML file that needs no network.
        progress: show a bar for the knockout.

    Returns:
        The page; ``to_dataframe()`` has the mass on the span per layer and head.

    Raises:
        InterpError: no prompt or pair, pairs among prompts, two equal prompts, an unknown head or
            span, a choice that needs pairs, or a path that cannot be written.

    Example:
        >>> page = attention_page(model, pair, heads=[(15, 5)], path="a.html")    # doctest: +SKIP
        >>> page.to_dataframe().nlargest(5, "difference")                         # doctest: +SKIP
    """
    named = _named_heads(model, heads)
    asked = _ask(model, each_given(given), span)
    runs = [_run(model, name, side) for name, side in zip(asked.names, asked.sides, strict=True)]
    chosen = named or _choose(model, runs, asked, heads, progress)
    if len(asked.sides[0]) == 1:
        runs = [
            _with_patterns(model, run, side[0], chosen)
            for run, side in zip(runs, asked.sides, strict=True)
        ]
    lead = model_card(model).one_line
    view = draw_view(runs, heads=chosen, span=asked.span, title=asked.title, lead=lead)
    found = {run.name: run.masses for run in runs}
    where = None if path is None else Path(path)
    page = AttentionPage(view.html, view.script, tuple(chosen), asked.span, found, where)
    if where is not None:
        render_report(
            [Section("", figures=[(page, _CAPTION)])], title="Attention", lead="", path=where
        )
    return page


@dataclass(frozen=True)
class _Asked:
    """What is run: the prompts of each side (one or two), and the span that is followed."""

    title: str
    names: tuple[str, ...]
    sides: tuple[list[TokenizedPrompt], ...]
    span: str
    pairs: tuple[PromptPair, ...] = ()


def _ask(model: TransformerBridge, given: Sequence[Any], span: str | None) -> _Asked:
    pairs = tuple(one for one in given if isinstance(one, PromptPair))
    if not given:
        raise InterpError("no prompts to show: the list is empty")
    if pairs and len(pairs) < len(given):
        raise InterpError("attention_page: give pairs or prompts, not both")
    if not pairs:
        span, prompts = _marked_prompts([as_prompt(model, one) for one in given], span)
        name = prompts[0].label if len(prompts) == 1 else f"{len(prompts)} prompts"
        return _Asked(name, (name,), (prompts,), span)
    span, sides = _sides_of_pairs(pairs, span)
    names = (pairs[0].source_name, pairs[0].destination_name)
    names = ("source", "destination") if names[0] == names[1] else names
    title = pairs[0].label if len(pairs) == 1 else f"{names[0]} -> {names[1]}, {len(pairs)} pairs"
    return _Asked(title, names, (sides[0], sides[1]), span, pairs)


def _run(model: TransformerBridge, name: str, prompts: Sequence[TokenizedPrompt]) -> AttentionRun:
    """The masses of a side; its patterns too where it is one prompt that fits into memory."""
    n_bytes = 4 * model.cfg.n_layers * model.cfg.n_heads * len(prompts[0]) ** 2
    if len(prompts) == 1 and n_bytes <= _MOST_BYTES:
        patterns = read_attention(model, prompts[0])
        return AttentionRun(name, patterns.by_span(), patterns)
    return AttentionRun(name, read_span_attention(model, prompts))


def _with_patterns(
    model: TransformerBridge, run: AttentionRun, prompt: TokenizedPrompt, heads: Sequence[Head]
) -> AttentionRun:
    if run.patterns is not None:
        return run
    layers = sorted({layer for layer, _ in heads})
    return replace(run, patterns=read_attention(model, prompt, layers=layers))


def _named_heads(model: TransformerBridge, heads: Any) -> list[Head] | None:
    """The heads that were named; refuses an unknown choice before anything is run."""
    if heads is None or (isinstance(heads, str) and heads in get_args(HeadChoice)):
        return None
    if isinstance(heads, str) or not isinstance(heads, Sequence):
        raise InterpError(
            f"heads is {heads!r}: give [(layer, head), ...], or one of {', '.join(get_args(HeadChoice))}"
        )
    return parse_heads(heads, range(model.cfg.n_layers), model.cfg.n_heads)


def _choose(
    model: TransformerBridge,
    runs: Sequence[AttentionRun],
    asked: _Asked,
    choice: Any,
    progress: bool,
) -> list[Head]:
    """The heads of the largest values by a choice."""
    layers, span, pairs = runs[0].masses.layers, asked.span, asked.pairs
    choice = choice or ("difference" if pairs else "instruction")
    if choice != "instruction" and not pairs:
        raise InterpError(f"heads={choice!r} compares two runs: give a pair, or name the heads")
    if choice == "knockout":
        return largest(_knockout_effects(model, pairs, span, progress).abs(), layers)
    if choice == "difference":
        return largest(difference_on(runs, span), layers)
    mass = mass_on(runs[0], span)
    return largest(-mass if span == _FIRST else mass, layers)


def _knockout_effects(
    model: TransformerBridge, pairs: Sequence[PromptPair], span: str, progress: bool
) -> Tensor:
    """What a head's no longer reading the span changes in the source run, mean over pairs."""
    if any(span not in pair.source.spans for pair in pairs):
        raise InterpError(
            f"heads='knockout' blocks a span of the source, and {span!r} is none: give span="
        )
    edited = [pair.swap() for pair in pairs]
    done = knockout(model, edited, to=span, cells="layer_head", progress=progress)
    return done.effect().mean(-1)


def _sides_of_pairs(
    pairs: Sequence[PromptPair], asked: str | None
) -> tuple[str, list[list[TokenizedPrompt]]]:
    """The span to follow; one of its own for the first difference if a span covers everything."""
    sources = [pair.source for pair in pairs]
    sides = [sources, [pair.destination for pair in pairs]]
    if asked is not None or all("instruction" in prompt.spans for prompt in sources):
        span = "instruction" if asked is None else asked
        for prompt in sources:
            prompt.span(span)
        return span, sides
    first = pairs[0].alignment.first_difference
    if first is None:
        raise InterpError(f"{pairs[0].label}: both prompts are equal, there is nothing to compare")
    name = sources[0].span_of(min(first, len(sources[0]) - 1))
    if sources[0].spans[name].stop < len(sources[0]) or len(pairs) > 1:
        for prompt in sources:
            prompt.span(name)
        return name, sides
    name = "first differing token"
    return name, [[_cut(prompt, first, name) for prompt in side] for side in sides]


def _marked_prompts(
    prompts: list[TokenizedPrompt], asked: str | None
) -> tuple[str, list[TokenizedPrompt]]:
    """The span to follow; the first position, apart from the others, if there is none to choose."""
    if asked is not None or all("instruction" in prompt.spans for prompt in prompts):
        span = "instruction" if asked is None else asked
        for prompt in prompts:
            prompt.span(span)
        return span, prompts
    return _FIRST, [_with_first(prompt) for prompt in prompts]


def _with_first(prompt: TokenizedPrompt) -> TokenizedPrompt:
    """The prompt with its first position as a span of its own."""
    rest = {name: slice(max(s.start, 1), s.stop) for name, s in prompt.spans.items()}
    spans = {_FIRST: slice(0, 1), **{name: s for name, s in rest.items() if s.stop > s.start}}
    return replace(prompt, spans=spans)


def _cut(prompt: TokenizedPrompt, first: int, name: str) -> TokenizedPrompt:
    """The prompt with its spans replaced by: before, the first differing token, after."""
    n = len(prompt)
    first = min(first, n - 1)
    spans = {"before": slice(0, first), name: slice(first, first + 1), "after": slice(first + 1, n)}
    return replace(prompt, spans={k: s for k, s in spans.items() if s.stop > s.start})
