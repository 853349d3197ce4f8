"""Where an instruction acts: exact patching over many items, resumable, with a positive control.

For every item and text the prompt of a condition is the source, the prompt of another one (its
length-matched placebo) the destination. Each site's sweep goes through the ledger, one pair a unit,
so a killed run resumes and ends with the same bytes. Beside it runs the same sweep of the revealing
condition against its own placebo: a map is read only where that control's map shows something. The
conditions are the bundled ones and those of a user's file.

Over many items positions differ, so ``cells="layer_pos"`` names them by their span and the offset
within it (``instruction +3``; ``answer_prefix last`` is the position that is read) and keeps the
names that every pair has. The report is :mod:`analyses.patch_story`'s.

    result = run(PatchConfig(items="bbq:Age", site="resid_pre", out="runs/age"))
    result.results["instructed", "resid_pre"].share()
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator
from transformer_lens.model_bridge import TransformerBridge

from analyses.conditions import (
    INSTRUCTED,
    Specs,
    control_texts,
    require_control,
    require_placebos,
    require_prompts,
    require_text,
)
from analyses.config import IGNORED, listed, prompt_hashes
from analyses.patch_tables import CONTROL, named, sweep_totals, top_table, whole_summary
from interp.data import ChoiceItem, load_items
from interp.errors import InterpError
from interp.models import DEFAULT_MODEL, ModelCard, load_model, model_card
from interp.patching import Cells, SweepResult, alignment_notes, plan_sweep, sweep
from interp.patching.patched import SweepMethod
from interp.patching.plan import default_cells, positions_of
from interp.prompts import (
    ConditionSpec,
    Placement,
    PromptPair,
    TextBank,
    load_conditions,
    make_pair,
    pair_of_conditions,
)
from interp.runs import Run, open_run

SweptSite = Literal[
    "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern"
]


class PatchConfig(BaseModel):
    """What is patched where; stored in the manifest and compared on resume.

    ``site`` and ``layers`` also take the command line's spelling: ``"resid_pre,z"``, ``"0-29:2"``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    items: str = "bbq:Age"
    condition: str = INSTRUCTED
    against: str = "placebo"
    condition_file: Path | None = None
    site: tuple[SweptSite, ...] = Field(default=("resid_pre",), min_length=1)
    cells: Cells | None = None
    layers: tuple[int, ...] | None = None
    positions: str = "aligned"
    window: int = Field(default=1, ge=1)
    method: SweepMethod = "exact"
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

    @property
    def asked(self) -> str:
        """The condition that is asked about, on whichever side its text stands."""
        texts = [n for n in (self.condition, self.against) if n not in ("clean", "placebo")]
        return texts[0] if texts else INSTRUCTED  # which a placebo alone is matched with

    def cells_at(self, site: str) -> Cells:
        """The grid at a site: by head where there are heads and nothing else was asked for."""
        return self.cells or default_cells(site, n_pairs=2, spans=None)  # as for several pairs


@dataclass(frozen=True)
class PatchRun:
    """What a run measured.

    ``asked``: the condition asked about; ``dropped``: items without a margin;
    ``results[condition, site]``; ``totals``: the effect to explain, per condition and context;
    ``summary``: mean effect and share per span; ``top``: largest cells.
    """

    config: PatchConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    asked: ConditionSpec
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
        InterpError: conditions without a contrast or that are no single prompts, no usable item, a
            site, layer or span that the model or the prompts do not have, prompts of different
            lengths at ``pattern``, or a folder that holds another run.
    """
    from analyses.patch_story import write_story

    if config.condition == config.against:
        raise InterpError(
            f"{config.condition} against {config.against} is no contrast: choose another "
            "--condition or --against"
        )
    specs = load_conditions(config.condition_file)
    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    _require_conditions(specs, items, config)
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    card = model_card(model)
    bank = TextBank(model.tokenizer, conditions=specs, n_ctx=model.cfg.n_ctx, seed=config.seed)
    units = _arms(model, bank, items, config)
    for site in config.site:
        for arm in units.values():
            _require_plan(model, arm, config, site)
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data=prompt_hashes(items, specs),
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
            asked=specs[config.asked],
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


def _require_conditions(specs: Specs, items: Sequence[ChoiceItem], config: PatchConfig) -> None:
    """Refuse now what needs no model to be seen."""
    both = {"condition": config.condition, "against": config.against}
    for option, name in both.items():
        require_prompts(specs, name, items, n_texts=config.texts, option=option)
        if name != "clean":
            require_text(specs, name)
    if "placebo" in both.values():
        require_placebos(specs, config.asked)
    if config.control and config.condition != CONTROL:
        require_control(specs, items, n_texts=config.texts)


def _arms(
    model: TransformerBridge, bank: TextBank, items: Sequence[ChoiceItem], config: PatchConfig
) -> dict[str, list[_Unit]]:
    """The pairs of the condition, and of the positive control where one runs."""
    place = config.placement

    def asked(item: ChoiceItem) -> list[PromptPair]:
        names: dict[str, Any] = {"condition": config.condition, "against": config.against}
        slots = range(config.texts)
        return [make_pair(model, item, **names, slot=k, placement=place, bank=bank) for k in slots]

    def control(item: ChoiceItem) -> list[PromptPair]:
        texts = control_texts(bank, item, beside=config.asked, n_texts=config.texts)
        both = zip(texts, bank.placebos(texts), strict=True)
        return [pair_of_conditions(model, item, a, b, placement=place) for a, b in both]

    arms = {config.condition: _units(items, asked)}
    if config.control and config.condition != CONTROL:
        arms[CONTROL] = _units(items, control)
    return arms


def _units(
    items: Sequence[ChoiceItem], pairs_of: Callable[[ChoiceItem], list[PromptPair]]
) -> list[_Unit]:
    """Items x texts; an item whose options no token tells apart is left out."""
    units = []
    for item in items:
        pairs = pairs_of(item)
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
