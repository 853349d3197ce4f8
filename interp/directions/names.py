"""Names of what a direction is fitted with and read from, in plain words.

:mod:`interp.directions.methods` and :mod:`interp.directions.components` say what they mean. Nothing
here loads torch, so that a configuration can name and check these.
"""

from __future__ import annotations

from typing import Literal, get_args

FitMethod = Literal[
    "mean_difference", "logistic_regression", "lda", "pca", "statements", "statements_last"
]
METHODS: tuple[FitMethod, ...] = get_args(FitMethod)

Component = Literal[
    "embedding", "head", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post"
]
COMPONENTS: tuple[str, ...] = get_args(Component)
