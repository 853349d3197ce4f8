"""Benchmark rows as plain items: readers, the catalogue of data sets, samples, the bundled sets."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.data.bbq import read_bbq
    from interp.data.bundle import (
        Instruction,
        OccupationTemplate,
        bundled_categories,
        bundled_choices,
        bundled_completions,
        bundled_instructions,
        bundled_occupations,
        bundled_texts,
    )
    from interp.data.catalogue import (
        DatasetEntry,
        dataset_entry,
        dataset_hash,
        dataset_names,
        fetch_dataset,
    )
    from interp.data.crows_pairs import read_crows_pairs
    from interp.data.ethics import read_ethics
    from interp.data.groups import sample_groups, split_groups
    from interp.data.items import (
        Choice,
        ChoiceItem,
        CompletionItem,
        ContextCondition,
        LabelledText,
        Meta,
        Role,
    )
    from interp.data.load import is_completions, load_completions, load_items, load_texts
    from interp.data.moralchoice import read_moralchoice, read_moralchoice_items
    from interp.data.real_toxicity import read_completions
    from interp.data.sample import sample_items
    from interp.data.stereoset import read_stereoset
    from interp.data.tables import read_choice_items, read_labelled_texts
    from interp.data.winogender import read_winogender

__all__ = [
    "Choice",
    "ChoiceItem",
    "CompletionItem",
    "ContextCondition",
    "DatasetEntry",
    "Instruction",
    "LabelledText",
    "Meta",
    "OccupationTemplate",
    "Role",
    "bundled_categories",
    "bundled_choices",
    "bundled_completions",
    "bundled_instructions",
    "bundled_occupations",
    "bundled_texts",
    "dataset_entry",
    "dataset_hash",
    "dataset_names",
    "fetch_dataset",
    "is_completions",
    "load_completions",
    "load_items",
    "load_texts",
    "read_bbq",
    "read_choice_items",
    "read_completions",
    "read_crows_pairs",
    "read_ethics",
    "read_labelled_texts",
    "read_moralchoice",
    "read_moralchoice_items",
    "read_stereoset",
    "read_winogender",
    "sample_groups",
    "sample_items",
    "split_groups",
]

attach(__name__)
