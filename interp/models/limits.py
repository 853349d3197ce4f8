"""What can end a computation on any input: numbers that overflow, and memory that runs out."""

from __future__ import annotations

import torch
from torch import Tensor

from interp.errors import InterpError


class NotFiniteError(InterpError):
    """A NaN or infinity in ``what`` (a hook's name, or "the logits") of ``whose`` computation."""

    def __init__(self, what: str, whose: str, *, prompt: int | None = None) -> None:
        verb = "are" if what.endswith("logits") else "is"
        super().__init__(
            f"{what} of {whose} {verb} not finite: the weights or the input overflow; check the "
            "model's card, or load it in float32"
        )
        self.what, self.prompt = what, prompt


def require_finite(values: Tensor, what: str, whose: str) -> None:
    """Refuse values that are not all finite.

    Raises:
        NotFiniteError: names them.
    """
    if not bool(torch.isfinite(values).all()):
        raise NotFiniteError(what, whose)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's CPU allocator raises a plain RuntimeError
    return any(sign in str(error) for sign in ("can't allocate memory", "not enough memory"))
