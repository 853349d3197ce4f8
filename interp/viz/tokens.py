"""Numbers per token, as the background colour of the tokens' text.

The colours are those of the maps: RdBu around 0 (blue = +) for signed values, Blues from 0 for
amounts. Black or white text is chosen by each background's luminance (contrast 4.5 and more), and
everything else takes the page's own colours, so that a light and a dark page both read. The piece
holds its style and needs neither a script nor a network.

Example::

    patterns = interp.activations.read_attention(model, pair.source)
    last = patterns.values[0, 5, -1]  # layer 0, head 5: what the last position attends to
    interp.viz.coloured_tokens(pair.source, last, scale="sequential", unit="attention")

    shifts = interp.project(model, [pair.source], v, positions="all").to_dataframe()
    layer_3 = shifts.query("layer == 3").projection
    interp.viz.coloured_tokens(pair.source, layer_3, unit="class units")
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from plotly.colors import sample_colorscale
from torch import Tensor

from interp.display import escape_html, visible_token
from interp.errors import InterpError
from interp.prompts import TokenizedPrompt
from interp.viz.report import Fragment
from interp.viz.theme import DIVERGING, SEQUENTIAL

Numbers = Sequence[Any] | npt.NDArray[Any] | pd.Series | Tensor
"""One number per token, ``[pos]``; NaN or None where there is none."""

_BOX = (
    "font:13px/1.9 Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre-wrap;"
    "overflow-wrap:anywhere;-webkit-print-color-adjust:exact;print-color-adjust:exact"
)
_SANS = "'Helvetica Neue',Helvetica,Arial,'Liberation Sans',sans-serif"
_NAMED_ROW = "display:flex;gap:.7em;margin-bottom:.4em"
_NAME = f"flex:0 0 8.5em;font:600 11px/1.35 {_SANS};padding-top:5px"
_LEGEND = f"font:12px/2 {_SANS};white-space:normal"
_TOKEN = "padding:2px 0;margin-right:1px;border-radius:2px"
_STEPS = 11
_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
_PART = "\ufffd"


def coloured_tokens(
    prompt: TokenizedPrompt | Sequence[str],
    values: Numbers | Mapping[str, Numbers],
    *,
    scale: Literal["diverging", "sequential"] = "diverging",
    centre: float = 0.0,
    limit: float | None = None,
    unit: str = "",
) -> Fragment:
    """The prompt's text, each token on the colour of its number: shown inline and on pages.

    Any number per token: a projection, the effect of a patch, a log-probability, attention. Hovering
    gives position, token and number; a legend gives range and unit. Tokens run from left to right in
    the order of positions, whatever their script, and what is invisible in them is shown as a sign. A
    character that was split over several tokens is drawn in the first of them where the prompt's text
    tells it (the others show …), and else as �.

    Example::

        log_probs = model(prompt.ids[None])[0].log_softmax(-1)
        taken = log_probs[:-1].gather(-1, prompt.ids[1:, None])[:, 0]
        figure = interp.viz.coloured_tokens(
            prompt, [None, *taken.tolist()], centre=-3.0, unit="nats"
        )
        interp.viz.save(figure, "log_probs.html")

    Args:
        prompt: a prompt, or its tokens as strings.
        values: ``[pos]``, a number per token; NaN, or None, leaves a token uncoloured. A mapping from
            names to such values stacks rows with their names, all on one colour scale.
        scale: ``diverging``: red below ``centre``, white at it, blue above. ``sequential``: white at
            0, darker with the amount; values must not be negative.
        centre: the white of the diverging scale.
        limit: distance from ``centre`` (or from 0) of the darkest colours, which farther values take
            too; None takes the largest there is. Give it to compare two displays.
        unit: of the values, for hover and legend.

    Returns:
        A fragment, about 150 bytes a token and row. Jupyter shows it; a report's
        :class:`~interp.viz.Section` and :func:`~interp.viz.save` take it.

    Raises:
        InterpError: no prompt or list of strings, no row, values that are no numbers or not one per
            token, negative values or a centre on the sequential scale, or a limit that is not
            positive.
    """
    tokens, shown = _tokens_of(prompt)
    rows = values if isinstance(values, Mapping) else {"": values}
    if not rows:
        raise InterpError("values has no row: give values, or a mapping from names to values")
    numbers = {str(name): _numbers(row, len(tokens), str(name)) for name, row in rows.items()}
    colours = _scale_of(numbers, scale, centre, limit)
    named = isinstance(values, Mapping)
    drawn = [_row(name, row, tokens, shown, colours, unit, named) for name, row in numbers.items()]
    together = np.stack(list(numbers.values()))
    return Fragment(f'<div style="{_BOX}">{"".join(drawn)}{_legend(colours, together, unit)}</div>')


@dataclass(frozen=True)
class _Colours:
    """A colour scale from ``low`` to ``high``."""

    name: str
    low: float
    high: float
    signed: bool

    def of(self, values: npt.NDArray[np.float64]) -> list[tuple[int, int, int]]:
        share = np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0)
        sampled = sample_colorscale(self.name, share.tolist(), colortype="tuple")
        return [tuple(round(255 * part) for part in colour) for colour in sampled]

    def text(self, value: float, digits: int = 3) -> str:
        return f"{value:+.{digits}g}" if self.signed and value else f"{value:.{digits}g}"


def _tokens_of(prompt: TokenizedPrompt | Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """The tokens, and how they are shown."""
    if isinstance(prompt, TokenizedPrompt):
        tokens: Sequence[str] = prompt.str_tokens
        whole = whole_tokens(prompt)
    elif isinstance(prompt, Sequence) and not isinstance(prompt, str | bytes):
        tokens = whole = list(prompt)
    else:
        raise InterpError(
            f"prompt is a {type(prompt).__name__}: give a tokenized prompt (of a pair, pair.source), "
            "or a list of token strings"
        )
    if not tokens or not all(isinstance(token, str) for token in tokens):
        raise InterpError("prompt has no tokens, or some that are no strings: give token strings")
    return tokens, [escape_html(visible_token(t)).replace("⏎", "⏎<br>") for t in whole]


def whole_tokens(prompt: TokenizedPrompt) -> list[str]:
    """The prompt's tokens, a character that was split over several of them in the first (… follow)."""
    return _whole_characters(prompt.str_tokens, prompt.n_bos, prompt.text)


def _whole_characters(tokens: Sequence[str], n_bos: int, text: str) -> list[str]:
    """Tokens with the characters that were split over several of them put back into the first.

    The parts decode as �. What they make is the text between the neighbouring tokens; where that does
    not work out for the whole prompt, the tokens stay as they are.
    """
    shown = list(tokens)
    start, gap = 0, 0  # where the text goes on, and how many parts wait for it
    for is_part, group in groupby(range(n_bos, len(tokens)), key=lambda k: _PART in tokens[k]):
        places = list(group)
        if is_part:
            gap = len(places)
            continue
        known = "".join(tokens[k] for k in places)
        found = text.find(known, start)
        if found < 0 or bool(gap) != (found > start):
            return list(tokens)
        _put_back(shown, places[0] - gap, gap, text[start:found])
        start, gap = found + len(known), 0
    if bool(gap) != (len(text) > start):
        return list(tokens)
    _put_back(shown, len(tokens) - gap, gap, text[start:])
    return shown


def _put_back(shown: list[str], first: int, n: int, characters: str) -> None:
    if n:
        shown[first : first + n] = [characters, *["…"] * (n - 1)]


def _numbers(values: Numbers, n_tokens: int, name: str) -> npt.NDArray[np.float64]:
    """The values of one row as float64 ``[pos]``."""
    label = f"values[{name!r}]" if name else "values"
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"of type {array.dtype}")
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InterpError(f"{label} are no numbers ({error}): give one number per token") from error
    if array.shape != (n_tokens,):
        raise InterpError(
            f"{label} has shape {list(array.shape)}, and the prompt {n_tokens} tokens: give one "
            "number per token"
        )
    return array


def _scale_of(
    rows: Mapping[str, npt.NDArray[np.float64]], scale: str, centre: float, limit: float | None
) -> _Colours:
    if scale not in ("diverging", "sequential"):
        raise InterpError(f"scale is {scale!r}: give 'diverging' or 'sequential'")
    if not np.isfinite(centre):
        raise InterpError(f"centre is {centre}: give a finite number")
    if limit is not None and not (np.isfinite(limit) and limit > 0):
        raise InterpError(f"limit is {limit}: give a number above 0, or None")
    if scale == "sequential":
        if centre:
            raise InterpError(
                f"the sequential scale starts at 0, and centre is {centre}: leave it out"
            )
        _refuse_negative(rows)
    values = np.concatenate(list(rows.values()))
    distance = np.abs(values[np.isfinite(values)] - centre)
    if limit is None:
        limit = float(distance.max()) if distance.size and distance.max() > 0 else 1.0
    if scale == "sequential":
        return _Colours(SEQUENTIAL, 0.0, limit, signed=False)
    return _Colours(DIVERGING, centre - limit, centre + limit, signed=True)


def _refuse_negative(rows: Mapping[str, npt.NDArray[np.float64]]) -> None:
    for name, row in rows.items():
        below = np.flatnonzero(row < 0)
        if below.size:
            of_row = f"of {name!r} " if name else ""
            raise InterpError(
                f"the sequential scale is for amounts, and the value {of_row}at position {below[0]} is "
                f"{row[below[0]]:.4g}: use scale='diverging'"
            )


def _row(
    name: str,
    values: npt.NDArray[np.float64],
    tokens: Sequence[str],
    shown: Sequence[str],
    colours: _Colours,
    unit: str,
    named: bool,
) -> str:
    cells = []
    filled = colours.of(np.nan_to_num(values, nan=colours.low))
    for k, (token, html, value, colour) in enumerate(
        zip(tokens, shown, values.tolist(), filled, strict=True)
    ):
        missing = np.isnan(value)
        number = "no value" if missing else f"{colours.text(value, 4)} {unit}".rstrip()
        hover = f"{k} {_SHORT.repr(token)}: {f'{name}: ' if name else ''}{number}"
        style = _TOKEN if missing else f"{_TOKEN};{_paint(colour)}"
        # bdi: a token's direction does not reach its neighbours
        cells.append(f'<bdi title="{escape_html(hover)}" style="{style}">{html}</bdi>')
    text = "".join(cells)
    if not named:
        return f"<div>{text}</div>"
    return (
        f'<div style="{_NAMED_ROW}"><b style="{_NAME}">{escape_html(name)}</b>'
        f'<div style="flex:1;min-width:0">{text}</div></div>'
    )


def _paint(colour: tuple[int, int, int]) -> str:
    """A background and the text colour of the higher contrast on it, black or white."""
    return (
        f"background-color:{_hex(colour)};color:{'#000' if _luminance(colour) > 0.179 else '#fff'}"
    )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2); both contrasts are equal at 0.179."""
    part = np.array(colour) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _legend(colours: _Colours, values: npt.NDArray[np.float64], unit: str) -> str:
    steps = colours.of(np.linspace(colours.low, colours.high, _STEPS))
    bar = (
        '<span style="display:inline-block;width:9em;height:.8em;margin:0 .5em;border-radius:2px;'
        "vertical-align:-.05em;background:linear-gradient(to right,"
        f'{",".join(_hex(step) for step in steps)})"></span>'
    )
    below = "≤ " if (values < colours.low).any() else ""
    above = "≥ " if (values > colours.high).any() else ""
    ends = f"{below}{colours.text(colours.low)}{bar}{above}{colours.text(colours.high)}"
    notes = [f"{ends} {escape_html(unit)}".rstrip()]
    if colours.signed:
        notes.append(f"white: {colours.text((colours.low + colours.high) / 2)}")
    if np.isnan(values).any():
        notes.append("no colour: no value")
    return f'<div style="{_LEGEND}">{" · ".join(notes)}</div>'
