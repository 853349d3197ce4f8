"""``interp direction show``, in the group that the studies of directions join."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analyses.commands.options import print_frame


def direction_group() -> typer.Typer:
    """The group ``interp direction``."""
    group = typer.Typer(
        help="Directions: fit, show, compare over data sets, steer along.",
        no_args_is_help=True,
        epilog="Examples:\n\n  interp direction fit --texts mine.csv\n\n"
        "  interp direction steer --direction my.safetensors --items bbq:Age",
    )
    group.command(
        epilog="Example:  interp direction show "
        "runs/direction/directions/mean_difference-resid_post.safetensors"
    )(show)
    return group


def show(
    file: Annotated[Path, typer.Argument(help="A .safetensors file of `interp direction fit`.")],
) -> None:
    """Print what a direction file says about itself, and its AUC by layer."""
    from interp.directions.stored import read_header

    read_header(file)  # refuses what is none
    from interp.directions import load_direction  # heavy: only for a file that may be one
    from interp.stats import interval_column_names

    stack = load_direction(file)
    print_frame(stack.describe())
    counts = interval_column_names("auc")[3:]  # the same at every layer, or text
    print_frame(stack.to_dataframe().drop(columns=counts))
