"""What is read: items, placebos of one token count, and the pairs of them that are patched.

Item number ``k`` belongs to slot ``k % 6``: the demo's map asks it with that slot's pair of wordings. A
slot has some ordered pairs to choose from; a draw takes one for every slot, twelve wordings in all.

A pool's folder holds ``items.jsonl`` and ``plan.json``, written first, so that a machine without data
sets can make the rows.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from analyses.config import INSTRUCTED, MIN_WORDINGS
from analyses.contrast import control_texts
from interp.data import ChoiceItem, load_items
from interp.data.bundle import bundled_instructions
from interp.data.tables import read_jsonl
from interp.errors import InterpError
from interp.prompts import Condition, TextBank

SLOTS = MIN_WORDINGS
"""Wordings a side of a draw: what a report needs for a claim."""

ITEMS, PLAN = "items.jsonl", "plan.json"

Pair = tuple[int, int]
"""Numbers of two wordings: the one that poses as the instruction, and its placebo."""


@dataclass(frozen=True)
class Plan:
    """What the rows of a pool are read of.

    ``wordings``: all of ``n_tokens`` tokens; ``pairs``: of every slot, ordered. The names of the answer
    and their placebos are further wordings of every item, of which ``power`` is the pair of each slot.
    """

    model: str
    seed: int
    n_tokens: int
    wordings: tuple[str, ...]
    pairs: tuple[tuple[Pair, ...], ...]

    @property
    def power(self) -> tuple[Pair, ...]:
        """The pairs of the control that names the answer, a slot each."""
        n = len(self.wordings)
        return tuple((n + slot, n + SLOTS + slot) for slot in range(SLOTS))

    def pairs_of(self, item: int) -> tuple[Pair, ...]:
        """The ordered pairs that are patched in an item: its slot's, and the control's."""
        slot = item % SLOTS
        return (*self.pairs[slot], self.power[slot])

    def save(self, folder: Path) -> None:
        """Write it to a pool's folder."""
        (folder / PLAN).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """That of a folder.

        Raises:
            InterpError: no pool there.
        """
        if not (folder / PLAN).is_file():
            raise InterpError(f"{folder}: holds no pool: run without --draw-only first")
        saved = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        pairs = tuple(tuple((a, b) for a, b in slot) for slot in saved.pop("pairs"))
        return cls(**saved | {"wordings": tuple(saved["wordings"]), "pairs": pairs})


def read_wordings(path: Path | None) -> list[str]:
    """The placebos: the bundled ones, or the field ``text`` of every line of a JSONL file.

    Raises:
        InterpError: a line without a text.
    """
    if path is None:
        return [one.text for one in bundled_instructions() if one.kind == "placebo"]
    texts = []
    for line, row in read_jsonl(path):
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InterpError(f"{path}, line {line}: the field 'text' must be a sentence")
        texts.append(text.strip())
    return list(dict.fromkeys(texts))


def usual_length(
    texts: Sequence[str], count: Callable[[str], int], *, at_most: int, seed: int
) -> tuple[int, list[str]]:
    """The token count that most texts have, and those texts in random order, ``at_most`` of them.

    Raises:
        InterpError: fewer of one count than a draw takes.
    """
    by_count: dict[int, list[str]] = defaultdict(list)
    for text in texts:
        by_count[count(text)].append(text)
    n_tokens, most = Counter({n: len(same) for n, same in by_count.items()}).most_common(1)[0]
    if min(most, at_most) < 2 * SLOTS:
        raise InterpError(
            f"of {len(texts)} wordings {min(most, at_most)} are of one token count, a draw takes "
            f"{2 * SLOTS}: give more wordings"
        )
    order = np.random.default_rng([seed, most]).permutation(most)[:at_most]
    return n_tokens, [by_count[n_tokens][k] for k in order]


def draw_pairs(n_wordings: int, n_pairs: int, *, seed: int) -> tuple[tuple[Pair, ...], ...]:
    """``n_pairs`` ordered pairs of different wordings for every slot, none twice in a slot.

    They come from whole permutations of the wordings, so that all are used about equally.
    """
    rng = np.random.default_rng([seed, n_wordings, n_pairs])
    slots: list[list[Pair]] = [[] for _ in range(SLOTS)]
    while any(len(slot) < n_pairs for slot in slots):
        order = rng.permutation(n_wordings)
        both = zip(order[::2].tolist(), order[1::2].tolist(), strict=False)
        for slot, pair in zip(
            rng.permutation(np.arange(n_wordings // 2) % SLOTS), both, strict=True
        ):
            if len(slots[slot]) < n_pairs and pair not in slots[slot]:
                slots[slot].append(pair)
    return tuple(map(tuple, slots))


def write_pool(
    folder: Path,
    bank: TextBank,
    texts: Sequence[str],
    items: Sequence[ChoiceItem],
    *,
    model: str,
    n_wordings: int,
    n_pairs: int,
    seed: int,
) -> Plan:
    """The files that the rows are made of.

    Raises:
        InterpError: as :func:`usual_length`.
    """
    n_tokens, wordings = usual_length(texts, bank.count, at_most=n_wordings, seed=seed)
    pairs = draw_pairs(len(wordings), n_pairs, seed=seed)
    plan = Plan(model, seed, n_tokens, tuple(wordings), pairs)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(item)) for item in items]
    (folder / ITEMS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    plan.save(folder)
    return plan


def pool_items(folder: Path) -> tuple[ChoiceItem, ...]:
    """The items of a pool, by their numbers."""
    return load_items(str(folder / ITEMS), progress=False)


def variants(bank: TextBank, plan: Plan, item: ChoiceItem) -> list[Condition]:
    """Every wording of an item by its number, all as texts of the condition asked about."""
    first = bank.wordings(INSTRUCTED, 1)[0]
    placebos = [replace(first, text_id=f"placebo_{k}", text=t) for k, t in enumerate(plan.wordings)]
    names = control_texts(bank, item, beside=INSTRUCTED, n_texts=SLOTS)
    texts = [*placebos, *names, *bank.placebos(names)]
    return [replace(text, name=INSTRUCTED, control_of="", slot=k) for k, text in enumerate(texts)]
