"""What a circuit run asks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from analyses.config import ContrastConfig, MetricName, Out, Rotate
from interp.circuits.names import Ablation, ScoreMethod, UnitKind


class CircuitConfig(ContrastConfig):
    """Which heads, MLPs or edges carry an instruction: a circuit's faithfulness beside random ones."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp circuit --items bbq:Age --out runs/circuit",
        "interp circuit --items bbq:Age --limit 60 --method exact --size 20",
        "interp circuit --items bundled --ablation mean --metric option_margin",
        "interp circuit --items bbq:Age --unit edges",
    )

    rotate: Rotate = True
    unit: UnitKind = Field(
        "nodes",
        description="What circuits are made of: nodes (heads and MLPs), or the edges between them, the "
        "embedding and the logits.",
    )
    method: ScoreMethod = Field(
        "attribution",
        description="How they are scored: attribution (first-order estimates) or exact (a patched run "
        "each).",
    )
    ablation: Ablation = Field(
        "resample",
        description="What the others give: resample (the placebo's output), mean (over placebos) "
        "or zero.",
    )
    metric: MetricName = "margin"
    size: int | None = Field(
        None,
        ge=1,
        description="Nodes or edges of the circuit that is drawn and tested. Default: a tenth of the "
        "nodes, a hundredth of the edges.",
    )
    draws: int = Field(5, ge=2, description="Random rankings beside the curve.")
    random: int = Field(
        60,
        ge=30,
        description="Random circuits that the circuit is tested against; with fewer than 30 "
        "none could be shown to be sufficient.",
    )
    out: Out = Path("runs/circuit")
