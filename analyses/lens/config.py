"""What a lens run asks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from analyses.config import ContrastConfig, MetricName, Out


class LensConfig(ContrastConfig):
    """When an instruction changes the answer: logit lens over layers, with a positive control."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp lens --items bbq:Age",
        "interp lens --items bbq:Age,bbq:Religion --limit 60 --out runs/lens-two",
        "interp lens --metric option_margin --out runs/lens-full-texts",
        "interp lens --items bundled --model path/to/model --compatibility-mode --png",
        "interp lens --condition careful --condition-file my.yaml --texts 2 --out runs/careful",
        "where my.yaml says  careful: {description: asks for care, texts: [Please take care., "
        "Please be careful.]}",
    )

    metric: MetricName = "margin"
    out: Out = Path("runs/lens")
