"""What the configurations of all analyses share: lists as one types them, errors in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from interp.data import ChoiceItem, CompletionItem, LabelledText, dataset_hash
from interp.data.bundle import bundled_instructions
from interp.errors import InterpError
from interp.prompts import ConditionSpec
from interp.runs import digest

IGNORED = ("config.out", "config.png", "model.checks", "model.versions")
"""What may differ between a run and its resumption."""

CLAIM_TEXTS = 6
"""The least number of wordings from which a report speaks of instructions, not of these sentences."""

_Config = TypeVar("_Config", bound=BaseModel)


def checked(config: type[_Config], **options: Any) -> _Config:
    """A configuration of the command line's options.

    Raises:
        InterpError: the first option that cannot be, in one line.
    """
    try:
        return config(**options)
    except ValidationError as errors:
        first = errors.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        raise InterpError(f"--{option} {first['input']!r}: {message}") from errors


def listed(value: Any) -> Any:
    """``"a, b,a"`` as ``("a", "b")``; what is no text is left to the configuration's check."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def prompt_hashes(
    items: Sequence[ChoiceItem | CompletionItem],
    conditions: Mapping[str, ConditionSpec] | None = None,
) -> dict[str, str]:
    """Hashes of what prompts are made of: items, bundled instructions and a registry's conditions.

    They stand in the manifest, so a changed file of conditions does not resume a run.
    """
    texts = [LabelledText(t.text, 0, t.kind, t.id) for t in bundled_instructions()]
    hashes = {"items": dataset_hash(items), "bundled:instructions": dataset_hash(texts)}
    if conditions is None:
        return hashes
    registry = {name: spec.model_dump(mode="json") for name, spec in conditions.items()}
    return hashes | {"conditions": digest(registry)}
