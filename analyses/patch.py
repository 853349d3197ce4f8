"""Where an instruction acts: exact patching over many items, resumable, with a positive control.

For every item and text the prompt of a condition is the source, the prompt of another one (its
length-matched placebo) the destination. Each site's sweep goes through the ledger, one pair a unit,
so a killed run resumes and ends with the same bytes. Beside it runs the same sweep of the revealing
condition against its own placebo: a map is read only where that control's map shows something.

Over many items positions differ, so ``cells="layer_pos"`` names them by their span and the offset
within it (``instruction +3``; ``answer_prefix last`` is the position that is read) and keeps the
names that every pair has. The report is :mod:`analyses.patch_story`'s.

    result = run(PatchConfig(items="bbq:Age", site="resid_pre", out="runs/age"))
    result.results["instructed", "resid_pre"].share()
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator
from transformer_lens.model_bridge import TransformerBridge

from analyses.config import IGNORED, listed, prompt_hashes
from analyses.patch_tables import CONTROL, named, sweep_totals, top_table, whole_summary
from interp.data import ChoiceItem, load_items
from interp.data.bundle import bundled_instructions
from interp.errors import InterpError
from interp.models import ModelCard, load_model, model_card
from interp.patching import Cells, SweepResult, alignment_notes, plan_sweep, sweep
from interp.patching.patched import Method
from interp.patching.plan import default_cells, positions_of
from interp.prompts import ConditionName, Placement, PromptPair, make_pair
from interp.runs import Run, open_run

SweptSite = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern"
]


class PatchConfig(BaseModel):
    """What is patched where; stored in the manifest and compared on resume.

    ``site`` and ``layers`` also take the command line's spelling: ``"resid_pre,z"``, ``"0-29:2"``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "smollm2-135m-instruct"
    items: str = "bbq:Age"
    condition: ConditionName = "instructed"
    against: ConditionName = "placebo"
    site: tuple[SweptSite, ...] = Field(default=("resid_pre",), min_length=1)
    cells: Cells | None = None
    layers: tuple[int, ...] | None = None
    positions: str = "aligned"
    window: int = Field(default=1, ge=1)
    method: Method = "exact"
    placement: Placement = "after"
    limit: int = Field(default=24, ge=1, description="items, sampled by cluster")
    texts: int = Field(default=1, ge=1, description="wordings per condition")
    control: bool = True
    max_mib: int = Field(default=1024, ge=1)
    seed: int = Field(default=0, ge=0)
    compatibility_mode: bool = False
    png: bool = Field(default=False, description="also write the figures as PNG")
    out: Path = Path("runs/patch")

    @field_validator("site", mode="before")
    @classmethod
    def _read_sites(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("layers", mode="before")
    @classmethod
    def _read_layers(cls, value: Any) -> Any:
        return parse_layers(value) if isinstance(value, str) else value

    def cells_at(self, site: str) -> Cells:
        """The grid at a site: by head where there are heads and nothing else was asked for."""
        return self.cells or default_cells(site, n_pairs=2, spans=None)  # as for several pairs


@dataclass(frozen=True)
class PatchRun:
    """What a run measured.

    ``results[condition, site]``; ``totals``: the effect to explain, per condition and context;
    ``summary``: mean effect and share per span; ``top``: largest cells; ``dropped``: items without
    a margin.
    """

    config: PatchConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    dropped: int
    results: dict[tuple[str, str], SweepResult]
    totals: pd.DataFrame
    summary: pd.DataFrame
    top: pd.DataFrame
    example: PromptPair
    report: Path


@dataclass(frozen=True, eq=False)
class _Unit:
    """One pair: the unit of work of every sweep."""

    item: ChoiceItem
    slot: int
    pair: PromptPair

    def key(self) -> dict[str, Any]:
        texts = {"source": self.pair.source.text, "against": self.pair.destination.text}
        return {"item": self.item.id, "slot": self.slot, **texts}


def parse_layers(text: str) -> tuple[int, ...]:
    """Layers of ``"0,5,10"``, ``"0-29"``, ``"0-29:2"`` or a mixture, ascending.

    Raises:
        InterpError: anything else.
    """
    layers: set[int] = set()
    for part in listed(text):
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


def run(config: PatchConfig, *, progress: bool = True) -> PatchRun:
    """Patch (or go on patching) and write the run folder; returns everything it measured.

    Raises:
        InterpError: conditions without a contrast, no usable item, a site, layer or span that the
            model or the prompts do not have, prompts of different lengths at ``pattern``, or a
            folder that holds another run.
    """
    from analyses.patch_story import write_story

    if config.condition == config.against:
        raise InterpError(
            f"{config.condition} against {config.against} is no contrast: choose another "
            "--condition or --against"
        )
    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    card = model_card(model)
    units = _arms(model, items, config)
    for site in config.site:
        for arm in units.values():
            _require_plan(model, arm, config, site)
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data=prompt_hashes(items),
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:
        results: dict[tuple[str, str], SweepResult] = {}
        frames: dict[str, pd.DataFrame] = {}
        for site in config.site:
            for condition, arm in units.items():
                frame = _swept(folder, model, arm, config, condition, site, progress)
                results[condition, site] = _result(model, frame, arm, config, site)
                frames[condition] = frame
        done = PatchRun(
            config=config,
            card=card,
            items=items,
            dropped=len(items) - len({unit.item.id for unit in units[config.condition]}),
            results=results,
            totals=sweep_totals(frames, config.seed),
            summary=whole_summary(results),
            top=top_table(results),
            example=units[config.condition][0].pair,
            report=config.out / "report.html",
        )
        for name in ("totals", "summary", "top"):
            frame = getattr(done, name)
            folder.save_table(name, frame)
            folder.save_text(f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        write_story(folder, done)
    return done


def _arms(
    model: TransformerBridge, items: Sequence[ChoiceItem], config: PatchConfig
) -> dict[str, list[_Unit]]:
    """The pairs of the condition, and of the positive control where one runs."""
    arms: dict[str, list[_Unit]] = {}
    arms[config.condition] = _pairs(model, items, config, config.against, config.texts)
    if config.control and config.condition != CONTROL:
        known = sum(text.kind == CONTROL for text in bundled_instructions())
        control = config.model_copy(update={"condition": CONTROL})
        arms[CONTROL] = _pairs(model, items, control, "placebo", min(config.texts, known))
    return arms


def _pairs(
    model: TransformerBridge,
    items: Sequence[ChoiceItem],
    config: PatchConfig,
    against: ConditionName,
    n_texts: int,
) -> list[_Unit]:
    """Items x texts; an item whose options no token tells apart is left out."""
    units, placement = [], config.placement
    for item in items:
        pairs = [
            make_pair(model, item, config.condition, against=against, slot=k, placement=placement)
            for k in range(n_texts)
        ]
        if all(pair.target is not None for pair in pairs):
            units += [_Unit(item, slot, pair) for slot, pair in enumerate(pairs)]
    if not units:
        raise InterpError(
            f"none of the {len(items)} items has a margin (two options to contrast that a token "
            "tells apart): choose other --items or raise --limit"
        )
    return units


def _require_plan(
    model: TransformerBridge, units: Sequence[_Unit], config: PatchConfig, site: SweptSite
) -> None:
    """Refuse now what the sweep of some pair would refuse later."""
    cells = config.cells_at(site)
    if cells == "layer_span" and config.positions != "aligned":
        raise InterpError(
            f"--positions {config.positions} is for cells by position or by head; at {site} the "
            "cells are the spans: add --cells layer_pos"
        )
    unequal = [unit for unit in units if not unit.pair.alignment.by_index]
    if site == "pattern" and unequal:
        raise InterpError(
            f"patterns can be copied between prompts of equal length only, and {len(unequal)} of "
            f"{len(units)} pairs differ (first: {unequal[0].pair.label}): choose --site z, or "
            "other --items"
        )
    for unit in units:
        positions_of(unit.pair, config.positions)
    plan_sweep(
        model,
        units[0].pair,
        site=site,
        cells=cells,
        layers=config.layers,
        positions=config.positions,
        window=config.window,
    )


def _swept(
    folder: Run,
    model: TransformerBridge,
    units: Sequence[_Unit],
    config: PatchConfig,
    condition: str,
    site: SweptSite,
    progress: bool,
) -> pd.DataFrame:
    def compute(unit: _Unit) -> pd.DataFrame:
        result = sweep(
            model,
            unit.pair,
            site=site,
            cells=config.cells_at(site),
            layers=config.layers,
            positions=config.positions,
            window=config.window,
            method=config.method,
            seed=config.seed,
            max_bytes=config.max_mib << 20,
            progress=False,
        )
        own = alignment_notes(model, [unit.pair])
        notes = "; ".join(note for note in result.notes if note not in own)
        return named(result, unit.pair.destination).assign(
            pair=f"{unit.item.id} #{unit.slot}",
            condition=condition,
            item=unit.item.id,
            context=unit.item.context_condition,
            slot=unit.slot,
            notes=notes,
        )

    table = folder.ledger(f"patching-{condition}-{site}")
    table.run(units, key=_Unit.key, compute=compute, progress=progress)
    return table.merge()


def _result(
    model: TransformerBridge,
    frame: pd.DataFrame,
    units: Sequence[_Unit],
    config: PatchConfig,
    site: SweptSite,
) -> SweepResult:
    """The sweep over all pairs, of the columns that every pair has."""
    axes = config.cells_at(site).split("_")
    pairs = [unit.pair for unit in units]
    notes = list(alignment_notes(model, pairs))
    notes += [note for note in dict.fromkeys(frame["notes"]) if note]
    last = axes[-1]
    if last in ("pos", "span"):
        n_pairs = frame.groupby(last, sort=False)["pair"].nunique()
        kept = n_pairs.index[n_pairs == len(units)]
        if not len(kept):
            raise InterpError(f"no {last} is common to all pairs: use --cells layer_span")
        left_out = len(n_pairs) - len(kept)
        if left_out:
            places = "positions" if last == "pos" else "spans"
            notes.append(f"{left_out} of {len(n_pairs)} {places} are not in every pair: left out")
        frame = frame[frame[last].isin(kept)]
    first = pairs[0]
    return SweepResult.from_dataframe(
        frame,
        axis_names=axes,
        title=f"{first.source_name} -> {first.destination_name}, {site}",
        seed=config.seed,
        notes=tuple(notes),
    )
