"""What an attention run asks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from analyses.config import ContrastConfig, Limit, Out, Rotate


class AttentionConfig(ContrastConfig):
    """Who looks at the instruction: attention of later positions, beside a placebo in its place."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp attention --items bbq:Age",
        "interp attention --items bbq:Age,bbq:Religion --limit 24 --rotate",
        "interp attention --condition careful --condition-file my.yaml --texts 2",
    )

    limit: Limit = 8
    rotate: Rotate = False
    out: Out = Path("runs/attention")
