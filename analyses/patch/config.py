"""What a patching run asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from analyses.config import (
    INSTRUCTED,
    AsList,
    ConditionName,
    ContrastConfig,
    InstructionPlace,
    Limit,
    MetricName,
    Out,
    Rotate,
    parse_list,
)
from interp.errors import InterpError
from interp.patching.grid import Grid
from interp.patching.sites import Cells, SweepMethod, SweepSite, default_cells
from interp.prompts.placebos import FitLength


def parse_layers(text: Any) -> Any:
    """Layers of ``"0,5,10"``, ``"0-29"``, ``"0-29:2"`` or a mixture, ascending.

    What is no text is left to the configuration's check.

    Raises:
        InterpError: any other text.
    """
    if not isinstance(text, str):
        return text
    layers: set[int] = set()
    for part in parse_list(text):
        ends, _, step = part.partition(":")
        first, dash, last = ends.partition("-")
        numbers = [first, *([last] if dash else []), *([step] if ":" in part else [])]
        if not all(n.isdecimal() for n in numbers) or (":" in part and not dash):
            raise InterpError(f"layers are written 0,5,10 or 0-29 or 0-29:2, not {part!r}")
        found = range(int(first), int(last if dash else first) + 1, int(step or 1) or 1)
        if not found or step == "0":
            raise InterpError(f"{part!r} names no layer; layers are written 0,5,10 or 0-29:2")
        layers.update(found)
    if not layers:
        raise InterpError("no layer named; layers are written 0,5,10 or 0-29 or 0-29:2")
    return tuple(sorted(layers))


class PatchConfig(ContrastConfig):
    """Where an instruction acts: exact patching over many items, with a positive control."""

    examples: ClassVar[tuple[str, ...]] = (
        "interp patch --items bbq:Age",
        "interp patch --items bbq:Age --limit 24 --rotate",
        "interp patch --items bbq:Age,bbq:Religion --limit 60 --site resid_pre,attn_out,mlp_out "
        "--out runs/where",
        "interp patch --site z --positions post_instruction --out runs/heads",
        "interp patch --site z --checks --out runs/checked",
        "interp patch --metric option_margin --out runs/full-texts",
        "interp patch --cells layer_pos --layers 0-29:2 --condition negated --out runs/negated",
        "interp patch --condition careful --condition-file my.yaml --texts 1 --out runs/careful",
        "where my.yaml says  careful: {description: asks for care, texts: [Please take care.]}",
        "interp patch --condition careful --against plain --condition-file my.yaml --texts 1 "
        "--fit-length trim --out runs/own-control",
    )

    condition: Annotated[
        ConditionName,
        Field(
            description="Copy from: instructed, negated, revealing, placebo, clean, or another of "
            "interp conditions or of your file."
        ),
    ] = INSTRUCTED
    against: str = Field(
        "placebo", description="Copy into: placebo (matched in length) or another condition."
    )
    fit_length: FitLength | None = Field(
        None,
        description="Bring the text of --against, a control of your own, to the token count of the "
        "condition's: pad (add neutral words) or trim (drop words from its end). Without it, texts of "
        "unequal length are patched where tokens align and such spans are grey; a placebo needs "
        "--require-match 0 at most.",
    )
    limit: Limit = 12  # with six wordings about ten minutes on the default model and two cores
    rotate: Rotate = False
    site: Annotated[tuple[SweepSite, ...], AsList] = Field(
        ("resid_pre",),
        min_length=1,
        description="What is copied, comma-separated: resid_pre, resid_mid, resid_post, attn_out, "
        "mlp_out, z, q, k, v, pattern.",
    )
    cells: Cells | None = Field(
        None,
        description="The grid: layer_span, layer_pos, layer_head, layer_head_pos. "
        "Default: by span; by head at z, q, k, v, pattern.",
    )
    layers: Annotated[tuple[int, ...] | None, BeforeValidator(parse_layers)] = Field(
        None, description="0,5,10 or 0-29 or 0-29:2. Default: all."
    )
    positions: str = Field(
        "aligned",
        description="Where, for grids by position or head: aligned (from the first difference on), "
        "all, post_instruction, or a span such as answer_prefix.",
    )
    window: int = Field(1, ge=1, description="Layers patched together.")
    metric: MetricName = "margin"
    method: SweepMethod = Field(
        "exact", description="exact, or hooked (one forward per cell, slow)."
    )
    placement: InstructionPlace = "after"
    control: bool = Field(
        True, description="Also run the positive control, without which no map is interpreted."
    )
    checks: bool = Field(
        False,
        description="Also patch the other way round and measure the size of every patch, and say where "
        "the map's health is bad: twice the time.",
    )
    max_mib: int = Field(1024, ge=1, description="Memory that a sweep may hold, MiB.")
    out: Out = Path("runs/patch")

    @property
    def asked(self) -> str:
        """The condition that is asked about, on whichever side its text stands."""
        texts = [n for n in (self.condition, self.against) if n not in ("clean", "placebo")]
        return texts[0] if texts else INSTRUCTED  # which a placebo alone is matched with

    def grid(self, site: SweepSite) -> Grid:
        """The grid at a site: by head where there are heads and nothing else was asked for."""
        return Grid(
            site=site,
            cells=self.cells or default_cells(site, n_pairs=2, spans=None),  # as for several pairs
            layers=self.layers,
            positions=self.positions,
            window=self.window,
        )

    def axes(self, site: SweepSite) -> list[str]:
        """The axes of the grid at a site, without the pairs."""
        return str(self.grid(site).cells).split("_")
