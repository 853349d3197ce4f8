"""What a steering run asks of any model: items, placebos, the sentences fitted on and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analyses.config import INSTRUCTED
from analyses.contrast import Specs, prompt_hashes, require_filled, require_placebos, texts_of
from analyses.report.prose import count
from analyses.steer.config import SteerConfig
from interp.data import (
    ChoiceItem,
    CompletionItem,
    LabelledText,
    dataset_hash,
    load_items,
    load_texts,
    sample_groups,
    split_groups,
)
from interp.data.bundle import bundled_completions
from interp.directions.stored import read_header
from interp.errors import InterpError
from interp.fetch.cache import sha256_of
from interp.prompts import load_conditions

if TYPE_CHECKING:
    from interp.directions import DirectionStack

COMPARED = ("bundled:morality", "bundled:statements")
"""Sets in which moral sentences are compared with immoral ones; the first unseen one is taken."""

PLAIN = "bundled:contrasts"


@dataclass(frozen=True)
class Sentences:
    """Which sentences a run uses.

    ``fit``: the direction is fitted on them; none where it is given. ``compared``: moral against
    immoral under every step, of the set ``name``; ``source`` says why these, ``held_out`` whether the
    direction has not seen them.
    """

    fit: tuple[LabelledText, ...]
    compared: tuple[LabelledText, ...]
    name: str
    source: str
    held_out: bool = True


@dataclass(frozen=True)
class SteerQuestion:
    """What is asked; ``given`` is the direction of a file."""

    config: SteerConfig
    items: tuple[ChoiceItem, ...]
    specs: Specs
    given: DirectionStack | None
    sentences: Sentences
    plain: tuple[LabelledText, ...]
    completions: tuple[CompletionItem, ...]
    data_hashes: Mapping[str, str]


def ask(config: SteerConfig, *, progress: bool = True) -> SteerQuestion:
    """Everything that can be known without a model.

    Raises:
        InterpError: a file, items or conditions that cannot be read, or too few placebos.
    """
    if config.direction is not None:
        read_header(config.direction)  # refuses what is none
    specs = load_conditions(config.condition_file)
    items = load_items(config.items, limit=config.limit, seed=config.seed, progress=progress)
    _require_placebo_texts(specs, items, config.placebos)
    given = None if config.direction is None else _load(config.direction)
    sentences = choose_sentences(config, given)
    plain = load_texts(PLAIN, limit=config.plain, seed=config.seed)
    completions = bundled_completions()[: config.completions]
    hashes = {
        **prompt_hashes(items, specs),
        "sentences": dataset_hash(sentences.compared),
        "plain": dataset_hash(plain),
        "completions": dataset_hash(completions),
        "direction": (
            dataset_hash(sentences.fit) if config.direction is None else sha256_of(config.direction)
        ),
    }
    return SteerQuestion(
        config, items, specs, given, sentences, tuple(plain), tuple(completions), hashes
    )


def _load(file: Path) -> DirectionStack:
    from interp.directions import load_direction  # heavy: only a file that can be one

    return load_direction(file)


def _require_placebo_texts(specs: Specs, items: Sequence[ChoiceItem], n: int) -> None:
    """Refuse a file's own placebos, or instructions whose lengths they match, that will not do."""
    require_placebos(specs, INSTRUCTED)
    for name in (INSTRUCTED, "placebo"):
        texts = texts_of(specs[name])
        if len(texts) < n:
            raise InterpError(
                f"condition {name!r} has {count(len(texts), 'text')}, and {n} placebos, one per "
                "text of the instruction, are asked for: lower --placebos, or add texts"
            )
        for item in items:
            for text in texts[:n]:
                require_filled(specs[name], text, item)


def choose_sentences(config: SteerConfig, given: DirectionStack | None) -> Sentences:
    """The sentences to fit on (none with a given direction), and those to compare."""
    if given is None:
        fit, rest = split_groups(load_texts(COMPARED[0]), seed=config.seed)
        source = f"{COMPARED[0]}, the half of its groups on which the direction was not fitted"
        compared = sample_groups(rest, config.groups, seed=config.seed)
        return Sentences(fit, compared, COMPARED[0], source)
    seen = given.facts.source
    unseen = [name for name in COMPARED if name not in seen]
    name = unseen[0] if unseen else COMPARED[0]
    compared = sample_groups(load_texts(name), config.groups, seed=config.seed)
    if not unseen:
        source = f"{name}, on which the direction was fitted: not held out"
        return Sentences((), compared, name, source, held_out=False)
    return Sentences((), compared, name, f"{name}, because the direction was fitted on {seen}")
