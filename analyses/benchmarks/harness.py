"""lm-evaluation-harness as a peer of scoring: log-likelihoods of options given prompts.

Its ``HFLM`` gets the same weights as a plain Hugging Face model and the same token ids, so that neither
templates nor tokenisation is in question. It runs one row per (prompt, option), sorted by length and
padded on the right, and merges pairs that differ in a last token only.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

VERSION = "0.4.13"
"""The version of the extra ``peers``."""

INSTALL = f"pip install --no-deps lm-eval=={VERSION}"
"""With its dependencies it would replace python-dateutil by an older one; scoring needs none of them."""


def harness_version() -> str | None:
    """The version installed, None where it is not."""
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        return None


class Harness:
    """A plain model in the harness."""

    def __init__(self, plain: Any, tokenizer: Any) -> None:
        """Import the harness, which takes seconds, and wrap the model."""
        from lm_eval.models.huggingface import HFLM

        logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every model given whole
        # it chooses a pad token: in a copy
        self._lm = HFLM(
            pretrained=plain, backend="causal", tokenizer=copy.deepcopy(tokenizer), batch_size=1
        )

    def log_likelihoods(
        self, pairs: Sequence[tuple[list[int], list[int]]], batch: int
    ) -> tuple[float, Float[Tensor, " pair"]]:
        """Seconds, and the sum over each continuation's tokens, ``pairs`` as (prompt, continuation)."""
        self._lm.batch_size_per_gpu = batch
        requests = [(None, prompt, continuation) for prompt, continuation in pairs]
        started = time.perf_counter()
        answers = self._lm._loglikelihood_tokens(requests, disable_tqdm=True)
        seconds = time.perf_counter() - started
        return seconds, torch.tensor([answer[0] for answer in answers], dtype=torch.float64)
