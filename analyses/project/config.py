"""What a projection run asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from analyses.config import AsList, ContrastConfig, InstructionPlace, Out
from interp.directions import Component

DirectionFile = Annotated[
    Path | None,
    Field(description="A direction's file. Default: difference of means on bundled:morality."),
]
Components = Annotated[
    tuple[Component, ...],
    AsList,
    Field(
        description="Beside the direction's own site, comma-separated: embedding, head, attn_out, "
        "mlp_out, resid_pre, resid_mid, resid_post."
    ),
]
Positions = Annotated[
    tuple[str, ...],
    AsList,
    Field(
        description="Where, comma-separated: last, a span such as question (its mean), or span:last.",
        min_length=1,
    ),
]


class ProjectConfig(ContrastConfig):
    """How far an instruction moves states along a direction, and which components move them."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp project --items bbq:Age",
        "interp project --items bbq:Age,bbq:Religion --limit 60 --components "
        "resid_post,attn_out,mlp_out,head --out runs/components",
        "interp project --placement before --positions last,question,options --out runs/before",
        "interp project --direction my.safetensors --items bundled",
        "interp project --condition careful --condition-file my.yaml --texts 2 --out runs/careful",
        "where my.yaml says  careful: {description: asks for care, texts: [Please take care., "
        "Please be careful.]}",
    )

    direction: DirectionFile = None
    components: Components = ("attn_out", "mlp_out")
    positions: Positions = ("last",)
    placement: InstructionPlace = "after"
    out: Out = Path("runs/project")
