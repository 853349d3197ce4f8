"""What is asked, declared once: the fields that all studies share, and lists as one types them.

A study's configuration is a :class:`StudyConfig` with fields of its own. The command line
(:mod:`analyses.commands.from_config`), YAML and the manifest of a run are derived from the fields:
their names, defaults, bounds and descriptions stand nowhere else. The types below are fields that
several studies have; a study gives each its default::

    class LensConfig(StudyConfig):
        '''The answer through the layers.'''

        examples: ClassVar = ("interp lens --items bbq:Age",)
        items: Items = "bbq:Age"
        texts: Texts = 6
        out: Out = Path("runs/lens")

Importing a configuration loads neither torch nor pandas, so that ``interp --help`` answers at once.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from interp.errors import InterpError
from interp.models.catalogue import DEFAULT_MODEL
from interp.models.chat_template import TEMPLATE_DATE, parse_template_date
from interp.models.names import Dtype, parse_device
from interp.prompts.conversation import Placement
from interp.thresholds import ALPHA, EQUIVALENCE_SHARE, MIN_CLUSTERS, MIN_WORDINGS


def parse_list(value: Any) -> Any:
    """``"a, b,a"`` as ``("a", "b")``; what is no text is left to the configuration's check."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def parse_date(value: Any) -> Any:
    """A date in its ISO form, as YAML or a command line gives it."""
    known = isinstance(value, str | datetime.date)
    return parse_template_date(value).isoformat() if known else value


INSTRUCTED = "instructed"
"""The condition asked about where no other is named."""

MAP_ITEMS = 24
"""With fewer items even a cell that holds the whole effect may not be clear in a map."""

RULES = {
    "alpha": ALPHA,
    "wordings a side": MIN_WORDINGS,
    "clusters": MIN_CLUSTERS,
    "delta, share of the effect of naming the answer": EQUIVALENCE_SHARE,
}
"""What decides between effect, no effect and undetermined; in the manifest before the first forward."""

AsList = BeforeValidator(parse_list)
"""Marks a tuple that is also spelt with commas."""

Model = Annotated[
    str, Field(description="Catalogue name, hub id (owner/name), folder, or .gguf file.")
]
Items = Annotated[
    str, Field(description="Data sets, comma-separated: bbq, bbq:Age, bundled, a .jsonl file.")
]
Limit = Annotated[int, Field(ge=1, description="Items in all, sampled by cluster.")]
Texts = Annotated[
    int, Field(ge=1, description="Wordings per condition, each with its placebo; 6 for a claim.")
]
MetricName = Annotated[
    Literal["margin", "option_margin"],
    Field(
        description="What is read: margin (logit difference at the options' first differing token) or "
        "option_margin (mean log-probability per token of one option's full text minus the other's)."
    ),
]
Rotate = Annotated[
    bool, Field(description="Each item with one of the wordings, in turn, instead of with all.")
]
ConditionName = Annotated[
    str,
    Field(description="Contrasted with its placebo; names: interp conditions, or your file's."),
]
RequireMatch = Annotated[
    int | None,
    Field(
        ge=0,
        description="Build placebos of the exact token count; refuse a difference of more than this.",
    ),
]
ConditionFile = Annotated[
    Path | None, Field(description="Your own conditions, YAML (interp conditions --help).")
]
InstructionPlace = Annotated[
    Placement, Field(description="The instruction after or before the question.")
]
Seed = Annotated[int, Field(ge=0, description="Seed of the sample, the wordings and all draws.")]
CompatibilityMode = Annotated[
    bool, Field(description="TransformerLens's weight processing (folded norms).")
]
Device = Annotated[
    str,
    AfterValidator(parse_device),
    Field(description="auto (a GPU where there is one), cpu, cuda, cuda:1, mps."),
]
ModelDtype = Annotated[
    Dtype,
    Field(
        description="auto (float32; on a GPU bfloat16 above 2e9 parameters), float32, bfloat16, float16."
    ),
]
TemplateDate = Annotated[
    str,
    BeforeValidator(parse_date),
    Field(description="The date that a chat template writes as today's, if it writes one."),
]
Png = Annotated[bool, Field(description="Also write the figures as PNG (needs Chrome/Chromium).")]
Out = Annotated[Path, Field(description="Run folder; an interrupted run resumes.")]


class StudyConfig(BaseModel):
    """The fields of every study. A subclass's docstring is the command's help.

    ``examples`` are command lines that the help shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: ClassVar[tuple[str, ...]] = ()

    model: Model = DEFAULT_MODEL
    seed: Seed = 0
    device: Device = "auto"
    dtype: ModelDtype = "auto"
    compatibility_mode: CompatibilityMode = False
    template_date: TemplateDate = TEMPLATE_DATE.isoformat()
    png: Png = False
    out: Out = Path("runs/study")


class ContrastConfig(StudyConfig):
    """The fields of a study that contrasts a condition with its placebo on choice items."""

    items: Items = "bbq:Age"
    condition: ConditionName = INSTRUCTED
    condition_file: ConditionFile = None
    limit: Limit = 24
    texts: Texts = MIN_WORDINGS
    require_match: RequireMatch = None


_Config = TypeVar("_Config", bound=BaseModel)


def read_config(config: type[_Config], **options: Any) -> _Config:
    """A configuration of options as they are typed.

    Raises:
        InterpError: the first option that cannot be, in one line.
    """
    try:
        return config(**options)
    except ValidationError as errors:
        first = errors.errors()[0]
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        if not first["loc"]:  # a check of several fields names them itself
            raise InterpError(message) from errors
        option = str(first["loc"][0]).replace("_", "-")
        given = first["input"]
        if first["type"] == "too_short":  # a list without names: as it was typed
            given = options.get(str(first["loc"][0]), given)
            message = f"name at least {first['ctx']['min_length']}"
        given = str(given) if isinstance(given, Path) else given
        raise InterpError(f"--{option} {given!r}: {message}") from errors
