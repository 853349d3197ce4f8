"""What a patching run asks of any model, and what it refuses without one."""

from __future__ import annotations

from analyses.contrast import (
    CONTROL,
    Question,
    ask_items,
    require_control,
    require_placebos,
    require_position,
    require_prompts,
    require_text,
)
from analyses.patch.config import PatchConfig
from interp.errors import InterpError


def ask(config: PatchConfig, *, progress: bool = True) -> Question[PatchConfig]:
    """Items and conditions; refuses conditions without a contrast or that are no single prompt."""
    _require_contrast(config)
    question = ask_items(config, against=config.against, progress=progress)
    _require_conditions(question)
    return question


def arms_of(config: PatchConfig) -> dict[str, str]:
    """The conditions that are patched, each with what it is patched into."""
    own = {config.condition: config.against}
    control = {CONTROL: "placebo"} if config.control else {}
    # the condition asked about comes first, and keeps its side where it is the control
    return own | control | own


def _require_contrast(config: PatchConfig) -> None:
    """Refuse options that contradict each other."""
    if config.condition == config.against:
        raise InterpError(
            f"{config.condition} against {config.against} is no contrast: choose another "
            "--condition or --against"
        )
    if config.fit_length is not None and "clean" in (config.condition, config.against):
        raise InterpError(
            f"--fit-length {config.fit_length} needs a text on either side, and 'clean' has none: name "
            "another --condition and --against, or leave it out"
        )
    require_position(config.positions, ("aligned", "all", "post_instruction"))
    for site in config.site:
        if config.grid(site).cells == "layer_span" and config.positions != "aligned":
            raise InterpError(
                f"--positions {config.positions} is for cells by position or by head; at {site} the "
                "cells are the spans: add --cells layer_pos"
            )


def _require_conditions(question: Question[PatchConfig]) -> None:
    """Refuse conditions that are no single prompt, or have no placebos where those are needed."""
    config, specs, items = question.config, question.specs, question.items
    both = {"condition": config.condition, "against": config.against}
    for option, name in both.items():
        require_prompts(specs, name, items, n_texts=config.texts, option=option)
        if name != "clean":
            require_text(specs, name)
    if "placebo" in both.values():
        require_placebos(specs, config.asked)
    if CONTROL in arms_of(config) and config.condition != CONTROL:
        require_control(specs, items, n_texts=config.texts)
