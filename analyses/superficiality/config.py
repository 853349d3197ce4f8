"""What a scorecard is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from analyses.config import AsList, ContrastConfig, Limit, Out, RequireMatch
from interp.superficiality.groups import FURTHER, FURTHER_ITEMS, FurtherRows


class SuperficialityConfig(ContrastConfig):
    """Is an instruction's effect superficial? Content route, depth and a verdict by intervention."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp superficiality --items bbq --out runs/card",
        "interp superficiality --items winogender --condition gender --limit 40 --causal 40",
        "interp superficiality --items bbq --direction runs/demo/directions/morality.safetensors",
        "interp superficiality --model path/to/model --items bundled --limit 24 --causal 24",
    )

    limit: Annotated[Limit, Field(ge=2)] = 120
    require_match: RequireMatch = 0  # states are set position by position
    causal: int = Field(
        60,
        ge=2,
        description="Of these items the first so many are patched, a wording each in turn.",
    )
    orders: int = Field(
        1, ge=1, description="Cyclic orders of the options that behaviour is a mean over, at most."
    )
    direction: Annotated[
        Path | None,
        Field(
            description="A direction's file (interp direction fit): adds the rows along it and a "
            "second verdict. Without one these are left out."
        ),
    ] = None
    untrained: int = Field(
        12,
        ge=0,
        description="Patched items that an untrained copy of the model is asked, of the rows behind "
        "the route three at most; 0 leaves it out.",
    )
    further: Annotated[
        tuple[FurtherRows, ...],
        AsList,
        Field(
            description="Groups of rows behind the route, comma-separated; empty leaves all out."
        ),
    ] = FURTHER
    further_items: int = Field(
        FURTHER_ITEMS,
        ge=2,
        description="Patched items in those of these rows that cost most.",
    )
    out: Out = Path("runs/superficiality")
