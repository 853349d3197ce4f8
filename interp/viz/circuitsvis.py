"""Heads of one prompt in circuitsvis's own widget, as a piece of a page or of a notebook.

The script is the package's own bundle (1.3 MB): a page holds it once, a notebook once per display, and
nothing is loaded or asked for from a network. Values travel as whole numbers of 10^-digits, each row
only up to the diagonal, inside a JSON block that token text cannot end. The widget is light whatever its
page is. To compare two runs, or to choose among layers, see :mod:`interp.viz.attention_view`.

Example::

    patterns = interp.activations.read_attention(model, "The sky is", layers=[15])
    interp.viz.attention_fragment(patterns, heads=[5, 2])
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import AttentionPatterns
from interp.display import visible_token
from interp.errors import InterpError
from interp.viz.attention_view import require_heads
from interp.viz.report import Fragment, json_block


def attention_fragment(
    patterns: AttentionPatterns,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    digits: int = 3,
) -> Fragment:
    """Chosen heads of one prompt in circuitsvis's widget.

    Args:
        patterns: of one prompt.
        layers: layers among those that were read; None takes all.
        heads: heads of each layer; None takes all.
        digits: decimals kept of every probability, 1 to 6.

    Returns:
        A fragment of about ``layers x heads x tokens² x 1.3`` bytes, and the script.

    Raises:
        InterpError: no layer or head, one that was not read, or digits out of range.
    """
    if not 1 <= digits <= 6:
        raise InterpError(f"digits is {digits}: give 1 to 6")
    layers = patterns.layers if layers is None else layers
    heads = range(patterns.values.shape[1]) if heads is None else heads
    picked = [(layer, head) for layer in layers for head in heads]
    require_heads(picked, patterns.layers, patterns.values.shape[1])
    values = [patterns.values[patterns.layers.index(layer), head] for layer, head in picked]
    data = {
        "heads": [f"L{layer}H{head}" for layer, head in picked],
        "tokens": [visible_token(token) for token in patterns.prompt.str_tokens],
        "scale": 10**digits,
        "top": _top(values),
        "values": [_lower_triangle(value, digits) for value in values],
    }
    block = json_block(data)
    return Fragment(
        '<div class="attention" style="background:#fff;color:#222;position:relative;min-height:3rem">'
        f"<small>darkest at {data['top']} and above</small><div></div>"
        f"{block}</div>",
        script=_script(),
    )


@cache
def _script() -> str:
    """The library's own bundle, without the closing tag that its text contains, and what calls it."""
    bundle = files("circuitsvis").joinpath("dist", "cdn", "iife.js").read_text(encoding="utf-8")
    call = files("interp.viz").joinpath("templates", "circuitsvis.js").read_text(encoding="utf-8")
    closed = bundle.replace("</script>", "<\\/script>")
    return f"{closed}\n{call}"


def _lower_triangle(pattern: Float[Tensor, "dest src"], digits: int) -> list[list[int]]:
    scaled = (pattern.double() * 10**digits).round().to(torch.int64).tolist()
    return [row[: k + 1] for k, row in enumerate(scaled)]


def _top(values: Sequence[Float[Tensor, "dest src"]]) -> float:
    """The value of the darkest colour: high, yet not set by the first position's attention sink."""
    off_sink = np.concatenate([value[1:, 1:].flatten().numpy() for value in values])
    return round(max(0.05, float(np.quantile(off_sink, 0.995))), 3) if off_sink.size else 1.0
