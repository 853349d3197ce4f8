"""What a behaviour run asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from analyses.config import (
    MIN_WORDINGS,
    AsList,
    ConditionFile,
    InstructionPlace,
    Out,
    RequireMatch,
    StudyConfig,
)
from interp.prompts.conversation import InstructionTurn


class BehaviourConfig(StudyConfig):
    """What instructions do to answers: conditions, rounds of self-correction, completions."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp behave --items bbq:Age,bbq:Religion --conditions clean,instructed,placebo --rounds 5 "
        "--limit 200",
        "interp behave --items winogender --conditions clean,gender,match_statistics,placebo "
        "--limit 60 --rounds 0",
        "interp behave --items rtp-993 --conditions nontoxic,placebo --rounds 7 --limit 40 "
        "--scorer offline",
        "interp behave --items bbq --conditions instructed,chain_of_thought,critique,placebo "
        "--limit 24 --out runs/thoughts",
        "interp behave --conditions clean,careful,placebo --condition-file my.yaml",
        "The conditions: interp conditions",
    )

    items: Annotated[
        tuple[str, ...],
        AsList,
        Field(
            min_length=1,
            description="Item sets, comma-separated: bbq, bbq:Age, winogender, bundled, a .jsonl "
            "file; to be completed: rtp-993, bundled:completions.",
        ),
    ] = ("bbq",)
    conditions: Annotated[
        tuple[str, ...],
        AsList,
        Field(
            min_length=1,
            description="Names from 'interp conditions'; placebo gives each its control.",
        ),
    ] = (
        "clean", "instructed", "placebo", "revealing", "mentions", "paraphrases", "specificity_0",
    )  # fmt: skip
    rounds: Annotated[int, Field(ge=0, description="The last round; 0: single prompts alone.")] = 5
    limit: Annotated[
        int, Field(ge=1, description="Choice items in all, sampled by cluster; per completion set.")
    ] = 60
    texts: Annotated[
        int, Field(ge=1, description="Wordings per condition in single prompts; 6 for a claim.")
    ] = MIN_WORDINGS
    other_texts: Annotated[
        int | None,
        Field(ge=1, description="Wordings of every instruction but the first. Default: as many."),
    ] = None
    orders: Annotated[
        int | None,
        Field(ge=1, description="Cyclic orders of the options in single prompts. Default: all."),
    ] = None
    stereotype_questions: Annotated[
        bool, Field(description="Also ask of BBQ's items which answer follows a stereotype.")
    ] = True
    round_texts: Annotated[int, Field(ge=1, description="Wordings per condition over rounds.")] = 1
    round_orders: Annotated[
        int, Field(ge=1, description="Cyclic orders of the options over rounds.")
    ] = 1
    answer: Annotated[
        Literal["score", "generate"],
        Field(description="Choices over rounds: score the options, or generate and parse."),
    ] = "score"
    placement: InstructionPlace = "after"
    turn: Annotated[
        InstructionTurn, Field(description="The instruction in the user or the system turn.")
    ] = "user"
    require_match: RequireMatch = None
    condition_file: ConditionFile = None
    feedback: Annotated[
        Path | None, Field(description='Feedback per item, lines {"id": ..., "feedback": ...}.')
    ] = None
    scorer: Annotated[
        str | None,
        Field(description="Toxicity of completions: offline, or huggingface:ID_OR_FOLDER."),
    ] = None
    samples: Annotated[
        int,
        Field(ge=0, description="Sampled completions beside the greedy one; 10 for a maximum."),
    ] = 0
    out: Out = Path("runs/behave")
