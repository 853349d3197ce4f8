"""When an instruction changes the answer: logit lens over layers, resumable, with a positive control.

Every item is asked under the clean prompt, under several wordings of the condition asked about
(``instructed``, another one, or one of a user's file) and of the revealing control, and under the
length-matched placebo of each. The options' margin, log-probability and rank are followed through
the layers, and the whole distributions are compared. Items go through the ledger one by one, so a
killed run resumes and ends with the same bytes. The condition's curve is read only where the
control's shows something. The report is :mod:`analyses.lens_story`'s.

    done = run(LensConfig(items="bbq:Age", texts=6, out="runs/lens"))
    done.parting["instructed"]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from transformer_lens.model_bridge import TransformerBridge

from analyses.conditions import INSTRUCTED, control_texts, require_contrast
from analyses.config import IGNORED, prompt_hashes
from analyses.patch_tables import CONTROL
from interp.data import ChoiceItem, load_items
from interp.lens import (
    LensConditions,
    layer_effects,
    lens_item,
    parting_layer,
    settled_layer,
)
from interp.lens.conditions import no_margin, prompt_and_target
from interp.lens.readings import ALPHA
from interp.models import DEFAULT_MODEL, ModelCard, load_model, model_card
from interp.prompts import Condition, TextBank, load_conditions
from interp.runs import open_run
from interp.stats import Interval, cluster_bootstrap, permute_texts, two_way_bootstrap


class LensConfig(BaseModel):
    """What is read; stored in the manifest and compared on resume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = DEFAULT_MODEL
    items: str = "bbq:Age"
    condition: str = INSTRUCTED
    condition_file: Path | None = None
    limit: int = Field(default=24, ge=1, description="items, sampled by cluster")
    texts: int = Field(default=2, ge=1, description="wordings per condition")
    seed: int = Field(default=0, ge=0)
    compatibility_mode: bool = False
    png: bool = Field(default=False, description="also write the figures as PNG")
    out: Path = Path("runs/lens")


@dataclass(frozen=True)
class LensRun:
    """What a run measured.

    ``lens``: every reading. ``totals``: the effect at the output, per contrast and context.
    ``effects``: per layer. ``parting`` per contrast, ``settled`` per condition, both in layers.
    ``distances``: divergences at the output and where they are largest. ``example``: a text of
    the condition and its placebo.
    """

    config: LensConfig
    card: ModelCard
    items: tuple[ChoiceItem, ...]
    lens: LensConditions
    totals: pd.DataFrame
    effects: pd.DataFrame
    parting: dict[str, Interval]
    settled: pd.DataFrame
    distances: pd.DataFrame
    example: tuple[Condition, Condition]
    report: Path


def run(config: LensConfig, *, progress: bool = True) -> LensRun:
    """Read (or go on reading) and write the run folder; returns everything it measured.

    Raises:
        InterpError: a condition that cannot be read in single prompts beside its placebos, no item
            with a margin, more texts than there are, a prompt beyond the context, or a folder that
            holds another run.
    """
    from analyses.lens_story import write_story

    specs = load_conditions(config.condition_file)
    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    require_contrast(specs, config.condition, items, n_texts=config.texts)
    model = load_model(config.model, compatibility_mode=config.compatibility_mode)
    card = model_card(model)
    bank = TextBank(model.tokenizer, conditions=specs, n_ctx=model.cfg.n_ctx, seed=config.seed)
    usable = [item for item in items if _has_margin(model, item, _texts(bank, item, config))]
    if not usable:
        raise no_margin(len(items))
    with open_run(
        config.out,
        config=config,
        model=card.to_dict(),
        data=prompt_hashes(items, specs),
        seed=config.seed,
        command=" ".join(["interp", *sys.argv[1:]]),
        ignore=IGNORED,
    ) as folder:
        table = folder.ledger("lens")
        table.run(
            usable,
            key=lambda item: item.id,
            compute=lambda item: lens_item(model, item, _texts(bank, item, config)),
            progress=progress,
        )
        used = {item.id for item in usable}
        left_out = tuple(item.id for item in items if item.id not in used)
        lens = LensConditions(table.merge(), left_out)
        texts = _texts(bank, usable[0], config)
        done = _measured(config, card, items, lens, (texts[1], texts[1 + config.texts]))
        for name, frame in _tables(done).items():
            folder.save_table(name, frame)
            folder.save_text(f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        write_story(folder, done)
    return done


def _texts(bank: TextBank, item: ChoiceItem, config: LensConfig) -> tuple[Condition, ...]:
    clean = bank.texts("clean", item, 1)
    treated = bank.texts(config.condition, item, config.texts)
    control = control_texts(bank, item, beside=config.condition, n_texts=config.texts)
    return (*clean, *treated, *bank.placebos(treated), *bank.placebos(control), *control)


def _has_margin(
    model: TransformerBridge, item: ChoiceItem, conditions: Sequence[Condition]
) -> bool:
    """Whether a token tells the item's options apart; refuses prompts beyond the context now."""
    return all(prompt_and_target(model, item, c)[1] is not None for c in conditions)


def _measured(
    config: LensConfig,
    card: ModelCard,
    items: Sequence[ChoiceItem],
    lens: LensConditions,
    example: tuple[Condition, Condition],
) -> LensRun:
    contexts = {item.id: item.context_condition for item in items}
    seed, contrasts = config.seed, (config.condition, CONTROL)
    effects = [layer_effects(lens, name, seed=seed) for name in contrasts]
    return LensRun(
        config=config,
        card=card,
        items=tuple(items),
        lens=lens,
        totals=output_effects(lens, contexts, seed),
        effects=pd.concat(effects, ignore_index=True),
        parting={name: parting_layer(lens.arms(name), seed=seed) for name in contrasts},
        settled=settled_layer(lens.frame, seed=seed),
        distances=distances(lens, seed),
        example=example,
        report=config.out / "report.html",
    )


def _tables(done: LensRun) -> dict[str, pd.DataFrame]:
    parting = [
        {
            "contrast": name,
            "layer": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "reason": interval.reason,
        }
        for name, interval in done.parting.items()
    ]
    return {
        "totals": done.totals,
        "effects": done.effects,
        "parting": pd.DataFrame(parting),
        "settled": done.settled,
        "distances": done.distances,
    }


def output_effects(lens: LensConditions, contexts: Mapping[str, str], seed: int) -> pd.DataFrame:
    """The effect on the output's margin per contrast, over all items and per context condition.

    ``low``, ``high``: over texts x item clusters. ``p_texts``: permutation of the texts' labels, NaN
    with so few texts that it could not fall below .05.
    """
    rows = []
    for name in lens.contrasts:
        arms = lens.arms(name)
        of = pd.Series([contexts[item] for item in arms.items])
        kinds = list(dict.fromkeys(of))
        for kind in ["all", *kinds] if len(kinds) > 1 else ["all"]:
            here = (of == kind).to_numpy() | (kind == "all")
            treated, control = arms.treated[-1][:, here], arms.control[-1][:, here]
            clusters = [c for c, kept in zip(arms.clusters, here, strict=True) if kept]
            labels = ("lens", name)
            interval = two_way_bootstrap(treated, control, clusters, seed=seed, labels=labels)
            test = permute_texts(treated.mean(1), control.mean(1), seed=seed)
            rows.append(
                {
                    "contrast": name,
                    "context": kinds[0] if len(kinds) == 1 else kind,
                    "effect": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "p_texts": test.p if 2 / test.n_permutations < ALPHA else float("nan"),
                    "items": int(interval.n),
                    "clusters": int(interval.n_clusters),
                    "texts": len(treated),
                    "reason": interval.reason,
                }
            )
    return pd.DataFrame(rows)


def distances(lens: LensConditions, seed: int) -> pd.DataFrame:
    """Jensen-Shannon divergence and top-k overlap of two prompts, at the output and at the peak.

    ``js``, ``overlap`` with ``_low``, ``_high`` (over item clusters, texts fixed) at the output;
    ``excess``: an item's ``js`` minus that of two placebos of the same contrast (NaN with one text);
    ``peak_layer`` is where the mean divergence is largest and ``peak_js`` its size (picked for its
    size, so a little flattered).
    """
    frame, rows = lens.divergences(), []
    output = frame[frame["layer"] == frame["layer"].max()]
    for key, here in frame.groupby(["contrast", "condition", "against"], sort=False):
        row: dict[str, Any] = dict(zip(("contrast", "condition", "against"), key, strict=True))
        by_item = _by_item(output, row["contrast"], row["condition"], row["against"])
        scale = _by_item(output, row["contrast"], "placebo", "another placebo")
        by_item["excess"] = by_item["js"] - scale["js"].reindex(by_item.index)
        for name in ("js", "overlap", "excess"):
            interval = cluster_bootstrap(
                by_item[name].to_numpy(float), by_item["cluster"].tolist(), seed=seed
            )
            row |= {name: interval.estimate, f"{name}_low": interval.low}
            row |= {f"{name}_high": interval.high}
        by_layer = here.groupby("layer")["js"].mean()
        peak = int(by_layer.to_numpy().argmax())
        row |= {"peak_layer": by_layer.index[peak], "peak_js": by_layer.iloc[peak]}
        rows.append(row)
    return pd.DataFrame(rows)


def _by_item(frame: pd.DataFrame, contrast: str, condition: str, against: str) -> pd.DataFrame:
    """Means over texts, one row per item, with its cluster."""
    chosen = frame[
        (frame["contrast"] == contrast)
        & (frame["condition"] == condition)
        & (frame["against"] == against)
    ]
    columns = {"cluster": "first", "js": "mean", "overlap": "mean"}
    return chosen.groupby("item", sort=False).agg(columns)
