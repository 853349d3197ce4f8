"""What the demo asks of any model: the sample, and the items that are looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analyses.behaviour.asked import BehaviourAsked, require_asked
from analyses.behaviour.config import BehaviourConfig
from analyses.config import INSTRUCTED, StudyConfig
from analyses.contrast import CONTROL, Specs, prompt_hashes, require_contrast, wordings_there
from analyses.demo.config import DemoConfig
from interp.data import ChoiceItem, dataset_hash, load_items, load_texts
from interp.errors import InterpError
from interp.prompts import load_conditions


@dataclass(frozen=True)
class DemoAsked:
    """The sample, the items looked into, and all conditions."""

    config: DemoConfig
    items: tuple[ChoiceItem, ...]
    inside: tuple[ChoiceItem, ...]
    specs: Specs
    data_hashes: Mapping[str, str]

    def behaviour(self) -> BehaviourAsked:
        """The whole sample under every instruction, in single prompts."""
        config = self.config_of(
            BehaviourConfig,
            conditions=("clean", INSTRUCTED, "placebo", CONTROL),
            rounds=0,
            orders=1,  # that of the other studies
            stereotype_questions=False,
            limit=self.config.limit,
            texts=self.config.texts,
        )
        return BehaviourAsked(config, self.items, (), self.specs, None, self.data_hashes)

    def config_of(self, config: Any, **options: Any) -> Any:
        """A study's configuration, with what it shares with the demo's."""
        names = (*StudyConfig.model_fields, "items", "condition_file", "require_match")
        return config(**{name: getattr(self.config, name) for name in names}, **options)


def ask(config: DemoConfig, *, progress: bool = True) -> DemoAsked:
    """The sample and what is looked into; refuses items that the story cannot be told of."""
    specs = load_conditions(config.condition_file)
    drawn = max(config.limit, 2 * config.pairs)  # half of a sample is ambiguous
    sample = load_items(config.items, limit=drawn, seed=config.seed, progress=progress)
    inside = _items_to_look_into(sample, min(config.pairs, config.limit))
    texts = wordings_there(specs, [INSTRUCTED], config.texts)
    config = config.model_copy(update={"texts": texts})
    items = _with_others(inside, sample, config.limit)
    require_contrast(specs, INSTRUCTED, inside, n_texts=config.texts)
    hashes = prompt_hashes(items, specs)
    hashes["bundled:morality"] = dataset_hash(load_texts("bundled:morality"))
    asked = DemoAsked(config, items, inside, specs, hashes)
    require_asked(asked.behaviour())
    return asked


def _with_others(
    inside: Sequence[ChoiceItem], sample: Sequence[ChoiceItem], n: int
) -> tuple[ChoiceItem, ...]:
    """The items looked into and the first of the others, ``n`` in all, in the sample's order."""
    chosen = {item.id for item in inside}
    others = [item.id for item in sample if item.id not in chosen][: n - len(inside)]
    return tuple(item for item in sample if item.id in chosen.union(others))


def _items_to_look_into(items: Sequence[ChoiceItem], n: int) -> tuple[ChoiceItem, ...]:
    """The first items of one kind that have a margin: chosen before anything is run.

    Ambiguous ones where there are some, else those of the first item's kind: their margins contrast
    other options. Of several data sets the first that has some: they are never pooled.
    """
    found = [item for item in items if item.contrast() is not None]
    found = [item for item in found if item.context_condition == "ambiguous"] or found
    if not found:
        raise InterpError(
            "the sample holds no item with two options to contrast (ambiguous ones with an unknown and "
            "a stereotyped option, others with two options): raise --limit or choose other --items"
        )
    kind = (found[0].benchmark, found[0].context_condition)
    found = [item for item in found if (item.benchmark, item.context_condition) == kind]
    return tuple(found[:n])
