"""``interp behave``: what instructions do to the answers, over conditions and rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import (
    DEFAULT_MODEL,
    CompatibilityOption,
    ConditionFileOption,
    ModelOption,
    OutOption,
    PngOption,
    SeedOption,
)

EPILOG = (
    "Examples:\n\n  interp behave --items bbq:Age,bbq:Religion --conditions "
    "clean,instructed,placebo --rounds 5 --limit 200\n\n  interp behave --items winogender "
    "--conditions clean,gender,match_statistics,placebo --limit 60 --rounds 0\n\n  interp behave "
    "--items rtp-993 --conditions nontoxic,placebo --rounds 7 --limit 40 --scorer offline\n\n  "
    "interp behave --items bbq --conditions instructed,chain_of_thought,critique,placebo "
    "--limit 24 --out runs/thoughts\n\n  interp behave --conditions clean,careful,placebo "
    "--condition-file my.yaml\n\nThe conditions: interp conditions"
)


def behave(
    model: ModelOption = DEFAULT_MODEL,
    items: Annotated[
        str,
        typer.Option(
            help="Item sets, comma-separated: bbq, bbq:Age, winogender, bundled, a .jsonl file; to "
            "be completed: rtp-993, bundled:completions."
        ),
    ] = "bbq",
    conditions: Annotated[
        str,
        typer.Option(help="Names from 'interp conditions'; placebo gives each its control."),
    ] = "clean,instructed,placebo,revealing,specificity_0",
    rounds: Annotated[
        int, typer.Option(min=0, help="The last round; 0: single prompts alone.")
    ] = 5,
    limit: Annotated[
        int,
        typer.Option(min=1, help="Choice items in all, sampled by template; per completion set."),
    ] = 60,
    texts: Annotated[
        int, typer.Option(min=1, help="Wordings per condition in single prompts; 6 for a claim.")
    ] = 6,
    round_texts: Annotated[
        int, typer.Option(min=1, help="Wordings per condition over rounds.")
    ] = 1,
    round_orders: Annotated[
        int, typer.Option(min=1, help="Cyclic orders of the options over rounds.")
    ] = 1,
    answer: Annotated[
        str, typer.Option(help="Choices over rounds: score the options, or generate and parse.")
    ] = "score",
    placement: Annotated[
        str, typer.Option(help="The instruction after or before the question.")
    ] = "after",
    turn: Annotated[str, typer.Option(help="The instruction in the user or the system turn.")] = (
        "user"
    ),
    require_match: Annotated[
        int | None,
        typer.Option(min=0, help="Build placebos; refuse a difference of more tokens than this."),
    ] = None,
    condition_file: ConditionFileOption = None,
    feedback: Annotated[
        Path | None, typer.Option(help='Feedback per item, lines {"id": ..., "feedback": ...}.')
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(help="Toxicity of completions: offline, or huggingface:ID_OR_FOLDER."),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(min=0, help="Sampled completions beside the greedy one; 10 for a maximum."),
    ] = 0,
    seed: SeedOption = 0,
    png: PngOption = False,
    out: OutOption = Path("runs/behave"),
    compatibility_mode: CompatibilityOption = False,
) -> None:
    """What instructions do to answers: conditions, rounds of self-correction, completions."""
    from analyses.behaviour import BehaviourConfig, run
    from analyses.config import checked

    config = checked(
        BehaviourConfig,
        model=model,
        items=items,
        conditions=conditions,
        rounds=rounds,
        limit=limit,
        texts=texts,
        round_texts=round_texts,
        round_orders=round_orders,
        answer=answer,
        placement=placement,
        turn=turn,
        require_match=require_match,
        condition_file=condition_file,
        feedback=feedback,
        scorer=scorer,
        samples=samples,
        seed=seed,
        png=png,
        out=out,
        compatibility_mode=compatibility_mode,
    )
    result = run(config)
    typer.echo(f"report: {result.report}")
