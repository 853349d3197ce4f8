"""What the demo runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from analyses.config import (
    MAP_ITEMS,
    MIN_WORDINGS,
    ConditionFile,
    Items,
    Out,
    RequireMatch,
    StudyConfig,
    Texts,
)
from interp.prompts.placebos import FitLength


class DemoConfig(StudyConfig):
    """A real model on real items: behaviour, where the instruction acts, one report."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp demo",
        "interp demo --items bbq:Age,bbq:Religion --limit 40 --out runs/age",
        "interp demo --model path/to/model --device cuda --dtype bfloat16",
        "interp demo --require-match 0 --out runs/matched",
    )

    items: Items = "bbq"
    condition_file: ConditionFile = None
    limit: Annotated[
        int, Field(ge=2, description="Items in all: those that are patched, then others.")
    ] = 24
    texts: Texts = MIN_WORDINGS
    pairs: Annotated[int, Field(ge=1, description="Ambiguous items that are patched.")] = MAP_ITEMS
    read: Annotated[
        int, Field(ge=1, description="The first of these, for the lens, projections and attention.")
    ] = 6
    require_match: RequireMatch = None
    fit_length: Annotated[
        FitLength | None,
        Field(
            description="Bring the placebos of the patched pairs to the token count of their "
            "instruction: pad (add neutral words) or trim (drop words from the end)."
        ),
    ] = None
    out: Out = Path("runs/demo")
