"""What is about texts needs a tokenizer."""

from __future__ import annotations

from typing import Any

from interp.errors import InterpError


def require_tokenizer(tokenizer: Any) -> None:
    """Refuse texts for a model without a tokenizer.

    Raises:
        InterpError: says what such a model takes instead.
    """
    if tokenizer is None:
        raise InterpError(
            "this model has no tokenizer, so it reads no texts: give token tensors "
            "(make_pair(model, ids_a, ids_b, target=(a, b)), stream(model, [ids, ...], ...))"
        )
