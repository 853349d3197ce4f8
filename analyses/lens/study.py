"""The lens study: one item is one unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from analyses.contrast import (
    CONTROL,
    PromptBench,
    Question,
    ask_contrast,
    digest_prompts,
    example_step,
)
from analyses.lens import story, tables
from analyses.lens.config import LensConfig
from analyses.lens.tables import LensResult
from analyses.study import Lab, Saved, Step, Steps, Story
from analyses.totals import condition_sides, score_sides, texts_of_sides
from interp.data import ChoiceItem
from interp.lens import lens_item
from interp.lens.conditions import no_margin, prompt_and_target
from interp.prompts import Condition


class Lens:
    """See :mod:`analyses.lens`."""

    name = "lens"
    Config = LensConfig

    def ask(self, config: LensConfig, *, progress: bool = True) -> Question[LensConfig]:
        """Items and conditions; refuses a condition that has no placebos or is no single prompt."""
        return ask_contrast(config, progress=progress)

    def bench(self, asked: Question[LensConfig], lab: Lab) -> PromptBench[LensConfig]:
        """Model, text bank and the items with a margin; refuses a sample without any."""
        bench = PromptBench.of(asked, lab)
        usable = tuple(item for item in asked.items if _has_margin(bench, item))
        if not usable:
            raise no_margin(len(asked.items))
        return replace(bench, items=usable)

    def steps(self, asked: Question[LensConfig], bench: PromptBench[LensConfig]) -> Steps:
        """Readings of every item; a text of the condition and its placebo, for the report."""

        def key(item: ChoiceItem) -> dict[str, str]:
            texts = texts_of_sides(condition_sides(bench, item))
            digest = digest_prompts(
                bench.model.tokenizer, item, [*bench.bank.texts("clean", item, 1), *texts]
            )
            return {"item": item.id, "prompts": digest}

        yield Step("lens", bench.items, key=key, compute=read_item)
        yield Step("readings", bench.items, key=key, compute=score_item)
        _, text, *rest = _texts(bench, bench.items[0])
        placebo = rest[bench.config.texts - 1]
        yield example_step({text.name: text.text or "", placebo.name: placebo.text or ""})

    def read(self, asked: Question[LensConfig], saved: Saved) -> LensResult:
        """Effects per layer, where runs part, when answers settle, how far distributions lie apart."""
        return tables.read(asked, saved)

    def tables(self, result: LensResult) -> Mapping[str, pd.DataFrame]:
        """Everything but the readings themselves."""
        names = ("totals", "effects", "parting", "settled", "distances")
        return {name: getattr(result, name) for name in names}

    def story(self, result: LensResult) -> Story:
        """Order of the gates: the control, its curve, the effect at the output."""
        return story.tell(result)


def read_item(bench: PromptBench[LensConfig], item: ChoiceItem) -> pd.DataFrame:
    """The rows of :class:`~interp.lens.LensConditions` of one item."""
    return lens_item(bench.model, item, _texts(bench, item), metric=bench.config.metric)


def score_item(bench: PromptBench[LensConfig], item: ChoiceItem) -> pd.DataFrame:
    """The metrics of one item under the condition and every arm of the control."""
    return score_sides(bench.model, item, condition_sides(bench, item))


def _texts(bench: PromptBench[LensConfig], item: ChoiceItem) -> tuple[Condition, ...]:
    """The clean prompt, the condition's texts and their placebos, the control's placebos and texts."""
    sides = condition_sides(bench, item)
    treated, placebos = sides[bench.config.condition]
    control, others = sides[CONTROL]
    return (*bench.bank.texts("clean", item, 1), *treated, *placebos, *others, *control)


def _has_margin(bench: PromptBench[LensConfig], item: ChoiceItem) -> bool:
    """Whether a token tells the item's options apart; refuses prompts beyond the context now."""
    targets = [prompt_and_target(bench.model, item, text)[1] for text in _texts(bench, item)]
    return all(target is not None for target in targets)
