"""A tokenised prompt as a row of a table, and back.

So a result that shows a prompt can be reopened without a tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from interp.errors import InterpError
from interp.prompts.tokens import TokenizedPrompt


def prompt_row(prompt: TokenizedPrompt) -> dict[str, Any]:
    """Plain values and lists: ids, tokens, spans, text, label."""
    return {
        "ids": prompt.ids.tolist(),
        "tokens": list(prompt.str_tokens),
        "spans": list(prompt.spans),
        "span_starts": [span.start for span in prompt.spans.values()],
        "span_stops": [span.stop for span in prompt.spans.values()],
        "text": prompt.text,
        "label": prompt.label,
        "n_bos": prompt.n_bos,
    }


def prompt_of_row(row: Mapping[Any, Any]) -> TokenizedPrompt:
    """The prompt that :func:`prompt_row` wrote.

    Raises:
        InterpError: a row without its columns, or with other values in them.
    """
    try:
        bounds = zip(row["spans"], row["span_starts"], row["span_stops"], strict=True)
        return TokenizedPrompt(
            ids=torch.tensor([int(token) for token in row["ids"]], dtype=torch.long),
            spans={str(name): slice(int(start), int(stop)) for name, start, stop in bounds},
            str_tokens=tuple(map(str, row["tokens"])),
            text=str(row["text"]),
            label=str(row["label"]),
            n_bos=int(row["n_bos"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InterpError(
            f"a prompt's row cannot be read ({error!r}): give what prompt_row wrote"
        ) from error
