"""Verdicts on nothing, by the real default model: ``python -m analyses.benchmarks.nulls.verdicts``.

Two scorecards that ought to say ``no effect to explain``:

- *placebo against placebo*: a condition whose texts are placebos themselves, asked of the model as any
  condition of one's own is (all rows of it: ``interp superficiality`` with a ``--condition-file``);
- *untrained copy*: the instruction, asked of a model of the same shape with fresh weights
  (``--model untrained:NAME``). It does not follow the control that names the answer either, so how small
  an effect counts as none is said by the trained model's control.

A verdict on nothing ends with the behaviour (rules 1 and 2), so nothing else is measured. Items are read
one by one and kept in the folder, so an interrupted command goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from interp.data import ChoiceItem, load_items
from interp.models import DEFAULT_MODEL, load_model
from interp.models.names import UNTRAINED
from interp.prompts import ConditionSpec, TextBank, load_conditions
from interp.runs.atomic import atomic_path
from interp.stats import MIN_WORDINGS
from interp.superficiality import Scorecard, behaviour_finding
from interp.superficiality.behaviour import asked_texts, measure_behaviour
from interp.superficiality.routes import CORRECTED, PLACEBO
from interp.superficiality.rows import CONTROL, CONTROL_PLACEBO

KEPT = Path(__file__).parents[3] / "docs" / "rows" / "nulls" / "verdicts.parquet"
"""The behaviour behind the verdicts of ``docs/methods.md``: a row per item, text and metric."""

PLACEBOS, COPY = "placebo against placebo", "untrained copy"
"""Who is asked nothing."""

N_ITEMS = 72

PLACEBO_TEXTS = 20
"""Wordings a side of placebo against placebo. With six the interval's half-width is .055 nats however
many items are asked, and delta is .04: such a card says ``undetermined``."""

REQUEST = ConditionSpec(
    name="request", description="placebos that pose as an instruction", bank="placebo"
)
"""Drawn from the placebos' bank; its own placebos are others of the bank, none on both sides."""


def read_items(
    name: str,
    condition: str,
    items: Sequence[ChoiceItem],
    folder: Path,
    *,
    sides: Sequence[str],
    n_texts: int,
    seed: int,
    deadline: float,
) -> int:
    """The behaviour of the items that are missing in a folder; returns how many are missing still."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [item for item in items if not _place(folder, item).is_file()]
    if not missing:
        return 0
    model = load_model(name)
    bank = TextBank(
        model.tokenizer,
        conditions={**load_conditions(), REQUEST.name: REQUEST},
        require_match=0,
        n_ctx=model.cfg.n_ctx,
        seed=seed,
    )
    for item in tqdm(missing, desc=f"{name}, {condition}"):
        if time.time() >= deadline:
            break
        texts = asked_texts(bank, item, condition, n_texts)
        asked = {side: own for side, own in texts.items() if side in sides}
        with atomic_path(_place(folder, item)) as temporary:
            measure_behaviour(model, item, asked).to_parquet(temporary, index=False)
    return sum(not _place(folder, item).is_file() for item in items)


def _place(folder: Path, item: ChoiceItem) -> Path:
    return folder / f"{item.id.replace('/', '_')}.parquet"


def gather(folder: Path, items: Sequence[ChoiceItem]) -> pd.DataFrame:
    """Both questions' rows; ``of`` names the question."""
    frames = [
        pd.read_parquet(_place(folder / of, item)).assign(of=of)
        for of in (PLACEBOS, COPY)
        for item in items
    ]
    return pd.concat(frames, ignore_index=True)


def cards(rows: pd.DataFrame) -> dict[str, Scorecard]:
    """The card of each question; the trained model's control is both's."""
    own = {str(of): part for of, part in rows.groupby("of", sort=False)}
    control = own[PLACEBOS][own[PLACEBOS]["side"].isin([CONTROL, CONTROL_PLACEBO])]
    found = {}
    for of, part in own.items():
        both = part if of == PLACEBOS else pd.concat([part, control])
        found[of] = Scorecard((behaviour_finding(both.drop(columns="of")),), of)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Read what is missing, print both cards, and write their rows."""
    parser = argparse.ArgumentParser(description="scorecards of nothing on the real default model")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dataset", default="bbq")
    parser.add_argument("--items", type=int, default=N_ITEMS)
    parser.add_argument(
        "--texts", type=int, default=PLACEBO_TEXTS, help="wordings a side of the placebos"
    )
    parser.add_argument("--seed", type=int, default=0, help="of items, wordings and placebos")
    parser.add_argument("--out", type=Path, default=Path("runs/nulls/verdicts"))
    parser.add_argument("--into", type=Path, default=KEPT, help="the file of the rows")
    parser.add_argument(
        "--limit-seconds", type=float, default=float("inf"), help="begin nothing after so many"
    )
    asked = parser.parse_args(arguments)
    deadline = time.time() + asked.limit_seconds
    items = load_items(asked.dataset, limit=asked.items, seed=asked.seed, progress=False)
    place = asked.out / f"{asked.texts} texts"
    both = (CORRECTED, PLACEBO)
    controlled = (*both, CONTROL, CONTROL_PLACEBO)
    questions = {
        PLACEBOS: (asked.model, REQUEST.name, controlled, asked.texts),
        COPY: (f"{UNTRAINED}{asked.model}", "instructed", both, MIN_WORDINGS),
    }
    for of, (name, condition, sides, n_texts) in questions.items():
        missing = read_items(
            name,
            condition,
            items,
            place / of,
            sides=sides,
            n_texts=n_texts,
            seed=asked.seed,
            deadline=deadline,
        )
        if missing:
            print(f"{of}: {missing} items are missing, run it again to go on")
            return
    rows = gather(place, items)
    asked.into.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(asked.into, index=False)
    for card in cards(rows).values():
        print(card, end="\n\n")


if __name__ == "__main__":
    main()
