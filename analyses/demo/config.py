"""What the demo runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from analyses.config import CLAIM_TEXTS, ConditionFile, Items, Out, StudyConfig, Texts


class DemoConfig(StudyConfig):
    """A real model on real items: behaviour, where the instruction acts, one report."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp demo",
        "interp demo --items bbq:Age,bbq:Religion --limit 40 --out runs/age",
        "interp demo --model path/to/model --compatibility-mode",
    )

    items: Items = "bbq,bundled"
    condition_file: ConditionFile = None
    limit: Annotated[int, Field(ge=2, description="Items in all, sampled by cluster.")] = 24
    texts: Texts = CLAIM_TEXTS
    other_texts: Annotated[
        int, Field(ge=1, description="Wordings of the negated and the revealing instruction.")
    ] = 1
    pairs: Annotated[int, Field(ge=1, description="Ambiguous items looked into.")] = 8
    out: Out = Path("runs/demo")
