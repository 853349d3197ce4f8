"""What a fit and a transfer ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from analyses.config import AsList, Out, StudyConfig
from interp.activations import Site
from interp.directions import METHODS, FitMethod

_SETS = (
    "Labelled sentences: bundled:morality, crows-pairs:age, stereoset, ethics:FILE, "
    "moralchoice:FOLDER, or a .csv/.jsonl table (text, label, group)."
)

Sentences = Annotated[str, Field(description=_SETS)]
SentenceSets = Annotated[
    tuple[str, ...],
    AsList,
    Field(description=f"Two or more sets, comma-separated. {_SETS}", min_length=2),
]
PositiveLabel = Annotated[
    str | None, Field(description="Which label of a table becomes + (labels other than 0/1).")
]
TextColumn = Annotated[str, Field(description="A table's column of sentences.")]
LabelColumn = Annotated[str, Field(description="A table's column of labels, of two values.")]
GroupColumn = Annotated[
    str,
    Field(
        description="A table's column of groups (pairs, templates), kept on one side of a split."
    ),
]
SentenceLimit = Annotated[
    int | None, Field(ge=4, description="At most so many texts of a set, drawn by whole groups.")
]
Methods = Annotated[
    tuple[FitMethod, ...], AsList, Field(description=f"{', '.join(METHODS)}.", min_length=1)
]
Sites = Annotated[
    tuple[Site, ...],
    AsList,
    Field(description="resid_pre, resid_mid, resid_post, attn_out, mlp_out.", min_length=1),
]
Folds = Annotated[int, Field(ge=2, description="Folds of the held-out score.")]
Shuffles = Annotated[int, Field(ge=1, description="Label shuffles of the null.")]


class DirectionConfig(StudyConfig):
    """Learn a direction from labelled sentences, at every layer, with every control."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp direction fit",
        "interp direction fit --texts crows-pairs:age --methods mean_difference,lda --out runs/age",
        "interp direction fit --texts mine.csv --positive fair --sites resid_post",
        "interp direction fit --texts mine.csv --text-column sentence --label-column verdict "
        "--group-column pair --positive fair",
    )

    texts: Sentences = "bundled:morality"
    text_column: TextColumn = "text"
    label_column: LabelColumn = "label"
    group_column: GroupColumn = "group"
    positive: PositiveLabel = None
    limit: SentenceLimit = None
    methods: Methods = METHODS
    sites: Sites = ("resid_post", "attn_out", "mlp_out")
    folds: Folds = 5
    shuffles: Shuffles = 200
    out: Out = Path("runs/direction")


class TransferConfig(StudyConfig):
    """Train on every set, test on every set: does what was learned hold elsewhere?"""

    examples: ClassVar[tuple[str, ...]] = (
        "interp direction transfer",
        "interp direction transfer --texts bundled:morality,ethics:cm_test.csv,"
        "moralchoice:scenarios --limit 400 --out runs/transfer",
    )

    texts: SentenceSets = (
        "bundled:morality",
        "bundled:statements",
        "bundled:contrasts:sentiment",
        "crows-pairs",
        "stereoset",
    )
    limit: SentenceLimit = 400
    method: Annotated[FitMethod, Field(description="How to fit.")] = "mean_difference"
    site: Annotated[Site, Field(description="Where to read.")] = "resid_post"
    folds: Folds = 5
    out: Out = Path("runs/transfer")
