"""What a circuit run asks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from analyses.config import ContrastConfig, MetricName, Out, Rotate
from interp.circuits.names import Ablation, ScoreMethod


class CircuitConfig(ContrastConfig):
    """Which heads and MLPs carry an instruction: faithfulness of a circuit beside random ones."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp circuit --items bbq:Age --out runs/circuit",
        "interp circuit --items bbq:Age --limit 60 --method exact --size 20",
        "interp circuit --items bundled --ablation mean --metric option_margin",
    )

    rotate: Rotate = True
    method: ScoreMethod = Field(
        "attribution",
        description="How nodes are scored: attribution (first-order estimates) or exact (a patched run "
        "each).",
    )
    ablation: Ablation = Field(
        "resample",
        description="What the other nodes give: resample (the placebo's output), mean (over placebos) "
        "or zero.",
    )
    metric: MetricName = "margin"
    size: int | None = Field(
        None, ge=1, description="Nodes of the circuit that is drawn and tested. Default: a tenth."
    )
    draws: int = Field(5, ge=2, description="Random rankings beside the curve.")
    random: int = Field(
        60,
        ge=30,
        description="Random circuits that the circuit is tested against; with fewer than 30 "
        "none could be shown to be sufficient.",
    )
    out: Out = Path("runs/circuit")
