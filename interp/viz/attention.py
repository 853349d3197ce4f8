"""Attention as an offline page: circuitsvis for chosen heads of both runs, and the mass on a span.

circuitsvis draws; its script is put on the page once, and its values travel as whole numbers of
10^-digits, each row only up to the diagonal, inside a JSON block that token text cannot end. Six
heads of two prompts of 120 tokens are about 0.2 MB, and the script 1.3 MB.

Example::

    interp.viz.attention_page(model, pair, path="attention.html")
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from plotly.colors import sample_colorscale
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import AttentionPatterns, read_attention
from interp.display import escape_html, visible_token
from interp.errors import InterpError
from interp.models import model_card
from interp.prompts import Given, PromptPair, TokenizedPrompt, as_prompt
from interp.viz.report import Fragment, Section, render_report
from interp.viz.theme import DIVERGING, SEQUENTIAL

_MOST_HEADS = 6
_SPAN_COLOURS = ("#e8f1fa", "#fdf0e0")


def attention_page(
    model: TransformerBridge,
    pair: Given,
    *,
    path: str | Path,
    span: str | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    digits: int = 3,
) -> Path:
    """Write one HTML file with the attention of a pair's runs, or of one prompt; it works offline.

    The page names the model and the spans, shows the mass that later positions give to the span in
    question per layer and head (of a pair: source, destination, difference), and lets the reader
    explore the chosen heads.

    Args:
        model: a bridge in evaluation mode.
        pair: a pair, whose two prompts are run once each; or one prompt: a prompt, a text, chat
            messages or token ids.
        path: the file to write, whole or not at all.
        span: whose mass is shown; None takes ``instruction``, or where there is none the first span
            that differs. A single prompt without it has no mass, and its heads are chosen by what
            they attend to besides the first position.
        layers: layers to explore; None takes the one whose heads give the span most mass in the
            source run.
        heads: heads to explore at each of them; None takes the (at most) six with the most mass.
        digits: decimals kept of every attention probability.

    Returns:
        The path.

    Raises:
        InterpError: no prompt or pair, two equal prompts, no or an unknown layer, head or span,
            digits out of range, or a path that cannot be written.
    """
    _require_some([0] if layers is None else layers, [0] if heads is None else heads)
    _require_digits(digits)
    if isinstance(pair, PromptPair):
        span, prompts = _prompts_with_span(pair, span)
        names, title = [pair.source_name, pair.destination_name], pair.label
    else:
        prompt = as_prompt(model, pair)
        span = _span_of_prompt(prompt, span)
        prompts, names, title = [prompt], [prompt.label], prompt.label
    runs = [read_attention(model, prompt) for prompt in prompts]
    mass = _mass_off_the_first(runs[0]) if span is None else _mass(runs[0], span)
    assert mass is not None  # the span was taken from this prompt
    picked = {
        layer: _strongest_heads(runs[0], layer, mass) if heads is None else heads
        for layer in ([int(mass.mean(dim=1).argmax())] if layers is None else layers)
    }
    sections = _sections(runs, names, span, picked, digits)
    render_report(sections, title=f"Attention: {title}", lead=model_card(model).one_line, path=path)
    return Path(path)


def attention_sections(
    source: AttentionPatterns,
    destination: AttentionPatterns,
    *,
    span: str,
    names: tuple[str, str],
    heads: Mapping[int, Sequence[int]],
    masses: Sequence[Float[Tensor, "layer head"]] | None = None,
    digits: int = 3,
) -> list[Section]:
    """The sections of an attention page: the mass on a span, and chosen heads of both prompts.

    Args:
        source: patterns of one prompt.
        destination: patterns of the other, at the same layers.
        span: whose mass is shown.
        names: what the two prompts are called.
        heads: heads to explore by layer, of the layers that were read.
        masses: the mass on the span of both prompts at all layers, where patterns were kept of some
            layers only; None reads it from the patterns.
        digits: decimals kept of every attention probability.

    Raises:
        InterpError: a layer that was not read, or an unknown head.
    """
    return _sections([source, destination], names, span, heads, digits, masses)


def _sections(
    runs: Sequence[AttentionPatterns],
    names: Sequence[str],
    span: str | None,
    heads: Mapping[int, Sequence[int]],
    digits: int,
    masses: Sequence[Float[Tensor, "layer head"]] | None = None,
) -> list[Section]:
    sections = []
    if span is not None and masses is None:
        shown = [_mass(patterns, span) for patterns in runs]
        sections = [_overview(span, runs[0].layers, shown, names)]
    elif span is not None and masses is not None:
        sections = [_overview(span, range(len(masses[0])), list(masses), names)]
    roles = ("source", "destination") if len(runs) > 1 else names
    for name, role, patterns in zip(names, roles, runs, strict=True):
        sections.append(_exploration(name, role, patterns, heads, digits))
    return sections


def attention_fragment(
    patterns: AttentionPatterns,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    digits: int = 3,
) -> Fragment:
    """Interactive attention of chosen heads, as a piece of a report (:class:`Section`).

    Args:
        patterns: of one prompt.
        layers: layers among those that were read; None takes all.
        heads: heads of each layer; None takes all.
        digits: decimals kept of every probability, 1 to 6.

    Returns:
        A fragment of about ``layers x heads x tokens² x 1.3`` bytes; the page adds the script.

    Raises:
        InterpError: no layer or head, one that was not read, or digits out of range.
    """
    _require_digits(digits)
    layers = patterns.layers if layers is None else layers
    heads = range(patterns.values.shape[1]) if heads is None else heads
    _require_some(layers, heads)
    _check_chosen(patterns, layers, heads)
    picked = [(layer, head) for layer in layers for head in heads]
    values = [patterns.values[patterns.layers.index(layer), head] for layer, head in picked]
    data = {
        "heads": [f"L{layer}H{head}" for layer, head in picked],
        "tokens": [visible_token(token) for token in patterns.prompt.str_tokens],
        "scale": 10**digits,
        "top": _top(values),
        "values": [_lower_triangle(value, digits) for value in values],
    }
    # < is escaped so that no token can close the script element or open a comment in it
    block = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return Fragment(
        f'<div class="attention"><small>darkest at {data["top"]} and above</small><div></div>'
        f'<script type="application/json">{block}</script></div>',
        uses_circuitsvis=True,
    )


def span_legend(prompt: TokenizedPrompt) -> Fragment:
    """The prompt's text, span by span, with each span's name and positions."""
    parts = []
    for k, (name, span) in enumerate(prompt.spans.items()):
        text = "".join(visible_token(token) for token in prompt.str_tokens[span])
        parts.append(
            f"<div><b>{escape_html(name)}<br>{span.start}–{span.stop - 1}</b>"
            f'<span style="background:{_SPAN_COLOURS[k % 2]}">{escape_html(text)}</span></div>'
        )
    return Fragment(f'<div class="tokens">{"".join(parts)}</div>')


def _prompts_with_span(pair: PromptPair, asked: str | None) -> tuple[str, list[TokenizedPrompt]]:
    """The span to follow; one of its own for the first difference if a span covers everything."""
    if asked is not None or "instruction" in pair.source.spans:
        span = "instruction" if asked is None else asked
        pair.source.span(span)
        return span, [pair.source, pair.destination]
    first = pair.alignment.first_difference
    if first is None:
        raise InterpError(f"{pair.label}: both prompts are equal, there is nothing to compare")
    name = pair.source.span_of(min(first, len(pair.source) - 1))
    if pair.source.spans[name].stop < len(pair.source):
        return name, [pair.source, pair.destination]
    name = "first differing token"
    return name, [_marked(prompt, first, name) for prompt in (pair.source, pair.destination)]


def _span_of_prompt(prompt: TokenizedPrompt, asked: str | None) -> str | None:
    if asked is not None:
        prompt.span(asked)
        return asked
    return "instruction" if "instruction" in prompt.spans else None


def _marked(prompt: TokenizedPrompt, first: int, name: str) -> TokenizedPrompt:
    """The prompt with its spans replaced by: before, the first differing token, after."""
    n = len(prompt)
    first = min(first, n - 1)
    spans = {"before": slice(0, first), name: slice(first, first + 1), "after": slice(first + 1, n)}
    return replace(prompt, spans={k: s for k, s in spans.items() if s.stop > s.start})


def _mass(patterns: AttentionPatterns, span: str) -> Float[Tensor, "layer head"] | None:
    """Mass on the span from later positions (from the last one at least); None without the span."""
    where = patterns.prompt.spans.get(span)
    if where is None:
        return None
    last = len(patterns.prompt) - 1
    return patterns.to_span(span, dest=slice(min(where.stop, last), None))


def _mass_off_the_first(patterns: AttentionPatterns) -> Float[Tensor, "layer head"]:
    """Mean mass on other positions than the first, the usual attention sink."""
    return 1 - patterns.values[:, :, :, 0].mean(dim=-1)


def _strongest_heads(
    patterns: AttentionPatterns, layer: int, mass: Float[Tensor, "layer head"]
) -> list[int]:
    _check_chosen(patterns, [layer], [])
    order = mass[patterns.layers.index(layer)].argsort(descending=True, stable=True)
    return order[:_MOST_HEADS].tolist()


def _require_digits(digits: int) -> None:
    if not 1 <= digits <= 6:
        raise InterpError(f"digits is {digits}: give 1 to 6")


def _require_some(layers: Sequence[int], heads: Sequence[int]) -> None:
    if not len(layers) or not len(heads):
        what = "layers" if not len(layers) else "heads"
        raise InterpError(f"no {what} to show: the list is empty; None chooses some")


def _check_chosen(patterns: AttentionPatterns, layers: Sequence[int], heads: Sequence[int]) -> None:
    for layer in layers:
        if layer not in patterns.layers:
            raise InterpError(f"no attention at layer {layer}; read at {list(patterns.layers)}")
    n_heads = patterns.values.shape[1]
    for head in heads:
        if not 0 <= head < n_heads:
            raise InterpError(f"no head {head}; there are 0..{n_heads - 1}")


def _overview(
    span: str,
    layers: Sequence[int],
    masses: Sequence[Float[Tensor, "layer head"] | None],
    names: Sequence[str],
) -> Section:
    present = [mass for mass in masses if mass is not None]
    top = _largest(present)
    panels = [
        _grid(name, mass, layers, top)
        for name, mass in zip(names, masses, strict=True)
        if mass is not None
    ]
    if len(present) == 2:
        difference = present[0] - present[1]
        title = f"{names[0]} − {names[1]}"
        panels.append(_grid(title, difference, layers, _largest([difference]), signed=True))
    grids = Fragment(f'<div class="grids">{"".join(panels)}</div>')
    caption = (
        f"Mean attention (0 to 1) from the positions after it to the span {span!r}, per layer "
        "(upwards) and head. Hover for values. Mass is not influence: one token may be a mere sink."
    )
    return Section(f"Attention to the {span}", figures=[(grids, caption)])


def _exploration(
    name: str,
    run: str,
    patterns: AttentionPatterns,
    picked: Mapping[int, Sequence[int]],
    digits: int,
) -> Section:
    """One run: its prompt, and the chosen heads of each chosen layer."""
    figures = [(span_legend(patterns.prompt), "The prompt by span.")]
    for layer, heads in picked.items():
        fragment = attention_fragment(patterns, layers=[layer], heads=heads, digits=digits)
        figures.append((fragment, f"Layer {layer}. Rows attend to columns; hover for values."))
    return Section(name if name == run else f"{name} ({run})", figures=figures)


def _grid(
    name: str,
    mass: Float[Tensor, "layer head"],
    layers: Sequence[int],
    top: float,
    *,
    signed: bool = False,
) -> str:
    """A small heatmap as SVG, darkest at ``top``: it spares the page plotly's 4.8 MB."""
    shade = (mass / top + 1) / 2 if signed else mass / top
    colours = sample_colorscale(DIVERGING if signed else SEQUENTIAL, shade.flatten().tolist())
    n_layers, n_heads = mass.shape
    width, height = 200 / n_heads, 9.0
    marks = []
    for k, layer in enumerate(layers):
        y = (n_layers - 1 - k) * height
        if k % max(1, n_layers // 8) == 0:
            marks.append(f'<text x="18" y="{y + 7.5:.1f}" text-anchor="end">{layer}</text>')
        for head in range(n_heads):
            marks.append(
                f'<rect x="{22 + head * width:.2f}" y="{y:.1f}" width="{width - 0.6:.2f}" '
                f'height="{height - 0.6:.1f}" fill="{colours[k * n_heads + head]}">'
                f"<title>L{layer}H{head}: {float(mass[k, head]):.3f}</title></rect>"
            )
    bottom = n_layers * height
    for head in range(0, n_heads, max(1, n_heads // 8)):
        x = 22 + (head + 0.5) * width
        marks.append(f'<text x="{x:.1f}" y="{bottom + 9:.1f}" text-anchor="middle">{head}</text>')
    scale = f"±{top:.3f}" if signed else f"0 to {top:.3f}"
    return (
        f"<div>{escape_html(name)} <small>({scale})</small>"
        f'<svg viewBox="0 0 224 {bottom + 12:.0f}" font-size="8" fill="#6b6b6b" role="img">'
        f"{''.join(marks)}</svg></div>"
    )


def _lower_triangle(pattern: Float[Tensor, "dest src"], digits: int) -> list[list[int]]:
    scaled = (pattern.double() * 10**digits).round().to(torch.int64).tolist()
    return [row[: k + 1] for k, row in enumerate(scaled)]


def _top(values: Sequence[Float[Tensor, "dest src"]]) -> float:
    """The value of the darkest colour: high, yet not set by the first position's attention sink."""
    off_sink = np.concatenate([value[1:, 1:].flatten().numpy() for value in values])
    return round(max(0.05, float(np.quantile(off_sink, 0.995))), 3) if off_sink.size else 1.0


def _largest(masses: Sequence[Float[Tensor, "layer head"]]) -> float:
    return max(1e-9, *(float(mass.abs().max()) for mass in masses))
