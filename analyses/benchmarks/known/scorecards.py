"""Scorecards of trained models whose way to follow an instruction is known.

    python -m analyses.benchmarks.known.scorecards             # every arm, ten models each
    python -m analyses.benchmarks.known.scorecards --seeds 1   # a tenth

Three questions of every model, on items that the placebo prompt answers otherwise than asked:

- ``asked``: an instruction against placebos, answered by queries;
- ``judged``: the same, answered by judges, which take part in no shortcut: where the stored content
  stays they are not moved;
- ``negated``: the opposite instruction, on the items answered as asked: B < 0.

Causal rows are measured of ``asked``, where there is an effect to explain; the others end at behaviour.
Cards are computed from the model and the
task alone; :func:`scored` opens the truth afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from analyses.benchmarks.known.measure import KEPT
from interp.known import ToyTask, load_trained, open_truth, trained_names
from interp.known.arms import ARMS, NOT_VALID, TrainedArm
from interp.known.task import ASKS, CONTENTS, JUDGES, NEGATIONS, NOTES, OTHERS, QUERIES
from interp.known.trained import N_SEEDS
from interp.prompts import PromptPair, make_pair
from interp.superficiality import (
    Finding,
    Scorecard,
    behaviour_finding,
    content_findings,
    content_shift,
    edge_findings,
    measure_routes,
    onset_finding,
)
from interp.superficiality.routes import donors_of
from interp.superficiality.rows import CHANGED, CONTENT_IN, CONTENT_OUT, INTERACTION, READINGS
from interp.superficiality.verdict import BACKFIRES, DEEP_CONTENT, NO_EFFECT, NOT_IDENTIFIED

ROWS = "scorecards.parquet"
"""The file of the rows."""

CONTENT = ("content", "other")
"""The spans between the instruction and the query."""

CARD_SHARES = (CONTENT_IN, CONTENT_OUT, INTERACTION, CHANGED)
"""Rows whose estimates are kept."""

N_ITEMS = 32
"""Of all combinations; every content, query and other word in turn."""

Item = tuple[str, str, str]
"""content, other, query."""


@dataclass(frozen=True)
class AskedModel:
    """A model, its task, and margins of the asked answer: ``[item, word]`` by kind of word."""

    model: TransformerBridge
    task: ToyTask
    items: tuple[Item, ...]
    margins: dict[str, np.ndarray]

    @property
    def to_change(self) -> np.ndarray:
        """Which items the placebo prompts answer otherwise than asked."""
        return np.asarray(self.margins["placebo"].mean(1) < 0)


def ask(
    model: TransformerBridge,
    task: ToyTask,
    queries: Sequence[str] = QUERIES,
    n_items: int = N_ITEMS,
) -> AskedModel:
    """Every item under every word. Of each query's two answers the better is what ``ask`` wants."""
    every = list(product(OTHERS, queries, CONTENTS))
    chosen = [every[17 * k % len(every)] for k in range(n_items)]
    items = tuple((content, other, query) for other, query, content in chosen)
    words = {"asked": ASKS, "negated": NEGATIONS, "placebo": NOTES}
    margins = {kind: _margins(model, task, items, own) for kind, own in words.items()}
    return AskedModel(model, task, items, margins)


@torch.no_grad()
def _margins(
    model: TransformerBridge, task: ToyTask, items: Sequence[Item], words: Sequence[str]
) -> np.ndarray:
    ids = torch.stack([task.ids((word, *item)) for item in items for word in words])
    logits = model(ids)[:, -1].reshape(len(items), len(words), -1)
    better, worse = (torch.tensor(o) for o in zip(*(_target(task, i) for i in items), strict=True))
    rows = torch.arange(len(items))
    return np.asarray((logits[rows, :, better] - logits[rows, :, worse]).double())


def _target(task: ToyTask, item: Item) -> tuple[int, int]:
    """Tokens of the asked answer and of the other: every second query is put the other way round."""
    yes, no = task.target
    return (yes, no) if int(item[2][-1]) % 2 else (no, yes)


def cards_of_model(name: str, seed: int, *, n_items: int = N_ITEMS) -> dict[str, Scorecard]:
    """The cards of all questions of one model; no truth is opened."""
    model, task = load_trained(name, seed)
    queries, judges = (ask(model, task, own, n_items) for own in (QUERIES, JUDGES))
    behaviour = {
        "asked": _behaviour(queries, queries, "asked", queries.to_change),
        "judged": _behaviour(judges, queries, "asked", judges.to_change),
        "negated": _behaviour(queries, queries, "negated", ~queries.to_change),
    }
    title = f"{name}, seed {seed}"
    cards = {question: Scorecard((one,), title) for question, one in behaviour.items()}
    if cards["asked"].verdict.name == NOT_IDENTIFIED:  # an effect, and nothing that explains it yet
        cards["asked"] = Scorecard((behaviour["asked"], *_causal(queries)), title)
    return cards


def _causal(asked: AskedModel) -> list[Finding]:
    """The causal rows on the items to change; the others are the donors of the shift."""
    pairs = [_pair(asked, k) for k in range(len(asked.items))]
    clusters = [content for content, *_ in asked.items]
    donors = donors_of(clusters, (~asked.to_change).tolist())
    given = {
        k: content_shift(asked.model, pairs[k], content=CONTENT)
        for k in np.flatnonzero(~asked.to_change).tolist()
    }
    rows = np.flatnonzero(asked.to_change).tolist()
    runs = measure_routes(
        asked.model,
        [pairs[k] for k in rows],
        shifts=[torch.stack([given[donor] for donor in donors[k]]).mean(0) for k in rows],
        content=CONTENT,
        clusters=[clusters[k] for k in rows],
    )
    return [*content_findings(runs), *edge_findings(runs), onset_finding(runs)]


def _behaviour(asked: AskedModel, control: AskedModel, words: str, keep: np.ndarray) -> Finding:
    """``control``: the model's queries, whose effect says how small an effect counts as none."""
    sides = [
        ("corrected", asked.margins[words], asked, keep),
        ("placebo", asked.margins["placebo"], asked, keep),
        ("control", control.margins["asked"], control, control.to_change),
        ("control_placebo", control.margins["placebo"], control, control.to_change),
    ]
    rows = [
        (" ".join(of.items[k]), of.items[k][0], "", side, slot, "margin", float(values[k, slot]))
        for side, values, of, kept in sides
        for k in np.flatnonzero(kept)
        for slot in range(values.shape[1])
    ]
    return behaviour_finding(pd.DataFrame(rows, columns=list(READINGS)))


def _pair(asked: AskedModel, number: int) -> PromptPair:
    task, item = asked.task, asked.items[number]
    slot = number % len(ASKS)
    source, destination = (task.ids((word, *item)) for word in (ASKS[slot], NOTES[slot]))
    return make_pair(asked.model, source, destination, target=_target(task, item), spans=task.spans)


def cards_of(
    names: Sequence[str],
    *,
    seeds: Sequence[int] = range(N_SEEDS),
    n_items: int = N_ITEMS,
    progress: bool = True,
) -> dict[tuple[str, int, str], Scorecard]:
    """The cards of every model and question; no truth is opened."""
    tasks = list(product(names, seeds))
    return {
        (name, seed, question): card
        for name, seed in tqdm(tasks, desc="scorecards", disable=not progress)
        for question, card in cards_of_model(name, seed, n_items=n_items).items()
    }


def scored(cards: Mapping[tuple[str, int, str], Scorecard]) -> pd.DataFrame:
    """A row per card: its verdict and shares, then the truth.

    ``truth``: what the arm's program does; empty where it says nothing (judges that were not trained
    under instructions, negations that name answers). ``alpha``: the planted content share.
    ``localised``: the model was held to the program's places; if not, its own way may be another.
    """
    rows = []
    for (name, seed, question), card in cards.items():
        found = {one.name: one.interval.estimate for one in card}
        rows.append(
            {
                "arm": name,
                "seed": seed,
                "question": question,
                "verdict": card.verdict.name,
                "rule": card.verdict.rule,
                "because": card.verdict.because,
                **{share: found.get(share, float("nan")) for share in CARD_SHARES},
                **_truth(name, seed, question),
            }
        )
    return pd.DataFrame(rows)


def _truth(name: str, seed: int, question: str) -> dict[str, object]:
    truth, arm = open_truth(name, seed), ARMS[name]
    said = (
        DEEP_CONTENT if truth.verdict == NOT_VALID else truth.verdict
    )  # labels decide on directions
    alpha = None if truth.shares is None else truth.shares["content"]
    if question == "negated":
        said, alpha = ("" if name == "copying_instruction" else BACKFIRES), None
    elif question == "judged":
        said, alpha = _truth_of_judges(arm), None
    return {
        "truth": said,
        "alpha": float("nan") if alpha is None else alpha,
        "localised": truth.localised,
        "backup": bool(truth.backups),
    }


def _truth_of_judges(arm: TrainedArm) -> str:
    """Nothing, where judges were trained and the program does not move them; else it is not scored."""
    if not arm.judged:
        return ""
    moved = [
        arm.program.run(("BOS", ASKS[0], content, OTHERS[0], JUDGES[0])).values["answer"][-1]
        != arm.program.run(("BOS", NOTES[0], content, OTHERS[0], JUDGES[0])).values["answer"][-1]
        for content in CONTENTS
    ]
    return "" if any(moved) else NO_EFFECT


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Truths down, verdicts across, numbers of cards."""
    own = rows[rows["truth"] != ""]
    return pd.crosstab(own["truth"], own["verdict"])


def share_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Per planted share of queries: mean estimates, and mean |estimate - alpha| both ways."""
    own = rows[rows["localised"] & rows["alpha"].notna() & (rows["question"] == "asked")]
    errors = {
        f"error, {name}": (own[name] - own["alpha"]).abs() for name in (CONTENT_IN, CONTENT_OUT)
    }
    by_alpha = own.assign(**errors).groupby("alpha")
    table = by_alpha[[CONTENT_IN, CONTENT_OUT, CHANGED, *errors]].mean()
    return table.assign(models=by_alpha.size())


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute all cards, then open the truths, print both tables, and write the rows."""
    parser = argparse.ArgumentParser(description="scorecards of models of known truth")
    parser.add_argument("--arms", nargs="*", default=trained_names(), help="all by default")
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help="models of each arm")
    parser.add_argument("--into", type=Path, default=KEPT, help="folder of the rows")
    asked = parser.parse_args(arguments)
    rows = scored(cards_of(asked.arms, seeds=range(asked.seeds)))
    asked.into.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(asked.into / ROWS, index=False)
    by_arm = pd.crosstab([rows["question"], rows["arm"], rows["truth"]], rows["verdict"])
    for table in (by_arm, confusion(rows[rows["localised"]]), share_errors(rows).round(3)):
        print(table.to_string(), end="\n\n")


if __name__ == "__main__":
    main()
