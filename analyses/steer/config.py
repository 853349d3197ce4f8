"""What a steering run asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from analyses.config import AsList, Items, Limit, Out, StudyConfig


class SteerConfig(StudyConfig):
    """Steer along a direction: margins, preferences, texts and cost, beside null directions."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp direction steer --items bbq:Age",
        "interp direction steer --direction my.safetensors --items bundled --limit 24 "
        "--out runs/steer-mine",
        "interp direction steer --strengths -4,-2,-1,1,2,4 --out runs/steer-far",
    )

    direction: Annotated[
        Path | None,
        Field(
            description="A direction's file. Default: difference of means on half of "
            "bundled:morality."
        ),
    ] = None
    items: Items = "bbq:Age"
    limit: Limit = 12
    condition_file: Annotated[
        Path | None,
        Field(
            description="YAML with placebos of your own, whose differences are null directions "
            "(interp conditions --help)."
        ),
    ] = None
    strengths: Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)], ...],
        AsList,
        Field(
            description="Steps in class units (the classes lie 2 apart), comma-separated; the "
            "largest runs with both signs, for the null directions too.",
        ),
    ] = (-2.0, -1.0, 1.0, 2.0)
    groups: Annotated[int, Field(ge=1, description="Groups of held-out sentences compared.")] = 16
    plain: Annotated[int, Field(ge=2, description="Plain sentences that measure the cost.")] = 48
    completions: Annotated[int, Field(ge=1, description="Beginnings to be continued.")] = 6
    covariance: Annotated[int, Field(ge=1, description="Null directions drawn at random.")] = 10
    placebos: Annotated[int, Field(ge=2, description="Placebo texts, compared two by two.")] = 3
    out: Out = Path("runs/steer")

    @field_validator("strengths")
    @classmethod
    def _with_both_ends(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        """Sorted, without 0 (always measured), the largest with both signs."""
        chosen = {strength for strength in value if strength}
        if not chosen:
            raise ValueError("give numbers other than 0, such as -2,-1,1,2")
        largest = max(abs(strength) for strength in chosen)
        return tuple(sorted(chosen | {largest, -largest}))
